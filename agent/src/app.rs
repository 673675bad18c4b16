//! Builds every stage once, connects them, stops them. The only place that knows them all.
//!
//! ```text
//! process ring ─ thread ─ bounded channel ─┐
//! payload ring ─ thread: connections ──────┴─► assembler ─► outputs ─► tokio: OTLP
//! ```
//!
//! With several payload rings, each thread has its own connections, and the assembler one of its
//! own, with a bounded queue from each.

mod agent;
mod assemble;
mod attach;
mod batch;
mod changes;
mod check;
mod clock;
mod doctor;
mod flows;
mod governor;
pub mod hang_up;
mod heap;
#[cfg(feature = "kernel-log")]
mod kernel_log;
mod live;
mod memory;
mod outputs;
mod packets;
mod payload;
mod preamble;
mod privilege;
mod processes;
mod progress;
mod queue;
mod recorder;
mod reload;
mod replay;
mod requests;
mod revisits;
mod rings;
mod selected;
mod shared;
mod silence;
mod status;
mod threads;
mod traffic;
mod usage;

use crate::cli::{Command, Failure};

/// Carries out a command.
///
/// # Errors
/// [`Failure`] says whose fault it is.
pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(run) => live::run(&run),
        Command::Show(settings) => live::show(&settings),
        Command::Record(record) => live::record(&record),
        Command::Replay(replay) => replay::run(&replay),
        Command::Flows(asked) => flows::list(&asked),
        Command::Doctor(asked) => doctor::run(&asked),
        Command::CheckConfig { file, settings } => check::run(&file, &settings),
        Command::Version => Ok(()),
    }
}
