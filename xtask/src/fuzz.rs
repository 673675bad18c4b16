//! Fuzz targets of the `fuzz` crate, each for a bounded time or number of executions.

use crate::command;
use crate::paths;
use crate::setup::toolchain;
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::fs;
use std::time::Duration;

/// Time a target may take beyond its own limit: its build, and shrinking a finding.
const BUILD: Duration = Duration::from_secs(420);

/// What to fuzz and for how long.
#[derive(Debug, Args)]
pub struct Options {
    /// Targets; all of them when none is given.
    targets: Vec<String>,
    /// Seconds per target.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Executions per target, instead of a time.
    #[arg(long)]
    executions: Option<u64>,
}

/// Fuzzes and fails at the first finding.
pub fn run(options: &Options) -> Result<()> {
    let targets = if options.targets.is_empty() { targets()? } else { options.targets.clone() };
    for target in &targets {
        let limit = match options.executions {
            Some(executions) => format!("-runs={executions}"),
            None => format!("-max_total_time={}", options.seconds),
        };
        // A count has no bound in time; a week is beyond any.
        let seconds = options.executions.map_or(options.seconds, |_| 7 * 24 * 3600);
        one(target, &limit, Duration::from_secs(seconds))?;
    }
    Ok(())
}

/// The targets in `fuzz/fuzz_targets`, by name.
pub fn targets() -> Result<Vec<String>> {
    let directory = paths::root().join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&directory)
        .with_context(|| format!("no fuzz targets in {}", directory.display()))?;
    let mut names: Vec<_> = entries
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".rs")?.to_owned()))
        .collect();
    names.sort_unstable();
    ensure!(!names.is_empty(), "no fuzz targets in {}", directory.display());
    Ok(names)
}

/// Fuzzes one target for so many seconds.
pub fn seconds(target: &str, seconds: u64) -> Result<()> {
    one(target, &format!("-max_total_time={seconds}"), Duration::from_secs(seconds))
}

fn one(target: &str, limit: &str, time: Duration) -> Result<()> {
    let mut cargo = toolchain::get()?.cargo();
    // The first directory receives what is found; the others are read. Seeds are in the repository.
    let corpus = format!("fuzz/corpus/{target}");
    fs::create_dir_all(paths::root().join(&corpus))?;
    cargo.args(["fuzz", "run", target, &corpus]);
    let seeds = format!("fuzz/seeds/{target}");
    if paths::root().join(&seeds).is_dir() {
        cargo.arg(seeds);
    }
    cargo.args(["--", limit, "-print_final_stats=1", "-rss_limit_mb=2048"]);
    // Sanitizers are unstable flags, also where the compiler is no nightly one.
    cargo.env("RUSTC_BOOTSTRAP", "1").env_remove("CARGO_TARGET_DIR").current_dir(paths::root());
    let status = command::lines(&mut cargo, time + BUILD, |line| println!("{line}"))?;
    ensure!(status.success(), "fuzz target {target} ended with {status}");
    Ok(())
}
