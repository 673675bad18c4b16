//! Counts of tests: from libtest's output, and of checks that are no libtest tests.

use super::skips::Skips;
use anyhow::Result;
use std::collections::VecDeque;
use std::fmt::Display;

/// Lines of a failed test that are repeated at the end of the whole run. A log is often kept
/// only by its end, and the reason of a failure is in a test's last lines.
const REPEATED_LINES: usize = 25;

/// Tests counted, with each failure and what was printed before it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Ran and succeeded.
    pub passed: u64,
    /// Failed, or were skipped without leave.
    pub failed: u64,
    /// Could not run here, with leave.
    pub skipped: u64,
    /// One text per failure: what failed, then the last lines before it.
    pub failures: Vec<String>,
}

impl Tally {
    /// Counts one check.
    pub fn check(&mut self, name: &str, result: Result<()>) {
        match result {
            Ok(()) => {
                println!("ok      {name}");
                self.passed += 1;
            }
            Err(error) => self.fail(name, &error),
        }
    }

    /// Counts one failure.
    pub fn fail(&mut self, name: &str, error: &anyhow::Error) {
        println!("FAILED  {name}: {error:#}");
        self.fail_with(format!("{name}: {error:#}"));
    }

    fn fail_with(&mut self, failure: impl Display) {
        self.failed += 1;
        self.failures.push(failure.to_string());
    }

    /// Adds the counts of another.
    pub fn add(&mut self, other: &Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.failures.extend_from_slice(&other.failures);
    }
}

/// Reads one libtest run line by line.
pub struct Reader<'a> {
    skips: &'a Skips,
    tally: Tally,
    /// Skipped tests: they return, so libtest counts them as passed.
    skipped: u64,
    /// The last lines, for a failure that is reported without the name of its test.
    recent: VecDeque<String>,
    /// The test whose output is being read: `--nocapture` puts it between name and result.
    running: String,
}

impl Reader<'_> {
    /// A reader that allows the skips of this kernel.
    pub fn new(skips: &Skips) -> Reader<'_> {
        Reader {
            skips,
            tally: Tally::default(),
            skipped: 0,
            recent: VecDeque::new(),
            running: String::new(),
        }
    }

    /// Takes one line of output.
    pub fn line(&mut self, line: &str) {
        if let Some(counts) = summary(line) {
            self.tally.passed += counts.passed;
            self.tally.failed += counts.failed;
        } else if let Some(test) = line.strip_suffix(" ... FAILED") {
            self.tally.failures.push(name_of(test).to_owned());
        } else if line == "FAILED" {
            // Its output went to the terminal as it came, so that it stands before the result.
            let output: Vec<_> = self.recent.drain(..).collect();
            self.tally.failures.push(format!("{}\n{}", self.running, output.join("\n")));
        } else if let Some((test, reason)) = skip(line) {
            self.skip(test, reason);
        }
        self.remember(line);
    }

    fn remember(&mut self, line: &str) {
        if let Some((test, _)) = line.split_once(" ... ").filter(|_| line.starts_with("test ")) {
            self.running = name_of(test).to_owned();
            self.recent.clear();
        }
        if self.recent.len() == REPEATED_LINES {
            self.recent.pop_front();
        }
        self.recent.push_back(line.to_owned());
    }

    fn skip(&mut self, test: &str, reason: &str) {
        self.skipped += 1;
        if self.skips.allow(test) {
            self.tally.skipped += 1;
        } else {
            self.tally.fail_with(format!("{test}: skipped without leave: {reason}"));
        }
    }

    /// The counts of the run; a run that failed without a failed test counts as one failure.
    pub fn finish(mut self, name: &str, succeeded: bool) -> Tally {
        self.tally.passed = self.tally.passed.saturating_sub(self.skipped);
        if !succeeded && self.tally.failed == 0 {
            let output: Vec<_> = self.recent.drain(..).collect();
            let reason = format!("{name}: did not build, or ended early\n{}", output.join("\n"));
            self.tally.fail_with(reason);
        }
        self.tally
    }
}

struct Counts {
    passed: u64,
    failed: u64,
}

/// `test result: ok. 12 passed; 0 failed; 0 ignored; …`
fn summary(line: &str) -> Option<Counts> {
    let rest = line.strip_prefix("test result: ")?;
    let count = |name: &str| {
        let part = rest.split([';', '.']).find(|part| part.trim().ends_with(name))?;
        part.split_whitespace().next()?.parse().ok()
    };
    Some(Counts { passed: count(" passed")?, failed: count(" failed")? })
}

/// `module::test` of `test module::test`.
fn name_of(test: &str) -> &str {
    test.strip_prefix("test ").unwrap_or(test)
}

/// `SKIP name: reason`, also behind `test name ... ` when the output is not captured.
fn skip(line: &str) -> Option<(&str, &str)> {
    let at = line.rfind("SKIP ")?;
    let (before, found) = line.split_at_checked(at)?;
    (before.is_empty() || before.ends_with("... ")).then_some(())?;
    found.strip_prefix("SKIP ")?.split_once(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    fn read(lines: &[&str], allowed: &str, succeeded: bool) -> Tally {
        let skips = Skips::parse(allowed);
        let mut reader = Reader::new(&skips);
        lines.iter().for_each(|line| reader.line(line));
        reader.finish("run", succeeded)
    }

    #[test]
    fn summaries_of_several_binaries_add_up() {
        let tally = read(
            &[
                "running 2 tests",
                "test a ... ok",
                "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out",
                "test b::c ... FAILED",
                "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
            ],
            "",
            false,
        );
        assert_eq!((tally.passed, tally.failed, tally.skipped), (5, 1, 0));
        assert_eq!(tally.failures, ["b::c"]);
    }

    #[test]
    fn a_failure_keeps_the_end_of_its_output() {
        let mut lines = vec!["test first ... ok", "test second ... 1 request"];
        lines.extend(["2 requests"; REPEATED_LINES]);
        lines.extend(["panicked: none of 3", "FAILED", "test third ... ok"]);
        lines.push("test result: FAILED. 2 passed; 1 failed; 0 ignored");
        let tally = read(&lines, "", false);
        assert_eq!((tally.passed, tally.failed), (2, 1));
        let [failure] = tally.failures.as_slice() else { panic!("{:?}", tally.failures) };
        assert!(failure.starts_with("second\n2 requests\n"), "{failure}");
        assert!(failure.ends_with("\npanicked: none of 3"), "{failure}");
        assert_eq!(failure.lines().count(), REPEATED_LINES + 1);
    }

    #[test]
    fn a_run_that_does_not_build_is_a_failure() {
        assert_eq!(read(&[], "", false).failed, 1);
        assert_eq!(read(&[], "", true).failed, 0);
    }

    #[test]
    fn a_skip_is_no_success_and_needs_leave() {
        let lines = [
            "test uring ... SKIP uring: not installed: x",
            "SKIP netns: not root",
            "a line that says SKIP nothing: at all",
            "test result: ok. 3 passed; 0 failed; 0 ignored",
        ];
        let allowed = read(&lines, "uring: no such kernel\n# netns: comment", true);
        assert_eq!((allowed.passed, allowed.failed, allowed.skipped), (1, 1, 1));
    }

    #[test]
    fn checks_count_too() {
        let mut tally = Tally::default();
        tally.check("good", Ok(()));
        tally.check("bad", Err(anyhow!("reason")));
        assert_eq!((tally.passed, tally.failed), (1, 1));
        assert_eq!(tally.failures, ["bad: reason"]);
    }
}
