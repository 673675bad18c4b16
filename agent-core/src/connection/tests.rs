//! Records made by hand through a whole shard.

use super::*;
use crate::ledger::{Entry, Side};
use crate::message::{Signal, Started};
use crate::testing::{Slot, Socket, Tape};
use agent_common::record::{direction, flag, role};
use agent_common::settings::socket_verdict::MUTE;

/// Keeps what a shard says.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) signals: Vec<Signal>,
    pub(crate) verdicts: Vec<(u64, u32)>,
}

impl ShardOutput for Kept {
    fn signal(&mut self, signal: Signal) {
        self.signals.push(signal);
    }
    fn verdict(&mut self, cookie: u64, verdict: u32) {
        self.verdicts.push((cookie, verdict));
    }
    fn reuse(&mut self) -> Option<Box<Started>> {
        None
    }
}

fn run<'a>(shard: &mut Shard, slots: impl IntoIterator<Item = &'a Slot>) -> Kept {
    let mut kept = Kept::default();
    for slot in slots {
        shard.ingest(&slot.event(), &mut kept);
        balanced(shard);
    }
    kept
}

/// `came_in = went_out + held + Σ lost`, for every unit of every stage.
fn balanced(shard: &Shard) {
    let entries = shard.ledger();
    for Entry { stage, unit, .. } in &entries {
        let of = |wanted: fn(Side) -> bool| {
            let same = |e: &&Entry| (e.stage, e.unit) == (*stage, *unit) && wanted(e.side);
            entries.iter().filter(same).map(|e| e.count).sum::<u64>()
        };
        let came_in = of(|side| side == Side::In);
        let rest = of(|side| matches!(side, Side::Out | Side::Held | Side::Lost(_)));
        assert_eq!(came_in, rest, "{stage} {unit}: {entries:#?}");
    }
}

fn count(shard: &Shard, unit: &str, side: Side) -> u64 {
    let found = shard.ledger().into_iter().find(|e| e.unit == unit && e.side == side);
    found.expect("no such entry").count
}

fn shard() -> Shard {
    Shard::new(ShardConfig::default())
}

#[test]
fn what_is_not_http_is_muted_and_counted_by_kind() {
    let is = |kind: fn(&mut KindCounts) -> &mut u32| {
        let mut counts = KindCounts::default();
        *kind(&mut counts) = 1;
        counts
    };
    for (why, bytes, expected) in [
        ("TLS", &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"[..], is(|c| &mut c.tls)),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", is(|c| &mut c.http2)),
        ("a banner", b"\x4a\x00\x00\x00\x0a8.0.36\x00", is(|c| &mut c.unknown)),
    ] {
        let (mut tape, mut socket) = (Tape::default(), Socket::tcp(7, false));
        socket.open(&mut tape);
        socket.send(&mut tape, bytes);
        socket.receive(&mut tape, b"\x01\x02");
        let mut shard = shard();
        let kept = run(&mut shard, &tape.slots);
        assert_eq!(kept.verdicts, [(7, MUTE)], "{why}");
        assert_eq!(shard.census(), [(socket.process, expected)], "{why}");
        assert!(kept.signals.is_empty(), "{why}");
        assert_eq!(count(&shard, "records", Side::Lost("muted")), 1, "{why}");
    }
}

#[test]
fn a_connection_joined_in_a_body_is_judged_at_its_turns() {
    let (mut tape, mut socket) = (Tape::default(), Socket::tcp(7, true));
    socket.connection.role = role::UNKNOWN;
    socket.open(&mut tape);
    socket.receive(&mut tape, b"\x01middle of a body");
    socket.receive(&mut tape, b"\x01and more of it");
    let mut shard = shard();
    run(&mut shard, &tape.slots);
    assert_eq!(shard.census()[0].1.undecided, 1);
    tape.slots.clear();
    socket.send(&mut tape, b"\x02not a response");
    socket.receive(&mut tape, b"\x03nor a request");
    let kept = run(&mut shard, &tape.slots);
    assert_eq!(shard.census()[0].1.unknown, 1, "three turns are enough");
    assert_eq!(kept.verdicts, [(7, MUTE)]);
}

#[test]
fn sequence_gaps_are_lost_records() {
    let (mut tape, mut socket) = (Tape::default(), Socket::tcp(7, false));
    for cpu in [0, 1] {
        tape.cpu = cpu;
        socket.send(&mut tape, b"GET / HTTP/1.1\r\n");
        tape.lose_last();
        socket.send(&mut tape, b"Host: a\r\n");
    }
    let mut shard = shard();
    run(&mut shard, &tape.slots);
    assert_eq!(shard.lost(), 2);
    shard.settle(1, 9);
    assert_eq!(shard.lost(), 2 + 7, "the last ones never came");
    balanced(&shard);
}

#[test]
fn the_table_is_bounded() {
    let mut tape = Tape::default();
    for cookie in 0..100 {
        Socket::tcp(cookie, false).open(&mut tape);
    }
    let config = ShardConfig { max_connections: 10, ..ShardConfig::default() };
    let mut shard = Shard::new(config);
    run(&mut shard, &tape.slots);
    assert_eq!(count(&shard, "connections", Side::Held), 10);
    assert_eq!(count(&shard, "connections", Side::Lost("evicted")), 90);
}

#[test]
fn silent_unix_sockets_expire_and_tcp_stays() {
    let mut tape = Tape::default();
    let mut unix = Socket::tcp(1, false);
    unix.connection.family = 1;
    unix.open(&mut tape);
    Socket::tcp(2, false).open(&mut tape);
    let mut shard = shard();
    run(&mut shard, &tape.slots);
    for (after_s, open) in [(60, 2), (700, 1), (8_000, 0)] {
        shard.idle(tape.now + after_s * 1_000_000_000, &mut Kept::default());
        assert_eq!(count(&shard, "connections", Side::Held), open, "after {after_s} s");
        balanced(&shard);
    }
}

#[test]
fn own_connections_are_muted_and_never_reported() {
    let (mut tape, mut socket) = (Tape::default(), Socket::tcp(7, false));
    socket.open(&mut tape);
    socket.send(&mut tape, b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut shard = shard();
    shard.mute_endpoint(OwnEndpoint { addr: None, port: 8080, netns: None });
    let kept = run(&mut shard, &tape.slots);
    assert!(kept.signals.is_empty());
    assert_eq!(kept.verdicts, [(7, MUTE)]);
    assert_eq!(shard.census(), [(socket.process, KindCounts::default())]);
}

#[test]
fn records_of_other_kinds_and_of_strangers_are_counted() {
    let (mut tape, mut socket) = (Tape::default(), Socket::tcp(7, false));
    socket.close(&mut tape, 0);
    socket.flags = flag::TURN;
    socket.unreachable(&mut tape, direction::SEND, 100);
    let mut shard = shard();
    run(&mut shard, &tape.slots);
    assert_eq!(count(&shard, "records", Side::Lost("unknown_connection")), 1);
    assert_eq!(count(&shard, "records", Side::Lost("unclassified")), 1);
}
