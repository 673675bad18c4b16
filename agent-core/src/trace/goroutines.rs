//! Goroutines in the place of threads, and whose work they do.
//!
//! A goroutine is one flow of work: what it calls while it serves a request, it calls for that
//! request. So is what it makes: a goroutine works for the request that its maker served when it was
//! made, as long as that is open, and hands this on to those that it makes itself. The kernel side says
//! whether a goroutine was made since its maker began to read its latest request; one that is older (a
//! pool that an earlier request has started, something that a handler has left behind) works for
//! nobody that can be told, and is not guessed.
//!
//! A maker that never used a socket is not known with its own maker: there the chain ends.

use super::bounded::Bounded;
use super::request::Request;
use crate::event::ProcessKey;
use crate::id::SpanId;
use crate::message::Thread;
use crate::slab::Slab;
use agent_common::runtime::{MADE_SINCE, UNKNOWN, maker, number};

/// A thread, or, where the runtime has its own, a goroutine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) process: ProcessKey,
    pub(super) tid: u32,
    /// Number of the goroutine, 0 for threads.
    pub(super) goroutine: u32,
}

impl Key {
    pub(super) fn task(process: ProcessKey, tid: u32) -> Key {
        Key { process, tid, goroutine: 0 }
    }

    fn goroutine(process: ProcessKey, goroutine: u32) -> Option<Key> {
        (goroutine != 0).then_some(Key { process, tid: 0, goroutine })
    }

    /// The goroutine that made the one of `thread`, and whether since it began to read its latest
    /// request.
    pub(super) fn maker(thread: &Thread) -> Option<(Key, bool)> {
        let key = Key::goroutine(thread.process, maker(thread.context))?;
        Some((key, thread.context & MADE_SINCE != 0))
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Goroutines {
    /// Processes with goroutines: their threads say nothing.
    processes: Bounded<ProcessKey, ()>,
    /// Slot and span of the request that a goroutine works for without serving it.
    works: Bounded<Key, (u32, SpanId)>,
}

impl Goroutines {
    pub(super) fn new(goroutines: usize, processes: usize) -> Goroutines {
        Goroutines { processes: Bounded::new(processes), works: Bounded::new(goroutines) }
    }

    /// Notes what a record says of `thread`'s process.
    pub(super) fn meet(&mut self, thread: &Thread) {
        if thread.context != 0 && self.processes.get(&thread.process).is_none() {
            self.processes.insert(thread.process, ());
        }
    }

    pub(super) fn ended(&mut self, process: &ProcessKey) {
        if self.processes.len() > 0 {
            self.processes.remove(process);
        }
    }

    /// What `thread` is judged by; none when nothing tells.
    pub(super) fn key(&self, thread: &Thread) -> Option<Key> {
        if thread.context == 0 {
            let threads =
                self.processes.len() == 0 || self.processes.get(&thread.process).is_none();
            return (thread.tid != 0 && threads).then_some(Key::task(thread.process, thread.tid));
        }
        if thread.context & UNKNOWN != 0 {
            return None;
        }
        Key::goroutine(thread.process, number(thread.context))
    }

    /// The open request that the goroutine `key` is known to work for.
    pub(super) fn works_for(&self, key: &Key, requests: &Slab<Request>) -> Option<u32> {
        let (slot, span) = *self.works.get(key)?;
        let request = requests.get(slot)?;
        (request.started.span == span && request.is_open()).then_some(slot)
    }

    /// The goroutine `key` works for the request in `slot`.
    pub(super) fn note(&mut self, key: Key, slot: u32, requests: &Slab<Request>) {
        if let Some(request) = requests.get(slot) {
            self.works.insert(key, (slot, request.started.span));
        }
    }
}
