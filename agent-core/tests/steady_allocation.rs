//! A steady stream of requests on kept connections, from the record to the encoded span,
//! allocates nothing per event: what grows, grows once.

mod counting;

use agent_core::connection::{Shard, ShardConfig, ShardOutput};
use agent_core::event::{ProcessKey, decode};
use agent_core::id::IdKey;
use agent_core::message::{Signal, Started};
use agent_core::otlp::Batch;
use agent_core::process::{HostFacts, ProcessFacts};
use agent_core::span::{LogRecord, Output, Span};
use agent_core::testing::{Socket, Tape};
use agent_core::trace::{Assembler, AssemblerConfig};
use counting::ALLOCATIONS;

/// Kept connections.
const CONNECTIONS: u64 = 32;
/// Requests on each of them: a quarter lets tables and buffers grow, the rest is counted.
const ROUNDS: usize = 400;
/// Records between two looks at the ring.
const LOOK: usize = 256;
/// Looks between two flushes.
const FLUSH: usize = 8;

const CLIENT: ProcessKey = ProcessKey { tgid: 100, start_ns: 5 };
const SERVER: ProcessKey = ProcessKey { tgid: 200, start_ns: 6 };

/// Which ends are watched.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Watched {
    Both,
    Server,
}

#[test]
fn a_steady_stream_allocates_nothing_per_event() {
    for watched in [Watched::Both, Watched::Server] {
        let tape = record(watched);
        let (spans, flushes, allocations) = run(&tape);
        let ends = if watched == Watched::Both { 2 } else { 1 };
        assert_eq!(spans, ends * CONNECTIONS * ROUNDS as u64, "{watched:?}: every request");
        // A body goes out with each flush, and comes back.
        assert!(flushes > 5, "{watched:?}: {flushes} flushes are too few to tell");
        assert_eq!(allocations, 0, "{watched:?}: {} records", tape.slots.len());
    }
}

/// What the kernel side would write. (A secret in a query costs an allocation: what stands for it
/// is put together. These have none.)
fn record(watched: Watched) -> Tape {
    let request = b"GET /cart/items?page=2 HTTP/1.1\r\nHost: shop.example:8080\r\n\
                    User-Agent: steady/1.0\r\nX-Request-Id: 7f\r\n\
                    traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n";
    let response = b"HTTP/1.1 200 OK\r\nServer: steady\r\nContent-Type: text/plain\r\n\
                     Content-Length: 5\r\n\r\nhello";
    let mut tape = Tape::default();
    // The quarter that does not count has to be longer than a request waits for its other end.
    tape.step = 100_000;
    let mut pairs: Vec<_> = (0..CONNECTIONS).map(pair).collect();
    for (client, server) in &pairs {
        client.open(&mut tape);
        server.open(&mut tape);
    }
    let mut unseen = Tape::default();
    for _ in 0..ROUNDS {
        for (client, server) in &mut pairs {
            let far = if watched == Watched::Both { &mut tape } else { &mut unseen };
            client.send(far, request);
            server.receive(&mut tape, request);
            server.send(&mut tape, response);
            let far = if watched == Watched::Both { &mut tape } else { &mut unseen };
            client.receive(far, response);
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

/// Spans, flushes and allocations, the latter two once a quarter has passed.
fn run(tape: &Tape) -> (u64, u64, u64) {
    let config = AssemblerConfig { id_key: IdKey([1; 16]), ..AssemblerConfig::default() };
    let mut assembler = Assembler::new(config, HostFacts::default());
    for (key, executable) in [(CLIENT, "/usr/bin/client"), (SERVER, "/usr/bin/server")] {
        let executable = executable.to_owned();
        assembler.facts(ProcessFacts { key, executable, ..ProcessFacts::default() });
    }
    assembler.clock(0, 1_700_000_000_000_000_000);
    let mut shard = Shard::new(ShardConfig::default());
    let mut stage = Stage { assembler, spare: Vec::new() };
    let mut sink = Sink { batch: Batch::new("1"), spans: 0 };
    let (mut flushes, mut bodies) = (0, Vec::new());
    let mut before = 0;
    let looks = tape.slots.len().div_ceil(LOOK);
    for (look, slots) in tape.slots.chunks(LOOK).enumerate() {
        if look == looks / 4 {
            (flushes, before) = (0, ALLOCATIONS.get());
        }
        let mut now = 0;
        for slot in slots {
            let event = decode(slot.bytes()).expect("a whole record");
            now = event.header().boot_ns;
            shard.ingest(&event, &mut stage);
        }
        shard.idle(now, &mut stage);
        let Stage { assembler, spare } = &mut stage;
        for ring in 0..2 {
            assembler.tick(ring, now, &mut sink, &mut |used| spare.push(used));
        }
        if look % FLUSH == FLUSH - 1 {
            flushes += 1;
            sink.batch.flush(|request| bodies.push(request.body));
            bodies.drain(..).for_each(|body| sink.batch.reuse(body));
        }
    }
    let allocations = ALLOCATIONS.get() - before;
    stage.assembler.finish(&mut sink, &mut drop);
    (sink.spans, flushes, allocations)
}

struct Stage {
    assembler: Assembler,
    #[expect(clippy::vec_box, reason = "the stages pass the boxes on")]
    spare: Vec<Box<Started>>,
}

impl ShardOutput for Stage {
    fn signal(&mut self, signal: Signal) {
        self.assembler.signal(1, signal);
    }

    fn verdict(&mut self, _cookie: u64, _verdict: u32) {}

    fn reuse(&mut self) -> Option<Box<Started>> {
        self.spare.pop()
    }
}

struct Sink {
    batch: Batch,
    spans: u64,
}

impl Output for Sink {
    fn span(&mut self, span: &Span<'_>) {
        self.spans += 1;
        self.batch.span(span);
    }

    fn log(&mut self, _: &LogRecord<'_>) {}
}
