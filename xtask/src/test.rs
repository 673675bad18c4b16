//! The phases of `cargo xtask test`, timed and counted.

mod cargo;
mod libtest;
mod lint;
mod skips;
mod stacks;
mod table;

use crate::{fuzz, vm};
use anyhow::Result;
use clap::{Args, ValueEnum};
use libtest::Tally;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What to test.
#[derive(Debug, Args)]
pub struct Options {
    /// Only these phases (repeatable); all of them without it.
    #[arg(long = "phase")]
    phases: Vec<Phase>,
    /// Only tests whose name contains this (phases unit, replay and kernel).
    filter: Option<String>,
    /// Do not run the set-up first.
    #[arg(long)]
    no_setup: bool,
}

/// In the order in which they run.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Phase {
    /// rustfmt, clippy, licences and sources, docs/promises.md.
    Lint,
    /// Tests of every crate that need no kernel feature.
    Unit,
    /// Recordings against their expected output.
    Replay,
    /// Scenarios with real programs on this machine's kernel.
    Kernel,
    /// The scenario on other kernels.
    Vm,
    /// Every fuzz target for a minute or half of one.
    Fuzz,
}

impl Phase {
    /// After this long what still runs is killed and counted as failed. Together 118 minutes.
    fn limit(self) -> Duration {
        let minutes = match self {
            Phase::Lint => 12,
            Phase::Unit => 15,
            Phase::Replay => 15,
            Phase::Kernel => 38,
            Phase::Vm => 25,
            Phase::Fuzz => 13,
        };
        Duration::from_secs(minutes * 60)
    }
}

/// Time left in a phase.
#[derive(Clone, Copy, Debug)]
struct Deadline(Instant);

impl Deadline {
    fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// Runs the phases; fails when a test failed, or was skipped without leave.
pub fn run(options: &Options) -> Result<ExitCode> {
    if !options.no_setup {
        crate::setup::install(crate::setup::Level::Test)?;
    }
    let phases = if options.phases.is_empty() { Phase::value_variants() } else { &options.phases };
    let mut rows = Vec::new();
    for &phase in phases {
        println!("\n== {} ==", name(phase));
        let started = Instant::now();
        let mut tally = Tally::default();
        let deadline = Deadline(started + phase.limit());
        if let Err(error) = run_phase(phase, options, deadline, &mut tally) {
            tally.fail(&name(phase), &error);
        }
        rows.push(table::Row { name: name(phase), time: started.elapsed(), tally });
    }
    let total = table::print(&rows);
    Ok(if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_phase(phase: Phase, options: &Options, deadline: Deadline, tally: &mut Tally) -> Result<()> {
    let filter = options.filter.as_deref();
    match phase {
        Phase::Lint => lint::run(deadline, tally),
        Phase::Unit => cargo::unit(filter, deadline, tally)?,
        Phase::Replay => cargo::replay(filter, deadline, tally)?,
        Phase::Kernel => cargo::scenarios(filter, deadline, tally)?,
        Phase::Vm => vm::test(deadline.left(), |kernel, result| tally.check(kernel, result))?,
        Phase::Fuzz => {
            for target in fuzz::targets()? {
                tally.check(&format!("fuzz {target}"), fuzz::test(&target));
            }
        }
    }
    Ok(())
}

fn name(phase: Phase) -> String {
    phase.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}
