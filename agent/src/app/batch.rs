//! What the ring threads hand to the assembler's thread.

use agent_core::event::{Event, decode};
use agent_core::message::Signal;
use agent_core::process::ProcessFacts;

/// One round of one ring.
pub enum Batch {
    /// From a payload ring.
    Signals {
        /// Ring, from 1.
        ring: usize,
        /// In the ring's order.
        signals: Vec<Signal>,
        /// Everything written before this boot time has been delivered.
        tick: u64,
    },
    /// From the process ring.
    Processes {
        /// In the ring's order.
        records: Records,
        /// What was read about processes. Taken before the records, which may need it.
        facts: Vec<ProcessFacts>,
        /// As above.
        tick: u64,
    },
    /// A ring ended; nothing follows from it.
    Ended,
}

/// Copies of records, aligned as [`decode`] needs them.
#[derive(Default)]
pub struct Records {
    words: Vec<u64>,
    /// First word and length in bytes of each.
    places: Vec<(usize, usize)>,
}

impl Records {
    /// Keeps a copy.
    pub fn push(&mut self, record: &[u8]) {
        let start = self.words.len();
        let mut chunks = record.chunks_exact(8);
        for chunk in &mut chunks {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            self.words.push(u64::from_ne_bytes(word));
        }
        let rest = chunks.remainder();
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.words.push(u64::from_ne_bytes(word));
        }
        self.places.push((start, record.len()));
    }

    /// The records, decoded. Those that no longer decode were counted when they were taken.
    pub fn events(&self) -> impl Iterator<Item = Event<'_>> {
        let bytes = zerocopy::IntoBytes::as_bytes(self.words.as_slice());
        self.places.iter().filter_map(move |(start, len)| {
            let begin = start * 8;
            decode(bytes.get(begin..begin + len)?).ok()
        })
    }
}
