//! Flags of conversations: of a run, and of `kernspan flows`.

use crate::config::given::Flags;
use clap::Args;

/// What is made of conversations.
#[derive(Debug, Args)]
#[command(next_help_heading = "Flows (with --probes flow)")]
pub struct FlowArgs {
    /// How often living conversations are looked at, and metrics sent: 1s to 1h [default: 10s]
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    flow_interval: Vec<String>,
    /// What of the other end tells series of metrics apart, separated by commas: none, name, address,
    /// port [default: none]
    #[arg(long, value_name = "NAMES")]
    flow_labels: Vec<String>,
    /// Conversations as log records: none, ends, or intervals (also while they live) [default: none]
    #[arg(long, value_name = "KIND")]
    flow_logs: Vec<String>,
    /// Most series of metrics; more fold into one with otel.metric.overflow [default: 2000]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    flow_series: Vec<String>,
    /// Most conversations known at once, 256 to 1048576 [default: 32768]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    flow_table: Vec<String>,
    /// Read DNS answers that programs receive, for names: true or false [default: true]
    #[arg(long, value_name = "BOOL")]
    flow_dns: Vec<String>,
}

impl FlowArgs {
    pub fn flags(self) -> Flags {
        vec![
            ("flow-interval", self.flow_interval),
            ("flow-labels", self.flow_labels),
            ("flow-logs", self.flow_logs),
            ("flow-series", self.flow_series),
            ("flow-table", self.flow_table),
            ("flow-dns", self.flow_dns),
        ]
    }
}

/// `kernspan flows`.
#[derive(Debug, Args)]
pub struct FlowsArgs {
    /// Only this process: its number, or its name; repeatable
    #[arg(long, value_name = "PID|NAME", allow_negative_numbers = true)]
    pub process: Vec<String>,
    /// Only with this port at either end; repeatable
    #[arg(long, value_name = "PORT", allow_negative_numbers = true)]
    pub port: Vec<String>,
    /// Only in this TCP state, for example established; repeatable
    #[arg(long, value_name = "STATE")]
    pub state: Vec<String>,
    /// Only with this address or name at either end; repeatable
    #[arg(long, value_name = "ADDRESS")]
    pub address: Vec<String>,
    /// Sort by process, sent, received, rtt, retransmits, age or remote [default: process]
    #[arg(long, value_name = "COLUMN")]
    pub sort: Vec<String>,
    /// As JSON, a line each time
    #[arg(long)]
    pub json: bool,
    /// Again after each such time, until interrupted [default of the time: 2s]
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "2s")]
    pub watch: Vec<String>,
}
