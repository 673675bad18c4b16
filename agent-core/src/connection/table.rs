//! Connections by socket cookie: a slab and an index, bounded.

use super::flow::Flow;
use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// Slots looked at to find one to evict. The exact least recently used one would cost a linked
/// list touched by every record; the oldest of 32 is among the oldest tenth in 97 % of cases.
const EVICTION_SAMPLE: usize = 32;

/// The connections of one shard.
#[derive(Debug)]
pub(super) struct Table {
    index: HashMap<u64, u32, RandomState>,
    slots: Vec<Option<Flow>>,
    free: Vec<u32>,
    limit: usize,
    /// Where the next sample begins.
    hand: usize,
}

impl Table {
    pub(super) fn new(limit: usize) -> Table {
        Table {
            index: HashMap::with_hasher(RandomState::default()),
            slots: Vec::new(),
            free: Vec::new(),
            limit: limit.clamp(1, u32::MAX as usize),
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
        self.slots.len()
    }

    pub(super) fn get(&mut self, cookie: u64) -> Option<&mut Flow> {
        let slot = *self.index.get(&cookie)?;
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    pub(super) fn find(&self, cookie: u64) -> Option<&Flow> {
        self.at(*self.index.get(&cookie)? as usize)
    }

    pub(super) fn at(&self, slot: usize) -> Option<&Flow> {
        self.slots.get(slot)?.as_ref()
    }

    /// Enters a connection whose cookie is not in the table; the caller has made room.
    pub(super) fn insert(&mut self, flow: Flow) {
        let cookie = flow.cookie;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                (self.slots.len() - 1) as u32
            }
        };
        self.slots[slot as usize] = Some(flow);
        self.index.insert(cookie, slot);
    }

    pub(super) fn remove(&mut self, cookie: u64) -> Option<Flow> {
        let slot = self.index.remove(&cookie)?;
        let flow = self.slots.get_mut(slot as usize)?.take();
        self.free.push(slot);
        flow
    }

    /// Cookie of a connection that has been silent for long: the longest of a sample.
    pub(super) fn silent(&mut self) -> Option<u64> {
        let count = self.slots.len();
        let sample = EVICTION_SAMPLE.min(count);
        let start = self.hand;
        self.hand = (start + sample) % count.max(1);
        (0..sample)
            .filter_map(|step| self.at((start + step) % count))
            .min_by_key(|flow| flow.last_ns)
            .map(|flow| flow.cookie)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Flow> {
        self.slots.iter_mut().flatten()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.slots.iter().flatten()
    }
}
