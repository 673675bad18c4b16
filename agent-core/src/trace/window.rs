//! What a run reports when it takes over from another one, or another one from it: both see the same for a moment,
//! and each request has one span.
//!
//! A request is the next run's when it began since that sees everything, and ends since it took over; every other is
//! the run before's, open at its end or not. Both go by the same two moments. What begins or ends within a
//! microsecond of them may be told by both or neither, since the programs of each read the clock themselves.

/// Boot times, ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// What ended before is the run before's to report.
    pub from_ns: u64,
    /// … and so is what began before.
    pub sees_ns: u64,
    /// What ends from then on is the next run's,
    pub until_ns: u64,
    /// if it began since then.
    pub next_sees_ns: u64,
}

impl Default for Window {
    /// One run alone.
    fn default() -> Self {
        Window { from_ns: 0, sees_ns: 0, until_ns: u64::MAX, next_sees_ns: u64::MAX }
    }
}

impl Window {
    /// Whether what happened then is this run's to report.
    pub fn has(&self, at_ns: u64) -> bool {
        (self.from_ns..self.until_ns).contains(&at_ns)
    }

    /// The same of what lasted from `start_ns`; `None`: nobody saw its end.
    pub(super) fn has_request(&self, start_ns: u64, end_ns: Option<u64>) -> bool {
        let end_ns = end_ns.unwrap_or(u64::MAX);
        let not_before = start_ns >= self.sees_ns && end_ns >= self.from_ns;
        not_before && (start_ns < self.next_sees_ns || end_ns < self.until_ns)
    }
}
