//! What is read of the runtimes of processes, and what is in the way, for who asks.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Entries at most: of a process more than this one nothing is said. Some hundred bytes each.
const MOST: usize = 4096;

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// Which goroutine calls, and who made it.
    Goroutines,
    /// What a thread has published (OTEP 4947).
    ThreadContext,
}

/// How far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// As far as there is something to read.
    Whole,
    /// But for this.
    But(String),
    /// For this reason not at all.
    Not(String),
}

/// By process and what.
pub type States = BTreeMap<(u32, What), Read>;

/// Shared with who asks.
#[derive(Clone, Default)]
pub struct Known(Arc<Mutex<States>>);

impl Known {
    /// It is so with this process from now on.
    pub fn set(&self, pid: u32, what: What, read: Read) {
        let mut states = self.lock();
        let has_room = |states: &States| states.len() < MOST || states.contains_key(&(pid, what));
        if !has_room(&states) {
            // Ends that nobody has told of.
            states.retain(|(pid, _), _| Path::new("/proc").join(pid.to_string()).exists());
        }
        if has_room(&states) {
            states.insert((pid, what), read);
        }
    }

    /// Nothing is known of it any more.
    pub fn forget(&self, pid: u32, what: What) {
        self.lock().remove(&(pid, what));
    }

    /// As of now.
    pub fn get(&self) -> States {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, States> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_that_have_ended_give_room_and_no_more_is_kept_than_may_be() {
        let known = Known::default();
        // Numbers that no process can have (`PID_MAX_LIMIT` is 1 << 22).
        for pid in 0..2 * MOST as u32 {
            known.set((1 << 23) + pid, What::Goroutines, Read::Whole);
        }
        assert!(known.get().len() <= MOST);
        let own = std::process::id();
        known.set(own, What::Goroutines, Read::Not("too new".to_owned()));
        known.set(own, What::ThreadContext, Read::Whole);
        let at = |what| known.get().get(&(own, what)).cloned();
        assert_eq!(at(What::Goroutines), Some(Read::Not("too new".to_owned())));
        known.forget(own, What::Goroutines);
        assert_eq!((at(What::Goroutines), at(What::ThreadContext)), (None, Some(Read::Whole)));
    }
}
