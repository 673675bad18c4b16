//! Records to spans on one core: `cargo xtask bench core`.
//!
//! The stream is that of nginx and its client on one host, 64 kept connections, seen from both
//! ends: four records and two spans a request, 20,000 requests a second of record time. It is made
//! beforehand; measured is what the agent does with it: decode, connections, HTTP, traces, OTLP.

use agent_core::connection::{Shard, ShardConfig, ShardOutput};
use agent_core::event::{ProcessKey, decode};
use agent_core::histogram::Buckets;
use agent_core::message::{Signal, Started};
use agent_core::metric::Temporality;
use agent_core::otlp::Batch;
use agent_core::process::{HostFacts, ProcessFacts};
use agent_core::request::RequestLimits;
use agent_core::route::RouteConfig;
use agent_core::span::{LogRecord, Output, Span};
use agent_core::testing::{Socket, Tape};
use agent_core::trace::{Assembler, AssemblerConfig, Rules, Sampling, Slow};
use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicU64, Ordering};

const CONNECTIONS: u64 = 64;
/// Requests on each connection in one pass.
const ROUNDS: usize = 500;
const PASSES: usize = 15;
/// Record time from one record to the next, ns: four of them are 50 µs.
const STEP_NS: u64 = 12_500;
/// Records between two looks at the ring: 5 ms of record time.
const TICK: usize = 400;
/// Looks between two flushes: 50 ms of record time.
const FLUSH: usize = 10;
/// A batch this large is flushed at once, as in the agent.
const FLUSH_BYTES: usize = 512 * 1024;
/// Part of a pass after which tables and buffers have their size.
const WARM: usize = 4;

/// The agent's allocator, counted.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes on to mimalloc unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as above.
        unsafe { mimalloc::MiMalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { mimalloc::MiMalloc.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: as above.
        unsafe { mimalloc::MiMalloc.realloc(at, layout, size) }
    }
}

fn note(size: usize) {
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    BYTES.fetch_add(size as u64, Ordering::Relaxed);
}

/// How far the records go.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Depth {
    Connections,
    Traces,
    Otlp,
}

fn main() {
    let tape = record();
    let records = tape.slots.len() as f64;
    let bytes: usize = tape.slots.iter().map(|slot| slot.bytes().len()).sum();
    println!("{records} records of {} bytes on average, a pass", bytes / tape.slots.len());
    let mut whole = 0.0;
    for (what, depth) in [
        ("decode, connections, HTTP", Depth::Connections),
        ("... and traces", Depth::Traces),
        ("... and OTLP", Depth::Otlp),
    ] {
        let usual = AssemblerConfig::default;
        let mut passes: Vec<Pass> = (0..PASSES).map(|_| pass(&tape, depth, usual())).collect();
        passes.sort_by_key(|pass| pass.cpu_ns);
        let median = &passes[PASSES / 2];
        whole = median.cpu_ns as f64 / records;
        let steady = records * (WARM - 1) as f64 / WARM as f64;
        println!(
            "{what:<26} {whole:6.0} ns/record (best {:.0}), {:.4} allocations and {:.1} bytes \
             allocated per record, {} spans, {} bytes out",
            passes[0].cpu_ns as f64 / records,
            median.allocations as f64 / steady,
            median.bytes as f64 / steady,
            median.spans,
            median.out
        );
        assert_eq!(median.spans, expected(depth), "every request is seen from both ends");
    }
    println!(
        "{:.2} M records/s on one core, {whole:.0} ns per record, {:.0} ns per request",
        1e3 / whole,
        4.0 * whole
    );
    options(&tape, records);
}

/// What options cost: passes in turn with the same without, so that what the machine does beside hits both.
fn options(tape: &Tape, records: f64) {
    let usual = AssemblerConfig::default;
    let counted = || AssemblerConfig {
        request_metrics: Some((RequestLimits::default(), Temporality::Cumulative)),
        ..usual()
    };
    let rules = Rules { errors: true, slow: Some(Slow::Usual), events: true, floor: 10 };
    let few = |rules| Sampling { ratio: 0.01, rules, ..Sampling::default() };
    let routes = RouteConfig { learn: true, ..RouteConfig::default() };
    for (what, with, without) in [
        ("request metrics", counted(), usual()),
        (
            "... exponential",
            AssemblerConfig { buckets: Buckets::Exponential, ..counted() },
            usual(),
        ),
        ("learnt routes", AssemblerConfig { routes: routes.clone(), ..usual() }, usual()),
        (
            "1 % of all traces",
            AssemblerConfig { sampling: few(Rules::default()), ..usual() },
            usual(),
        ),
        ("... with all rules", AssemblerConfig { sampling: few(rules), ..usual() }, usual()),
    ] {
        let mut each = [Vec::new(), Vec::new()];
        for _ in 0..PASSES {
            for (config, times) in [&with, &without].into_iter().zip(&mut each) {
                times.push(pass(tape, Depth::Otlp, config.clone()).cpu_ns);
            }
        }
        let [with, without] = each.map(|mut times| {
            times.sort_unstable();
            times[PASSES / 2] as f64 / records
        });
        println!(
            "{what:<26} {with:6.0} ns/record, {without:.0} without: {:+.1} ns a record, {:+.0} a request",
            with - without,
            4.0 * (with - without)
        );
    }
}

fn expected(depth: Depth) -> u64 {
    if depth == Depth::Connections { 0 } else { 2 * CONNECTIONS * ROUNDS as u64 }
}

/// What the kernel side would write.
fn record() -> Tape {
    let request = b"GET /static/index.html HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\
                    User-Agent: bench/1.0\r\nAccept: */*\r\n\r\n";
    let response = format!(
        "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sat, 21 Nov 2026 12:00:00 GMT\r\n\
         Content-Type: text/html\r\nContent-Length: 201\r\n\
         Last-Modified: Sat, 21 Nov 2026 11:00:00 GMT\r\nConnection: keep-alive\r\n\
         ETag: \"6560a1b2-c9\"\r\nAccept-Ranges: bytes\r\n\r\n{}",
        "x".repeat(201)
    );
    let mut tape = Tape::default();
    tape.step = STEP_NS;
    let mut pairs: Vec<(Socket, Socket)> = (0..CONNECTIONS).map(pair).collect();
    for (client, server) in &pairs {
        client.open(&mut tape);
        server.open(&mut tape);
    }
    for _ in 0..ROUNDS {
        for (client, server) in &mut pairs {
            client.send(&mut tape, request);
            server.receive(&mut tape, request);
            server.send(&mut tape, response.as_bytes());
            client.receive(&mut tape, response.as_bytes());
        }
    }
    tape
}

/// Both ends of one connection.
fn pair(number: u64) -> (Socket, Socket) {
    let (mut client, mut server) =
        (Socket::tcp(2 * number + 1, false), Socket::tcp(2 * number + 2, true));
    let port = 40_000 + number as u16;
    client.connection.local_port = port;
    server.connection.remote_port = port;
    let (sent, received) = (number << 24, (number << 24) + 77);
    client.positions = [sent, received];
    server.positions = [received, sent];
    client.process = CLIENT;
    server.process = SERVER;
    (client, server)
}

const CLIENT: ProcessKey = ProcessKey { tgid: 100, start_ns: 5 };
const SERVER: ProcessKey = ProcessKey { tgid: 200, start_ns: 6 };

struct Pass {
    cpu_ns: u64,
    allocations: u64,
    bytes: u64,
    spans: u64,
    out: u64,
}

#[derive(Default)]
struct Collected {
    signals: Vec<Signal>,
    #[expect(clippy::vec_box, reason = "the stages pass the boxes on")]
    spare: Vec<Box<Started>>,
}

impl ShardOutput for Collected {
    fn signal(&mut self, signal: Signal) {
        self.signals.push(signal);
    }

    fn verdict(&mut self, _cookie: u64, _verdict: u32) {}

    fn reuse(&mut self) -> Option<Box<Started>> {
        self.spare.pop()
    }
}

struct Sink {
    spans: u64,
    out: u64,
    batch: Option<Batch>,
}

impl Sink {
    fn flush(&mut self) {
        let Some(batch) = &mut self.batch else { return };
        let mut sent = None;
        batch.flush(|request| {
            self.out += request.body.len() as u64;
            sent = Some(request.body);
        });
        if let Some(body) = sent {
            batch.reuse(body);
        }
    }
}

impl Output for Sink {
    fn span(&mut self, span: &Span<'_>) {
        self.spans += 1;
        if let Some(batch) = &mut self.batch {
            batch.span(span);
            if batch.bytes() >= FLUSH_BYTES {
                self.flush();
            }
        }
    }

    fn log(&mut self, _: &LogRecord<'_>) {}
}

/// The whole stream once, with stages of its own.
fn pass(tape: &Tape, depth: Depth, config: AssemblerConfig) -> Pass {
    let mut shard = Shard::new(ShardConfig::default());
    let mut found = Collected::default();
    let mut assembler = Assembler::new(config, HostFacts::default());
    for (key, executable) in [(CLIENT, "/usr/bin/wrk"), (SERVER, "/usr/sbin/nginx")] {
        let executable = executable.to_owned();
        assembler.facts(ProcessFacts { key, executable, ..ProcessFacts::default() });
    }
    assembler.clock(0, 1_700_000_000_000_000_000);
    let batch = (depth == Depth::Otlp).then(|| Batch::new("bench"));
    let mut sink = Sink { spans: 0, out: 0, batch };
    let mut warm = (0, 0);
    let began = on_cpu_ns();
    for (round, slots) in tape.slots.chunks(TICK).enumerate() {
        if round == tape.slots.len() / TICK / WARM {
            warm = allocated();
        }
        let mut now = 0;
        for slot in slots {
            if let Ok(event) = decode(slot.bytes()) {
                now = event.header().boot_ns;
                shard.ingest(&event, &mut found);
            }
        }
        shard.idle(now, &mut found);
        let Collected { signals, spare } = &mut found;
        for signal in signals.drain(..) {
            match signal {
                Signal::Started(started) if depth == Depth::Connections => spare.push(started),
                _ if depth == Depth::Connections => {}
                signal => assembler.signal(1, signal),
            }
        }
        for ring in 0..2 {
            assembler.tick(ring, now, &mut sink, &mut |used| spare.push(used));
        }
        if round % FLUSH == FLUSH - 1 {
            sink.flush();
        }
    }
    let after = allocated();
    assembler.finish(&mut sink, &mut |used| found.spare.push(used));
    sink.flush();
    Pass {
        cpu_ns: on_cpu_ns() - began,
        allocations: after.0 - warm.0,
        bytes: after.1 - warm.1,
        spans: sink.spans,
        out: sink.out,
    }
}

fn allocated() -> (u64, u64) {
    (ALLOCATIONS.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed))
}

/// CPU time of this process (Linux, proc(5): `/proc/PID/schedstat`): other load does not count.
fn on_cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0)
}
