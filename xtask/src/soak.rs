//! `cargo xtask soak`: a mixed load for long. What the agent takes of the machine may find its size in
//! the first third of the time, and has to stay there.

mod load;
mod sample;
mod slope;

use crate::build;
use crate::service::scratch;
use crate::watcher::{Receiver, Watcher, losses};
use anyhow::{Result, bail, ensure};
use clap::Args;
use load::Load;
use rustix::process::geteuid;
use sample::{SERIES, Sample};
use slope::growth;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long.
#[derive(Debug, Args)]
pub struct Options {
    /// Minutes of load; the first third is for warming up.
    #[arg(long, default_value_t = 30)]
    minutes: u32,
    /// An agent that is built already.
    #[arg(long)]
    agent: Option<PathBuf>,
}

/// Between two samples.
const STEP: Duration = Duration::from_secs(5);

/// Runs, prints, and fails when something grew.
pub fn run(options: &Options) -> Result<()> {
    ensure!(geteuid().is_root(), "the agent needs root: run this as root");
    let agent = build::agent(options.agent.as_deref())?;
    let home = scratch("soak")?;
    let result = watch(options, &agent, &home);
    fs::remove_dir_all(&home)?;
    let samples = result?;
    let warm = samples.get(samples.len() / 3..).unwrap_or_default();
    let grown = judge(warm);
    ensure!(grown.is_empty(), "grew after warming up: {}", grown.join(", "));
    Ok(())
}

fn watch(options: &Options, agent: &Path, home: &Path) -> Result<Vec<Sample>> {
    let receiver = Receiver::start(home)?;
    let load = Load::prepare(home)?;
    let agent = Watcher::start(agent, home, Some(&receiver), &[])?;
    println!("{}", sample::heading());
    let samples = thread::scope(|scope| {
        let running = load.start(scope);
        let samples = observe(options.minutes, &agent);
        drop(running);
        samples
    });
    println!("{}", load.done());
    for loss in losses(&agent.ledger()?) {
        println!("lost: {loss}");
    }
    println!("the agent stopped after {:.2} s", agent.stop()?);
    samples
}

fn observe(minutes: u32, agent: &Watcher) -> Result<Vec<Sample>> {
    let began = Instant::now();
    let end = Duration::from_secs(u64::from(minutes) * 60);
    let mut samples: Vec<Sample> = Vec::new();
    while began.elapsed() < end {
        thread::sleep(STEP);
        let sample = sample::take(agent, began.elapsed())?;
        // A line a minute.
        if samples.len().is_multiple_of(12) {
            println!("{}", sample.line());
        }
        samples.push(sample);
    }
    if samples.len() < slope::BLOCKS * 2 {
        bail!("{} samples are too few to tell", samples.len());
    }
    Ok(samples)
}

/// Prints each series' growth; those that grew beyond their noise.
fn judge(samples: &[Sample]) -> Vec<&'static str> {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return Vec::new() };
    let hours = (last.at - first.at).as_secs_f64() / 3600.0;
    println!("\nafter warming up, over {:.1} minutes:", hours * 60.0);
    let mut grown = Vec::new();
    for (number, series) in SERIES.iter().enumerate() {
        let values: Vec<f64> =
            samples.iter().filter_map(|sample| sample.values.get(number).copied()).collect();
        let growth = growth(&values);
        let has_grown = growth.is_beyond(series.grain);
        println!(
            "{:<28} {:>12.0} in the median, {:>+10.1} an hour, +- {:.1}  {}",
            series.name,
            growth.median,
            growth.change / hours,
            growth.noise / hours,
            if has_grown { "GROWS" } else { "flat" }
        );
        if has_grown && series.judged {
            grown.push(series.name);
        }
    }
    grown
}
