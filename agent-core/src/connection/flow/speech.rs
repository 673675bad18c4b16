//! What a connection says to its protocol, and when it stops.

use super::{Flow, Phase};
use crate::connection::classify::Kind;
use crate::connection::shard::ShardOutput;
use crate::connection::sink::FlowSink;
use crate::connection::stream::Place;
use crate::connection::undecided::{Outcome, Undecided};
use crate::connection::work::Step;
use crate::message::{Failure, Role, Signal};
use crate::protocol::{Direction, Input, Progress, Read, Segment};
use crate::traffic::Class;
use agent_common::settings::socket_verdict;

impl Flow {
    pub(super) fn segment<O: ShardOutput>(
        &mut self,
        segment: &Segment<'_>,
        turn: bool,
        first: bool,
        step: &mut Step<'_, O>,
    ) {
        let counts = &mut step.work.counts;
        let undecided = match &mut self.phase {
            Phase::Http1(_) => {
                counts.used += 1;
                return self.input(&Input::Segment(*segment), step);
            }
            Phase::Handshake(_) => return self.handshake(segment, step),
            Phase::Muted { .. } => return counts.muted += 1,
            Phase::Undecided(undecided) => undecided,
        };
        let outcome = undecided.take(segment, turn, first);
        let dropped = undecided.dropped();
        counts.held -= dropped;
        counts.unclassified += dropped;
        self.tally.judged(segment, first, &outcome);
        match outcome {
            Outcome::Kept => {
                counts.held += 1;
                if step.out.wants_reads()
                    && let Some((position, bytes)) = undecided.beginning()
                {
                    let way = segment.direction;
                    step.out.read(self.cookie, way, position, bytes, Read::Beginning);
                }
            }
            Outcome::Useless => counts.unclassified += 1,
            Outcome::Is(Kind::Http1) => self.begin(segment, step),
            Outcome::Is(Kind::Tls) if !self.plain => self.begin_handshake(segment, step),
            Outcome::Is(kind) => {
                counts.unclassified += 1;
                self.mute(kind, step);
            }
        }
    }

    /// The connection speaks HTTP/1: hands over what was kept, then `segment`.
    pub(super) fn begin<O: ShardOutput>(&mut self, segment: &Segment<'_>, step: &mut Step<'_, O>) {
        let phase = std::mem::replace(&mut self.phase, Phase::Http1(step.work.http1()));
        self.settle_begun(step.work);
        let pending = match phase {
            Phase::Undecided(undecided) => undecided.into_pending(),
            _ => None,
        };
        for kept in pending.iter().flat_map(|pending| pending.segments()) {
            step.work.counts.held -= 1;
            step.work.counts.used += 1;
            self.input(&Input::Segment(kept), step);
        }
        step.work.counts.used += 1;
        self.input(&Input::Segment(*segment), step);
    }

    /// One step of the protocol.
    pub(super) fn input<O: ShardOutput>(&mut self, input: &Input<'_>, step: &mut Step<'_, O>) {
        let Phase::Http1(http) = &mut self.phase else { return };
        let work = &mut *step.work;
        let mut sink = FlowSink {
            identity: &mut self.identity,
            published: &self.published,
            key: &work.config.id_key,
            counts: &mut work.counts,
            out: step.out,
        };
        let progress = http.input(input, &mut sink);
        let held = u32::try_from(http.held_bytes()).unwrap_or(u32::MAX);
        work.held_bytes = work.held_bytes + held as usize - self.protocol_held as usize;
        self.protocol_held = held;
        if !self.role_told
            && let Some(role) = http.role()
        {
            self.role_told = true;
            let verdict = match role {
                Role::Server => socket_verdict::ANSWERS,
                Role::Client => socket_verdict::ASKS,
            };
            step.out.verdict(self.cookie, verdict);
        }
        if self.identity.own {
            return self.mute(Kind::Own, step);
        }
        if progress == Progress::Left {
            let spoke = self.identity.announced;
            return self.mute(if spoke { Kind::Upgraded } else { Kind::Unknown }, step);
        }
        if held > 0 && work.held_bytes > work.config.max_held_bytes {
            work.counts.over_held += 1;
            self.restart(self.last_ns, step);
        }
    }

    pub(super) fn gap<O: ShardOutput>(&mut self, way: Direction, len: u64, step: &mut Step<'_, O>) {
        step.work.counts.gap(len);
        let position = self.stream(way).next();
        self.tally_begins(way, position);
        self.stream(way).reach(position.wrapping_add(len));
        self.settle_unseen(Class::Unreachable, len, step.work);
        match &mut self.phase {
            Phase::Undecided(undecided) => {
                undecided.gap();
                let dropped = undecided.dropped();
                step.work.counts.held -= dropped;
                step.work.counts.unclassified += dropped;
            }
            // What lies behind a gap is no hello.
            Phase::Handshake(_) => self.mute(Kind::Tls, step),
            _ => self.input(&Input::Gap { direction: way, position, len }, step),
        }
    }

    /// Whole exchanges before `position` were shed in the kernel.
    pub(super) fn shed<O: ShardOutput>(
        &mut self,
        way: Direction,
        position: u64,
        step: &mut Step<'_, O>,
    ) {
        let Place::Ahead { gap: len } = self.stream(way).place(position) else { return };
        step.work.counts.shed_bytes = step.work.counts.shed_bytes.saturating_add(len);
        let first = self.stream(way).next();
        self.tally_begins(way, first);
        self.stream(way).reach(position);
        self.settle_unseen(Class::Shed, len, step.work);
        match &mut self.phase {
            Phase::Undecided(undecided) => {
                undecided.gap();
                let dropped = undecided.dropped();
                step.work.counts.held -= dropped;
                step.work.counts.unclassified += dropped;
            }
            _ => self.input(&Input::Shed { direction: way, position: first, len }, step),
        }
    }

    /// Names the bytes that are missing before the end of a stream.
    pub(super) fn missing<O: ShardOutput>(
        &mut self,
        way: Direction,
        end: u64,
        step: &mut Step<'_, O>,
    ) {
        if let Some(len) = self.stream(way).missing_before(end)
            && matches!(self.phase, Phase::Http1(_))
        {
            self.gap(way, len, step);
        }
    }

    pub(super) fn end_of_stream<O: ShardOutput>(
        &mut self,
        way: Direction,
        at: u64,
        step: &mut Step<'_, O>,
    ) {
        if !std::mem::replace(&mut self.stream(way).ended, true) {
            self.input(&Input::End { direction: way, at }, step);
        }
    }

    /// Gives up what is open and waits for the next turn.
    pub(super) fn restart<O: ShardOutput>(&mut self, at: u64, step: &mut Step<'_, O>) {
        if !matches!(self.phase, Phase::Muted { .. }) {
            self.settle_all(step.work);
            self.drop_protocol(at, Failure::Unobserved, step);
            self.phase = Phase::Undecided(Undecided::midway());
        }
    }

    pub(super) fn mute<O: ShardOutput>(&mut self, kind: Kind, step: &mut Step<'_, O>) {
        self.learn();
        if !matches!(&self.phase, Phase::Muted { kind: known, .. } if *known == kind) {
            step.work.counts.muted_as.add(kind);
        }
        self.settle_muted(kind, step.work);
        self.drop_protocol(self.last_ns, Failure::Unobserved, step);
        self.phase = Phase::Muted { kind, strays: 0 };
        // A TLS library's plaintext may follow.
        if self.plain || !matches!(kind, Kind::Tls | Kind::Unknown) {
            self.identity.endpoints = None;
        }
        step.out.verdict(self.cookie, self.verdict(kind));
    }

    pub(super) fn over<O: ShardOutput>(
        &mut self,
        at: u64,
        failure: Failure,
        step: &mut Step<'_, O>,
    ) {
        self.settle_all(step.work);
        self.drop_protocol(at, failure, step);
        if self.identity.announced {
            step.out.signal(Signal::Gone { at, cookie: self.cookie });
        }
    }

    /// Ends the protocol's open requests and gives its state back; settles what was kept.
    pub(super) fn drop_protocol<O: ShardOutput>(
        &mut self,
        at: u64,
        failure: Failure,
        step: &mut Step<'_, O>,
    ) {
        let undecided = Phase::Undecided(Undecided::default());
        match std::mem::replace(&mut self.phase, undecided) {
            Phase::Http1(mut http) => {
                let work = &mut *step.work;
                let mut sink = FlowSink {
                    identity: &mut self.identity,
                    published: &self.published,
                    key: &work.config.id_key,
                    counts: &mut work.counts,
                    out: step.out,
                };
                http.input(&Input::Closed { at, failure }, &mut sink);
                work.held_bytes -= self.protocol_held as usize;
                self.protocol_held = 0;
                work.recycle(http);
            }
            Phase::Undecided(undecided) => {
                let kept = undecided.kept() as u64;
                step.work.counts.held -= kept;
                step.work.counts.unclassified += kept;
            }
            Phase::Handshake(_) | Phase::Muted { .. } => {}
        }
    }
}
