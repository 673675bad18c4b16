//! How far the process ring has been read, for the assembler, which waits for the slowest ring.
//!
//! The ring is empty most of the time. Its thread then sleeps for long, and says nothing; the
//! assembler's thread asks the kernel whether something is in the ring instead.
//!
//! ```text
//! reader:    busy = true ─ take records ─ hand them on ─ until = began ─ busy = false
//! assembler: now ─ is the ring empty? ─ busy? ─ empty the channel
//! ```
//!
//! When the ring is found empty, what was written before `now` has been taken, so `busy` was set
//! before; when it is not set any more, all of it is in the channel.

use super::clock::boot_ns;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[derive(Default)]
struct State {
    busy: AtomicBool,
    /// Everything written before this boot time (ns) has been handed on.
    until: AtomicU64,
}

/// The side of the thread that reads the ring.
#[derive(Clone, Default)]
pub struct Reading(Arc<State>);

impl Reading {
    /// The reader looks at the ring.
    pub fn begins(&self) {
        self.0.busy.store(true, Ordering::SeqCst);
    }

    /// All that was written before `began` (boot time, ns) has been handed on.
    pub fn is_done(&self, began: u64) {
        self.0.until.store(began, Ordering::SeqCst);
        self.0.busy.store(false, Ordering::SeqCst);
    }

    /// The assembler's side; `ring` is the map, to ask the kernel.
    pub fn progress(&self, ring: OwnedFd) -> Progress {
        Progress { state: Arc::clone(&self.0), ring }
    }
}

/// The side of the assembler.
pub struct Progress {
    state: Arc<State>,
    ring: OwnedFd,
}

impl Progress {
    /// Boot time (ns) before which everything written to the ring is in the channel now.
    pub fn read_until(&self) -> u64 {
        let now = boot_ns();
        let mut ring = [PollFd::new(&self.ring, PollFlags::IN)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        // When the kernel does not answer, the reader's word is enough.
        let empty = poll(&mut ring, Some(&at_once)) == Ok(0);
        if empty && !self.state.busy.load(Ordering::SeqCst) {
            return now;
        }
        self.state.until.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_ring_with_an_idle_reader_is_read_until_now() {
        // A pipe stands for the ring: it is readable when something is in it.
        let (read, mut write) = std::io::pipe().expect("a pipe");
        let reading = Reading::default();
        let progress = reading.progress(read.into());
        let before = boot_ns();
        assert!(progress.read_until() >= before, "empty, and nobody reads");
        reading.begins();
        assert_eq!(progress.read_until(), 0, "the reader holds something back");
        reading.is_done(7);
        assert!(progress.read_until() >= before, "handed on");
        std::io::Write::write_all(&mut write, b"x").expect("room in the pipe");
        assert_eq!(progress.read_until(), 7, "something waits in the ring");
    }
}
