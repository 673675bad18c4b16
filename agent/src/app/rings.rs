//! How many payload rings there are, and how large each is.

use super::memory::Memory;
use crate::config::Settings;
use agent_common::settings::MAX_PAYLOAD_RINGS;
use std::thread::available_parallelism;

/// Bytes of all payload rings together by default, where there are more than two: kernel memory is
/// bounded, and what a ring must hold gets less with its share of the load.
const TOTAL_BYTES: u32 = 16 << 20;

/// Most bytes of one payload ring by default.
const RING_BYTES: u32 = 8 << 20;

/// Number and size of a run's payload rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rings {
    /// Payload rings in use. They have the numbers from 1 on.
    pub count: u32,
    /// Bytes of each.
    pub bytes: u32,
}

impl Rings {
    /// How many there are where nobody says.
    pub fn count_here() -> u32 {
        by_processors(available_parallelism().map_or(1, usize::from))
    }

    /// As the settings say, else by the processors that the agent may use.
    pub fn of(settings: &Settings) -> Rings {
        let count = settings.payload_rings.unwrap_or_else(Rings::count_here);
        let most = Memory::of(settings).rings();
        Rings { count, bytes: settings.ring_size.unwrap_or_else(|| within(most, count)) }
    }
}

/// One thread parses what about four processors can say at their full load beside it, and works
/// off its signals in the same cache; a second one costs queues, a third thread, and a wait for
/// each other's watermark. Those that the agent may use and not those of the machine: rings for
/// threads that share one processor cost the same and gain nothing.
fn by_processors(processors: usize) -> u32 {
    match processors {
        0..=4 => 1,
        5..=8 => 2,
        _ => MAX_PAYLOAD_RINGS,
    }
}

/// The default, or the largest power of two that the memory budget has room for.
fn within(most: u64, count: u32) -> u32 {
    let each = u32::try_from(most / u64::from(count.max(1))).unwrap_or(u32::MAX).max(1);
    default_bytes(count).min(1 << each.ilog2())
}

fn default_bytes(count: u32) -> u32 {
    RING_BYTES.min(TOTAL_BYTES / count.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_by_processors() {
        for (processors, count, bytes) in
            [(1, 1, 8 << 20), (4, 1, 8 << 20), (5, 2, 8 << 20), (8, 2, 8 << 20), (9, 4, 4 << 20)]
        {
            let found = by_processors(processors);
            assert_eq!((found, default_bytes(found)), (count, bytes), "{processors}");
        }
        assert_eq!(by_processors(512), MAX_PAYLOAD_RINGS);
        assert_eq!(
            [within(64 << 20, 1), within(7 << 20, 1), within(8 << 20, 4)],
            [8 << 20, 4 << 20, 2 << 20]
        );
    }
}
