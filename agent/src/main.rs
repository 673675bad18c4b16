//! `kernspan`: arguments → configuration → app → exit code.

use agent::cli::{self, Command, Failure, Stop};
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

/// Many small, short-lived allocations on several threads: about what mimalloc is made for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything that takes time. Where no handler is taken, the agent's own will say so.
    if cli::follows_signals(std::env::args_os().nth(1).as_deref()) {
        let _ = agent::app::hang_up::keep();
    }
    let environment = |name: &str| std::env::var(name).ok();
    match cli::parse(std::env::args_os(), &environment) {
        Ok(command) => finish(carry_out(command)),
        Err(Stop::Failure(failure)) => finish(Err(failure)),
        Err(Stop::Clap(error)) => {
            // Help goes to standard output, whose reader may be gone.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
    }
}

fn carry_out(command: Command) -> Result<(), Failure> {
    match command {
        Command::Version => cli::print(&format!("kernspan {}\n", cli::VERSION))
            .map_err(|error| anyhow::Error::new(error).context("standard output").into()),
        other => agent::app::run(other),
    }
}

/// What a log reader may take longer than usual at the end.
const LOG_PATIENCE: Duration = Duration::from_millis(200);

fn finish(result: Result<(), Failure>) -> ExitCode {
    let heard = agent::telemetry::drain(LOG_PATIENCE);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody is left to tell when standard error is gone or stalls: the code still says it.
            if heard {
                let _ = writeln!(std::io::stderr(), "kernspan: {failure}");
            }
            ExitCode::from(failure.exit_code())
        }
    }
}
