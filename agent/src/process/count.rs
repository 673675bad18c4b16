//! What reading /proc met with.

use agent_core::ledger::{Entry, Side};
use rustix::io::Errno;

/// Counts of one reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadCounts {
    /// Processes asked for.
    pub asked: u64,
    /// Processes read.
    pub read: u64,
    /// Processes that were gone.
    pub gone: u64,
    /// Processes that ended while they were looked at.
    pub ending: u64,
    /// Another process has the number by now (or /proc is that of another pid or time namespace).
    pub other_start: u64,
    /// Processes whose `stat` could not be read or understood.
    pub unreadable: u64,
    /// Parts of a process that may not be read: `exe`, `cwd` and `environ` need the right to trace.
    pub denied: u64,
    /// Parts of a process that could not be read for any other cause.
    pub failed: u64,
    /// Environments longer than what is read of them.
    pub environ_cut: u64,
}

impl ReadCounts {
    /// Notes that a part of a process could not be read.
    pub(super) fn part(&mut self, error: Errno) {
        match error {
            // Gone, or there is none: kernel threads have no `exe`.
            Errno::NOENT | Errno::SRCH => {}
            Errno::ACCESS | Errno::PERM => self.denied += 1,
            _ => self.failed += 1,
        }
    }

    /// The account of this stage. Nothing is lost here: who is gone is known by its records.
    pub fn ledger(&self) -> Vec<Entry> {
        [
            (Side::Info("asked"), self.asked),
            (Side::Info("read"), self.read),
            (Side::Info("gone"), self.gone),
            (Side::Info("ending"), self.ending),
            (Side::Info("other_start"), self.other_start),
            (Side::Info("unreadable"), self.unreadable),
            (Side::Info("parts_denied"), self.denied),
            (Side::Info("parts_failed"), self.failed),
            (Side::Info("environments_cut"), self.environ_cut),
        ]
        .map(|(side, count)| Entry { stage: "process_read", unit: "processes", side, count })
        .to_vec()
    }
}
