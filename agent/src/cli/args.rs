//! Flags, for clap. Values stay texts: [`crate::config`] reads them, so that all mistakes are
//! reported together and not the first one only.

mod capture;
mod common;
pub mod examples;
mod flows;
mod kubernetes;
mod otlp;
mod output;
mod screens;

pub use capture::Capture;
pub use common::Common;
pub use flows::{FlowArgs, FlowsArgs};
pub use kubernetes::Kubernetes;
pub use otlp::Otlp;
pub use output::Out;
pub use screens::{TopArgs, TraceArgs};

use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Traces and security events of unchanged programs, from the kernel, over OTLP.
#[derive(Debug, Parser)]
#[command(name = "kernspan", version, about, after_help = examples::AFTER, max_term_width = 100)]
#[command(disable_help_subcommand = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "one value, read once")]
pub enum Command {
    /// Watch programs and send what they do as traces and events
    #[command(after_help = examples::RUN_EXAMPLES)]
    Run {
        #[command(flatten)]
        out: Out,
        #[command(flatten)]
        capture: Capture,
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        otlp: Otlp,
        #[command(flatten)]
        flows: FlowArgs,
        #[command(flatten)]
        kubernetes: Kubernetes,
    },
    /// Show services with their rates, errors, times and open requests, drawn anew
    #[command(after_help = examples::TOP_EXAMPLES)]
    Top {
        #[command(flatten)]
        asked: TopArgs,
        #[command(flatten)]
        capture: Capture,
        #[command(flatten)]
        common: Common,
    },
    /// Show traces as they end, or only those that are asked for
    #[command(after_help = examples::TRACE_EXAMPLES)]
    Trace {
        #[command(flatten)]
        asked: TraceArgs,
        #[command(flatten)]
        capture: Capture,
        #[command(flatten)]
        common: Common,
    },
    /// List the TCP and UDP conversations of all programs, in all network namespaces
    #[command(after_help = examples::FLOWS_EXAMPLES)]
    Flows(FlowsArgs),
    /// Write what the kernel reports to a file, for replay
    #[command(after_help = examples::RECORD_EXAMPLES)]
    Record {
        /// File to create
        file: PathBuf,
        /// Keep secrets and bodies as they were captured
        #[arg(long)]
        raw: bool,
        /// Stop after this time, for example 10s [default: until interrupted]
        #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
        duration: Vec<String>,
        /// Outputs beside the recording, as for run [default: none]
        #[arg(long, value_name = "OUTPUT")]
        output: Vec<String>,
        #[command(flatten)]
        capture: Capture,
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        kubernetes: Kubernetes,
    },
    /// Turn a recording into traces
    #[command(after_help = examples::REPLAY_EXAMPLES)]
    Replay {
        /// File that `kernspan record` wrote
        file: PathBuf,
        #[command(flatten)]
        out: Out,
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        otlp: Otlp,
    },
    /// Say what this kernel offers, what the running programs are, what of their bytes is seen, and what to do
    #[command(after_help = examples::DOCTOR_EXAMPLES)]
    Doctor {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Type information of this kernel, where it ships none
        #[arg(long, value_name = "FILE")]
        btf: Option<PathBuf>,
        /// Show all processes, also those without traffic or TLS
        #[arg(long)]
        all: bool,
        /// Where an agent listens that is to be asked [default: one that runs on this host]
        #[arg(long, value_name = "IP:PORT", conflicts_with = "watch")]
        agent: Vec<String>,
        /// Watch for so long, and ask no agent
        #[arg(long = "for", value_name = "TIME")]
        watch: Vec<String>,
    },
    /// Look at a configuration file without using it
    #[command(after_help = examples::CONFIG_EXAMPLES, arg_required_else_help = true)]
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print the version
    #[command(after_help = "Example:\n  kernspan version")]
    Version,
}

/// `kernspan config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say everything that is wrong with it, with exit code 2, or that nothing is
    #[command(after_help = examples::CONFIG_EXAMPLES)]
    Check {
        /// The file, as for run --config
        file: String,
    },
}
