//! What kernspan costs.

mod http;
mod report;
mod sink;
mod usage;

use crate::build;
use crate::command::{self, command};
use anyhow::Result;
use clap::{Args, Subcommand};

/// Which cost.
#[derive(Debug, Args)]
pub struct Options {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Debug, Subcommand)]
enum Subject {
    /// Time added to single system calls by the attached programs.
    Hooks {
        /// Passed on.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// CPU of the whole machine per HTTP request, with and without the agent.
    Http(http::Options),
    /// Records to spans in userspace, on one core, without a kernel.
    Core {
        /// Passed on.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// The receiver that discards: part of `http`.
    #[command(hide = true)]
    Sink {
        /// Port on loopback.
        port: u16,
    },
}

/// `cargo xtask bench`.
pub fn run(options: &Options) -> Result<()> {
    match &options.subject {
        Subject::Hooks { arguments } => example("agent", "bench_hooks", arguments),
        Subject::Http(options) => http::run(options),
        Subject::Core { arguments } => example("agent-core", "bench_core", arguments),
        Subject::Sink { port } => sink::serve(*port),
    }
}

/// A measurement that lies beside the code it measures, as an example of its crate.
fn example(package: &str, name: &str, arguments: &[String]) -> Result<()> {
    let mut cargo = command("cargo", ["run", "--release", "--package", package, "--example", name]);
    if package == "agent" {
        cargo.env("KERNSPAN_OBJECT", build::kernel_object()?);
    }
    command::run(cargo.arg("--").args(arguments))
}
