//! What a run reports when it takes over from another one, or another one from it: both see the same for a moment,
//! and each request has one span.

/// Boot times, ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// What ended before is the run before's to report.
    pub from_ns: u64,
    /// What ends from then on is the next run's.
    pub until_ns: u64,
    /// From then on the next run sees everything: what began later, and is open when this run ends, is its.
    pub next_sees_ns: u64,
}

impl Default for Window {
    /// One run alone.
    fn default() -> Self {
        Window { from_ns: 0, until_ns: u64::MAX, next_sees_ns: u64::MAX }
    }
}

impl Window {
    /// Whether what ended, or happened, then is this run's to report.
    pub fn has(&self, end_ns: u64) -> bool {
        (self.from_ns..self.until_ns).contains(&end_ns)
    }

    /// The same of what is open at the end of this run.
    pub(super) fn has_open(&self, start_ns: u64) -> bool {
        start_ns < self.next_sees_ns
    }
}
