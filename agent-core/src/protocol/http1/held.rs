//! Inputs of one direction that were reported before what they follow in the other.
//!
//! Two threads of a program may report a send and the receive that answers it in the wrong order,
//! microseconds apart. Each segment says where the other direction stood: one that is ahead of
//! what has been seen there waits here until that arrives.

use crate::protocol::{Direction, Segment};
use std::collections::VecDeque;

/// Most inputs that wait, and most bytes of them. Reordering spans a call or two; what does not
/// fit goes on without what it waited for, as after a gap.
const MAX_ITEMS: usize = 16;
const MAX_BYTES: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct Held {
    pub(super) direction: Direction,
    items: VecDeque<Item>,
    bytes: usize,
}

/// One input that waits.
#[derive(Debug)]
pub(super) enum Item {
    Segment(Waiting),
    Gap { position: u64, len: u64 },
}

/// A segment with bytes of its own.
#[derive(Debug)]
pub(super) struct Waiting {
    rest: Segment<'static>,
    bytes: Vec<u8>,
}

impl Waiting {
    pub(super) fn segment(&self) -> Segment<'_> {
        Segment { bytes: &self.bytes, ..self.rest }
    }
}

impl Held {
    pub(super) fn new(direction: Direction) -> Held {
        Held { direction, items: VecDeque::new(), bytes: 0 }
    }

    /// Keeps `segment`; of its captured bytes at most what fits.
    pub(super) fn push(&mut self, segment: &Segment<'_>) {
        let room = MAX_BYTES.saturating_sub(self.bytes);
        let bytes = segment.bytes.get(..room).unwrap_or(segment.bytes).to_vec();
        self.bytes += bytes.len();
        let len = segment.len.max(segment.bytes.len() as u64);
        let rest = Segment { bytes: &[], len, ..*segment };
        self.items.push_back(Item::Segment(Waiting { rest, bytes }));
    }

    pub(super) fn push_gap(&mut self, position: u64, len: u64) {
        self.items.push_back(Item::Gap { position, len });
    }

    /// There is no room for `bytes` more.
    pub(super) fn is_full(&self, bytes: usize) -> bool {
        self.items.len() >= MAX_ITEMS || self.bytes + bytes > MAX_BYTES
    }

    /// The first segment that waits.
    pub(super) fn first(&self) -> Option<Segment<'_>> {
        self.items.iter().find_map(|item| match item {
            Item::Segment(waiting) => Some(waiting.segment()),
            Item::Gap { .. } => None,
        })
    }

    /// Takes the oldest item if it is a gap, or a segment that `ready` accepts.
    pub(super) fn pop_if(&mut self, ready: impl FnOnce(&Segment<'_>) -> bool) -> Option<Item> {
        let pops = match self.items.front()? {
            Item::Gap { .. } => true,
            Item::Segment(waiting) => ready(&waiting.rest),
        };
        let item = if pops { self.items.pop_front() } else { None };
        if let Some(Item::Segment(waiting)) = &item {
            self.bytes -= waiting.bytes.len();
        }
        item
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn held_bytes(&self) -> usize {
        size_of::<Held>() + self.items.capacity() * size_of::<Item>() + self.bytes
    }
}
