//! What kernspan costs.

mod age;
mod aims;
mod connections;
mod http;
mod redis;
mod report;
mod sink;

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
    /// The same for a protocol that is not known, and what is lost meanwhile.
    Redis(redis::Options),
    /// Memory of an idle connection, in the kernel and in the agent.
    Connections(connections::Options),
    /// Records to spans in userspace, on one core, without a kernel.
    Core {
        /// Passed on.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// A part of `connections`.
    #[command(hide = true)]
    Hold {
        /// Port on loopback.
        port: u16,
        /// Number of the first connection.
        first: u32,
        /// How many.
        count: u32,
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
        Subject::Hooks { arguments } => example("bench_hooks", arguments),
        Subject::Http(options) => http::run(options),
        Subject::Redis(options) => redis::run(options),
        Subject::Connections(options) => connections::run(options),
        Subject::Core { arguments } => example("bench_core", arguments),
        Subject::Hold { port, first, count } => connections::hold(*port, *first, *count),
        Subject::Sink { port } => sink::serve(*port),
    }
}

/// A measurement that lies beside the code it measures, as an example of the agent.
fn example(name: &str, arguments: &[String]) -> Result<()> {
    let mut cargo = command("cargo", ["run", "--release", "--package", "agent", "--example", name]);
    cargo.env("KERNSPAN_OBJECT", build::kernel_object()?);
    command::run(cargo.arg("--").args(arguments))
}
