//! Copies of records that wait: for those before them, or for more bytes to judge by.
//!
//! Two threads on one socket write their records in another order than their bytes went; the
//! missing one follows within microseconds. The steady path never comes here.

use agent_common::record;

/// Records that one connection may hold. More than this many calls do not race on one socket;
/// the gap is real.
const MAX_RECORDS: usize = 16;

/// A payload record with its captured bytes.
#[derive(Debug)]
pub(super) struct HeldRecord {
    pub(super) payload: record::Payload,
    pub(super) bytes: Box<[u8]>,
}

/// What one connection holds until `deadline`.
#[derive(Debug)]
pub(super) struct Held {
    /// Boot-time ns after which what is missing counts as lost.
    pub(super) deadline: u64,
    /// Direction ([`record::direction`]) of all records.
    pub(super) direction: u8,
    /// By position, as far as it can be told.
    records: Vec<HeldRecord>,
    /// The end of the connection, when it came before its last bytes.
    pub(super) closing: Option<record::Closing>,
}

impl Held {
    pub(super) fn new(deadline: u64, direction: u8) -> Held {
        Held { deadline, direction, records: Vec::new(), closing: None }
    }

    /// Whether there is room for one more.
    pub(super) fn has_room(&self) -> bool {
        self.records.len() < MAX_RECORDS
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Keeps a copy.
    pub(super) fn insert(&mut self, payload: &record::Payload, bytes: &[u8]) {
        // Distance, not order: positions wrap.
        let at = self.records.partition_point(|held| {
            (payload.position.wrapping_sub(held.payload.position) as i64) >= 0
        });
        self.records.insert(at, HeldRecord { payload: *payload, bytes: bytes.into() });
    }

    /// Position of the first.
    pub(super) fn first_position(&self) -> Option<u64> {
        self.records.first().map(|held| held.payload.position)
    }

    /// Takes out the first.
    pub(super) fn pop(&mut self) -> Option<HeldRecord> {
        (!self.records.is_empty()).then(|| self.records.remove(0))
    }
}
