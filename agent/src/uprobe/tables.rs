//! What the kernel side keeps of TLS, and tells of it: notes, and the tables of sockets and objects, in which
//! userspace makes room when they are full.
//!
//! A socket's entry goes when the socket is closed, an object's when the library frees it. But the end of a unix
//! socket is not seen, a program may end without freeing anything, and from 7.0 on the kernel does not show every
//! call.

use agent_common::tls::{STREAMS_LEN, USED_AT, USED_SHIFT, note};
use aya::Pod;
use aya::maps::{Array, HashMap, MapData, MapError};
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// Room is not looked for again so soon: a look asks for every entry.
const PAUSE: Duration = Duration::from_secs(20);

/// Objects of sockets that are closed are taken out so often: programs that end free nothing. (Measured: 180 KiB more in
/// twenty minutes of a client a second.)
const TIDY: Duration = Duration::from_secs(60);

/// … and seldom enough to take no more than one part in so many of a processor: a look asks for every entry.
const TIDY_SHARE: u32 = 500;

/// A socket over which nothing went for so long makes room, be it closed or not: if it is used again, it is read as
/// one that is older than the agent.
const IDLE: Duration = Duration::from_secs(600);

/// Entries that a table may have, and that are looked at: one that changes meanwhile is gone through from its
/// beginning again.
pub(crate) const MOST_ENTRIES: u32 = 1 << 20;

/// [`agent_common::tls::STREAMS_LEN`] bytes.
type Streams = [u64; STREAMS_LEN / 8];

/// The maps, seen from here.
pub(super) struct Tables {
    pub(super) notes: Array<MapData, u32>,
    pub(super) sockets: HashMap<MapData, u64, Streams>,
    /// Cookie of the socket by process and object.
    pub(super) objects: HashMap<MapData, [u64; 2], u64>,
    /// When room was last made.
    pub(super) made: Option<Instant>,
    /// When objects without a socket are looked for next.
    pub(super) tidy_at: Instant,
}

impl Tables {
    /// A process whose library sends into buffers of the process's own, if one was met since.
    pub(super) fn own_buffers(&mut self) -> Option<u32> {
        self.take(note::OWN_BUFFERS)
    }

    /// Makes room if there was none: gives how many sockets and objects are forgotten.
    pub(super) fn make_room(&mut self) -> u64 {
        if self.made.is_some_and(|made| made.elapsed() < PAUSE) || self.take(note::FULL).is_none() {
            self.tidy();
            return 0;
        }
        self.made = Some(Instant::now());
        let now = moment(clock_gettime(ClockId::Boottime).tv_sec as u64 * 1_000_000_000);
        let (sockets, objects) = forget_unused(&mut self.sockets, &mut self.objects, now);
        tracing::debug!(
            "the tables of TLS were full: {sockets} sockets, {objects} objects forgotten"
        );
        (sockets + objects) as u64
    }

    /// Takes out objects whose sockets are closed, now and then.
    fn tidy(&mut self) {
        let began = Instant::now();
        if began < self.tidy_at {
            return;
        }
        let forgotten = forget_without(&self.sockets, &mut self.objects);
        self.tidy_at = began + TIDY.max(began.elapsed() * TIDY_SHARE);
        tracing::debug!("{forgotten} objects of closed connections over TLS taken out");
    }

    fn take(&mut self, place: u32) -> Option<u32> {
        let told = self.notes.get(&place, 0).ok().filter(|told| *told != 0)?;
        self.notes.set(place, 0, 0).ok()?;
        Some(told)
    }
}

/// A table that others change meanwhile.
trait Table<K, V> {
    /// As many as it may have.
    fn entries(&self) -> impl Iterator<Item = (K, V)>;
    fn get(&self, key: &K) -> Result<Option<V>, MapError>;
    fn remove(&mut self, key: &K) -> bool;
}

impl<K: Pod, V: Pod> Table<K, V> for HashMap<MapData, K, V> {
    fn entries(&self) -> impl Iterator<Item = (K, V)> {
        self.iter().take(MOST_ENTRIES as usize).flatten()
    }

    fn get(&self, key: &K) -> Result<Option<V>, MapError> {
        match HashMap::get(self, key, 0) {
            Err(MapError::KeyNotFound) => Ok(None),
            got => got.map(Some),
        }
    }

    fn remove(&mut self, key: &K) -> bool {
        HashMap::remove(self, key).is_ok()
    }
}

/// Forgets sockets that are idle, then objects without a socket: how many of each.
fn forget_unused(
    sockets: &mut impl Table<u64, Streams>,
    objects: &mut impl Table<[u64; 2], u64>,
    now: u32,
) -> (usize, usize) {
    let forgotten = forget(sockets, |streams| is_idle(streams, now));
    (forgotten, forget_without(sockets, objects))
}

/// Forgets objects whose socket is gone: it was there before the object, which is read first.
fn forget_without(
    sockets: &impl Table<u64, Streams>,
    objects: &mut impl Table<[u64; 2], u64>,
) -> usize {
    forget(objects, |cookie: &u64| matches!(sockets.get(cookie), Ok(None)))
}

/// Removes the entries that go. Each is looked at again right before: finding all of them takes long enough for one
/// to come to life again.
fn forget<K, V>(table: &mut impl Table<K, V>, goes: impl Fn(&V) -> bool) -> usize {
    let going = table.entries().filter(|(_, value)| goes(value));
    let going: Vec<K> = going.map(|(key, _)| key).collect();
    let mut forgotten = 0;
    for key in going {
        let still_goes = matches!(table.get(&key), Ok(Some(value)) if goes(&value));
        forgotten += usize::from(still_goes && table.remove(&key));
    }
    forgotten
}

/// As the kernel side counts it.
fn moment(boot_ns: u64) -> u32 {
    (boot_ns >> USED_SHIFT) as u32
}

fn is_idle(streams: &Streams, now: u32) -> bool {
    let used = (streams[USED_AT / 8] >> (USED_AT % 8 * 8)) as u32;
    now.saturating_sub(used) > moment(IDLE.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    fn used(moment: u32) -> Streams {
        let mut bytes = [0xff; STREAMS_LEN];
        bytes[USED_AT..USED_AT + 4].copy_from_slice(&moment.to_le_bytes());
        let words = bytes.as_chunks::<8>().0;
        std::array::from_fn(|index| u64::from_le_bytes(words[index]))
    }

    #[test]
    fn what_was_used_lately_is_kept() {
        let now = 10_000;
        assert!(!is_idle(&used(now), now));
        assert!(!is_idle(&used(now - 500), now));
        // Made since the look began.
        assert!(!is_idle(&used(now + 1), now));
        assert!(is_idle(&used(now - 700), now));
        assert!(is_idle(&used(0), now));
    }

    /// In place of the kernel's. `meanwhile` is done when all entries have been read.
    struct Shared<'a, K, V> {
        entries: &'a RefCell<BTreeMap<K, V>>,
        meanwhile: &'a dyn Fn(),
    }

    impl<K: Ord + Copy, V: Copy> Table<K, V> for Shared<'_, K, V> {
        fn entries(&self) -> impl Iterator<Item = (K, V)> {
            let read: Vec<_> = self.entries.borrow().iter().map(|(k, v)| (*k, *v)).collect();
            (self.meanwhile)();
            read.into_iter()
        }

        fn get(&self, key: &K) -> Result<Option<V>, MapError> {
            Ok(self.entries.borrow().get(key).copied())
        }

        fn remove(&mut self, key: &K) -> bool {
            self.entries.borrow_mut().remove(key).is_some()
        }
    }

    /// Sockets 1 (in use), 2 and 3 (idle); objects 11, 12 and 13 of these, 14 of one that is closed. While they are
    /// looked at, socket 3 is used, 5 is made with its object, and object 14 gets a socket.
    #[test]
    fn what_comes_to_life_while_room_is_made_is_kept() {
        let now = 10_000;
        let sockets = RefCell::new(BTreeMap::from([(1, used(now)), (2, used(0)), (3, used(0))]));
        let objects = RefCell::new(
            (1..=4).map(|cookie| ([7, 10 + cookie], cookie)).collect::<BTreeMap<_, _>>(),
        );
        let after_sockets = || {
            sockets.borrow_mut().insert(3, used(now));
            sockets.borrow_mut().insert(5, used(now));
            objects.borrow_mut().insert([7, 15], 5);
        };
        let after_objects = || {
            sockets.borrow_mut().insert(6, used(now));
            objects.borrow_mut().insert([7, 14], 6);
        };
        let forgotten = forget_unused(
            &mut Shared { entries: &sockets, meanwhile: &after_sockets },
            &mut Shared { entries: &objects, meanwhile: &after_objects },
            now,
        );
        assert_eq!(forgotten, (1, 1));
        assert_eq!(sockets.into_inner().into_keys().collect::<Vec<_>>(), [1, 3, 5, 6]);
        let left: Vec<_> =
            objects.into_inner().into_iter().map(|([_, object], _)| object).collect();
        assert_eq!(left, [11, 13, 14, 15]);
    }
}
