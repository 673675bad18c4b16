//! A small language for scenarios: who calls whom, when, on which thread.

use crate::event::{Event, ProcessKey};
use crate::id::{IdKey, SpanId, TraceId};
use crate::message::{Endpoints, Failure, Finished, Head, Name, Role, Signal, Started, Thread};
use crate::process::{HostFacts, ProcessFacts};
use crate::span::{Kind, LogRecord, Output, Span, Value};
use crate::trace::{Assembler, AssemblerConfig, Window};
use agent_common::record::{Exec, Exit, FILENAME_LEN, Fork, Header, flag};
use std::collections::BTreeMap;

pub(super) const KEY: IdKey = IdKey([42; 16]);
/// One microsecond: the unit of all times in scripts.
pub(super) const US: u64 = 1000;

pub(super) fn process(tgid: u32) -> ProcessKey {
    ProcessKey { tgid, start_ns: u64::from(tgid) }
}

pub(super) fn thread(tgid: u32, tid: u32) -> Thread {
    Thread { process: process(tgid), tid, context: 0 }
}

/// Something that a ring delivers.
#[derive(Clone, Debug)]
pub(super) enum What {
    Opened(u64, Endpoints),
    Started(Started),
    Finished(Finished),
    Gone(u64),
    Fork(Fork),
    Exec(Box<Exec>, Vec<u8>),
    Exit(Exit),
}

/// `what`, written to `ring` at `at` ns.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) ring: usize,
    pub(super) at: u64,
    pub(super) what: What,
}

/// The two sockets of a conversation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) client: u64,
    pub(super) server: u64,
    position: u64,
    opposite: u64,
}

/// Both spans of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) client: SpanId,
    pub(super) server: SpanId,
    link: Link,
}

/// One end of a request, to be changed before it is sent.
pub(super) fn started(role: Role, link: &Link, at: u64, thread: Thread) -> Started {
    let mut head = Head::default();
    for (name, text) in
        [(Name::Method, "GET"), (Name::Path, "/x"), (Name::Host, "shop.example:8080")]
    {
        head.set(name, text.as_bytes());
    }
    let cookie = if role == Role::Client { link.client } else { link.server };
    Started {
        span: KEY.span(cookie, role as u8, link.position, 0),
        cookie,
        role: Some(role),
        position: link.position,
        opposite: link.opposite,
        start_ns: at,
        taken_ns: at + 2 * US,
        thread,
        published: None,
        version: 1,
        true_start: true,
        head,
    }
}

/// What happens, in any order; sorted by time when it runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Script {
    pub(super) steps: Vec<Step>,
    links: u64,
}

impl Script {
    pub(super) fn step(&mut self, ring: usize, at: u64, what: What) {
        self.steps.push(Step { ring, at, what });
    }

    /// A TCP conversation over loopback.
    pub(super) fn tcp(&mut self) -> Link {
        let link = self.link();
        let mut address = [0; 16];
        address[10..].copy_from_slice(&[0xff, 0xff, 127, 0, 0, 1]);
        let port = 30_000 + self.links as u16;
        let near = Endpoints {
            family: 2,
            local_addr: address,
            remote_addr: address,
            local_port: port,
            remote_port: 8080,
            netns: 1,
            ..Endpoints::default()
        };
        let far = Endpoints { local_port: 8080, remote_port: port, ..near.clone() };
        self.step(1, 0, What::Opened(link.client, near));
        self.step(1, 0, What::Opened(link.server, far));
        link
    }

    /// A unix conversation; only the client's end names its peer.
    pub(super) fn unix(&mut self) -> Link {
        let link = self.link();
        let path = b"/run/app.sock".to_vec();
        let near = Endpoints {
            family: 1,
            path: path.into(),
            peer_cookie: link.server,
            ..Endpoints::default()
        };
        let far = Endpoints { peer_cookie: 0, ..near.clone() };
        self.step(1, 0, What::Opened(link.client, near));
        self.step(1, 0, What::Opened(link.server, far));
        link
    }

    /// A conversation of which no end was described.
    pub(super) fn link(&mut self) -> Link {
        self.links += 1;
        let cookie = 10 * self.links;
        let isn = 7_000_000 * self.links;
        Link { client: cookie, server: cookie + 1, position: isn, opposite: isn + 1_000_000 }
    }

    /// A request on `link`: sent at `at`, readable 10 µs later.
    pub(super) fn call(&mut self, link: &mut Link, at: u64, from: Thread, to: Thread) -> Call {
        self.call_with(link, at, from, to, &[])
    }

    pub(super) fn call_with(
        &mut self,
        link: &mut Link,
        at: u64,
        from: Thread,
        to: Thread,
        headers: &[(Name, &str)],
    ) -> Call {
        let mut client = started(Role::Client, link, at * US, from);
        let mut server = started(Role::Server, link, (at + 10) * US, to);
        for (name, text) in headers {
            client.head.set(*name, text.as_bytes());
            server.head.set(*name, text.as_bytes());
        }
        let call = Call { client: client.span, server: server.span, link: *link };
        self.send(client);
        self.send(server);
        link.position += 100;
        link.opposite += 1000;
        call
    }

    /// Delivers a start, written when its call returned.
    pub(super) fn send(&mut self, started: Started) {
        self.step(1, started.taken_ns, What::Started(started));
    }

    /// The whole response, sent at `at`, readable 10 µs later.
    pub(super) fn reply(&mut self, call: Call, at: u64) {
        self.server_end(call, at, 200);
        self.client_end(call, at + 10, 200);
    }

    pub(super) fn server_end(&mut self, call: Call, at: u64, status: u16) {
        self.end(call.server, call.link.server, at, Some(status), None);
    }

    pub(super) fn client_end(&mut self, call: Call, at: u64, status: u16) {
        self.end(call.client, call.link.client, at, Some(status), None);
    }

    pub(super) fn end(
        &mut self,
        span: SpanId,
        cookie: u64,
        at: u64,
        status: Option<u16>,
        failure: Option<Failure>,
    ) {
        let finished = Finished {
            span,
            cookie,
            end_ns: at * US,
            first_byte_ns: Some(at * US),
            status,
            request_body: Some(0),
            response_body: Some(5),
            failure,
        };
        self.step(1, at * US + US, What::Finished(finished));
    }

    pub(super) fn gone(&mut self, cookie: u64, at: u64) {
        self.step(1, at * US, What::Gone(cookie));
    }

    pub(super) fn fork(&mut self, at: u64, by: Thread, child: (u32, u32)) {
        let flags = if child.0 == by.process.tgid { flag::THREAD } else { 0 };
        let header = task(at, by, flags);
        let (child_tgid, child_tid) = child;
        let child_start_ns = process(child_tgid).start_ns;
        self.step(0, at * US, What::Fork(Fork { header, child_tgid, child_tid, child_start_ns }));
    }

    pub(super) fn exec(&mut self, at: u64, by: Thread, path: &str, args: &str) {
        let mut filename = [0; FILENAME_LEN];
        filename[..path.len()].copy_from_slice(path.as_bytes());
        let exec = Exec {
            header: task(at, by, 0),
            cgroup: 0,
            parent_tgid: 1,
            uid: 1000,
            euid: 1000,
            gid: 1000,
            old_tid: by.tid,
            pidns: 0,
            parent_start_ns: 1,
            comm: [0; 16],
            filename,
        };
        self.step(0, at * US, What::Exec(Box::new(exec), args.as_bytes().to_vec()));
    }

    pub(super) fn exit(&mut self, at: u64, by: Thread, last: bool) {
        let header = task(at, by, if last { flag::LAST_THREAD } else { 0 });
        self.step(0, at * US, What::Exit(Exit { header, ..Exit::default() }));
    }

    /// Runs it to the end.
    pub(super) fn run(&self) -> Seen {
        self.run_with(AssemblerConfig::default())
    }

    /// Runs it, and leaves the assembler as it is then.
    pub(super) fn play(&self, config: AssemblerConfig) -> Runner {
        self.play_with(config, Window::default())
    }

    /// The same, of which only `window` is reported.
    pub(super) fn play_with(&self, config: AssemblerConfig, window: Window) -> Runner {
        let mut runner = Runner::new(config);
        runner.assembler.reports(window);
        let mut steps = self.steps.clone();
        steps.sort_by_key(|step| step.at);
        for step in steps {
            let at = step.at;
            runner.deliver(step);
            for ring in 0..runner.rings {
                runner.tick(ring, at);
            }
        }
        runner
    }

    pub(super) fn run_with(&self, config: AssemblerConfig) -> Seen {
        self.play(config).finish()
    }
}

fn task(at: u64, by: Thread, flags: u16) -> Header {
    Header {
        boot_ns: at * US,
        tgid: by.process.tgid,
        tid: by.tid,
        start_ns: by.process.start_ns,
        flags,
        ..Header::default()
    }
}

/// An assembler with everything that came out of it.
pub(super) struct Runner {
    pub(super) assembler: Assembler,
    pub(super) seen: Seen,
    pub(super) rings: usize,
}

impl Runner {
    pub(super) fn new(config: AssemblerConfig) -> Self {
        let rings = config.rings;
        let config = AssemblerConfig { id_key: KEY, ..config };
        let mut assembler = Assembler::new(config, HostFacts::default());
        assembler.clock(0, 1_000_000_000_000);
        for tgid in 100..110 {
            assembler.facts(ProcessFacts {
                key: process(tgid),
                executable: format!("/usr/bin/p{tgid}"),
                comm: format!("p{tgid}"),
                ..ProcessFacts::default()
            });
        }
        Runner { assembler, seen: Seen::default(), rings }
    }

    pub(super) fn deliver(&mut self, step: Step) {
        let Step { ring, at, what } = step;
        let signal = match what {
            What::Opened(cookie, ends) => Signal::Opened { at, cookie, endpoints: Box::new(ends) },
            What::Started(started) => Signal::Started(Box::new(started)),
            What::Finished(finished) => Signal::Finished(finished),
            What::Gone(cookie) => Signal::Gone { at, cookie },
            What::Fork(fork) => return self.assembler.process_event(&Event::Fork(&fork)),
            What::Exec(exec, args) => {
                return self.assembler.process_event(&Event::Exec(&exec, &args));
            }
            What::Exit(exit) => return self.assembler.process_event(&Event::Exit(&exit)),
        };
        self.assembler.signal(ring, signal);
    }

    pub(super) fn tick(&mut self, ring: usize, at: u64) {
        let seen = &mut self.seen;
        let mut recycled = 0;
        self.assembler.tick(ring, at, seen, &mut |_| recycled += 1);
        self.seen.recycled += recycled;
    }

    pub(super) fn finish(mut self) -> Seen {
        let mut recycled = 0;
        self.assembler.finish(&mut self.seen, &mut |_| recycled += 1);
        self.seen.recycled += recycled;
        self.seen.ledger = self.assembler.ledger();
        assert_eq!(self.assembler.open_requests(), 0, "everything was given out");
        assert_eq!(self.assembler.held_bytes(), 0, "and its memory given back");
        self.seen
    }
}

/// A span, owned.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
pub(super) struct Owned {
    pub(super) id: SpanId,
    pub(super) trace: TraceId,
    pub(super) parent: Option<SpanId>,
    pub(super) remote: bool,
    pub(super) server: bool,
    pub(super) name: String,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) error: bool,
    pub(super) flags: u8,
    pub(super) state: String,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) service: String,
}

impl Owned {
    pub(super) fn get(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }

    pub(super) fn method(&self) -> &str {
        self.get("kernspan.link.method")
    }
}

/// A log record, owned.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct OwnedLog {
    pub(super) cause: Option<(TraceId, SpanId)>,
    pub(super) flags: u8,
    pub(super) body: String,
    pub(super) attributes: BTreeMap<String, String>,
}

/// Everything that came out.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) spans: Vec<Owned>,
    pub(super) logs: Vec<OwnedLog>,
    pub(super) recycled: usize,
    pub(super) ledger: Vec<crate::ledger::Entry>,
}

impl Seen {
    pub(super) fn span(&self, id: SpanId) -> &Owned {
        let mut found = self.spans.iter().filter(|span| span.id == id);
        let first = found.next().unwrap_or_else(|| panic!("no span {id:?}"));
        assert!(found.next().is_none(), "span {id:?} came out twice");
        first
    }

    pub(super) fn count(&self, label: &str) -> u64 {
        let entries = self.ledger.iter().filter(|entry| entry.side.label() == label);
        entries.map(|entry| entry.count).sum()
    }

    /// Number of spans by how their parent was found.
    pub(super) fn links(&self) -> BTreeMap<&str, usize> {
        let mut links = BTreeMap::new();
        for span in &self.spans {
            *links.entry(span.method()).or_default() += 1;
        }
        links
    }
}

fn owned<'a>(
    attributes: impl IntoIterator<Item = &'a (&'static str, Value<'a>)>,
) -> BTreeMap<String, String> {
    let text = |value: &Value<'_>| match value {
        Value::Str(text) => (*text).to_owned(),
        Value::Int(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::List(list) => list.join(" "),
    };
    let mut map = BTreeMap::new();
    for (key, value) in attributes {
        assert!(map.insert((*key).to_owned(), text(value)).is_none(), "{key} twice");
    }
    map
}

impl Output for Seen {
    fn span(&mut self, span: &Span<'_>) {
        assert!(span.start_unix_ns <= span.end_unix_ns);
        self.spans.push(Owned {
            id: span.id,
            trace: span.trace,
            parent: span.parent,
            remote: span.parent_remote,
            server: span.kind == Kind::Server,
            name: span.name.to_owned(),
            start: span.start_unix_ns - 1_000_000_000_000,
            end: span.end_unix_ns - 1_000_000_000_000,
            error: span.error,
            flags: span.trace_flags,
            state: span.tracestate.to_owned(),
            attributes: owned(span.attributes),
            service: span.resource.service.clone(),
        });
    }

    fn log(&mut self, record: &LogRecord<'_>) {
        self.logs.push(OwnedLog {
            cause: record.cause,
            flags: record.trace_flags,
            body: record.body.to_owned(),
            attributes: owned(record.attributes),
        });
    }
}
