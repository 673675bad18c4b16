//! What the kernel side keeps of TLS, and tells of it: notes, and the tables of sockets and objects, in which
//! userspace makes room when they are full.
//!
//! A socket's entry goes when the socket is closed, an object's when the library frees it. But the end of a unix
//! socket is not seen, a program may end without freeing anything, and from 7.0 on the kernel does not show every
//! call.

use agent_common::tls::{STREAMS_LEN, USED_AT, USED_SHIFT, note};
use aya::maps::{Array, HashMap, MapData};
use rustix::time::{ClockId, clock_gettime};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// Room is not looked for again so soon: a look asks for every entry.
const PAUSE: Duration = Duration::from_secs(20);

/// A socket over which nothing went for so long makes room, be it closed or not: if it is used again, it is read as
/// one that is older than the agent.
const IDLE: Duration = Duration::from_secs(600);

/// Entries that are looked at: a table that changes meanwhile is gone through from its beginning again.
const MOST: usize = 1 << 20;

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
}

impl Tables {
    /// A process whose library sends into buffers of the process's own, if one was met since.
    pub(super) fn own_buffers(&mut self) -> Option<u32> {
        self.take(note::OWN_BUFFERS)
    }

    /// Makes room if there was none: gives how many sockets and objects are forgotten.
    pub(super) fn make_room(&mut self) -> u64 {
        if self.made.is_some_and(|made| made.elapsed() < PAUSE) || self.take(note::FULL).is_none() {
            return 0;
        }
        self.made = Some(Instant::now());
        let now = moment(clock_gettime(ClockId::Boottime).tv_sec as u64 * 1_000_000_000);
        let (mut kept, mut idle) = (HashSet::new(), Vec::new());
        for (cookie, streams) in self.sockets.iter().take(MOST).flatten() {
            if is_idle(&streams, now) {
                idle.push(cookie);
            } else {
                kept.insert(cookie);
            }
        }
        let unused: Vec<_> = self.objects.iter().take(MOST).flatten().collect();
        let unused = unused.iter().filter(|(_, cookie)| !kept.contains(cookie));
        let objects = unused.filter(|(key, _)| self.objects.remove(key).is_ok()).count();
        let sockets = idle.iter().filter(|cookie| self.sockets.remove(cookie).is_ok()).count();
        tracing::debug!(
            "the tables of TLS were full: {sockets} sockets, {objects} objects forgotten"
        );
        (sockets + objects) as u64
    }

    fn take(&mut self, place: u32) -> Option<u32> {
        let told = self.notes.get(&place, 0).ok().filter(|told| *told != 0)?;
        self.notes.set(place, 0, 0).ok()?;
        Some(told)
    }
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

    #[test]
    fn what_was_used_lately_is_kept() {
        let now = 10_000;
        let used = |moment: u32| {
            let mut bytes = [0xff; STREAMS_LEN];
            bytes[USED_AT..USED_AT + 4].copy_from_slice(&moment.to_le_bytes());
            let words = bytes.as_chunks::<8>().0;
            std::array::from_fn(|index| u64::from_le_bytes(words[index]))
        };
        assert!(!is_idle(&used(now), now));
        assert!(!is_idle(&used(now - 500), now));
        // Made since the look began.
        assert!(!is_idle(&used(now + 1), now));
        assert!(is_idle(&used(now - 700), now));
        assert!(is_idle(&used(0), now));
    }
}
