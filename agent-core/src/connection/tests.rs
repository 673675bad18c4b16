//! Records made by hand through a whole shard.

mod closed;
mod encrypted;
mod forged;
mod muted;
mod published;
mod shed;
mod traffic;

use super::*;
use crate::event::ProcessKey;
use crate::ledger::{Entry, Side};
use crate::message::{Failure, Name, Signal, Started};
use crate::testing::{Slot, Socket, Tape};
use agent_common::record::{self, Header, direction, flag, kind, role};
use agent_common::settings::socket_verdict::MUTE;
use zerocopy::IntoBytes;

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
        // TLS has more to say: its hellos.
        let tls = why == "TLS";
        let verdicts = if tls { vec![] } else { vec![(7, MUTE)] };
        assert_eq!(kept.verdicts, verdicts, "{why}");
        assert_eq!(shard.census(), [(socket.process, expected)], "{why}");
        assert!(kept.signals.is_empty(), "{why}");
        let muted = u64::from(!tls);
        assert_eq!(count(&shard, "records", Side::Lost("muted")), muted, "{why}");
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
fn a_start_line_longer_than_the_capture_is_no_span_and_costs_no_other() {
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(5000));
    let (request, response) = (&b"GET /b HTTP/1.1\r\n\r\n"[..], b"HTTP/1.1 204 No\r\n\r\n");
    for (why, first, counted) in [("the first request", true, 0), ("a later one", false, 1)] {
        let (mut tape, mut socket) = (Tape::default(), Socket::tcp(7, false));
        socket.open(&mut tape);
        if !first {
            socket.send(&mut tape, request);
            socket.receive(&mut tape, response);
        }
        socket.send(&mut tape, long.as_bytes());
        socket.receive(&mut tape, response);
        for _ in 0..2 {
            socket.send(&mut tape, request);
            socket.receive(&mut tape, response);
        }
        let mut shard = shard();
        let kept = run(&mut shard, &tape.slots);
        let paths: Vec<_> = kept
            .signals
            .iter()
            .filter_map(|signal| match signal {
                Signal::Started(started) => started.head.get(Name::Path),
                _ => None,
            })
            .collect();
        assert_eq!(paths, vec![&b"/b"[..]; if first { 2 } else { 3 }], "{why}");
        assert_eq!(shard.census()[0].1.http1, 1, "{why}");
        assert_eq!(count(&shard, "requests", Side::Info("start_line_too_long")), counted, "{why}");
        balanced(&shard);
    }
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
fn records_left_at_the_end_are_lost_at_shutdown_and_no_gap() {
    let mut tape = Tape::default();
    let mut socket = Socket::tcp(1, false);
    socket.open(&mut tape);
    for _ in 0..9 {
        socket.send(&mut tape, b"GET / HTTP/1.1\r\n\r\n");
    }
    let mut shard = shard();
    run(&mut shard, &tape.slots[..4]);
    // One was lost in the kernel before those that are left.
    tape.slots[5..].iter().for_each(|slot| shard.discard(&slot.event()));
    shard.settle(0, 10);
    balanced(&shard);
    let ring = |side| {
        let found = shard.ledger().into_iter().find(|e| e.stage == "ring" && e.side == side);
        found.expect("no such entry").count
    };
    assert_eq!([ring(Side::In), ring(Side::Out)], [10, 4]);
    assert_eq!([ring(Side::Lost("sequence_gap")), ring(Side::Lost("shutdown"))], [1, 5]);
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
fn unix_sockets_are_over_soon_after_one_end_has_read_that_the_other_is_closed() {
    let second = |tape: &Tape, seconds: u64| tape.now + seconds * 1_000_000_000;
    let mut tape = Tape::default();
    let [mut asks, mut serves, mut waits] = [1, 2, 3].map(|cookie| {
        let mut unix = Socket::tcp(cookie, cookie == 2);
        unix.connection.family = 1;
        unix
    });
    asks.connection.peer_cookie = 2;
    for socket in [&mut asks, &mut serves, &mut waits] {
        socket.open(&mut tape);
    }
    asks.send(&mut tape, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    serves.receive(&mut tape, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    serves.send(&mut tape, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    asks.receive(&mut tape, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    // The server has closed; a client that has shut its own side waits for its answer.
    asks.receive_end(&mut tape);
    waits.receive(&mut tape, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    waits.receive_end(&mut tape);
    let mut shard = shard();
    run(&mut shard, &tape.slots);
    for (after, open) in [(1, 3), (3, 1), (60, 1)] {
        shard.idle(second(&tape, after), &mut Kept::default());
        assert_eq!(count(&shard, "connections", Side::Held), open, "after {after} s");
        balanced(&shard);
    }
    assert_eq!(count(&shard, "connections", Side::Info("expired_idle")), 0);
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
fn exports_of_any_agent_are_muted_and_never_reported() {
    let export = format!("POST /v1/traces HTTP/1.1\r\nUser-Agent: {PRODUCT_TOKEN}1 x\r\n\r\n");
    let other = "POST /v1/traces HTTP/1.1\r\nUser-Agent: OTel kernspan/1\r\n\r\n".to_owned();
    for (why, requests, reported, muted) in [
        ("an agent's", &[&export, &export][..], 0, true),
        ("somebody else's", &[&other, &other], 2, false),
        ("both: what began before is reported", &[&other, &export, &other], 1, true),
    ] {
        for accepted in [false, true] {
            let (mut tape, mut socket) = (Tape::default(), Socket::tcp(7, accepted));
            socket.open(&mut tape);
            for request in requests {
                match accepted {
                    true => socket.receive(&mut tape, request.as_bytes()),
                    false => socket.send(&mut tape, request.as_bytes()),
                };
                match accepted {
                    true => socket.send(&mut tape, OK),
                    false => socket.receive(&mut tape, OK),
                };
            }
            socket.close(&mut tape, 0);
            let mut shard = shard();
            let mut kept = run(&mut shard, &tape.slots);
            shard.finish(&mut kept);
            balanced(&shard);
            assert_eq!((started(&kept), ends(&kept).len()), (reported, reported), "{why}");
            assert_eq!(kept.verdicts.contains(&(7, MUTE)), muted, "{why}");
        }
    }
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

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

fn started(kept: &Kept) -> usize {
    kept.signals.iter().filter(|signal| matches!(signal, Signal::Started(_))).count()
}

/// Ends of requests, as status and failure.
fn ends(kept: &Kept) -> Vec<(Option<u16>, Option<Failure>)> {
    let end = |signal: &Signal| match signal {
        Signal::Finished(finished) => Some((finished.status, finished.failure)),
        _ => None,
    };
    kept.signals.iter().filter_map(end).collect()
}

#[test]
fn requests_of_a_kept_connection_have_ids_of_their_own_and_are_announced_once() {
    let (mut tape, mut socket) = (Tape::default(), Socket::tcp(7, false));
    socket.open(&mut tape);
    for _ in 0..10 {
        socket.send(&mut tape, GET);
        socket.receive(&mut tape, OK);
    }
    socket.close(&mut tape, 0);
    let mut shard = shard();
    let kept = run(&mut shard, &tape.slots);
    assert_eq!(ends(&kept), [(Some(200), None); 10]);
    let opened = kept.signals.iter().filter(|s| matches!(s, Signal::Opened { .. })).count();
    assert_eq!(opened, 1);
    assert!(matches!(kept.signals.first(), Some(Signal::Opened { cookie: 7, .. })));
    assert!(matches!(kept.signals.last(), Some(Signal::Gone { cookie: 7, .. })));
    let spans: std::collections::BTreeSet<_> = kept
        .signals
        .iter()
        .filter_map(|s| if let Signal::Started(s) = s { Some(s.span) } else { None })
        .collect();
    assert_eq!(spans.len(), 10);
    assert_eq!(shard.held_bytes(), 0);
}

#[test]
fn records_of_racing_threads_are_put_in_order() {
    let (mut tape, mut socket) = (Tape::default(), Socket::tcp(7, false));
    socket.open(&mut tape);
    for piece in [&GET[..10], &GET[10..20], &GET[20..]] {
        socket.send(&mut tape, piece);
    }
    socket.receive(&mut tape, OK);
    tape.slots.swap(2, 3);
    let mut shard = shard();
    let kept = run(&mut shard, &tape.slots);
    assert_eq!(ends(&kept), [(Some(200), None)]);
    assert_eq!(count(&shard, "gaps", Side::Info("gaps")), 0);
}

#[test]
fn what_does_not_come_in_time_is_a_gap() {
    let (mut tape, mut socket) = (Tape::default(), Socket::tcp(7, false));
    socket.open(&mut tape);
    socket.send(&mut tape, b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n");
    socket.send(&mut tape, b"abc");
    tape.lose_last();
    socket.send(&mut tape, b"def");
    let mut shard = shard();
    let mut kept = run(&mut shard, &tape.slots);
    assert_eq!(count(&shard, "records", Side::Held), 1, "it may still come");
    shard.idle(tape.now + 3_000_000, &mut kept);
    balanced(&shard);
    assert_eq!(count(&shard, "records", Side::Held), 0);
    assert_eq!(count(&shard, "bytes", Side::Info("gap_bytes")), 3);
    assert_eq!(started(&kept), 1);
}

#[test]
fn how_a_connection_ends_is_how_its_open_request_fails() {
    for (error, expected) in [
        (0, Failure::ConnectionClosed),
        (32, Failure::ConnectionReset),
        (104, Failure::ConnectionReset),
        (110, Failure::Timeout),
    ] {
        let (mut tape, mut socket) = (Tape::default(), Socket::tcp(7, false));
        socket.open(&mut tape);
        socket.send(&mut tape, GET);
        socket.close(&mut tape, error);
        let mut shard = shard();
        let kept = run(&mut shard, &tape.slots);
        assert_eq!(ends(&kept), [(None, Some(expected))], "sk_err {error}");
        assert_eq!(count(&shard, "connections", Side::Held), 0);
    }
}

#[test]
fn a_record_that_comes_after_the_close_still_counts() {
    let (mut tape, mut socket) = (Tape::default(), Socket::tcp(7, true));
    socket.open(&mut tape);
    socket.receive(&mut tape, GET);
    socket.send(&mut tape, OK);
    socket.close(&mut tape, 104);
    tape.slots.swap(2, 3);
    let mut shard = shard();
    let mut kept = run(&mut shard, &tape.slots);
    shard.idle(tape.now + 3_000_000, &mut kept);
    balanced(&shard);
    assert_eq!(ends(&kept), [(Some(200), None)]);
    assert!(matches!(kept.signals.last(), Some(Signal::Gone { .. })));
}

#[test]
fn open_requests_end_unobserved_when_the_agent_stops_looking() {
    let (mut tape, mut socket) = (Tape::default(), Socket::tcp(7, false));
    socket.open(&mut tape);
    socket.send(&mut tape, GET);
    let config = ShardConfig { max_connections: 1, ..ShardConfig::default() };
    for evict in [false, true] {
        let mut tape = tape.clone();
        if evict {
            Socket::tcp(8, false).open(&mut tape);
        }
        let mut shard = Shard::new(config);
        let mut kept = run(&mut shard, &tape.slots);
        if !evict {
            shard.finish(&mut kept);
            balanced(&shard);
        }
        assert_eq!(ends(&kept), [(None, Some(Failure::Unobserved))], "evicted: {evict}");
    }
}

#[test]
fn an_absurd_position_begins_the_connection_anew() {
    let (mut tape, mut socket) = (Tape::default(), Socket::tcp(7, false));
    socket.open(&mut tape);
    socket.send(&mut tape, GET);
    socket.receive(&mut tape, OK);
    socket.positions[0] = 1 << 50;
    socket.send(&mut tape, GET);
    let mut shard = shard();
    let kept = run(&mut shard, &tape.slots);
    assert_eq!(count(&shard, "connections", Side::Info("resynchronised")), 1);
    assert_eq!(ends(&kept), [(Some(200), None)]);
    assert_eq!(started(&kept), 2, "the turn shows that a request begins");
}

#[test]
fn an_idle_connection_is_small() {
    let idle = size_of::<flow::Flow>() + size_of::<crate::protocol::http1::Http1>();
    // Index: a key, a slot and a control byte, at a load of at least 7/16.
    let index = (size_of::<(u64, u32)>() + 1) * 16 / 7;
    assert!(idle + index <= 512, "{idle} + {index} bytes");
}
