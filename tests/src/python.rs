//! The Python (and Node.js) programs in `tests/workloads`: ordinary code that knows nothing of
//! tracing.

use crate::process::{Ended, Process, until};
use crate::scenario::{Scenario, crate_dir};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Debian's interpreter, not one that a version manager put first on PATH.
const PYTHON: &str = "/usr/bin/python3";

/// For scripts that end in `.js`.
const NODE: &str = "/usr/bin/node";

/// How long a program may take until it prints `ready`.
const READY: Duration = Duration::from_secs(60);

/// A running Python program with a log of JSON lines, its ground truth.
#[derive(Debug)]
pub struct Python {
    process: Process,
    log: PathBuf,
}

impl Python {
    /// Starts `workloads/SCRIPT --log FILE ARGUMENTS…`. `wrap` as for nginx. Several instances of
    /// one script differ by `name`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(
        scenario: &Scenario,
        name: &str,
        script: &str,
        arguments: &[&str],
        wrap: &[String],
    ) -> Python {
        let log = scenario.path(&format!("{name}.jsonl"));
        let mut words: Vec<String> = wrap.to_vec();
        match script.ends_with(".js") {
            true => words.push(NODE.into()),
            false => words.extend([PYTHON.into(), "-u".into(), "-B".into()]),
        }
        words.push(crate_dir("workloads").join(script).display().to_string());
        words.extend(["--log".into(), log.display().to_string()]);
        words.extend(arguments.iter().map(|&word| word.to_owned()));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        Python { process: Process::start(command, scenario.dir(), name), log }
    }

    /// The same, and waits until it prints a line `ready`.
    ///
    /// # Panics
    /// When it does not.
    pub fn serve(
        scenario: &Scenario,
        name: &str,
        script: &str,
        arguments: &[&str],
        wrap: &[String],
    ) -> Python {
        let mut python = Python::start(scenario, name, script, arguments, wrap);
        until(&format!("{name} is ready"), READY, || {
            let process = &mut python.process;
            assert!(process.is_running(), "{name} ended: {}", process.tail());
            process.stdout().lines().any(|line| line == "ready").then_some(())
        });
        python
    }

    /// Its process number (that of the wrapper, if there is one).
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its log so far.
    pub fn log(&self) -> Vec<Value> {
        read_log(&self.log)
    }

    /// Waits for its end, demands success, and returns its log.
    ///
    /// # Panics
    /// When it fails or takes longer than `limit`.
    pub fn finish(self, limit: Duration) -> (Ended, Vec<Value>) {
        let ended = self.process.succeed(limit);
        (ended, read_log(&self.log))
    }

    /// Ends it and returns its log (written line by line, so nothing is lost).
    pub fn stop(self) -> Vec<Value> {
        let log = self.log.clone();
        let ended = self.process.kill();
        assert!(!ended.stderr.contains("Traceback"), "a workload failed: {}", ended.stderr);
        read_log(&log)
    }
}

/// Reads JSON lines; a last line without its newline is left out.
///
/// # Panics
/// When a line is no JSON.
pub fn read_log(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}")))
        .collect()
}
