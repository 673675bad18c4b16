//! Contexts that threads had published, and the requests that have them.

use super::*;
use crate::id::{SpanId, TraceId};
use crate::message::Published;

/// Writes a context of `thread` for the send that comes next, or for one at another time.
fn announce(tape: &mut Tape, socket: &Socket, number: u8, (tid, late): (u32, u64)) {
    let at = tape.now + late;
    // Both records have the time of the call.
    let (now, step) = (tape.now, std::mem::replace(&mut tape.step, 0));
    tape.write(socket.process, |header| {
        let header = Header { kind: kind::THREAD_CONTEXT, tid, boot_ns: at, ..header };
        let context = record::ThreadContext {
            header,
            cookie: 7,
            trace_id: [number; 16],
            span_id: [number; 8],
            trace_flags: 1,
            pad: [0; 7],
        };
        Slot::new(context.as_bytes(), b"")
    });
    (tape.now, tape.step) = (now, step);
}

fn published(kept: &Kept) -> Vec<Option<u8>> {
    let number = |published: Published| {
        assert_eq!(published.trace, TraceId([published.span.0[0]; 16]));
        assert_eq!(published.span, SpanId([published.span.0[0]; 8]));
        published.span.0[0]
    };
    let started = kept.signals.iter().filter_map(|signal| match signal {
        Signal::Started(started) => Some(started.published.map(number)),
        _ => None,
    });
    started.collect()
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

#[test]
fn a_request_has_the_context_of_its_own_send() {
    let (mut tape, mut socket) = (Tape::default(), Socket::tcp(7, false));
    socket.open(&mut tape);
    let plain = socket.flags;
    for (number, says) in [(1, true), (2, true), (0, false), (3, true)] {
        if number != 0 {
            announce(&mut tape, &socket, number, (100, 0));
        }
        socket.flags = if says { plain | flag::PUBLISHED } else { plain };
        // In two calls: the context is that of the first.
        socket.send(&mut tape, &REQUEST[..9]);
        socket.flags = plain;
        socket.send(&mut tape, &REQUEST[9..]);
        socket.receive(&mut tape, ANSWER);
    }
    let mut shard = shard();
    assert_eq!(published(&run(&mut shard, &tape.slots)), [Some(1), Some(2), None, Some(3)]);
    assert_eq!(count(&shard, "requests", Side::Info("thread_context_missing")), 0);
}

#[test]
fn a_context_of_something_else_is_not_taken() {
    for (why, announced, says) in [
        ("another thread's", Some((101, 0)), true),
        ("of another time, whose send was lost", Some((100, 5)), true),
        ("lost itself", None, true),
        ("of a send that does not say so", Some((100, 0)), false),
    ] {
        let (mut tape, mut socket) = (Tape::default(), Socket::tcp(7, false));
        socket.open(&mut tape);
        if let Some(of) = announced {
            announce(&mut tape, &socket, 1, of);
        }
        socket.flags |= if says { flag::PUBLISHED } else { 0 };
        socket.send(&mut tape, REQUEST);
        let mut shard = shard();
        assert_eq!(published(&run(&mut shard, &tape.slots)), [None], "{why}");
        let missing = count(&shard, "requests", Side::Info("thread_context_missing"));
        assert_eq!(missing, u64::from(says), "{why}");
    }
}

#[test]
fn what_a_server_sends_has_no_context() {
    let (mut tape, mut socket) = (Tape::default(), Socket::tcp(7, true));
    socket.open(&mut tape);
    socket.receive(&mut tape, REQUEST);
    announce(&mut tape, &socket, 1, (100, 0));
    socket.flags |= flag::PUBLISHED;
    socket.send(&mut tape, ANSWER);
    assert_eq!(published(&run(&mut shard(), &tape.slots)), [None]);
}
