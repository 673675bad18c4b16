//! One connection: records to inputs of its protocol, in stream order.

mod encrypted;
mod speech;
mod tally;
mod waiting;

use super::classify::Kind;
use super::held::Held;
use super::published::PublishedContexts;
use super::shard::ShardOutput;
use super::sink::Identity;
use super::stream::{Place, Stream};
use super::undecided::Undecided;
use super::work::Step;
use crate::event::ProcessKey;
use crate::message::{Endpoints, Failure, Marks, Thread};
use crate::protocol::http1::Http1;
use crate::protocol::tls::{Facts, Handshake};
use crate::protocol::{Direction, Segment};
use crate::traffic::Class;
use agent_common::record::{self, direction, flag, role};
use agent_common::settings::socket_verdict;
use tally::Tally;

/// Records on a muted connection after which the kernel is told again: its verdict may have been
/// lost, or not have arrived.
const REPEAT_VERDICT: u32 = 64;

/// State of one connection.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) cookie: u64,
    /// Boot-time ns of its latest record.
    pub(super) last_ns: u64,
    /// The process that used it last.
    pub(super) process: ProcessKey,
    identity: Identity,
    /// Indexed by [`Direction`]: send, receive.
    streams: [Stream; 2],
    phase: Phase,
    held: Option<Box<Held>>,
    /// Bytes that the protocol held after its latest input.
    protocol_held: u32,
    /// The connection record tells how it came to be: its positions are its first.
    from_start: bool,
    /// The kernel side knows which end this is.
    role_told: bool,
    pub(super) unix: bool,
    /// Unix: cookie of the other end, 0 while it is not known.
    pub(super) peer: u64,
    /// What threads had published when they began to send on it.
    pub(super) published: PublishedContexts,
    /// Plaintext of a TLS library is reported: the socket's own bytes are none of the protocol's.
    plain: bool,
    /// Records of the socket's own bytes since.
    ciphertext: u32,
    /// See [`crate::message::Encryption::marks`].
    marks: Marks,
    /// What a handshake said.
    facts: Option<Box<Facts>>,
    /// Which of its bytes are accounted for.
    tally: Tally,
}

#[derive(Debug)]
enum Phase {
    Undecided(Undecided),
    Http1(Box<Http1>),
    /// TLS records, of which the hellos are not complete yet.
    Handshake(Box<Handshake>),
    Muted {
        kind: Kind,
        strays: u32,
    },
}

impl Flow {
    pub(super) fn new(cookie: u64, at: u64) -> Flow {
        Flow {
            cookie,
            last_ns: at,
            process: ProcessKey::default(),
            identity: Identity::new(cookie),
            streams: [Stream::default(); 2],
            phase: Phase::Undecided(Undecided::default()),
            held: None,
            protocol_held: 0,
            from_start: false,
            role_told: false,
            unix: false,
            peer: 0,
            published: PublishedContexts::default(),
            plain: false,
            ciphertext: 0,
            marks: Marks::new(),
            facts: None,
            tally: Tally::default(),
        }
    }

    /// What it speaks; `None` while undecided.
    pub(super) fn kind(&self) -> Option<Kind> {
        match &self.phase {
            Phase::Undecided(_) => None,
            Phase::Http1(_) => Some(Kind::Http1),
            Phase::Handshake(_) => Some(Kind::Tls),
            Phase::Muted { kind, .. } => Some(*kind),
        }
    }

    pub(super) fn open_requests(&self) -> usize {
        match &self.phase {
            Phase::Http1(http) => http.open_requests(),
            _ => 0,
        }
    }

    /// The other end was closed, or sends no more, and nothing is under way: of unix sockets, whose own end nobody
    /// tells.
    pub(super) fn is_left(&self) -> bool {
        self.unix && self.streams.iter().any(|stream| stream.ended) && self.open_requests() == 0
    }

    /// Deadline of what it holds.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.held.as_ref().map(|held| held.deadline)
    }

    /// Whether records wait for others, or for more bytes to judge by.
    pub(super) fn waits(&self) -> bool {
        let early = self.held.as_ref().is_some_and(|held| !held.is_empty());
        early
            || match &self.phase {
                Phase::Undecided(undecided) => undecided.kept() > 0,
                Phase::Http1(_) => self.protocol_held > 0,
                Phase::Handshake(_) | Phase::Muted { .. } => false,
            }
    }

    /// Who talks to whom.
    pub(super) fn connection<O: ShardOutput>(
        &mut self,
        record: &record::Connection,
        path: &[u8],
        own: bool,
        step: &mut Step<'_, O>,
    ) {
        self.touch(&record.header);
        if let Phase::Muted { kind, .. } = self.phase
            && !matches!(kind, Kind::Tls | Kind::Unknown)
        {
            step.work.counts.muted += 1;
            return;
        }
        step.work.counts.used += 1;
        self.unix = record.family == 1;
        if self.unix && record.peer_cookie != 0 {
            self.peer = record.peer_cookie;
        }
        self.from_start |= record.role != role::UNKNOWN;
        self.tally.whole |= record.role != role::UNKNOWN;
        self.role_told |= record.role != role::UNKNOWN;
        if !self.plain {
            self.stream(Direction::Send).hint(record.send_position);
            self.stream(Direction::Receive).hint(record.receive_position);
        }
        if own {
            return self.mute(Kind::Own, step);
        }
        self.identity.endpoints = Some(Box::new(endpoints(record, path)));
        if self.plain {
            self.describe_encryption();
        }
        self.identity.known_at = record.header.boot_ns;
        if self.identity.announced {
            self.identity.announce(step.out);
        }
    }

    /// Bytes moved.
    pub(super) fn payload<O: ShardOutput>(
        &mut self,
        record: &record::Payload,
        bytes: &[u8],
        step: &mut Step<'_, O>,
    ) {
        self.touch(&record.header);
        let Some(bytes) = self.clear(record, bytes, step) else { return };
        if record.header.flags & flag::PUBLISHED != 0 && !self.published.place(record) {
            step.work.counts.contexts_missing += 1;
        }
        let other_way = |held: &Held| held.direction != record.header.direction;
        if self.held.as_deref().is_some_and(|held| !held.is_empty() && other_way(held)) {
            // An answer follows what it answers: what is missing before it is lost.
            self.release(step);
        }
        self.take(record, bytes, true, step);
        self.drain(step);
    }

    /// This end, or the whole connection, closes. True when it is over.
    pub(super) fn closing<O: ShardOutput>(
        &mut self,
        record: &record::Closing,
        step: &mut Step<'_, O>,
    ) -> bool {
        self.last_ns = record.header.boot_ns;
        step.work.counts.used += 1;
        // The socket's positions are those of its ciphertext: of plaintext they say nothing.
        if record.header.flags & flag::SHED != 0 && !self.plain {
            self.release(step);
            for (way, end) in [
                (Direction::Send, record.send_position),
                (Direction::Receive, record.receive_position),
            ] {
                if self.stream(way).missing_before(end).is_some() {
                    self.shed(way, end, step);
                }
            }
        }
        if record.header.flags & flag::CLOSED == 0 {
            self.release(step);
            self.missing_at_end(Direction::Send, record.send_position, step);
            self.end_of_stream(Direction::Send, record.header.boot_ns, step);
            return false;
        }
        // A library that was at work says what it sent when it returns, by positions of its own.
        let waits = match self.plain {
            true => self.open_requests() > 0,
            false => {
                matches!(self.phase, Phase::Http1(_))
                    && (self.streams[0].missing_before(record.send_position).is_some()
                        || self.streams[1].missing_before(record.receive_position).is_some())
            }
        };
        if !waits {
            self.close(record, step);
            return true;
        }
        // A call's record may still be on its way from another CPU.
        let deadline = step.work.wait(self.cookie, record.header.boot_ns);
        let held = self.held.get_or_insert_with(|| Box::new(Held::new(deadline, 0)));
        held.closing = Some(*record);
        false
    }

    /// The wait is over: what is missing is lost. True when the connection is over.
    pub(super) fn overdue<O: ShardOutput>(&mut self, step: &mut Step<'_, O>) -> bool {
        self.release(step);
        let closing = self.held.take().and_then(|held| held.closing);
        if let Some(record) = &closing {
            self.close(record, step);
        }
        closing.is_some()
    }

    /// The agent stops looking: evicted, expired, or the end of the run.
    pub(super) fn abandon<O: ShardOutput>(&mut self, at: u64, step: &mut Step<'_, O>) {
        self.release(step);
        let closing = self.held.take().and_then(|held| held.closing);
        match &closing {
            Some(record) => self.close(record, step),
            None => self.over(at, Failure::Unobserved, step),
        }
    }

    /// The socket is closed.
    fn close<O: ShardOutput>(&mut self, record: &record::Closing, step: &mut Step<'_, O>) {
        self.release(step);
        self.missing_at_end(Direction::Send, record.send_position, step);
        self.missing_at_end(Direction::Receive, record.receive_position, step);
        let failure = match record.error {
            32 | 104 => Failure::ConnectionReset,
            110 => Failure::Timeout,
            _ => Failure::ConnectionClosed,
        };
        self.over(record.header.boot_ns, failure, step);
    }

    /// What the kernel side is told when it says nothing more.
    fn verdict(&self, kind: Kind) -> u32 {
        if kind == Kind::Tls && !self.plain { socket_verdict::TLS } else { socket_verdict::MUTE }
    }

    fn touch(&mut self, header: &record::Header) {
        self.last_ns = header.boot_ns;
        if header.tgid != 0 {
            self.process = ProcessKey { tgid: header.tgid, start_ns: header.start_ns };
        }
    }

    fn stream(&mut self, direction: Direction) -> &mut Stream {
        let [send, receive] = &mut self.streams;
        match direction {
            Direction::Send => send,
            Direction::Receive => receive,
        }
    }

    /// Finds a record's place in its stream. With `may_hold` it may wait for those before it.
    fn take<O: ShardOutput>(
        &mut self,
        record: &record::Payload,
        bytes: &[u8],
        may_hold: bool,
        step: &mut Step<'_, O>,
    ) {
        let way = match record.header.direction {
            direction::SEND => Direction::Send,
            direction::RECEIVE => Direction::Receive,
            _ => return step.work.counts.misplaced += 1,
        };
        if let Phase::Muted { strays, kind } = &mut self.phase {
            *strays = strays.wrapping_add(1);
            let (kind, again) = (*kind, strays.is_multiple_of(REPEAT_VERDICT));
            if again {
                step.out.verdict(self.cookie, self.verdict(kind));
            }
            self.settle_stray(kind, u64::from(record.header.total_len), step.work);
            return step.work.counts.muted += 1;
        }
        let len = u64::from(record.header.total_len);
        if record.header.flags & flag::SHED != 0 {
            self.shed(way, record.position, step);
            self.shed(way.opposite(), record.opposite, step);
        }
        match self.stream(way).place(record.position) {
            Place::Next => self.deliver(way, record, bytes, 0, step),
            Place::Overlap { skip } if skip >= len => self.deliver(way, record, &[], len, step),
            Place::Overlap { skip } => {
                step.work.counts.trimmed += 1;
                self.deliver(way, record, bytes, skip, step);
            }
            // The end was read: a FIN takes a sequence number.
            Place::Ahead { gap: 1 } if len == 0 => self.deliver(way, record, bytes, 0, step),
            Place::Ahead { .. } if may_hold && self.hold(record, bytes, step) => {}
            Place::Ahead { gap } => {
                self.gap(way, gap, step);
                self.deliver(way, record, bytes, 0, step);
            }
            Place::Elsewhere => {
                step.work.counts.resynchronised += 1;
                self.restart(record.header.boot_ns, step);
                self.streams = [Stream::default(); 2];
                self.tally.forget_positions();
                self.deliver(way, record, bytes, 0, step);
            }
        }
    }

    /// Passes on what is new in a record: all but its first `skip` bytes, and its end.
    fn deliver<O: ShardOutput>(
        &mut self,
        way: Direction,
        record: &record::Payload,
        bytes: &[u8],
        skip: u64,
        step: &mut Step<'_, O>,
    ) {
        let header = &record.header;
        let len = u64::from(header.total_len) - skip;
        let end = header.flags & flag::END != 0 && !self.stream(way).ended;
        match (len > 0, end) {
            (true, _) => {
                let segment = segment(way, record, bytes, skip);
                let turn = header.flags & flag::TURN != 0 && skip == 0;
                let first = self.from_start && self.streams[other(way)].untouched() && {
                    let stream = self.stream(way);
                    stream.is_first(segment.position)
                };
                self.tally_begins(way, segment.position);
                self.stream(way).reach(segment.position.wrapping_add(len));
                if header.flags & flag::UNREACHABLE != 0 {
                    self.settle_unseen(Class::Unreachable, len, step.work);
                }
                self.segment(&segment, turn, first, step);
            }
            (false, true) => step.work.counts.used += 1,
            (false, false) => step.work.counts.duplicate += 1,
        }
        if end {
            self.end_of_stream(way, header.boot_ns, step);
        }
    }
}

fn other(way: Direction) -> usize {
    match way {
        Direction::Send => 1,
        Direction::Receive => 0,
    }
}

fn segment<'a>(
    way: Direction,
    record: &record::Payload,
    bytes: &'a [u8],
    skip: u64,
) -> Segment<'a> {
    let header = &record.header;
    let taken_ns = header.boot_ns;
    // The hook runs last: a time after it, or none, is not one.
    let time = |ns: u64| if ns == 0 { taken_ns } else { ns.min(taken_ns) };
    let bytes = usize::try_from(skip).ok().and_then(|skip| bytes.get(skip..)).unwrap_or(&[]);
    let len = u64::from(header.total_len) - skip;
    Segment {
        direction: way,
        position: record.position.wrapping_add(skip),
        bytes: bytes.get(..usize::try_from(len).unwrap_or(usize::MAX)).unwrap_or(bytes),
        len,
        opposite: record.opposite,
        first_ns: time(record.first_ns),
        last_ns: time(record.last_ns),
        taken_ns,
        true_first: header.flags & flag::TRUE_FIRST != 0,
        thread: Thread {
            process: ProcessKey { tgid: header.tgid, start_ns: header.start_ns },
            tid: header.tid,
            context: record.context,
        },
    }
}

fn endpoints(record: &record::Connection, path: &[u8]) -> Endpoints {
    Endpoints {
        family: record.family,
        local_addr: record.local_addr,
        remote_addr: record.remote_addr,
        local_port: record.local_port,
        remote_port: record.remote_port,
        netns: record.netns,
        peer_cookie: record.peer_cookie,
        path: path.into(),
        encryption: None,
    }
}
