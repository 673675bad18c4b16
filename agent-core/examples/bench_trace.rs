//! Cost of the assembler per request end: `cargo run --release --example bench_trace -p agent-core`.
//!
//! Client → server → server over kept connections on one host, all joined and linked by thread,
//! boxes recycled. The time includes filling the boxes, as a shard does.

use agent_core::event::ProcessKey;
use agent_core::id::IdKey;
use agent_core::message::{Endpoints, Finished, Name, Role, Signal, Started, Thread};
use agent_core::process::HostFacts;
use agent_core::span::{LogRecord, Output, Span};
use agent_core::trace::{Assembler, AssemblerConfig};

/// Worker pairs that work at the same time.
const LANES: u64 = 32;
const ROUNDS: u64 = 20_000;

#[derive(Default)]
struct Count {
    spans: u64,
    linked: u64,
    attributes: u64,
}

impl Output for Count {
    fn span(&mut self, span: &Span<'_>) {
        self.spans += 1;
        self.linked += u64::from(span.parent.is_some());
        self.attributes += span.attributes.len() as u64;
    }

    fn log(&mut self, _: &LogRecord<'_>) {}
}

fn main() {
    let mut assembler = Assembler::new(AssemblerConfig::default(), HostFacts::default());
    let mut spare: Vec<Box<Started>> = Vec::new();
    let mut out = Count::default();
    open(&mut assembler);
    let begin = on_cpu_ns();
    for round in 0..ROUNDS {
        let at = 1_000_000 + round * 1_000_000;
        feed(&mut assembler, &mut spare, round, at);
        for ring in 0..2 {
            assembler.tick(ring, at, &mut out, &mut |used| spare.push(used));
        }
    }
    assembler.finish(&mut out, &mut |used| spare.push(used));
    let each = (on_cpu_ns() - begin) / out.spans.max(1);
    let Count { spans, linked, attributes } = out;
    println!("{spans} spans, {linked} linked, {attributes} attributes: {each} ns of CPU each");
    println!("{} boxes for {} requests at a time", spare.len(), LANES * 4);
}

/// CPU time of this process (Linux, proc(5): `/proc/PID/schedstat`): other load does not count.
fn on_cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0)
}

/// Front and back connection of each lane.
fn open(assembler: &mut Assembler) {
    let mut address = [0; 16];
    address[10..].copy_from_slice(&[0xff, 0xff, 127, 0, 0, 1]);
    for conversation in 0..2 * LANES {
        let port = 30_000 + conversation as u16;
        let near = Endpoints {
            family: 2,
            local_addr: address,
            remote_addr: address,
            local_port: port,
            remote_port: 80,
            netns: 1,
            ..Endpoints::default()
        };
        let far = Endpoints { local_port: 80, remote_port: port, ..near.clone() };
        for (cookie, ends) in [(2 * conversation, near), (2 * conversation + 1, far)] {
            let endpoints = Box::new(ends);
            assembler.signal(1, Signal::Opened { at: 0, cookie: cookie + 1, endpoints });
        }
    }
}

#[expect(clippy::vec_box, reason = "the boxes themselves are what is used again")]
fn feed(assembler: &mut Assembler, spare: &mut Vec<Box<Started>>, round: u64, at: u64) {
    let steps = [(0, 0), (1, 10), (2, 100), (3, 110)];
    for (end, delay) in steps {
        for lane in 0..LANES {
            let mut started = spare.pop().unwrap_or_default();
            fill(&mut started, lane, end, round, at + delay * 1000 + lane);
            assembler.signal(1, Signal::Started(started));
        }
    }
    for (end, delay) in [(3, 200), (2, 210), (1, 300), (0, 310)] {
        for lane in 0..LANES {
            let cookie = cookie(lane, end);
            let span = span(lane, end, round);
            let end_ns = at + delay * 1000 + lane;
            let first_byte_ns = Some(end_ns);
            let finished = Finished {
                span,
                cookie,
                end_ns,
                first_byte_ns,
                status: Some(200),
                request_body: Some(0),
                response_body: Some(1234),
                failure: None,
            };
            assembler.signal(1, Signal::Finished(finished));
        }
    }
}

fn cookie(lane: u64, end: u64) -> u64 {
    4 * lane + end + 1
}

fn span(lane: u64, end: u64, round: u64) -> agent_core::id::SpanId {
    IdKey::default().span(cookie(lane, end), 0, round, 0)
}

fn fill(started: &mut Started, lane: u64, end: u64, round: u64, at: u64) {
    started.head.clear();
    let texts: [(Name, &str); 5] = [
        (Name::Method, "GET"),
        (Name::Path, "/api/cart/items"),
        (Name::Query, "user=17&page=2"),
        (Name::Host, "shop.example:8080"),
        (Name::UserAgent, "python-requests/2.32"),
    ];
    for (name, text) in texts {
        started.head.set(name, text.as_bytes());
    }
    let tgid = [1, 2, 2, 3].get(end as usize).copied().unwrap_or(0);
    let process = ProcessKey { tgid, start_ns: 0 };
    started.span = span(lane, end, round);
    started.cookie = cookie(lane, end);
    started.role = Some(if end.is_multiple_of(2) { Role::Client } else { Role::Server });
    started.position = (lane << 20) + round * 300;
    started.opposite = (lane << 20) + round * 900;
    started.start_ns = at;
    started.taken_ns = at + 1000;
    started.thread = Thread { process, tid: lane as u32 + 1, context: 0 };
    started.version = 1;
    started.true_start = true;
}
