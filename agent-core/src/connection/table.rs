//! Connections by socket cookie: a slab and an index, bounded.

use super::flow::Flow;
use crate::slab::{NONE, Slab};
use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// Slots looked at to find one to evict. The exact least recently used one would cost a linked
/// list touched by every record; the oldest of 32 is among the oldest tenth in 97 % of cases.
const EVICTION_SAMPLE: usize = 32;

/// The connections of one shard.
#[derive(Debug)]
pub(super) struct Table {
    index: HashMap<u64, u32, RandomState>,
    flows: Slab<Flow>,
    limit: usize,
    /// Where the next sample begins.
    hand: usize,
}

impl Table {
    pub(super) fn new(limit: usize) -> Table {
        Table {
            index: HashMap::with_hasher(RandomState::default()),
            flows: Slab::default(),
            limit: limit.clamp(1, NONE as usize),
            hand: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.limit
    }

    /// Slots in use or free: the range of [`Table::at`].
    pub(super) fn slots(&self) -> usize {
        self.flows.slots()
    }

    pub(super) fn get(&mut self, cookie: u64) -> Option<&mut Flow> {
        self.flows.get_mut(*self.index.get(&cookie)?)
    }

    pub(super) fn find(&self, cookie: u64) -> Option<&Flow> {
        self.flows.get(*self.index.get(&cookie)?)
    }

    pub(super) fn at(&self, slot: usize) -> Option<&Flow> {
        self.flows.get(u32::try_from(slot).ok()?)
    }

    /// Enters a connection whose cookie is not in the table; the caller has made room.
    pub(super) fn insert(&mut self, flow: Flow) {
        let cookie = flow.cookie;
        self.index.insert(cookie, self.flows.insert(flow));
    }

    pub(super) fn remove(&mut self, cookie: u64) -> Option<Flow> {
        self.flows.remove(self.index.remove(&cookie)?)
    }

    /// Cookie of a connection that has been silent for long: the longest of a sample.
    pub(super) fn silent(&mut self) -> Option<u64> {
        let count = self.slots();
        let sample = EVICTION_SAMPLE.min(count);
        let start = self.hand;
        self.hand = (start + sample) % count.max(1);
        (0..sample)
            .filter_map(|step| self.at((start + step) % count))
            .min_by_key(|flow| flow.last_ns)
            .map(|flow| flow.cookie)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Flow> {
        self.flows.iter_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.flows.iter()
    }
}
