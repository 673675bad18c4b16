//! Which name an address was asked by: bounded, and only as long as the answer holds.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;

/// Names that are kept: a table of them takes at most 8 MB.
pub const MAX_NAMES: usize = 16_384;

/// Least time for which a name is kept, ns: a connection is often made after an answer's last second,
/// and it lives on.
const LEAST_NS: u64 = 60_000_000_000;

/// Longest time, ns.
const MOST_NS: u64 = 24 * 3600 * 1_000_000_000;

/// Who asked: the same address may have another name elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asker {
    /// A process.
    Process(u32),
    /// Anybody in a network namespace.
    Netns(u32),
}

type Key = (Asker, [u8; 16]);

struct Entry {
    name: Arc<str>,
    until_ns: u64,
    /// Counts insertions of this key: an older place in the queue is no longer its own.
    version: u64,
}

/// Names by who asked and address.
pub struct Names {
    capacity: usize,
    entries: HashMap<Key, Entry, RandomState>,
    /// Keys in the order in which they came.
    order: VecDeque<(Key, u64)>,
    version: u64,
    learned: u64,
    evicted: u64,
}

impl Default for Names {
    fn default() -> Self {
        Names::new(MAX_NAMES)
    }
}

impl Names {
    /// At most so many.
    pub fn new(capacity: usize) -> Names {
        Names {
            capacity: capacity.max(1),
            entries: HashMap::default(),
            order: VecDeque::new(),
            version: 0,
            learned: 0,
            evicted: 0,
        }
    }

    /// An answer was received: at `now_ns` (boot time), for `ttl` seconds.
    pub fn learn(
        &mut self,
        process: u32,
        netns: u32,
        addr: [u8; 16],
        name: &str,
        ttl: u32,
        now_ns: u64,
    ) {
        let life = (u64::from(ttl) * 1_000_000_000).clamp(LEAST_NS, MOST_NS);
        let name: Arc<str> = Arc::from(name);
        self.learned += 1;
        for asker in [Asker::Process(process), Asker::Netns(netns)] {
            self.version += 1;
            let until_ns = now_ns.saturating_add(life);
            let entry = Entry { name: Arc::clone(&name), until_ns, version: self.version };
            self.entries.insert((asker, addr), entry);
            self.order.push_back(((asker, addr), self.version));
        }
        self.shrink(now_ns);
    }

    /// The name by which this process, else its network namespace, last asked for the address.
    pub fn name(
        &self,
        process: Option<u32>,
        netns: u32,
        addr: [u8; 16],
        now_ns: u64,
    ) -> Option<&str> {
        let of = |asker| self.entries.get(&(asker, addr)).filter(|entry| entry.until_ns >= now_ns);
        let own = process.and_then(|process| of(Asker::Process(process)));
        own.or_else(|| of(Asker::Netns(netns))).map(|entry| &*entry.name)
    }

    /// Addresses known, and how many answers were taken and names given up for room.
    pub fn counts(&self) -> (usize, u64, u64) {
        (self.entries.len(), self.learned, self.evicted)
    }

    /// Drops places that are no longer their key's, names that no longer hold, and the oldest ones
    /// when there are too many.
    fn shrink(&mut self, now_ns: u64) {
        while let Some((key, version)) = self.order.front().copied() {
            let entry = self.entries.get(&key).filter(|entry| entry.version == version);
            let over = entry.is_none_or(|entry| entry.until_ns < now_ns);
            let full = self.entries.len() > self.capacity;
            if !over && !full && self.order.len() <= 2 * self.capacity {
                break;
            }
            self.order.pop_front();
            if entry.is_some() {
                self.evicted += u64::from(!over);
                self.entries.remove(&key);
            }
        }
    }
}
