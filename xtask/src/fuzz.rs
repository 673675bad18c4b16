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

/// Seconds that a target has in `cargo xtask test`: with their builds all of them take 12 minutes.
const LONG: u64 = 60;
const SHORT: u64 = 30;

/// Those with many states or inputs of many parts, and the one that a promise names.
const LARGE: [&str; 6] = ["elf", "golang", "http1", "kubernetes", "record", "recording"];

/// What to fuzz and for how long.
#[derive(Debug, Args)]
pub struct Options {
    /// Targets; all of them when none is given.
    targets: Vec<String>,
    /// Seconds per target.
    #[arg(long, default_value_t = LONG)]
    seconds: u64,
    /// Executions per target, instead of a time.
    #[arg(long)]
    executions: Option<u64>,
    /// Without AddressSanitizer: several times as fast, finds panics and broken assertions only.
    #[arg(long)]
    no_sanitizer: bool,
}

/// What limits a run.
struct Limit {
    /// The fuzzer's own option.
    option: String,
    /// After this the run is killed.
    time: Duration,
    sanitizer: bool,
}

/// Fuzzes and fails at the first finding.
pub fn run(options: &Options) -> Result<()> {
    let targets = if options.targets.is_empty() { targets()? } else { options.targets.clone() };
    for target in &targets {
        let option = match options.executions {
            Some(executions) => format!("-runs={executions}"),
            None => format!("-max_total_time={}", options.seconds),
        };
        // A count has no bound in time; a week is beyond any.
        let seconds = options.executions.map_or(options.seconds, |_| 7 * 24 * 3600);
        let time = Duration::from_secs(seconds);
        one(target, &Limit { option, time, sanitizer: !options.no_sanitizer })?;
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

/// Fuzzes one target for as long as it has in a run of all tests.
pub fn test(target: &str) -> Result<()> {
    let seconds = if LARGE.contains(&target) { LONG } else { SHORT };
    let option = format!("-max_total_time={seconds}");
    one(target, &Limit { option, time: Duration::from_secs(seconds), sanitizer: true })
}

fn one(target: &str, limit: &Limit) -> Result<()> {
    let mut cargo = toolchain::get()?.cargo();
    // The first directory receives what is found; the others are read. Seeds are in the repository.
    let corpus = format!("fuzz/corpus/{target}");
    fs::create_dir_all(paths::root().join(&corpus))?;
    cargo.args(["fuzz", "run"]);
    if !limit.sanitizer {
        cargo.args(["--sanitizer", "none"]);
    }
    cargo.args([target, &corpus]);
    let seeds = format!("fuzz/seeds/{target}");
    if paths::root().join(&seeds).is_dir() {
        cargo.arg(seeds);
    }
    cargo.args(["--", &limit.option, "-print_final_stats=1", "-rss_limit_mb=2048"]);
    // Sanitizers are unstable flags, also where the compiler is no nightly one.
    cargo.env("RUSTC_BOOTSTRAP", "1").env_remove("CARGO_TARGET_DIR").current_dir(paths::root());
    let status = command::lines(&mut cargo, limit.time + BUILD, |line| println!("{line}"))?;
    ensure!(status.success(), "fuzz target {target} ended with {status}");
    Ok(())
}
