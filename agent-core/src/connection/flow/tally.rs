//! Which bytes of a connection are accounted for, and what as.
//!
//! Nothing is added up per record: the streams know how far they go, and what lies between that and where the
//! account stands is settled where the connection becomes something else, when it ends, and when the shard is asked.
//! Only what breaks a stream (gaps, calls that were not read) is told where it is met.

use super::{Flow, Phase};
use crate::connection::classify::Kind;
use crate::connection::undecided::Outcome;
use crate::connection::work::Work;
use crate::protocol::{Direction, Segment};
use crate::traffic::{Class, Followed, Protocol, Protocols};

/// Silence after which bytes that are too few to judge by are of an unknown protocol, ns.
const UNDECIDED_NS: u64 = 1_000_000_000;

/// More than a connection moves between two times that it is settled: see
/// [`super::super::stream::PLAUSIBLE`].
const PLAUSIBLE: u64 = 1 << 41;

/// Where the account of a connection stands, both directions added.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// Position of the first bytes.
    started: u64,
    /// Position up to which bytes are accounted for.
    counted: u64,
    /// The connection was seen from its first byte, as its socket counts them.
    pub(super) whole: bool,
    /// The account has been asked to follow it.
    followed: bool,
    /// It is TLS, and its library has had time to show plaintext since it was muted.
    waited: bool,
    /// Bytes were captured.
    readable: bool,
    /// What it speaks, where that has a name.
    pub(super) protocol: Option<Protocol>,
}

impl Tally {
    /// The first that is known of a stream is this position.
    pub(super) fn begin(&mut self, position: u64) {
        self.started = self.started.wrapping_add(position);
        self.counted = self.counted.wrapping_add(position);
    }

    /// Bytes that are accounted for.
    fn so_far(self) -> u64 {
        self.counted.wrapping_sub(self.started)
    }

    /// What the bytes of a connection that is being judged have led to.
    pub(super) fn judged(&mut self, segment: &Segment<'_>, first: bool, outcome: &Outcome) {
        self.readable |= !segment.bytes.is_empty();
        if self.protocol.is_none() && !matches!(outcome, Outcome::Is(Kind::Http1)) {
            self.protocol = Protocol::of(segment.bytes, segment.len, first);
        }
    }

    /// The streams begin anew.
    pub(super) fn forget_positions(&mut self) {
        self.started = 0_u64.wrapping_sub(self.so_far());
        self.counted = 0;
    }
}

impl Flow {
    /// What lies between the account and the streams is of this class.
    pub(super) fn settle(&mut self, class: Class, work: &mut Work) {
        if self.is_followed(work) {
            return;
        }
        let bytes = self.pending();
        self.tally.counted = self.tally.counted.wrapping_add(bytes);
        if bytes < PLAUSIBLE {
            let protocols = self.protocols();
            work.findings.moved(self.process, class, bytes, protocols);
        }
    }

    /// Time passes: what can be said is said.
    pub(in super::super) fn settle_until(&mut self, now: u64, work: &mut Work) {
        let is_silent = now.saturating_sub(self.last_ns) > UNDECIDED_NS;
        match &self.phase {
            Phase::Http1(_) => self.settle(Class::Decoded, work),
            Phase::Undecided(_) if is_silent => self.settle(Class::Unknown, work),
            Phase::Handshake(_) if is_silent => self.settle(Class::Encrypted, work),
            // Not at once: what its library shows next would be told too late of one that ends soon.
            Phase::Muted { kind: Kind::Tls, .. }
                if std::mem::replace(&mut self.tally.waited, true) =>
            {
                self.follow_encrypted(work);
            }
            Phase::Undecided(_) | Phase::Handshake(_) | Phase::Muted { .. } => {}
        }
    }

    /// The connection is over, or begins anew.
    pub(super) fn settle_all(&mut self, work: &mut Work) {
        match &self.phase {
            Phase::Http1(_) => self.settle(Class::Decoded, work),
            Phase::Handshake(_) => self.settle(Class::Encrypted, work),
            Phase::Undecided(_) if self.is_followed(work) && !self.tally.followed => {
                self.follow(Class::Unknown, self.tally.protocol, work);
            }
            Phase::Undecided(_) => self.settle(Class::Unknown, work),
            Phase::Muted { kind: Kind::Tls, .. } => self.follow_encrypted(work),
            Phase::Muted { .. } => {}
        }
    }

    /// The kernel side will say no more of it.
    pub(super) fn settle_muted(&mut self, kind: Kind, work: &mut Work) {
        if matches!(self.phase, Phase::Http1(_)) {
            self.settle(Class::Decoded, work);
        }
        self.tally.protocol = match kind {
            Kind::Http1 => Some(Protocol::Http1),
            Kind::Tls => Some(Protocol::Tls),
            Kind::Http2 => Some(Protocol::Http2),
            Kind::Upgraded => Some(Protocol::Upgraded),
            Kind::Unknown => self.tally.protocol,
            Kind::Own => return,
        };
        let class = match kind {
            Kind::Tls => Class::Encrypted,
            _ if self.tally.readable => Class::Unknown,
            _ => Class::Unreachable,
        };
        if self.unix || !work.config.conversations {
            return self.settle(class, work);
        }
        if !self.tally.whole {
            self.settle(class, work);
        }
        if kind != Kind::Tls || self.plain {
            self.follow(class, self.tally.protocol, work);
        }
    }

    /// No library has shown its plaintext.
    fn follow_encrypted(&mut self, work: &mut Work) {
        if !self.unix && work.config.conversations && !self.tally.followed {
            self.follow(Class::Encrypted, self.tally.protocol, work);
        }
    }

    /// Plaintext begins: its streams are others, and ciphertext that waits for its class gets that of the plaintext.
    pub(super) fn settle_plain(&mut self, work: &mut Work) {
        if matches!(self.phase, Phase::Http1(_)) {
            self.settle(Class::Decoded, work);
        }
        self.tally.forget_positions();
        self.tally.protocol = None;
        self.tally.readable = false;
    }

    /// Its plaintext is of a protocol that is parsed.
    pub(super) fn settle_begun(&mut self, work: &mut Work) {
        if self.is_followed(work) {
            self.follow(Class::Decoded, Some(Protocol::Http1), work);
        }
    }

    /// Bytes that no record has shown, or that were not read: the streams have passed them.
    pub(super) fn settle_unseen(&mut self, class: Class, bytes: u64, work: &mut Work) {
        if self.is_followed(work) || self.is_muted_own() {
            return;
        }
        self.tally.counted = self.tally.counted.wrapping_add(bytes);
        work.findings.moved(self.process, class, bytes, Protocols::default());
    }

    /// A record of a connection that the kernel side should be silent about. Of a unix socket nobody else tells.
    pub(super) fn settle_stray(&mut self, kind: Kind, bytes: u64, work: &mut Work) {
        if (self.unix || !work.config.conversations) && kind != Kind::Own {
            let class = if kind == Kind::Tls { Class::Encrypted } else { Class::Unknown };
            let class = if self.tally.readable { class } else { Class::Unreachable };
            work.findings.moved(self.process, class, bytes, self.protocols());
        }
    }

    /// A stream's first position, where this is its first record.
    pub(super) fn tally_begins(&mut self, way: Direction, position: u64) {
        if self.stream(way).untouched() {
            self.tally.begin(position);
        }
    }

    /// Its bytes are those of its conversation: what its streams hold is plaintext.
    fn is_followed(&self, work: &Work) -> bool {
        self.plain && !self.unix && work.config.conversations
    }

    fn is_muted_own(&self) -> bool {
        matches!(self.phase, Phase::Muted { kind: Kind::Own, .. })
    }

    fn follow(&mut self, class: Class, protocol: Option<Protocol>, work: &mut Work) {
        self.tally.followed = true;
        let (counted, whole) = (self.tally.so_far(), self.tally.whole);
        let (process, protocols) = (self.process, protocol.into());
        work.findings.follow(self.cookie, Followed { process, class, protocols, counted, whole });
    }

    fn protocols(&self) -> Protocols {
        match &self.phase {
            Phase::Http1(_) => Some(Protocol::Http1).into(),
            Phase::Handshake(_) => Some(Protocol::Tls).into(),
            _ => self.tally.protocol.into(),
        }
    }

    fn pending(&self) -> u64 {
        let known = self.streams.iter().filter(|stream| !stream.untouched());
        let reached = known.fold(0_u64, |sum, stream| sum.wrapping_add(stream.next()));
        reached.wrapping_sub(self.tally.counted)
    }
}
