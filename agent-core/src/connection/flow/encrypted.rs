//! A connection whose bytes are TLS: its hellos are read, and its plaintext is reported apart.
//!
//! Plaintext and ciphertext of one socket are never one stream: with the first plaintext the connection
//! begins anew, at positions of its own, and from then on the socket's own bytes count only for what they
//! say of the socket (its end, its positions).

use super::{Flow, Phase, REPEAT_VERDICT, Stream};
use crate::connection::classify::Kind;
use crate::connection::shard::ShardOutput;
use crate::connection::undecided::Undecided;
use crate::connection::work::Step;
use crate::message::{Encryption, Failure, Role};
use crate::protocol::tls::Handshake;
use crate::protocol::{Direction, Read, Segment};
use agent_common::record::{self, direction, flag};
use agent_common::settings::socket_verdict;

/// Turns of the direction whose positions are kept: a connection that is older than the agent may be in
/// the middle of the first.
const MAX_MARKS: usize = 2;

impl Flow {
    /// Tells plaintext from the socket's own bytes. `None`: nothing of the record is for the protocol.
    pub(super) fn clear<'a, O: ShardOutput>(
        &mut self,
        record: &record::Payload,
        bytes: &'a [u8],
        step: &mut Step<'_, O>,
    ) -> Option<&'a [u8]> {
        if record.header.flags & flag::PLAINTEXT != 0 {
            if matches!(self.phase, Phase::Muted { kind: Kind::Own, .. }) {
                step.work.counts.muted += 1;
                return None;
            }
            if !self.plain {
                self.begin_plain(record, step);
            }
            return Some(bytes);
        }
        if self.marks.len() < MAX_MARKS && record.header.flags & flag::TURN != 0 {
            self.mark(record);
        }
        if !self.plain {
            return Some(bytes);
        }
        step.work.counts.ciphertext += 1;
        self.ciphertext = self.ciphertext.wrapping_add(1);
        // Of a connection that is older than the agent no handshake was read, which else says it.
        if self.marks.len() == MAX_MARKS && self.ciphertext % REPEAT_VERDICT == 1 {
            step.out.verdict(self.cookie, self.muted_ciphertext());
        }
        if record.header.flags & flag::END != 0 {
            self.end_of_stream(Direction::Receive, record.header.boot_ns, step);
        }
        None
    }

    /// The verdict on it, with what was told of the connection before.
    fn muted_ciphertext(&self) -> u32 {
        let role = match &self.phase {
            Phase::Http1(http) => http.role(),
            _ => None,
        };
        match role {
            Some(Role::Server) => socket_verdict::TLS_ANSWERS,
            Some(Role::Client) => socket_verdict::TLS_ASKS,
            None => socket_verdict::TLS,
        }
    }

    /// The direction turned: both ends know these positions.
    fn mark(&mut self, record: &record::Payload) {
        let (here, there) = (record.position as u32, record.opposite as u32);
        match record.header.direction {
            direction::SEND => self.marks.push((here, there)),
            direction::RECEIVE => self.marks.push((there, here)),
            _ => {}
        }
        // Plaintext that was first seen within an answer may have described the ends before.
        if self.plain {
            self.describe_encryption();
        }
    }

    /// The first plaintext: what was made of the ciphertext is over.
    fn begin_plain<O: ShardOutput>(&mut self, record: &record::Payload, step: &mut Step<'_, O>) {
        self.release(step);
        self.learn();
        self.settle_plain(step.work);
        self.drop_protocol(record.header.boot_ns, Failure::Unobserved, step);
        self.phase = Phase::Undecided(Undecided::default());
        self.streams = [Stream::default(); 2];
        self.published.forget_placed();
        self.plain = true;
        self.from_start = record.position == 0 && record.opposite == 0;
        if self.from_start {
            self.stream(Direction::Send).hint(0);
            self.stream(Direction::Receive).hint(0);
        }
        self.describe_encryption();
    }

    /// Adds what is known of the encryption to the ends, before these are announced.
    pub(super) fn describe_encryption(&mut self) {
        if let Some(ends) = &mut self.identity.endpoints {
            ends.encryption = Some(Box::new(Encryption {
                marks: self.marks.clone(),
                from_start: self.from_start,
                facts: self.facts.as_deref().cloned().unwrap_or_default(),
            }));
        }
    }

    /// The first TLS records.
    pub(super) fn begin_handshake<O: ShardOutput>(
        &mut self,
        segment: &Segment<'_>,
        step: &mut Step<'_, O>,
    ) {
        self.drop_protocol(segment.taken_ns, Failure::Unobserved, step);
        self.phase = Phase::Handshake(Box::default());
        self.handshake(segment, step);
    }

    /// More of them; muted when nothing more is to be learnt.
    pub(super) fn handshake<O: ShardOutput>(
        &mut self,
        segment: &Segment<'_>,
        step: &mut Step<'_, O>,
    ) {
        let Phase::Handshake(handshake) = &mut self.phase else { return };
        step.work.counts.unclassified += 1;
        if step.out.wants_reads() {
            let (way, position) = (segment.direction, segment.position);
            let bytes = handshake.recordable(way, segment.bytes);
            step.out.read(self.cookie, way, position, &bytes, Read::Hello);
        }
        if handshake.take(segment.direction, segment.bytes, segment.len) {
            self.mute(Kind::Tls, step);
        }
    }

    /// Keeps what the hellos said.
    pub(super) fn learn(&mut self) {
        if let Phase::Handshake(handshake) = &mut self.phase {
            let handshake: Handshake = std::mem::take(handshake);
            self.facts = Some(Box::new(handshake.into_facts()));
        }
    }

    /// Names the bytes that are missing before the end of a stream, where `end` is a position of it.
    pub(super) fn missing_at_end<O: ShardOutput>(
        &mut self,
        way: Direction,
        end: u64,
        step: &mut Step<'_, O>,
    ) {
        if !self.plain {
            self.missing(way, end, step);
        }
    }
}
