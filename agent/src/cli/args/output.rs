//! Flags of what is kept, and where it goes.

use crate::config::given::Flags;
use clap::Args;

/// Where spans go.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct Out {
    /// otlp, console, json, json:FILE or none; repeatable [default: otlp when an endpoint is set,
    /// else console]. A new FILE gets mode 0600; one that is there is appended to, its mode kept
    #[arg(long, value_name = "OUTPUT")]
    output: Vec<String>,
    /// Part of the traces that is kept, whole traces, the same ones everywhere: 0 to 1 [default: 1]
    #[arg(long, value_name = "RATIO", allow_negative_numbers = true)]
    sample: Vec<String>,
    /// Traces a second that --sample may keep of those that one service begins here, or off; th in
    /// tracestate says how many each stands for [default: off]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    sample_rate: Vec<String>,
    /// Traces that are kept whatever --sample says, separated by commas: errors; slow (slower than 99 of 100
    /// of their route of late) or slow=TIME; events (a request ran a program); floor=NUMBER (the
    /// first of each minute and route; routes are learnt for that from answers 2xx, shown or not) [default: none]
    #[arg(long, value_name = "RULES")]
    keep: Vec<String>,
    /// How long a trace waits at most for its end, with --keep: 100ms to 60s [default: 10s]
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    keep_wait: Vec<String>,
    /// What the paths of a service are called, SERVICE=TEMPLATE, for example shop=/users/{id} or
    /// *=/static/{file...}; repeatable, the first that fits wins
    #[arg(long, value_name = "SERVICE=TEMPLATE")]
    route: Vec<String>,
    /// Learn what other paths are called: http.route, and the span's name, with ids, hashes, dates and slugs
    /// left out
    #[arg(long)]
    learn_routes: bool,
}

impl Out {
    pub fn flags(self) -> Flags {
        let learn = if self.learn_routes { vec!["true".to_owned()] } else { Vec::new() };
        vec![
            ("output", self.output),
            ("sample", self.sample),
            ("sample-rate", self.sample_rate),
            ("keep", self.keep),
            ("keep-wait", self.keep_wait),
            ("route", self.route),
            ("learn-routes", learn),
        ]
    }
}
