//! What became of the bytes that processes moved on their sockets in the last minute.
//!
//! A shard knows each connection's bytes by its stream positions, until it has no more use for them: of TLS that
//! nobody reads and of protocols that nobody knows, the kernel side writes no more records. From there on the
//! counters of the connection's conversation are followed, of which [`Account`] knows whose they are and what they
//! count as.
//!
//! - [`Findings`]: what a shard has found since it was last asked.
//! - [`Account`]: those of all shards and the conversations, by process and time.
//! - [`Protocol`]: names of protocols that are known and not parsed.

mod account;
mod protocol;

pub use account::Account;
pub use protocol::{Protocol, Protocols};

use crate::event::ProcessKey;
use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// Processes of which a shard or the account keeps numbers: with their minutes 3 MB.
const MAX_PROCESSES: usize = 8192;

/// Connections that begin to be followed between two times that a shard is asked.
const MAX_NEWLY_FOLLOWED: usize = 16_384;

/// What bytes are to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Of a protocol that is parsed, in clear or within TLS that is read. Bodies as well.
    Decoded,
    /// TLS whose plaintext nobody gives.
    Encrypted,
    /// Seen in clear, of no protocol that is parsed.
    Unknown,
    /// Moved, but not shown by the kernel; and what no record has reported.
    Unreachable,
    /// Of requests that were shed to keep to a budget.
    Shed,
    /// UDP: messages are counted, and not looked at.
    Datagrams,
}

impl Class {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Class; 6] = [
        Class::Decoded,
        Class::Encrypted,
        Class::Unknown,
        Class::Unreachable,
        Class::Shed,
        Class::Datagrams,
    ];

    /// As it is exported.
    pub fn name(self) -> &'static str {
        match self {
            Class::Decoded => "decoded",
            Class::Encrypted => "encrypted",
            Class::Unknown => "unknown",
            Class::Unreachable => "unreachable",
            Class::Shed => "shed",
            Class::Datagrams => "datagrams",
        }
    }
}

/// Bytes by class, both directions together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes([u64; Class::ALL.len()]);

impl Bytes {
    /// Those of one class.
    pub fn of(&self, class: Class) -> u64 {
        self.0.get(class as usize).copied().unwrap_or(0)
    }

    /// So many more.
    pub fn add(&mut self, class: Class, bytes: u64) {
        if let Some(count) = self.0.get_mut(class as usize) {
            *count = count.saturating_add(bytes);
        }
    }

    /// All of `other`.
    pub fn merge(&mut self, other: &Bytes) {
        for class in Class::ALL {
            self.add(class, other.of(class));
        }
    }

    /// Of all classes.
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }
}

/// Bytes, and the protocols that they were of as far as these have a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// By class.
    pub bytes: Bytes,
    /// Their protocols.
    pub protocols: Protocols,
}

impl Moved {
    /// All of `other`.
    pub fn merge(&mut self, other: &Moved) {
        self.bytes.merge(&other.bytes);
        self.protocols.merge(other.protocols);
    }
}

/// A connection whose further bytes its conversation's counters tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Followed {
    /// Whose they are.
    pub process: ProcessKey,
    /// What they count as.
    pub class: Class,
    /// What they are of.
    pub protocols: Protocols,
    /// Bytes of it that are accounted for already.
    pub counted: u64,
    /// It was seen from its first byte. Else it is older than the agent, and what it had moved when conversations were
    /// first listed is not the agent's.
    pub whole: bool,
}

/// What a shard has found since it was last asked.
#[derive(Debug, Default)]
pub struct Findings {
    /// By process.
    pub moved: HashMap<ProcessKey, Moved, RandomState>,
    /// By socket cookie.
    pub followed: HashMap<u64, Followed, RandomState>,
    /// Bytes, and connections, for which there was no room.
    pub left_out: u64,
}

impl Findings {
    /// Bytes of a process. Without a process they are nobody's.
    pub(crate) fn moved(
        &mut self,
        process: ProcessKey,
        class: Class,
        bytes: u64,
        protocols: Protocols,
    ) {
        if bytes == 0 || process.tgid == 0 {
            return;
        }
        if self.moved.len() >= MAX_PROCESSES && !self.moved.contains_key(&process) {
            self.left_out += 1;
            return;
        }
        let moved = self.moved.entry(process).or_default();
        moved.bytes.add(class, bytes);
        moved.protocols.merge(protocols);
    }

    /// A connection is to be followed; or what it counts as has changed.
    pub(crate) fn follow(&mut self, cookie: u64, followed: Followed) {
        if followed.process.tgid == 0 {
            return;
        }
        if let Some(known) = self.followed.get_mut(&cookie) {
            let (counted, whole) = (known.counted, known.whole);
            *known = Followed { counted, whole, ..followed };
        } else if self.followed.len() < MAX_NEWLY_FOLLOWED {
            self.followed.insert(cookie, followed);
        } else {
            self.left_out += 1;
        }
    }
}
