//! The state of the assembler, and what each item changes in it. Items come in order.

use super::config::AssemblerConfig;
use super::conn::Conns;
use super::counts::Counts;
use super::held::Held;
use super::index::Index;
use super::measure::failed;
use super::order::{ExecCopy, Item};
use super::request::Request;
use super::sampling::Why;
use super::sampling::sampler::{Sampler, Spans};
use super::settle::Trees;
use super::suspicion::Suspicion;
use super::threads::{Child, Reading, Threads, World};
use super::window::Window;
use crate::event::ProcessKey;
use crate::id::SpanId;
use crate::message::{Failure, Finished, Role, Signal, Started, Thread};
use crate::process::{HostFacts, ProcessTable, ResourceValue};
use crate::request::RequestMetrics;
use crate::route::Routes;
use crate::slab::Slab;
use crate::span::Output;
use agent_common::record::{Exit, Fork, flag};
use std::collections::{BTreeMap, VecDeque};

/// Where things go.
pub(super) struct Sinks<'a> {
    pub(super) out: &'a mut dyn Output,
    pub(super) recycle: &'a mut dyn FnMut(Box<Started>),
    /// Nothing follows: nothing waits any more.
    pub(super) last: bool,
}

/// Everything but the queues.
pub(super) struct Core {
    pub(super) config: AssemblerConfig,
    pub(super) conns: Conns,
    pub(super) requests: Slab<Request>,
    pub(super) trees: Trees,
    pub(super) threads: Threads,
    pub(super) processes: ProcessTable,
    pub(super) by_position: Index,
    pub(super) by_declared: Index,
    pub(super) by_request_id: Index,
    pub(super) held: Held,
    pub(super) counts: Counts,
    pub(super) sampler: Sampler,
    /// Of server requests, when they are wanted.
    pub(super) routes: Option<Routes>,
    /// Of requests, when they are wanted.
    pub(super) metrics: Option<RequestMetrics>,
    /// Requests in the order in which they started; some are gone.
    pub(super) oldest: VecDeque<(u32, SpanId)>,
    /// Bytes of all requests' heads.
    pub(super) bytes: usize,
    /// Key of the item in work: what the time is.
    pub(super) now: u64,
    /// What of it is reported.
    pub(super) window: Window,
    /// Buffer for `url.full`.
    pub(super) url: String,
    /// Buffer for names of spans with a route.
    pub(super) name: String,
    /// Boxes of exec records to use again.
    #[expect(clippy::vec_box, reason = "the boxes themselves are what is used again")]
    pub(super) spare_execs: Vec<Box<ExecCopy>>,
}

impl Core {
    pub(super) fn new(config: AssemblerConfig, host: HostFacts) -> Self {
        let limits = config.limits;
        Core {
            conns: Conns::new(limits.connections),
            requests: Slab::default(),
            trees: Trees::new(config.id_key, config.sampling.ratio),
            sampler: Sampler::new(config.sampling, limits.undecided_bytes),
            routes: Routes::wanted(&config.routes, config.sampling.judges_routes()),
            threads: Threads::new(limits.threads, limits.processes),
            processes: ProcessTable::new(host, limits.processes).with_rules(config.names.clone()),
            by_position: Index::default(),
            by_declared: Index::default(),
            by_request_id: Index::default(),
            held: Held::default(),
            counts: Counts::default(),
            metrics: config
                .request_metrics
                .map(|kept| RequestMetrics::new(kept.0, kept.1).with_buckets(config.buckets)),
            oldest: VecDeque::new(),
            bytes: 0,
            now: 0,
            window: Window::default(),
            url: String::new(),
            name: String::new(),
            spare_execs: Vec::new(),
            config,
        }
    }

    /// Processes `item`, whose turn is at `key`.
    pub(super) fn process(&mut self, key: u64, item: Item, sinks: &mut Sinks<'_>) {
        self.advance(key, sinks);
        match item {
            Item::Signal(Signal::Started(started)) => self.started(started, sinks),
            Item::Signal(Signal::Finished(finished)) => self.finished(&finished, sinks),
            Item::Signal(Signal::Opened { cookie, endpoints, .. }) => {
                self.ensure_conn(cookie, sinks);
                let peer = endpoints.peer_cookie;
                self.conns.describe(cookie, endpoints);
                if peer != 0 {
                    self.ensure_conn(peer, sinks);
                    if let Some(conn) = self.conns.get_mut(peer) {
                        conn.peer = cookie;
                    }
                }
            }
            Item::Signal(Signal::Shed { at, process }) => self.threads.doubt.shed(process, at),
            Item::Signal(Signal::Gone { at, cookie }) => self.gone(at, cookie, sinks),
            Item::Fork(fork) => self.forked(&fork),
            Item::Exec(exec) => self.execed(exec, sinks),
            Item::Exit(exit) => self.exited(&exit),
        }
    }

    /// The time is `now`: gives out what waited until before it.
    pub(super) fn advance(&mut self, now: u64, sinks: &mut Sinks<'_>) {
        self.now = self.now.max(now);
        while let Some(held) = self.held.pop_before(self.now) {
            self.release_held(held, sinks);
        }
        self.decide_overdue(self.now, sinks);
    }

    fn decide_overdue(&mut self, now: u64, sinks: &mut Sinks<'_>) {
        let mut spans = Spans::default();
        self.sampler.advance(&mut self.trees, now, &mut spans, sinks.out);
        self.counts.left(spans);
    }

    /// Ends and gives out everything: nothing follows.
    pub(super) fn finish(&mut self, sinks: &mut Sinks<'_>) {
        for (slot, span) in std::mem::take(&mut self.oldest) {
            let open = self.requests.get(slot).filter(|request| request.started.span == span);
            if open.is_some_and(Request::is_open) {
                self.counts.open_at_end += 1;
                self.end(slot, &unobserved(self.now), sinks);
            }
        }
        while let Some(held) = self.held.pop_any() {
            self.release_held(held, sinks);
        }
        self.decide_overdue(u64::MAX, sinks);
    }

    /// Requests that are being answered, by service.
    pub(super) fn in_flight(&mut self) -> BTreeMap<String, u64> {
        let mut services = BTreeMap::new();
        for (slot, span) in &self.oldest {
            let open = self.requests.get(*slot).filter(|request| {
                request.started.span == *span && request.is_open() && request.role == Role::Server
            });
            let Some(request) = open else { continue };
            let (process, at_ns) = request.started.owner();
            let resource = self.processes.resource(process, at_ns);
            *services.entry(resource.service.clone()).or_insert(0) += 1;
        }
        services
    }

    fn ensure_conn(&mut self, cookie: u64, sinks: &mut Sinks<'_>) {
        for slot in self.conns.ensure(cookie) {
            self.abandon(slot, sinks);
        }
    }

    fn started(&mut self, started: Box<Started>, sinks: &mut Sinks<'_>) {
        self.counts.started += 1;
        let Some(role) = started.role else {
            self.counts.without_role += 1;
            return (sinks.recycle)(started);
        };
        let cookie = started.cookie;
        self.ensure_conn(cookie, sinks);
        let room = self.conns.get(cookie).map_or(0, |conn| conn.requests.len());
        if room >= self.config.limits.requests_per_connection {
            self.counts.too_many_on_connection += 1;
            return (sinks.recycle)(started);
        }
        let bytes = size_of::<Started>() + started.head.text.capacity();
        self.make_room(bytes, sinks);
        let span = started.span;
        let mut request = Request::new(started, role, bytes);
        request.declared = self.declared(&request.started);
        let slot = self.requests.insert(request);
        self.bytes += bytes;
        self.oldest.push_back((slot, span));
        if let Some(conn) = self.conns.get_mut(cookie) {
            conn.requests.push(slot);
        }
        match role {
            Role::Client => self.attach_client(slot),
            Role::Server => self.attach_server(slot),
        }
        self.join(slot);
    }

    /// A server request: its thread works for it from now on, and clients of its process may name
    /// it. Its own parent is what its header names, unless its peer turns up.
    fn attach_server(&mut self, slot: u32) {
        let Some(request) = self.requests.get(slot) else { return };
        let conn = self.conns.get(request.started.cookie);
        let wait = self.config.linker.connections
            && conn.is_some_and(|conn| self.conns.peer_is_here(conn));
        let hold_until = if wait { self.now.saturating_add(self.config.hold_ns) } else { 0 };
        let (thread, cookie, at) =
            (request.started.thread, request.started.cookie, request.started.start_ns);
        let (_, taken) = request.started.owner();
        self.plant(slot, hold_until);
        let shared = self.conns.get_mut(cookie).is_some_and(|conn| conn.is_shared_by(thread.tid));
        let suspicion = match thread.context != 0 || self.threads.knows(&thread) {
            true => Suspicion::None,
            false => self.suspicion(&thread, taken),
        };
        let reading = Reading { thread, cookie, shared, at, suspicion };
        self.threads.begin(&reading, slot, &mut self.trees);
        self.index_headers(slot);
    }

    /// What the program's runtime says of `thread`.
    fn suspicion(&mut self, thread: &Thread, at: u64) -> Suspicion {
        let resource = self.processes.resource(thread.process, at);
        let language = resource.attributes.iter().find_map(|(key, value)| match value {
            ResourceValue::Str(text) if key == "telemetry.sdk.language" => Some(text.as_str()),
            _ => None,
        });
        Suspicion::of(language, thread)
    }

    fn finished(&mut self, finished: &Finished, sinks: &mut Sinks<'_>) {
        let slots = self.conns.get(finished.cookie).map(|conn| conn.requests.as_slice());
        let slot = slots.unwrap_or_default().iter().copied().find(|slot| {
            self.requests
                .get(*slot)
                .is_some_and(|request| request.started.span == finished.span && request.is_open())
        });
        match slot {
            Some(slot) => self.end(slot, finished, sinks),
            None => self.counts.ends_without_start += 1,
        }
    }

    /// The request in `slot` ended; gives it out unless its tree may still move.
    fn end(&mut self, slot: u32, finished: &Finished, sinks: &mut Sinks<'_>) {
        let Some(request) = self.requests.get_mut(slot) else { return };
        request.finished = Some(*finished);
        let (role, span, tree) = (request.role, request.started.span, request.tree);
        let thread = request.started.thread;
        if self.sampler.keeps(Why::ERROR) && failed(role, finished) {
            self.trees.mark(tree, Why::ERROR);
        }
        match role {
            Role::Server => {
                self.threads.end(&thread, slot, &self.requests);
                self.unindex_headers(slot);
            }
            Role::Client => self.pass_end_down(slot),
        }
        let until = self.trees.hold_until(tree);
        if until >= self.now && until != 0 {
            self.held.push_request(until, slot, span);
        } else {
            self.give_out(slot, sinks);
        }
    }

    fn gone(&mut self, at: u64, cookie: u64, sinks: &mut Sinks<'_>) {
        let Some(conn) = self.conns.get(cookie) else { return };
        for slot in conn.requests.clone() {
            if self.requests.get(slot).is_some_and(Request::is_open) {
                self.counts.ends_lost += 1;
                self.end(slot, &unobserved(at), sinks);
            }
        }
        self.conns.gone(cookie);
    }

    /// Makes the oldest requests leave until one of `bytes` fits.
    fn make_room(&mut self, bytes: usize, sinks: &mut Sinks<'_>) {
        let limits = self.config.limits;
        while self.requests.len() >= limits.open_requests.max(1)
            || (self.bytes + bytes > limits.held_bytes && self.requests.len() > 0)
        {
            let Some((slot, span)) = self.oldest.pop_front() else { break };
            if self.requests.get(slot).is_some_and(|request| request.started.span == span) {
                self.abandon(slot, sinks);
            }
        }
        if self.oldest.len() > 2 * self.requests.len() + 1024 {
            let requests = &self.requests;
            self.oldest.retain(|(slot, span)| {
                requests.get(*slot).is_some_and(|request| request.started.span == *span)
            });
        }
    }

    /// Gives a request out before its time.
    fn abandon(&mut self, slot: u32, sinks: &mut Sinks<'_>) {
        let Some(request) = self.requests.get(slot) else { return };
        self.counts.requests_evicted += 1;
        if request.is_open() {
            self.end(slot, &unobserved(self.now), sinks);
        }
        // `end` may have given it out already, or put it on hold; both leave nothing to do twice.
        self.give_out(slot, sinks);
    }

    fn forked(&mut self, fork: &Fork) {
        let header = &fork.header;
        let parent = ProcessKey { tgid: header.tgid, start_ns: header.start_ns };
        let child = ProcessKey { tgid: fork.child_tgid, start_ns: fork.child_start_ns };
        let is_thread = header.flags & flag::THREAD != 0;
        let made = if is_thread { Child::Thread(fork.child_tid) } else { Child::Process(child) };
        if self.config.linker.threads {
            let mut world =
                World { requests: &self.requests, trees: &mut self.trees, now: header.boot_ns };
            self.threads.fork((parent, header.tid), made, &mut world);
        }
        if !is_thread {
            self.processes.fork(parent, child, header.boot_ns);
        }
    }

    fn exited(&mut self, exit: &Exit) {
        let header = &exit.header;
        let process = ProcessKey { tgid: header.tgid, start_ns: header.start_ns };
        let last = header.flags & flag::LAST_THREAD != 0;
        self.threads.exit(process, header.tid, last, &mut self.trees);
        if last {
            self.processes.exit(process, header.boot_ns);
        }
    }
}

/// The end of a request that nobody saw.
fn unobserved(at: u64) -> Finished {
    Finished { end_ns: at, failure: Some(Failure::Unobserved), ..Finished::default() }
}
