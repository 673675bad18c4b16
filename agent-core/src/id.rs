//! Span and trace ids: keyed hashes of what names a request, so that a replay gives the same ids
//! and nobody without the key can guess or forge them.

use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;

/// 8-byte span id, never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
pub struct SpanId(pub [u8; 8]);

/// 16-byte trace id, never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
pub struct TraceId(pub [u8; 16]);

/// Random per start of the agent; kept in recordings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct IdKey(pub [u8; 16]);

impl IdKey {
    /// Id of the request at `position` and `index` of one direction of a connection.
    ///
    /// `direction` is that in which the request went ([`agent_common::record::direction`]).
    pub fn span(&self, cookie: u64, direction: u8, position: u64, index: u32) -> SpanId {
        let (high, low) =
            self.hash(b's', &[cookie, u64::from(direction), position, u64::from(index)]);
        let id = if high == 0 { low | 1 } else { high };
        SpanId(id.to_be_bytes())
    }

    /// Id of the trace whose root is `root`.
    pub fn trace(&self, root: SpanId) -> TraceId {
        let (high, low) = self.hash(b't', &[u64::from_be_bytes(root.0)]);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&high.to_be_bytes());
        id[8..].copy_from_slice(&(low | 1).to_be_bytes());
        TraceId(id)
    }

    fn hash(&self, purpose: u8, words: &[u64]) -> (u64, u64) {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write_u8(purpose);
        for word in words {
            hasher.write_u64(*word);
        }
        let hash = hasher.finish128();
        (hash.h1, hash.h2)
    }
}
