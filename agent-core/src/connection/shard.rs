//! One payload ring's connections: records in, signals out.

use super::counts::Census;
use super::flow::Flow;
use super::over::Over;
use super::own::{OwnEndpoint, OwnEndpoints};
use super::sequence::Sequence;
use super::table::Table;
use super::work::{Step, Work};
use crate::event::{Event, ProcessKey};
use crate::id::IdKey;
use crate::ledger::{Entry, Side};
use crate::message::{Signal, Started};
use crate::protocol::{Direction, Read};
use crate::traffic::Findings;
use agent_common::record::{self, flag};

/// Connections that may wait for a record at once; the longest waiting is released beyond it.
const MAX_WAITS: usize = 4096;

/// A unix socket whose other end is closed may be read from for so long. Its own end is not told by every kernel.
const LEFT_NS: u64 = 2_000_000_000;

/// Slots of the table that one [`Shard::idle`] looks at: a full table is seen in 16 calls, and no
/// call takes more than a fraction of a millisecond.
const SWEEP: usize = 4096;

/// Sizes and times of a shard.
#[derive(Clone, Copy, Debug)]
pub struct ShardConfig {
    /// Connections at most; beyond, one of the longest silent is evicted.
    pub max_connections: usize,
    /// Key of the span ids.
    pub id_key: IdKey,
    /// Bytes held at most by all connections together: early records, unfinished heads.
    pub max_held_bytes: usize,
    /// How long a record waits for one before it, ns of record time.
    pub reorder_ns: u64,
    /// Silence after which a unix socket without an open request counts as closed, ns: it has no
    /// close event.
    pub unix_idle_ns: u64,
    /// Silence after which any connection counts as closed, ns: its close event may be lost.
    pub idle_ns: u64,
    /// Conversations are counted by the kernel: what TCP connections move that are muted is told by these, and by
    /// no record.
    pub conversations: bool,
}

impl Default for ShardConfig {
    fn default() -> Self {
        ShardConfig {
            max_connections: 65_536,
            id_key: IdKey::default(),
            max_held_bytes: 16 << 20,
            reorder_ns: 2_000_000,
            unix_idle_ns: 600_000_000_000,
            idle_ns: 7_200_000_000_000,
            conversations: false,
        }
    }
}

/// Takes what a shard finds.
pub trait ShardOutput {
    /// A signal for the trace stage, in the order of the ring.
    fn signal(&mut self, signal: Signal);
    /// A verdict for the kernel on the socket `cookie`
    /// ([`agent_common::settings::socket_verdict`]).
    fn verdict(&mut self, cookie: u64, verdict: u32);
    /// A used message to fill again, where there is one.
    fn reuse(&mut self) -> Option<Box<Started>>;
    /// Whether [`ShardOutput::read`] is to be called: for recordings.
    fn wants_reads(&self) -> bool {
        false
    }
    /// Bytes that decided something on the connection `cookie`: see [`crate::protocol::Sink::read`].
    fn read(
        &mut self,
        _cookie: u64,
        _direction: Direction,
        _position: u64,
        _bytes: &[u8],
        _what: Read,
    ) {
    }
}

/// The connections of one payload ring.
#[derive(Debug)]
pub struct Shard {
    table: Table,
    work: Work,
    own: OwnEndpoints,
    sequence: Sequence,
    /// Slot at which the next sweep begins.
    sweep: usize,
    over: Over,
}

impl Shard {
    /// A shard without connections.
    pub fn new(config: ShardConfig) -> Shard {
        Shard {
            table: Table::new(config.max_connections),
            work: Work::new(config),
            own: OwnEndpoints::default(),
            sequence: Sequence::default(),
            sweep: 0,
            over: Over::default(),
        }
    }

    /// Never reports connections with this end.
    pub fn mute_endpoint(&mut self, endpoint: OwnEndpoint) {
        self.own.add(endpoint);
    }

    /// Takes one record. Those that do not belong into a payload ring are counted and ignored.
    pub fn ingest(&mut self, event: &Event<'_>, out: &mut impl ShardOutput) {
        let header = event.header();
        self.sequence.take(header.cpu, header.seq);
        self.work.counts.records += 1;
        if !self.work.waits.is_empty() {
            self.overdue(header.boot_ns, out);
        }
        match event {
            Event::Payload(record, bytes) => self.payload(record, bytes, out),
            Event::ThreadContext(record) => self.thread_context(record),
            Event::Connection(record, path) => self.connection(record, path, out),
            Event::Closing(record) => self.closing(record, out),
            Event::Shed(record) => {
                self.work.counts.used += 1;
                let at = record.header.boot_ns;
                out.signal(Signal::Shed { at, process: event.process() });
            }
            Event::Fork(_) | Event::Exec(..) | Event::Exit(_) => self.work.counts.misplaced += 1,
        }
    }

    /// Time passed: to be called with the current boot time each time the ring was found empty,
    /// and at least once a second. Ends waits, and expires connections that fell silent.
    pub fn idle(&mut self, now_boot_ns: u64, out: &mut impl ShardOutput) {
        self.overdue(now_boot_ns, out);
        for _ in 0..SWEEP.min(self.table.slots()) {
            self.sweep = (self.sweep + 1) % self.table.slots();
            if let Some(ends) = self.left(self.sweep, now_boot_ns) {
                self.close_left(ends, now_boot_ns, out);
            }
            let config = &self.work.config;
            let expired = self.table.at(self.sweep).filter(|flow| {
                let silent = now_boot_ns.saturating_sub(flow.last_ns);
                silent > config.idle_ns
                    || (flow.unix && silent > config.unix_idle_ns && flow.open_requests() == 0)
            });
            if let Some(cookie) = expired.map(|flow| flow.cookie) {
                self.work.counts.expired += 1;
                self.abandon(cookie, now_boot_ns, out);
            }
        }
    }

    /// Both ends of a unix connection of which this one has read that the other is closed.
    fn left(&self, slot: usize, now: u64) -> Option<[u64; 2]> {
        let flow = self.table.at(slot).filter(|flow| flow.is_left())?;
        (now.saturating_sub(flow.last_ns) > LEFT_NS).then_some([flow.cookie, flow.peer])
    }

    /// They are over, where they have been silent since and nothing is under way.
    fn close_left(&mut self, ends: [u64; 2], now: u64, out: &mut impl ShardOutput) {
        for cookie in ends {
            let is_silent = self.table.find(cookie).is_some_and(|flow| {
                flow.unix && flow.open_requests() == 0 && now.saturating_sub(flow.last_ns) > LEFT_NS
            });
            if is_silent {
                self.work.counts.closed += 1;
                self.abandon(cookie, now, out);
            }
        }
    }

    /// The run ends: nothing follows. Requests still open are given up as
    /// [`crate::message::Failure::Unobserved`] at their connection's latest record, because the
    /// agent cannot say how they would have ended.
    pub fn finish(&mut self, out: &mut impl ShardOutput) {
        for slot in 0..self.table.slots() {
            if let Some((cookie, at)) = self.table.at(slot).map(|flow| (flow.cookie, flow.last_ns))
            {
                self.work.counts.closed += 1;
                self.abandon(cookie, at, out);
            }
        }
        self.work.waits.clear();
    }

    /// Counts one record as lost without looking into it: the run ends, and there is no time left
    /// for what is still in the ring.
    pub fn discard(&mut self, event: &Event<'_>) {
        let header = event.header();
        self.sequence.take(header.cpu, header.seq);
        self.work.counts.discarded += 1;
    }

    /// The kernel numbered the records of `cpu` in this ring up to `next`, exclusive: counts as
    /// lost what never came. For the end of a run, when the ring is empty.
    pub fn settle(&mut self, cpu: u16, next: u64) {
        self.sequence.settle(cpu, next);
    }

    /// Records that the sequence numbers say are lost.
    pub fn lost(&self) -> u64 {
        self.sequence.lost
    }

    /// Bytes held for records and heads that are not complete.
    pub fn held_bytes(&self) -> usize {
        self.work.held_bytes
    }

    /// Whether records of this connection wait for others, or for more bytes to judge by.
    pub fn waits(&self, cookie: u64) -> bool {
        self.table.find(cookie).is_some_and(Flow::waits)
    }

    /// The account of this shard.
    pub fn ledger(&self) -> Vec<Entry> {
        let requests = self.table.iter().map(|flow| flow.open_requests() as u64).sum();
        let mut entries = self.work.counts.entries(self.table.len() as u64, requests);
        let Sequence { lost, disordered, .. } = self.sequence;
        let mut ring =
            |side, count| entries.push(Entry { stage: "ring", unit: "records", side, count });
        let super::counts::Counts { records, discarded, .. } = self.work.counts;
        ring(Side::In, records.saturating_add(lost).saturating_add(discarded));
        ring(Side::Out, records);
        ring(Side::Lost("sequence_gap"), lost);
        ring(Side::Lost("shutdown"), discarded);
        ring(Side::Info("disordered"), disordered);
        entries
    }

    /// Open connections per process and kind. Looks at every connection: about a millisecond for
    /// a full table.
    pub fn census(&self) -> Census {
        let mut by_process = hashbrown::HashMap::<ProcessKey, _, _>::with_hasher(
            foldhash::fast::RandomState::default(),
        );
        for flow in self.table.iter() {
            let counts: &mut super::KindCounts = by_process.entry(flow.process).or_default();
            counts.add(flow.kind());
        }
        by_process.into_iter().collect()
    }

    /// What bytes have become since this was last asked, until `now_boot_ns`. Looks at every connection, as
    /// [`Shard::census`] does.
    pub fn findings(&mut self, now_boot_ns: u64) -> Findings {
        let work = &mut self.work;
        self.table.iter_mut().for_each(|flow| flow.settle_until(now_boot_ns, work));
        std::mem::take(&mut self.work.findings)
    }

    fn payload(&mut self, record: &record::Payload, bytes: &[u8], out: &mut impl ShardOutput) {
        if self.is_over(record.cookie, &record.header) {
            return self.work.counts.after_close += 1;
        }
        self.open(record.cookie, record.header.boot_ns, out);
        let Some(flow) = self.table.get(record.cookie) else { return };
        flow.payload(record, bytes, &mut Step { work: &mut self.work, out });
    }

    fn thread_context(&mut self, record: &record::ThreadContext) {
        // What it belongs to has come before it, or is over.
        self.work.counts.used += 1;
        if let Some(flow) = self.table.get(record.cookie) {
            flow.published.announce(record);
        }
    }

    /// The connection was closed, and has left the table: nothing would close it again.
    fn is_over(&mut self, cookie: u64, header: &record::Header) -> bool {
        // The table first: it has most of those that are asked for.
        self.table.get(cookie).is_none()
            && (header.flags & flag::AFTER_CLOSE != 0 || self.over.has(cookie))
    }

    fn close(&mut self, cookie: u64) {
        self.work.counts.closed += 1;
        self.table.remove(cookie);
        self.over.add(cookie);
    }

    fn connection(&mut self, record: &record::Connection, path: &[u8], out: &mut impl ShardOutput) {
        if self.is_over(record.cookie, &record.header) {
            return self.work.counts.after_close += 1;
        }
        self.open(record.cookie, record.header.boot_ns, out);
        let own = self.own.own(record);
        let Some(flow) = self.table.get(record.cookie) else { return };
        flow.connection(record, path, own, &mut Step { work: &mut self.work, out });
    }

    fn closing(&mut self, record: &record::Closing, out: &mut impl ShardOutput) {
        let Some(flow) = self.table.get(record.cookie) else {
            return self.work.counts.strangers += 1;
        };
        if record.header.flags & (flag::LOCAL_END | flag::CLOSED) == 0 {
            return self.work.counts.misplaced += 1;
        }
        if flow.closing(record, &mut Step { work: &mut self.work, out }) {
            self.close(record.cookie);
        }
    }

    /// Makes sure that `cookie` is in the table.
    fn open(&mut self, cookie: u64, at: u64, out: &mut impl ShardOutput) {
        if self.table.get(cookie).is_some() {
            return;
        }
        while self.table.is_full()
            && let Some(silent) = self.table.silent()
        {
            self.work.counts.evicted += 1;
            self.abandon(silent, at, out);
        }
        self.work.counts.opened += 1;
        self.table.insert(Flow::new(cookie, at));
    }

    fn abandon(&mut self, cookie: u64, at: u64, out: &mut impl ShardOutput) {
        if let Some(mut flow) = self.table.remove(cookie) {
            flow.abandon(at, &mut Step { work: &mut self.work, out });
        }
    }

    /// Ends the waits whose deadline has passed, and the oldest beyond [`MAX_WAITS`].
    fn overdue(&mut self, now: u64, out: &mut impl ShardOutput) {
        while let Some(&(deadline, cookie)) = self.work.waits.front() {
            if deadline >= now && self.work.waits.len() <= MAX_WAITS {
                return;
            }
            self.work.waits.pop_front();
            // It may have waited, got what it waited for, and be waiting again.
            let Some(flow) = self.table.get(cookie) else { continue };
            if flow.deadline() != Some(deadline) {
                continue;
            }
            if flow.overdue(&mut Step { work: &mut self.work, out }) {
                self.close(cookie);
            }
        }
    }
}
