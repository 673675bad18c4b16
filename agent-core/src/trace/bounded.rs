//! A map that never holds more than its limit: the entry that has been in it longest leaves.

use crate::slab::Slab;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::hash::Hash;

#[derive(Debug)]
struct Slot<V> {
    value: V,
    stamp: u64,
}

/// Map of at most `limit` entries. Values lie in a slab: a hash table is half empty after it has grown.
#[derive(Debug)]
pub(super) struct Bounded<K, V> {
    map: HashMap<K, u32>,
    slots: Slab<Slot<V>>,
    /// Keys in the order of their insertion. One whose stamp is no longer in `map` is stale.
    order: VecDeque<(K, u64)>,
    stamp: u64,
    limit: usize,
}

impl<K: Copy + Eq + Hash, V> Bounded<K, V> {
    pub(super) fn new(limit: usize) -> Self {
        Bounded {
            map: HashMap::new(),
            slots: Slab::default(),
            order: VecDeque::new(),
            stamp: 0,
            limit: limit.max(1),
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    pub(super) fn contains(&self, key: &K) -> bool {
        self.map.contains_key(key)
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.slots.get(*self.map.get(key)?).map(|slot| &slot.value)
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.slots.get_mut(*self.map.get(key)?).map(|slot| &mut slot.value)
    }

    /// Puts `value` in, in place of an older one, which comes back first; then the entry that had
    /// to leave for it.
    pub(super) fn insert(&mut self, key: K, value: V) -> (Option<V>, Option<(K, V)>) {
        if let Some(known) = self.get_mut(&key) {
            return (Some(std::mem::replace(known, value)), None);
        }
        let evicted = if self.map.len() >= self.limit { self.pop_oldest() } else { None };
        self.stamp += 1;
        let stamp = self.stamp;
        let slot = self.slots.insert(Slot { value, stamp });
        self.map.insert(key, slot);
        self.order.push_back((key, stamp));
        self.compact();
        (None, evicted)
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let slot = self.map.remove(key)?;
        self.slots.remove(slot).map(|slot| slot.value)
    }

    fn pop_oldest(&mut self) -> Option<(K, V)> {
        while let Some((key, stamp)) = self.order.pop_front() {
            if is_current(&self.map, &self.slots, &key, stamp) {
                return self.remove(&key).map(|value| (key, value));
            }
        }
        None
    }

    /// Drops stale keys once they are the larger part, so that one entry that stays for ever does
    /// not keep those behind it.
    fn compact(&mut self) {
        if self.order.len() > 2 * self.map.len() + 64 {
            let (map, slots) = (&self.map, &self.slots);
            self.order.retain(|(key, stamp)| is_current(map, slots, key, *stamp));
        }
    }
}

/// The key's entry is still the one that was inserted with `stamp`.
fn is_current<K: Eq + Hash, V>(
    map: &HashMap<K, u32>,
    slots: &Slab<Slot<V>>,
    key: &K,
    stamp: u64,
) -> bool {
    let slot = map.get(key).and_then(|slot| slots.get(*slot));
    slot.is_some_and(|slot| slot.stamp == stamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_leaves_and_a_removed_one_does_not_count() {
        let mut map = Bounded::new(2);
        assert_eq!(map.insert(1, 'a'), (None, None));
        map.insert(2, 'b');
        map.remove(&1);
        assert_eq!(map.insert(3, 'c'), (None, None));
        assert_eq!(map.insert(4, 'd'), (None, Some((2, 'b'))));
        assert_eq!(map.insert(4, 'e'), (Some('d'), None));
        assert_eq!(map.len(), 2);
    }

    #[test]
    fn an_entry_that_stays_does_not_make_the_order_grow() {
        let mut map = Bounded::new(100);
        map.insert(0, ());
        for key in 1..100_000 {
            map.insert(key, ());
            map.remove(&key);
        }
        assert!(map.order.len() < 200, "{} keys for one entry", map.order.len());
    }
}
