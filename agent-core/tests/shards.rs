//! However many payload rings there are, the spans are the same: ids, parents, times, attributes.

use agent_common::settings::payload_ring;
use agent_core::connection::{Shard, ShardConfig, ShardOutput};
use agent_core::event::ProcessKey;
use agent_core::message::{Signal, Started};
use agent_core::process::HostFacts;
use agent_core::span::{LogRecord, Output, Span};
use agent_core::testing::{Socket, Tape};
use agent_core::trace::{Assembler, AssemblerConfig};

/// Workers of the front, each with a connection from its client and one to the back.
const WORKERS: u32 = 24;
const ROUNDS: usize = 6;
const STEP_NS: u64 = 20_000;
/// Of record time, between two looks at the rings.
const LOOK_NS: u64 = 5_000_000;

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The rings, written to by one clock.
struct Rings {
    tapes: Vec<Tape>,
    now: u64,
}

impl Rings {
    fn write(&mut self, cookie: u64, what: impl FnOnce(&mut Tape)) {
        let rings = u32::try_from(self.tapes.len()).expect("a few rings");
        let tape = &mut self.tapes[payload_ring(cookie, rings) as usize - 1];
        tape.now = self.now;
        what(tape);
        self.now += STEP_NS;
    }

    fn send(&mut self, from: &mut Socket, to: &mut Socket, bytes: &[u8]) {
        self.write(from.connection.cookie, |tape| from.send(tape, bytes));
        self.write(to.connection.cookie, |tape| to.receive(tape, bytes));
    }
}

fn socket(cookie: u64, accepted: bool, port: u16, tgid: u32, tid: u32) -> Socket {
    let mut socket = Socket::tcp(cookie, accepted);
    let positions = [1000 + u64::from(port), 500_000_000 + u64::from(port)];
    let [local, remote] = if accepted { [8080, port] } else { [port, 8080] };
    (socket.connection.local_port, socket.connection.remote_port) = (local, remote);
    socket.positions = if accepted { [positions[1], positions[0]] } else { positions };
    (socket.process, socket.tid) = (ProcessKey { tgid, start_ns: 5 }, tid);
    socket
}

/// client → front → back, all workers at once, over kept connections.
fn written(rings: usize) -> Rings {
    let mut all = Rings { tapes: vec![Tape::default(); rings], now: 1_000_000_000 };
    let mut chains: Vec<[Socket; 4]> = (0..WORKERS)
        .map(|worker| {
            let (cookie, port) = (u64::from(worker) * 4 + 4097, 20_000 + 2 * worker as u16);
            [
                socket(cookie, false, port, 100, 100 + worker),
                socket(cookie + 1, true, port, 200, 200 + worker),
                socket(cookie + 2, false, port + 1, 200, 200 + worker),
                socket(cookie + 3, true, port + 1, 300, 300 + worker),
            ]
        })
        .collect();
    for socket in chains.iter().flatten() {
        all.write(socket.connection.cookie, |tape| socket.open(tape));
    }
    for round in 0..ROUNDS {
        let request = |path: &str| format!("GET /{path}/{round} HTTP/1.1\r\nHost: x\r\n\r\n");
        for [client, front, _, _] in &mut chains {
            all.send(client, front, request("front").as_bytes());
        }
        for [_, _, caller, back] in &mut chains {
            all.send(caller, back, request("back").as_bytes());
        }
        for [_, _, caller, back] in chains.iter_mut().rev() {
            all.send(back, caller, RESPONSE);
        }
        for [client, front, _, _] in &mut chains {
            all.send(front, client, RESPONSE);
        }
    }
    for socket in chains.iter().flatten().skip(1) {
        all.write(socket.connection.cookie, |tape| socket.close(tape, 0));
    }
    all
}

#[derive(Default)]
struct Texts {
    spans: Vec<String>,
    linked: usize,
}

impl Output for Texts {
    fn span(&mut self, span: &Span<'_>) {
        self.linked += usize::from(span.parent.is_some());
        self.spans.push(format!("{span:?}"));
    }

    fn log(&mut self, _record: &LogRecord<'_>) {}
}

struct Collect<'a>(&'a mut Assembler, usize);

impl ShardOutput for Collect<'_> {
    fn signal(&mut self, signal: Signal) {
        self.0.signal(self.1, signal);
    }

    fn verdict(&mut self, _cookie: u64, _verdict: u32) {}

    fn reuse(&mut self) -> Option<Box<Started>> {
        None
    }
}

/// What comes out of so many rings, each looked at in turn; those in the order in which the
/// assembler gives them out. `stalled`: the first ring is not looked at until the end.
fn spans(rings: usize, stalled: bool) -> Texts {
    let written = written(rings);
    let config = AssemblerConfig { rings: 1 + rings, ..AssemblerConfig::default() };
    let mut assembler = Assembler::new(config, HostFacts::default());
    assembler.clock(0, 1_700_000_000_000_000_000);
    let mut shards: Vec<_> = (0..rings).map(|_| Shard::new(ShardConfig::default())).collect();
    let mut left: Vec<_> = written.tapes.iter().map(|tape| tape.slots.as_slice()).collect();
    let mut out = Texts::default();
    let mut now = 1_000_000_000;
    while left.iter().any(|slots| !slots.is_empty()) {
        now += LOOK_NS;
        for (at, (shard, slots)) in shards.iter_mut().zip(&mut left).enumerate() {
            if stalled && at == 0 && now < written.now {
                continue;
            }
            let until = slots.partition_point(|slot| slot.event().header().boot_ns < now);
            let (taken, rest) = slots.split_at(until);
            *slots = rest;
            let mut collect = Collect(&mut assembler, 1 + at);
            taken.iter().for_each(|slot| shard.ingest(&slot.event(), &mut collect));
            shard.idle(now, &mut collect);
            assembler.tick(1 + at, now, &mut out, &mut drop);
        }
        assembler.tick(0, now, &mut out, &mut drop);
    }
    for (at, shard) in shards.iter_mut().enumerate() {
        assert_eq!(shard.lost(), 0, "numbers of ring {at}");
        shard.finish(&mut Collect(&mut assembler, 1 + at));
    }
    assembler.finish(&mut out, &mut drop);
    out.spans.sort_unstable();
    out
}

#[test]
fn several_shards_give_the_spans_of_one() {
    let one = spans(1, false);
    let requests = WORKERS as usize * ROUNDS;
    assert_eq!(one.spans.len(), 4 * requests, "both ends of both hops");
    assert_eq!(one.linked, 3 * requests, "all but the client's have a parent");
    for rings in [2, 4] {
        for stalled in [false, true] {
            let several = spans(rings, stalled);
            let differing = one.spans.iter().zip(&several.spans).find(|(one, other)| one != other);
            assert!(one.spans == several.spans, "{rings} rings, {stalled}: {differing:#?}");
        }
    }
}
