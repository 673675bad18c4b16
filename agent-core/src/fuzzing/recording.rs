//! A recording from a stranger: read, and replayed as far as it goes.

use crate::connection::{Shard, ShardConfig, ShardOutput};
use crate::event;
use crate::ledger::{Entry, Side};
use crate::message::{Signal, Started};
use crate::process::HostFacts;
use crate::recording::{Item, Preamble, Reader, Writer};
use crate::span::{LogRecord, Output, Span};
use crate::trace::{Assembler, AssemblerConfig};

/// The one payload ring of a replay.
const RING: u8 = 1;

/// Reads `bytes` as a recording, else as the items of one behind a sound beginning, and replays
/// them.
///
/// # Panics
/// When something is read that is not there, or a stage's account does not balance.
pub fn recording(bytes: &[u8]) {
    if Reader::new(bytes).is_ok() {
        return replay(bytes);
    }
    let Ok(writer) = Writer::new(Vec::new(), &Preamble::default()) else { return };
    let Ok(mut whole) = writer.finish() else { return };
    // The end item: what follows the preamble.
    whole.truncate(whole.len().saturating_sub(END_ITEM));
    whole.extend_from_slice(bytes);
    replay(&whole);
}

/// Header and two numbers.
const END_ITEM: usize = 8 + 16;

fn replay(bytes: &[u8]) {
    let Ok((mut reader, preamble)) = Reader::new(bytes) else { return };
    let config =
        AssemblerConfig { id_key: preamble.id_key, rings: 2, ..AssemblerConfig::default() };
    let mut stages = Stages {
        shard: Shard::new(ShardConfig { id_key: preamble.id_key, ..ShardConfig::default() }),
        assembler: Assembler::new(config, HostFacts::default()),
        found: Found::default(),
        out: Nowhere,
    };
    while let Ok(Some(item)) = reader.item() {
        stages.take(&item);
    }
    assert!(reader.read().items as usize <= bytes.len() / 8, "more items than headers");
    stages.finish();
}

struct Stages {
    shard: Shard,
    assembler: Assembler,
    found: Found,
    out: Nowhere,
}

impl Stages {
    fn take(&mut self, item: &Item<'_>) {
        match item {
            Item::Record { ring, bytes } => {
                let Ok(event) = event::decode(bytes) else { return };
                match ring {
                    0 => self.assembler.process_event(&event),
                    _ => self.shard.ingest(&event, &mut self.found),
                }
            }
            Item::Process(facts) => self.assembler.facts((**facts).clone()),
            Item::Pod(change) => self.assembler.pod((**change).clone()),
            Item::Tick { ring: 0, boot_ns } => self.tick(0, *boot_ns),
            Item::Tick { ring: RING, boot_ns } => {
                self.shard.idle(*boot_ns, &mut self.found);
                self.hand_on();
                self.tick(RING, *boot_ns);
            }
            Item::Clock { boot_ns, unix_minus_boot_ns } => {
                self.assembler.clock(*boot_ns, *unix_minus_boot_ns);
            }
            Item::Settle { cpu, next, .. } => self.shard.settle(*cpu, *next),
            Item::Tick { .. } | Item::Counters(_) | Item::End(_) => {}
        }
    }

    fn tick(&mut self, ring: u8, boot_ns: u64) {
        self.assembler.tick(usize::from(ring), boot_ns, &mut self.out, &mut drop);
    }

    fn hand_on(&mut self) {
        for signal in self.found.0.drain(..) {
            self.assembler.signal(usize::from(RING), signal);
        }
    }

    fn finish(mut self) {
        self.shard.finish(&mut self.found);
        self.hand_on();
        self.assembler.finish(&mut self.out, &mut drop);
        assert_eq!(self.assembler.open_requests(), 0, "requests are left");
        assert_eq!(self.assembler.held_bytes(), 0, "their bytes are left");
        balanced(&self.shard.ledger());
        balanced(&self.assembler.ledger());
    }
}

fn balanced(entries: &[Entry]) {
    for Entry { stage, unit, .. } in entries {
        let of = |wanted: fn(Side) -> bool| -> u64 {
            let same = |e: &&Entry| (e.stage, e.unit) == (*stage, *unit) && wanted(e.side);
            entries.iter().filter(same).fold(0, |sum, e| sum.saturating_add(e.count))
        };
        let came_in = of(|side| side == Side::In);
        let rest = of(|side| matches!(side, Side::Out | Side::Held | Side::Lost(_)));
        let counted = entries.iter().any(|e| e.unit == *unit && e.side == Side::In);
        // Made-up sequence numbers make for losses at which counting ends.
        let endless = came_in.max(rest) > u64::MAX / 2;
        assert!(!counted || endless || came_in == rest, "{stage} {unit}: {entries:?}");
    }
}

#[derive(Default)]
struct Found(Vec<Signal>);

impl ShardOutput for Found {
    fn signal(&mut self, signal: Signal) {
        self.0.push(signal);
    }

    fn verdict(&mut self, _cookie: u64, _verdict: u32) {}

    fn reuse(&mut self) -> Option<Box<Started>> {
        None
    }
}

struct Nowhere;

impl Output for Nowhere {
    fn span(&mut self, span: &Span<'_>) {
        assert!(span.parent != Some(span.id), "a span above itself");
    }

    fn log(&mut self, _record: &LogRecord<'_>) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seeds() -> Vec<Vec<u8>> {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/recording");
        let files = std::fs::read_dir(directory).unwrap().flatten();
        let mut seeds: Vec<_> = files.map(|file| std::fs::read(file.path()).unwrap()).collect();
        seeds.sort_unstable();
        assert!(seeds.len() >= 10, "seeds in {directory}");
        seeds
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn a_changed_recording_is_replayed_or_refused(
            which in 0..10_usize,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut file = seeds().swap_remove(which);
            for (at, byte) in changes {
                let at = at.index(file.len());
                file[at] = byte;
            }
            recording(&file);
            recording(&file[..cut.index(file.len())]);
        }
    }

    #[test]
    fn items_without_a_beginning_are_replayed_behind_one() {
        // A tick of ring 1 at boot time 7, then rubbish.
        let mut items = vec![4, 1, 0, 0, 8, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0];
        recording(&items);
        items.extend_from_slice(&[0xff; 40]);
        recording(&items);
        recording(b"");
    }
}
