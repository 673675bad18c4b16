//! Who works for which request: threads that serve one, and what they fork.
//!
//! A thread serves a request from when it took the first byte until the response's last send. Two
//! on one thread at a time tell that the thread is no evidence: it is barred until it ends. The
//! end of a request may become known only after the next one began (a response that ends with the
//! connection), so an overlap is judged when the first of the two ends; until then neither counts.
//!
//! What else a thread does tells as well. One that works off one request after the other calls out
//! only while it serves one, waits for each answer, and stays with a connection. So it is barred as
//! an event loop, whose timers may call out beside any request, when it
//! - has served and calls out while it serves nothing, or did so before it served, for longer than
//!   programs fetch their settings at the start ([`STARTUP_NS`]);
//! - calls out again before the first answer is complete;
//! - goes to and fro between connections that no other thread reads (those of a pool of threads are
//!   read by several);
//! - belongs to a runtime that has no other way of working ([`Suspicion`]).
//!
//! What none of these can tell from a blocking thread is the first call of a timer on a loop that has
//! one connection, never showed any of them, and waits for something other than an answer. Where
//! loops are common, on the main thread of Python and Ruby programs, a thread is evidence only after
//! it has served for [`PROBATION_NS`] without showing any.
//!
//! What a request forks and executes is its work until [`OUTLIVES_NS`] after its end. What still
//! runs then, a daemon that it started, works for itself, and so does all that it starts.

mod serving;

use super::bounded::Bounded;
use super::doubt::Doubt;
use super::goroutines::{Goroutines, Key};
use super::request::Request;
use super::settle::Trees;
use super::suspicion::Suspicion;
use crate::event::ProcessKey;
use crate::id::SpanId;
use crate::message::{Failure, Thread};
use crate::slab::Slab;
use hashbrown::HashMap;
use smallvec::SmallVec;

/// More requests than this at a time on one thread overlap for certain.
const MAX_DOUBT: usize = 8;

/// Calls before the first request that lie further apart are no start-up: own work.
const STARTUP_NS: u64 = 1_000_000_000;

/// How long after its end a request is still the cause of what its processes execute: the shell
/// jobs that a handler leaves behind are over, or work for somebody else.
const OUTLIVES_NS: u64 = 60_000_000_000;

/// How long a thread that may be an event loop has to serve before it is evidence: most timers have called out by then.
const PROBATION_NS: u64 = 5_000_000_000;

#[derive(Debug, Default)]
struct State {
    /// Slots of the requests that are open on it.
    open: SmallVec<[u32; 2]>,
    barred: bool,
    /// It served a request once.
    served: bool,
    /// Its first call before that, boot ns; 0 when there was none.
    called_ns: u64,
    /// It went on calling: it has work of its own.
    own_work: bool,
    /// It is evidence from then on, boot ns.
    trusted_ns: u64,
    /// The two connections that it read requests of last.
    connections: [u64; 2],
    /// The latest call that it made since then: slot and span.
    calling: Option<(u32, SpanId)>,
    /// The request in which the thread was created, while that is open.
    inherited: Option<(u32, SpanId)>,
}

impl State {
    /// The thread reads a request of `cookie`: it did before, and of another one since.
    fn returns_to(&mut self, cookie: u64) -> bool {
        let [last, before] = self.connections;
        if cookie == last {
            return false;
        }
        self.connections = [cookie, last];
        cookie == before && cookie != 0
    }
}

/// A thread takes the first byte of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) thread: Thread,
    /// Its connection.
    pub(super) cookie: u64,
    /// Other threads read requests of this connection too.
    pub(super) shared: bool,
    /// When it became readable, boot ns.
    pub(super) at: u64,
    /// Looked at when the thread begins to serve.
    pub(super) suspicion: Suspicion,
}

/// The request that caused something.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cause {
    /// Slot; meaningful only while the request there has `span`.
    request: u32,
    pub(super) span: SpanId,
    pub(super) tree: u32,
}

#[derive(Debug, Default)]
struct Process {
    /// Why it was created. Owns a reference to its tree.
    cause: Option<Cause>,
    /// It runs a program of its own since then.
    execed: bool,
    /// A barred thread of it had to be forgotten: no thread of it is evidence any more.
    barred: bool,
}

/// A request that caused processes.
#[derive(Debug, Default)]
struct Root {
    /// Processes whose cause it is.
    refs: u32,
    /// Boot ns, once it has ended.
    ended_ns: Option<u64>,
}

/// All threads and processes that something is known of.
#[derive(Debug)]
pub(super) struct Threads {
    states: Bounded<Key, State>,
    goroutines: Goroutines,
    processes: Bounded<ProcessKey, Process>,
    /// Requests that processes have as their cause.
    roots: HashMap<SpanId, Root>,
    pub(super) evicted: u64,
    pub(super) barred: u64,
    /// Requests that were shed: beside them others are no evidence.
    pub(super) doubt: Doubt,
}

impl Threads {
    pub(super) fn new(threads: usize, processes: usize) -> Self {
        let (states, processes) = (Bounded::new(threads), Bounded::new(processes));
        Threads {
            goroutines: Goroutines::new(threads, processes.limit()),
            states,
            processes,
            roots: HashMap::new(),
            evicted: 0,
            barred: 0,
            doubt: Doubt::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.states.len()
    }

    /// True when `thread` served a request before.
    pub(super) fn knows(&self, thread: &Thread) -> bool {
        let key = self.goroutines.key(thread);
        key.and_then(|key| self.states.get(&key)).is_some_and(|state| state.served)
    }

    /// `reading.thread` took the first byte of the request in slot `request`.
    pub(super) fn begin(&mut self, reading: &Reading, request: u32, trees: &mut Trees) {
        self.goroutines.meet(&reading.thread);
        let Some(key) = self.goroutines.key(&reading.thread) else { return };
        // A process that serves requests of its own works for those, not for the one that
        // created it.
        if let Some(cause) = self.processes.get_mut(&key.process).and_then(|p| p.cause.take()) {
            self.release(cause, trees);
        }
        if self.states.get(&key).is_none() {
            self.insert(key, State::default(), trees);
        }
        let Some(state) = self.states.get_mut(&key) else { return };
        state.inherited = None;
        if !state.served && reading.suspicion == Suspicion::Perhaps {
            state.trusted_ns = reading.at.saturating_add(PROBATION_NS);
        }
        state.served = true;
        if state.barred {
            return;
        }
        state.open.push(request);
        let returns = state.returns_to(reading.cookie) && !reading.shared;
        let certain = reading.suspicion == Suspicion::Certain;
        if state.open.len() > MAX_DOUBT || state.own_work || certain || returns {
            self.barred += 1;
            bar(state);
        }
    }

    /// The request in slot `request` of `thread` ended. Call before its slot is used again.
    pub(super) fn end(&mut self, thread: &Thread, request: u32, requests: &Slab<Request>) {
        if !self.roots.is_empty()
            && let Some(ended) = requests.get(request)
            && let Some(root) = self.roots.get_mut(&ended.started.span)
        {
            root.ended_ns = ended.finished.map(|end| end.end_ns);
        }
        let Some(key) = self.goroutines.key(thread) else { return };
        let Some(state) = self.states.get_mut(&key) else { return };
        let Some(at) = state.open.iter().position(|open| *open == request) else { return };
        state.open.remove(at);
        let finished = requests.get(request).and_then(|request| request.finished);
        let overlaps = |open: &u32| match (finished, requests.get(*open)) {
            (Some(end), Some(open)) => {
                end.failure == Some(Failure::Unobserved) || end.end_ns > open.started.taken_ns
            }
            _ => true,
        };
        if state.open.iter().any(overlaps) {
            self.barred += 1;
            bar(state);
        }
        // Goroutines are not seen to end.
        if key.goroutine != 0 && state.open.is_empty() && !state.barred {
            self.states.remove(&key);
        }
    }

    /// The client request in slot `slot` began: what its thread shows of itself by that.
    pub(super) fn calls(&mut self, slot: u32, requests: &Slab<Request>, trees: &mut Trees) {
        let Some(call) = requests.get(slot).map(|request| &request.started) else { return };
        self.goroutines.meet(&call.thread);
        let Some(key) = self.goroutines.key(&call.thread) else { return };
        let doubted_until = self.doubt.until(&key.process);
        let Some(state) = self.states.get_mut(&key) else {
            // Goroutines are not seen to end: those that only call are not kept.
            if key.goroutine == 0 {
                let called_ns = call.start_ns;
                self.insert(key, State { called_ns, ..State::default() }, trees);
            }
            return;
        };
        // A goroutine waits for as many answers as it likes, and ends when it likes.
        if state.barred || key.goroutine != 0 {
            return;
        }
        if !state.served {
            if state.called_ns == 0 {
                state.called_ns = call.start_ns;
            }
            state.own_work |= call.start_ns.saturating_sub(state.called_ns) >= STARTUP_NS;
            return;
        }
        if call.start_ns <= doubted_until {
            // It may be made for a request that was shed.
            return;
        }
        let unanswered = state.calling.and_then(|(slot, span)| {
            requests.get(slot).filter(|earlier| earlier.started.span == span && earlier.is_open())
        });
        // Several on one connection are pipelined: one piece of work may do that.
        let beside = unanswered.is_some_and(|earlier| earlier.started.cookie != call.cookie);
        if beside || state.open.is_empty() {
            self.barred += 1;
            bar(state);
            return;
        }
        state.calling = Some((slot, call.span));
    }

    fn is_doubted(&self, slot: u32, requests: &Slab<Request>) -> bool {
        requests.get(slot).is_some_and(|request| {
            let started = &request.started;
            started.start_ns <= self.doubt.until(&started.thread.process)
        })
    }

    /// A thread forked: what it works for, its child works for.
    pub(super) fn fork(&mut self, parent: (ProcessKey, u32), child: Child, world: &mut World<'_>) {
        let cause = self.cause(parent.0, parent.1, world);
        match child {
            Child::Thread(tid) => {
                let key = Key::task(parent.0, tid);
                self.states.remove(&key);
                let open = cause.filter(|cause| cause.is_open(world.requests));
                if let Some(cause) = open {
                    let inherited = Some((cause.request, cause.span));
                    self.insert(key, State { inherited, ..State::default() }, world.trees);
                }
            }
            Child::Process(child) => {
                let Some(cause) = cause else { return };
                // A forked worker that never ran a program of its own may outlive the request in
                // which it was created and work for others.
                let own = self.processes.get(&parent.0).is_some_and(|process| process.execed);
                if own || cause.is_open(world.requests) {
                    self.remember(child, cause, false, world.trees);
                }
            }
        }
    }

    /// `process` runs a new program, started by its thread `tid`. Returns why; the caller owns a
    /// reference to the tree.
    pub(super) fn exec(
        &mut self,
        process: ProcessKey,
        tid: u32,
        world: &mut World<'_>,
    ) -> Option<Cause> {
        let cause = self.cause(process, tid, world);
        // Only one thread survives, as the leader, and its program is another.
        self.states.remove(&Key::task(process, tid));
        self.states.remove(&Key::task(process, process.tgid));
        let cause = cause.map(|cause| Cause { tree: world.trees.acquire(cause.tree), ..cause });
        match cause {
            // In place of its older entry: the cause's end must not be forgotten in between.
            Some(cause) => self.remember(process, cause, true, world.trees),
            None => self.forget(process, world.trees),
        }
        cause
    }

    /// A thread ended; with `last`, its process.
    pub(super) fn exit(&mut self, process: ProcessKey, tid: u32, last: bool, trees: &mut Trees) {
        self.states.remove(&Key::task(process, tid));
        if last {
            self.forget(process, trees);
            self.goroutines.ended(&process);
        }
    }

    /// What thread `tid` works for: its own request, else the one in which it was created, else
    /// the one in which its process was created.
    fn cause(&self, process: ProcessKey, tid: u32, world: &World<'_>) -> Option<Cause> {
        let requests = world.requests;
        let entry = self.processes.get(&process);
        if let Some(state) = self.states.get(&Key::task(process, tid)) {
            let doubtful = world.now < state.trusted_ns && !state.open.is_empty();
            if state.barred || doubtful || entry.is_some_and(|process| process.barred) {
                return None;
            }
            match (state.open.as_slice(), state.inherited) {
                (&[one], _) if !self.is_doubted(one, requests) => {
                    return Cause::of(one, None, requests);
                }
                (&[], Some((request, span))) if !self.is_doubted(request, requests) => {
                    if let Some(cause) = Cause::of(request, Some(span), requests)
                        && cause.is_open(requests)
                    {
                        return Some(cause);
                    }
                }
                (&[], None) => {}
                _ => return None,
            }
        }
        let cause = entry.and_then(|process| process.cause)?;
        let ended = self.roots.get(&cause.span).and_then(|root| root.ended_ns);
        let over = ended.is_some_and(|ended| world.now.saturating_sub(ended) > OUTLIVES_NS);
        (!over).then_some(cause)
    }

    fn remember(&mut self, process: ProcessKey, cause: Cause, execed: bool, trees: &mut Trees) {
        let cause = Cause { tree: trees.acquire(cause.tree), ..cause };
        self.roots.entry(cause.span).or_default().refs += 1;
        let entry = Process { cause: Some(cause), execed, barred: false };
        let (replaced, evicted) = self.processes.insert(process, entry);
        self.evicted += u64::from(evicted.is_some());
        for process in replaced.into_iter().chain(evicted.map(|(_, process)| process)) {
            if let Some(cause) = process.cause {
                self.release(cause, trees);
            }
        }
    }

    fn forget(&mut self, process: ProcessKey, trees: &mut Trees) {
        if let Some(cause) = self.processes.remove(&process).and_then(|process| process.cause) {
            self.release(cause, trees);
        }
    }

    /// A process has its cause no more.
    fn release(&mut self, cause: Cause, trees: &mut Trees) {
        trees.release(cause.tree);
        if let Some(root) = self.roots.get_mut(&cause.span) {
            root.refs -= 1;
            if root.refs == 0 {
                self.roots.remove(&cause.span);
            }
        }
    }

    fn insert(&mut self, key: Key, state: State, trees: &mut Trees) {
        let (_, evicted) = self.states.insert(key, state);
        let Some((key, state)) = evicted else { return };
        self.evicted += 1;
        // What overlapped must not become evidence by being forgotten.
        if state.barred || state.open.len() > 1 {
            self.forget(key.process, trees);
            self.processes.insert(key.process, Process { barred: true, ..Process::default() });
        }
    }
}

/// What a fork made.
#[derive(Clone, Copy, Debug)]
pub(super) enum Child {
    Thread(u32),
    Process(ProcessKey),
}

/// What threads look at and hold on to.
pub(super) struct World<'a> {
    pub(super) requests: &'a Slab<Request>,
    pub(super) trees: &'a mut Trees,
    /// Boot ns of the event.
    pub(super) now: u64,
}

impl Cause {
    fn of(slot: u32, span: Option<SpanId>, requests: &Slab<Request>) -> Option<Cause> {
        let request = requests.get(slot)?;
        let own = request.started.span;
        let same = span.is_none_or(|span| span == own);
        same.then_some(Cause { request: slot, span: own, tree: request.tree })
    }

    fn is_open(&self, requests: &Slab<Request>) -> bool {
        let request = requests.get(self.request);
        request.is_some_and(|request| request.started.span == self.span && request.is_open())
    }
}

fn bar(state: &mut State) {
    state.barred = true;
    state.open = SmallVec::new();
}
