//! Connections that have just been closed. The record of a call that was under way comes behind the closing one,
//! from another processor or out of a library, and must not begin the connection anew: nothing would end it.

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// How many are known, in 80 KiB: what a processor closes in far more time than a call is late.
const KNOWN: usize = 4096;

/// The last [`KNOWN`] cookies, whatever their numbers: each processor takes 4,096 at once (`COOKIE_LOCAL_BATCH`,
/// include/linux/cookie.h), so that their low bits are alike.
#[derive(Debug)]
pub(super) struct Over {
    /// In the order of their ends, from `next` on once it is full.
    closed: Vec<u64>,
    next: usize,
    /// Places in `closed`, by cookie.
    places: HashTable<u16>,
    hasher: RandomState,
}

impl Default for Over {
    fn default() -> Self {
        Over {
            closed: Vec::with_capacity(KNOWN),
            next: 0,
            // Twice the room: what is taken out leaves marks, which are cleared away in place up to half of it.
            places: HashTable::with_capacity(2 * KNOWN),
            hasher: RandomState::default(),
        }
    }
}

impl Over {
    /// This one is closed.
    pub(super) fn add(&mut self, cookie: u64) {
        let Over { closed, next, places, hasher } = self;
        let at = *next;
        match closed.get_mut(at) {
            None => closed.push(cookie),
            Some(oldest) => {
                let hash = hasher.hash_one(*oldest);
                if let Ok(known) = places.find_entry(hash, |place| usize::from(*place) == at) {
                    known.remove();
                }
                *oldest = cookie;
            }
        }
        *next = (at + 1) % KNOWN;
        places.insert_unique(hasher.hash_one(cookie), at as u16, |place| {
            hasher.hash_one(closed.get(usize::from(*place)).copied().unwrap_or_default())
        });
    }

    /// Whether it is, as far as is known.
    pub(super) fn has(&self, cookie: u64) -> bool {
        let is_it = |place: &u16| self.closed.get(usize::from(*place)) == Some(&cookie);
        self.places.find(self.hasher.hash_one(cookie), is_it).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of sockets as the kernel numbers them: each processor takes so many numbers at once.
    const BATCH: u64 = 4096;

    /// Closed by several processors in turn: exactly the last ones are known.
    #[test]
    fn the_last_that_were_closed_are_known_whoever_numbered_them() {
        for processors in [1, 3, 64] {
            let mut over = Over::default();
            let closed: Vec<u64> = (0..3 * BATCH)
                .flat_map(|turn| (0..processors).map(move |processor| (turn, processor)))
                .map(|(turn, processor)| {
                    (turn / BATCH * processors + processor) * BATCH + turn % BATCH + 1
                })
                .collect();
            for (at, cookie) in closed.iter().enumerate() {
                assert!(!over.has(*cookie), "{cookie} is not closed yet");
                over.add(*cookie);
                assert!(over.has(*cookie));
                // The oldest that is known, and the one before it.
                let known = at.checked_sub(KNOWN - 1).map(|oldest| over.has(closed[oldest]));
                assert_ne!(known, Some(false), "{processors} processors, {at}");
                let forgotten = at.checked_sub(KNOWN).map(|before| over.has(closed[before]));
                assert_ne!(forgotten, Some(true), "{processors} processors, {at}");
            }
            assert!(closed[closed.len() - KNOWN..].iter().all(|cookie| over.has(*cookie)));
            assert_eq!((over.closed.len(), over.places.len()), (KNOWN, KNOWN));
        }
        assert!(!Over::default().has(0));
    }

    /// Whatever is closed, and be it twice: no more memory than at the beginning.
    #[test]
    fn what_is_known_takes_the_same_memory_for_ever() {
        let mut over = Over::default();
        let room = |over: &Over| (over.closed.capacity(), over.places.allocation_size());
        let at_first = room(&over);
        for number in 0..100 * KNOWN as u64 {
            over.add(number);
            over.add(number / 3);
        }
        assert_eq!(room(&over), at_first);
        assert!(over.has(100 * KNOWN as u64 - 1));
    }
}
