//! Programs in Go, built by the installed toolchain for the scenario that runs them.

use crate::process::{Process, until};
use crate::python::read_log;
use crate::scenario::{Scenario, crate_dir, find_program};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long a program may take until it prints `ready`.
const READY: Duration = Duration::from_secs(60);

/// Builds `workloads/go` with more options (`-ldflags=…`), by the toolchain `version` (`local`: the
/// installed one). `None` when that cannot be had.
///
/// # Panics
/// When the program does not compile.
pub fn build(scenario: &Scenario, name: &str, version: &str, more: &[&str]) -> Option<PathBuf> {
    let toolchain = |command: &mut Command| {
        command.current_dir(crate_dir("workloads/go")).env("GOTOOLCHAIN", version);
    };
    let go = find_program("go")?;
    let mut ask = Command::new(&go);
    toolchain(&mut ask);
    if !ask.arg("version").output().is_ok_and(|output| output.status.success()) {
        return None;
    }
    let target = scenario.path(name);
    let mut command = Command::new(&go);
    toolchain(&mut command);
    command.args(["build", "-o"]).arg(&target).args(more).arg(".");
    let output = command.output().expect("go");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(target)
}

/// A running service with a log of JSON lines, its ground truth.
#[derive(Debug)]
pub struct Service {
    process: Process,
    log: PathBuf,
}

impl Service {
    /// Starts `program --log FILE --name NAME ARGUMENTS…`, and waits until it prints a line `ready`.
    ///
    /// # Panics
    /// When it does not.
    pub fn serve(scenario: &Scenario, program: &Path, name: &str, arguments: &[&str]) -> Service {
        let log = scenario.path(&format!("{name}.jsonl"));
        let mut command = Command::new(program);
        command.arg("--log").arg(&log).args(["--name", name]).args(arguments);
        let mut process = Process::start(command, scenario.dir(), name);
        until(&format!("{name} is ready"), READY, || {
            assert!(process.is_running(), "{name} ended: {}", process.tail());
            process.stdout().lines().any(|line| line == "ready").then_some(())
        });
        Service { process, log }
    }

    /// Its log so far.
    pub fn log(&self) -> Vec<Value> {
        read_log(&self.log)
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}
