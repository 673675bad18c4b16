//! Calls on a connection that is over.

use super::*;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// A request, its answer, and the socket's end.
fn exchange(tape: &mut Tape, socket: &mut Socket) {
    socket.open(tape);
    socket.receive(tape, REQUEST);
    socket.send(tape, ANSWER);
    socket.close(tape, 0);
    socket.flags |= flag::AFTER_CLOSE;
}

#[test]
fn what_comes_after_the_end_leaves_nothing_behind() {
    let mut tape = Tape::default();
    for cookie in 1..=100 {
        let mut socket = Socket::tcp(cookie, true);
        exchange(&mut tape, &mut socket);
        // Sends as the connection is reset; reads its end later.
        socket.send(&mut tape, b"\x15\x03\x03\x00\x13 an alert in TLS");
        socket.receive_end(&mut tape);
    }
    let mut shard = shard();
    let kept = run(&mut shard, &tape.slots);
    assert_eq!(count(&shard, "connections", Side::Held), 0);
    assert_eq!(count(&shard, "records", Side::Lost("after_close")), 200);
    let finished = kept.signals.iter().filter(|signal| matches!(signal, Signal::Finished(_)));
    assert_eq!(finished.count(), 100);
}

#[test]
fn a_call_that_ends_as_the_connection_is_closed_is_still_of_it() {
    let (mut tape, mut socket) = (Tape::default(), Socket::tcp(7, true));
    socket.open(&mut tape);
    socket.receive(&mut tape, REQUEST);
    // The closing record knows of the bytes; the call's own comes after it.
    let mut ended = socket.clone();
    ended.positions[0] += ANSWER.len() as u64;
    ended.close(&mut tape, 104);
    socket.flags |= flag::AFTER_CLOSE;
    socket.send(&mut tape, ANSWER);
    let mut shard = shard();
    let mut kept = run(&mut shard, &tape.slots);
    shard.idle(tape.now + 1_000_000_000, &mut kept);
    balanced(&shard);
    assert_eq!(count(&shard, "connections", Side::Held), 0);
    let statuses: Vec<_> = kept
        .signals
        .iter()
        .filter_map(|signal| match signal {
            Signal::Finished(finished) => Some((finished.status, finished.failure)),
            _ => None,
        })
        .collect();
    assert_eq!(statuses, [(Some(200), None)]);
}

#[test]
fn an_older_connection_that_is_not_known_is_taken_up_all_the_same() {
    let (mut tape, mut socket) = (Tape::default(), Socket::tcp(7, true));
    socket.receive(&mut tape, REQUEST);
    let mut shard = shard();
    run(&mut shard, &tape.slots);
    assert_eq!(count(&shard, "connections", Side::Held), 1);
}

#[test]
fn a_record_that_is_late_without_knowing_it_begins_nothing() {
    let mut tape = Tape::default();
    for cookie in 1..=100 {
        let mut socket = Socket::tcp(cookie, true);
        exchange(&mut tape, &mut socket);
        // Written on another processor as it was closed.
        socket.flags &= !flag::AFTER_CLOSE;
        socket.send(&mut tape, ANSWER);
    }
    let mut shard = shard();
    run(&mut shard, &tape.slots);
    assert_eq!(count(&shard, "connections", Side::Held), 0);
    assert_eq!(count(&shard, "records", Side::Lost("after_close")), 100);
}
