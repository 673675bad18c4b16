//! Flags of every command that works.

use crate::config::given::Flags;
use clap::Args;

/// For every command that works.
#[derive(Debug, Args)]
#[command(next_help_heading = "General")]
pub struct Common {
    /// Options from a YAML file with the same names; flags win. `run` takes a changed file up within
    /// seconds, or with SIGHUP: all of it or, when something is wrong, nothing
    #[arg(long, value_name = "FILE")]
    config: Vec<String>,
    /// Names processes that meet all conditions: exe=, args=, dir=, user=, unit= or container=, each with a
    /// GLOB, then name=SERVICE and, if wanted, namespace=NAME, all separated by commas. Wins over the
    /// processes' own environment; the first rule that fits counts; repeatable, at most 256
    #[arg(long, value_name = "RULE")]
    name_rule: Vec<String>,
    /// off, error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Vec<String>,
}

impl Common {
    pub fn flags(self) -> Flags {
        vec![("config", self.config), ("name-rule", self.name_rule), ("log-level", self.log_level)]
    }
}
