//! Installs what building and testing need, and only what is missing.
//!
//! Each part looks first and acts only then, so that a second run is quick and changes nothing.

mod debian;
mod receivers;
mod rust;
pub mod toolchain;

use anyhow::Result;
use clap::{Args, ValueEnum};
use std::time::Instant;

/// How much to install.
#[derive(Debug, Args)]
pub struct Options {
    /// Each level contains the ones before it.
    #[arg(default_value = "test")]
    level: Level,
}

/// What the machine is made ready for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, ValueEnum)]
pub enum Level {
    /// Building and the demo.
    Demo,
    /// `cargo xtask test` and the benchmarks; with Go, also the OpenTelemetry Collector and Jaeger.
    Test,
}

/// Runs the set-up that was asked for.
pub fn run(options: &Options) -> Result<()> {
    install(options.level)
}

/// Runs the set-up and says how long it took.
pub fn install(level: Level) -> Result<()> {
    let started = Instant::now();
    debian::install(level)?;
    toolchain::install()?;
    rust::install(level)?;
    receivers::install(level)?;
    println!("setup: complete after {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// One line that says what is about to be done and why.
fn announce(what: &str, why: &str) {
    println!("setup: {what} ({why})");
}
