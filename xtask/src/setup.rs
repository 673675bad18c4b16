//! Installs what building and testing need, and only what is missing.
//!
//! Each part looks first and acts only then, so that a second run is quick and changes nothing.

pub mod debian;
mod pip;
pub mod receivers;
mod rust;
pub mod toolchain;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use std::cell::Cell;
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
    pip::install(level)?;
    let done = if DONE.get() == 0 { "nothing was missing" } else { "complete" };
    println!("setup: {done}, after {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// One line that says what is about to be done and why.
///
/// # Errors
/// In a test that forbids doing anything.
fn announce(what: &str, why: &str) -> Result<()> {
    ensure!(!FORBIDDEN.get(), "set-up would do something: {what} ({why})");
    DONE.set(DONE.get() + 1);
    println!("setup: {what} ({why})");
    Ok(())
}

thread_local! {
    /// Things done by this run.
    static DONE: Cell<u32> = const { Cell::new(0) };
    /// Nothing may be done.
    static FORBIDDEN: Cell<bool> = const { Cell::new(false) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a machine that is set up, as it is when `cargo xtask test` gets here. Elsewhere the test
    /// would install what it needs.
    #[test]
    fn a_second_set_up_does_nothing() {
        FORBIDDEN.set(true);
        let result = install(Level::Demo);
        FORBIDDEN.set(false);
        match result {
            Ok(()) => assert_eq!(DONE.get(), 0),
            Err(error) if std::env::var_os("KERNSPAN_REQUIRE").is_none() => {
                println!("SKIP a second set-up: there was no first one: {error}");
            }
            Err(error) => panic!("{error:#}"),
        }
    }

    #[test]
    fn what_is_forbidden_is_not_announced_as_done() {
        FORBIDDEN.set(true);
        let refused = announce("a package", "a reason");
        FORBIDDEN.set(false);
        assert!(refused.is_err_and(|error| error.to_string().contains("a package")));
        assert_eq!(DONE.get(), 0);
    }
}
