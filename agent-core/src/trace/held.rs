//! What is finished and waits for its tree to be settled, by the time at which it waits no more.

use super::order::ExecCopy;
use super::threads::Cause;
use crate::id::SpanId;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// Something that waits.
#[derive(Debug)]
pub(super) enum Waiting {
    /// A request's slot, valid while it holds this span.
    Request(u32, SpanId),
    /// An exec record; owns a reference to the tree of its cause.
    Exec(Box<ExecCopy>, Cause),
}

#[derive(Debug)]
struct Entry {
    until: u64,
    number: u64,
    waiting: Waiting,
}

/// The waiting room.
#[derive(Debug, Default)]
pub(super) struct Held {
    heap: BinaryHeap<Reverse<Entry>>,
    number: u64,
}

impl Held {
    pub(super) fn push_request(&mut self, until: u64, slot: u32, span: SpanId) {
        self.push(until, Waiting::Request(slot, span));
    }

    pub(super) fn push(&mut self, until: u64, waiting: Waiting) {
        self.number += 1;
        self.heap.push(Reverse(Entry { until, number: self.number, waiting }));
    }

    /// The first that waits until a time before `now`.
    pub(super) fn pop_before(&mut self, now: u64) -> Option<Waiting> {
        if self.heap.peek()?.0.until >= now {
            return None;
        }
        self.pop_any()
    }

    pub(super) fn pop_any(&mut self) -> Option<Waiting> {
        self.heap.pop().map(|entry| entry.0.waiting)
    }

    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.until, self.number).cmp(&(other.until, other.number))
    }
}
