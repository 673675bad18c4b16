//! What a protocol finds on one connection, on its way out of the shard.

use super::counts::Counts;
use super::own::is_export;
use super::published::PublishedContexts;
use super::shard::ShardOutput;
use crate::id::{IdKey, SpanId};
use crate::message::{Endpoints, Finished, Head, Role, Signal, Started};
use crate::protocol::{Direction, Read, Sink};
use agent_common::record::direction;

/// Who a connection is to the stages behind.
#[derive(Debug, Default)]
pub(super) struct Identity {
    pub(super) cookie: u64,
    /// Its ends, until they have been announced.
    pub(super) endpoints: Option<Box<Endpoints>>,
    /// When they became known, boot-time ns.
    pub(super) known_at: u64,
    /// The stages behind know this connection.
    pub(super) announced: bool,
    /// An agent sent a request on it: nothing that begins from there on is reported.
    pub(super) own: bool,
    /// There was a request.
    asked: bool,
    /// Position and index of the last one, for the next one's id.
    last: u64,
    index: u32,
}

impl Identity {
    pub(super) fn new(cookie: u64) -> Identity {
        Identity { cookie, ..Identity::default() }
    }

    /// Tells the connection's ends, unless they have been.
    pub(super) fn announce(&mut self, out: &mut impl ShardOutput) {
        self.announced = true;
        if let Some(endpoints) = self.endpoints.take() {
            out.signal(Signal::Opened { at: self.known_at, cookie: self.cookie, endpoints });
        }
    }

    /// Index of a request among those that began at the same position: several only where a
    /// protocol multiplexes.
    fn index(&mut self, position: u64) -> u32 {
        let again = self.asked && self.last == position;
        self.index = if again { self.index.wrapping_add(1) } else { 0 };
        self.last = position;
        self.asked = true;
        self.index
    }
}

/// Stands for a request that is not reported: no span has the id zero.
const UNREPORTED: SpanId = SpanId([0; 8]);

/// [`Sink`] of one connection.
pub(super) struct FlowSink<'a, O> {
    pub(super) identity: &'a mut Identity,
    pub(super) published: &'a PublishedContexts,
    pub(super) key: &'a IdKey,
    pub(super) counts: &'a mut Counts,
    pub(super) out: &'a mut O,
}

impl<O: ShardOutput> Sink for FlowSink<'_, O> {
    fn blank(&mut self) -> Box<Started> {
        let Some(mut used) = self.out.reuse() else { return Box::default() };
        let mut head = std::mem::take(&mut used.head);
        head.clear();
        if head.text.capacity() > MAX_KEPT {
            head = Head::default();
        }
        *used = Started { head, ..Started::default() };
        used
    }

    fn started(&mut self, mut started: Box<Started>) -> SpanId {
        self.identity.own |= is_export(&started.head);
        if self.identity.own {
            self.counts.own_requests += 1;
            return UNREPORTED;
        }
        self.identity.announce(self.out);
        let way = match started.role {
            Some(Role::Client) => direction::SEND,
            Some(Role::Server) | None => direction::RECEIVE,
        };
        let index = self.identity.index(started.position);
        let span = self.key.span(self.identity.cookie, way, started.position, index);
        started.span = span;
        started.published = match started.role {
            Some(Role::Client) => self.published.at(started.position),
            _ => None,
        };
        started.cookie = self.identity.cookie;
        self.counts.started += 1;
        self.out.signal(Signal::Started(started));
        span
    }

    fn finished(&mut self, mut finished: Finished) {
        if finished.span == UNREPORTED {
            return;
        }
        finished.cookie = self.identity.cookie;
        self.counts.finished += 1;
        self.out.signal(Signal::Finished(finished));
    }

    fn start_line_cut(&mut self) {
        self.counts.start_lines_cut += 1;
    }

    fn not_followed_further(&mut self) {
        self.counts.muted_as.lost += 1;
    }

    fn wants_reads(&self) -> bool {
        self.out.wants_reads()
    }

    fn read(&mut self, direction: Direction, position: u64, bytes: &[u8], what: Read) {
        self.out.read(self.identity.cookie, direction, position, bytes, what);
    }
}

/// Text buffers larger than this are not reused: one hostile head would otherwise cost its memory
/// for good.
const MAX_KEPT: usize = 16 * 1024;
