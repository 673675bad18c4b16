//! Flags of `kernspan top` and `kernspan trace`.

use clap::Args;

/// `kernspan top`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Screen")]
pub struct TopArgs {
    /// Between two screens: 500ms to 1h [default: 2s]
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    pub every: Vec<String>,
}

/// `kernspan trace`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which traces: those with a span that is all of this")]
pub struct TraceArgs {
    /// Of a service that matches; repeatable
    #[arg(long, value_name = "GLOB")]
    pub service: Vec<String>,
    /// Whose method and target, with its query, contain this; repeatable
    #[arg(long, value_name = "TEXT")]
    pub request: Vec<String>,
    /// That took at least so long, for example 100ms
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    pub slower: Vec<String>,
    /// That failed
    #[arg(long)]
    pub errors: bool,
}
