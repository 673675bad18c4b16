//! Requests by something they carry: a multimap from hash to slot number. Whoever asks compares
//! what the request really carries; the hash only narrows the search.

use foldhash::quality::RandomState;
use hashbrown::HashTable;
use std::hash::{BuildHasher, Hash};

/// Candidates looked at per question. More with one hash are no honest traffic.
const MAX_CANDIDATES: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Index {
    table: HashTable<(u64, u32)>,
    hasher: RandomState,
}

impl Index {
    /// Hash of `key`; never 0, so that 0 can mean "not in the index".
    pub(super) fn hash(&self, key: impl Hash) -> u64 {
        self.hasher.hash_one(key) | 1
    }

    pub(super) fn insert(&mut self, hash: u64, request: u32) {
        self.table.insert_unique(hash, (hash, request), |entry| entry.0);
    }

    pub(super) fn remove(&mut self, hash: u64, request: u32) {
        if let Ok(entry) = self.table.find_entry(hash, |entry| *entry == (hash, request)) {
            entry.remove();
        }
    }

    pub(super) fn candidates(&self, hash: u64) -> impl Iterator<Item = u32> + '_ {
        self.table
            .iter_hash(hash)
            .filter(move |entry| entry.0 == hash)
            .map(|entry| entry.1)
            .take(MAX_CANDIDATES)
    }
}
