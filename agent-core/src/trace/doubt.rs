//! Requests that nobody saw, because they were shed: beside them the requests that were seen are no
//! evidence.

use crate::event::ProcessKey;
use hashbrown::HashMap;

/// How long a request that nobody saw may last. While the kernel side sheds it says so every 100 ms,
/// so that only the last ones of them count.
const UNSEEN_NS: u64 = 1_000_000_000;

/// Processes that are doubted one by one.
const MAX_PROCESSES: usize = 4096;

/// Until when (boot ns) requests that begin may have others beside them.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// In any process.
    all: u64,
    /// In single ones.
    each: HashMap<ProcessKey, u64>,
}

impl Doubt {
    /// Requests that were shed were open until `at`, in any process.
    pub(super) fn everywhere(&mut self, at: u64) {
        self.all = self.all.max(at);
    }

    /// Requests of `process` were shed at `at`: when they end is not known.
    pub(super) fn shed(&mut self, process: ProcessKey, at: u64) {
        let until = at.saturating_add(UNSEEN_NS);
        if self.each.len() >= MAX_PROCESSES {
            self.each.retain(|_, until| *until > at);
        }
        if self.each.len() >= MAX_PROCESSES {
            // Rather every process than one too few.
            return self.everywhere(until);
        }
        let known = self.each.entry(process).or_default();
        *known = (*known).max(until);
    }

    /// A request of `process` that began until then is no evidence.
    pub(super) fn until(&self, process: &ProcessKey) -> u64 {
        let own = if self.each.is_empty() { None } else { self.each.get(process) };
        own.copied().unwrap_or(0).max(self.all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(tgid: u32) -> ProcessKey {
        ProcessKey { tgid, start_ns: 1 }
    }

    #[test]
    fn one_process_is_doubted_and_its_neighbour_is_not() {
        let mut doubt = Doubt::default();
        doubt.shed(process(1), 100);
        doubt.shed(process(1), 50);
        assert_eq!(doubt.until(&process(1)), 100 + UNSEEN_NS);
        assert_eq!(doubt.until(&process(2)), 0);
        doubt.everywhere(70);
        assert_eq!(doubt.until(&process(2)), 70);
    }

    #[test]
    fn beyond_the_bound_all_are_doubted() {
        let mut doubt = Doubt::default();
        for tgid in 0..=MAX_PROCESSES as u32 {
            doubt.shed(process(tgid), 100);
        }
        assert_eq!(doubt.each.len(), MAX_PROCESSES);
        assert_eq!(doubt.until(&process(u32::MAX)), 100 + UNSEEN_NS);
        // Those that are over make room.
        doubt.shed(process(u32::MAX), 200 + UNSEEN_NS);
        assert_eq!(doubt.each.len(), 1);
    }
}
