//! What the thread of the process ring hands on.

use agent_core::event::{Event, decode};
use agent_core::process::{ProcessFacts, Usage};

/// One round of the process ring.
#[derive(Default)]
pub struct Batch {
    /// In the ring's order.
    pub records: Records,
    /// What was read about processes. Taken before the records, which may need it.
    pub facts: Vec<ProcessFacts>,
    /// What was read of processes' use of the machine.
    pub usages: Vec<Usage>,
}

impl Batch {
    /// Nothing came.
    pub fn is_empty(&self) -> bool {
        self.records.places.is_empty() && self.facts.is_empty() && self.usages.is_empty()
    }
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
