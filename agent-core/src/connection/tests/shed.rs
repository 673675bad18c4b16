//! Requests that the kernel side shed whole.

use super::*;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// One exchange of a server or client; `kept` or shed. What follows a shed one says so.
fn exchange(tape: &mut Tape, socket: &mut Socket, server: bool, path: &str, kept: bool) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut unseen = Tape::default();
    let plain = socket.flags & !flag::SHED;
    let tape = if kept { tape } else { &mut unseen };
    for (bytes, asks) in [(request.as_bytes(), true), (ANSWER, false)] {
        if asks != server {
            socket.send(tape, bytes)
        } else {
            socket.receive(tape, bytes)
        }
        socket.flags = plain;
    }
    if !kept {
        socket.flags |= flag::SHED;
    }
}

/// The end of socket 7, which says what it has moved, and that requests before it were shed.
fn close_after_shed(tape: &mut Tape, [send_position, receive_position]: [u64; 2]) {
    tape.write(ProcessKey::default(), |header| {
        let flags = flag::CLOSED | flag::SHED;
        let header = Header { kind: kind::CLOSING, flags, ..header };
        let closing = record::Closing {
            header,
            cookie: 7,
            send_position,
            receive_position,
            ..record::Closing::default()
        };
        Slot::new(closing.as_bytes(), b"")
    });
}

fn outcome(kept: &Kept) -> (Vec<String>, Vec<Option<u16>>) {
    let path = |started: &Started| {
        String::from_utf8_lossy(started.head.get(Name::Path).unwrap_or_default()).into_owned()
    };
    let (mut paths, mut statuses) = (Vec::new(), Vec::new());
    for signal in &kept.signals {
        match signal {
            Signal::Started(started) => paths.push(path(started)),
            Signal::Finished(end) => {
                assert_eq!(end.failure, None, "{end:?}");
                statuses.push(end.status);
            }
            _ => {}
        }
    }
    (paths, statuses)
}

#[test]
fn whole_exchanges_that_were_shed_cost_no_other() {
    for server in [false, true] {
        for pattern in 0..64_u32 {
            let (mut tape, mut socket) = (Tape::default(), Socket::tcp(7, server));
            let kept = |n: u32| pattern >> n & 1 == 1;
            let mut expected = Vec::new();
            // The connection's own record comes with the first call that is kept.
            let mut opened = false;
            for n in 0..6 {
                let path = format!("/{n}");
                if kept(n) && !opened {
                    socket.open(&mut tape);
                    opened = true;
                }
                exchange(&mut tape, &mut socket, server, &path, kept(n));
                expected.extend(kept(n).then_some(path));
            }
            let mut shard = shard();
            let kept = run(&mut shard, &tape.slots);
            let why = format!("server {server}, kept {pattern:06b}");
            let (paths, statuses) = outcome(&kept);
            assert_eq!(paths, expected, "{why}");
            assert_eq!(statuses, vec![Some(200); expected.len()], "{why}");
            assert_eq!(count(&shard, "gaps", Side::Info("gaps")), 0, "{why}");
        }
    }
}

#[test]
fn a_process_whose_requests_were_shed_is_named() {
    let mut tape = Tape::default();
    let process = ProcessKey { tgid: 9, start_ns: 4 };
    tape.write(process, |header| {
        let header = Header { kind: kind::SHED, ..header };
        Slot::new(record::Shed { header, requests: 3 }.as_bytes(), b"")
    });
    let kept = run(&mut shard(), &tape.slots);
    assert!(
        matches!(kept.signals[..], [Signal::Shed { process: named, .. }] if named == process),
        "{:?}",
        kept.signals
    );
}

#[test]
fn the_end_of_a_socket_whose_last_requests_were_shed_is_no_gap() {
    let (mut tape, mut socket) = (Tape::default(), Socket::tcp(7, true));
    socket.open(&mut tape);
    exchange(&mut tape, &mut socket, true, "/kept", true);
    exchange(&mut tape, &mut socket, true, "/shed", false);
    close_after_shed(&mut tape, socket.positions);
    let mut shard = shard();
    let kept = run(&mut shard, &tape.slots);
    assert_eq!(outcome(&kept).0, ["/kept"]);
    assert_eq!(count(&shard, "gaps", Side::Info("gaps")), 0);
    assert!(count(&shard, "bytes", Side::Info("shed_bytes")) > 0);
}

#[test]
fn ciphertext_that_was_shed_is_nothing_of_the_plaintext() {
    let (mut tape, socket) = (Tape::default(), Socket::tcp(7, true));
    socket.open(&mut tape);
    let mut plain = Socket::tcp(7, true);
    plain.positions = [0, 0];
    plain.flags |= flag::PLAINTEXT | flag::COUNTED;
    exchange(&mut tape, &mut plain, true, "/a", true);
    // A handshake that came while the ring was nearly full.
    close_after_shed(&mut tape, plain.positions.map(|position| position + 4000));
    let mut shard = shard();
    let kept = run(&mut shard, &tape.slots);
    assert_eq!(outcome(&kept), (vec!["/a".to_owned()], vec![Some(200)]));
    assert_eq!(count(&shard, "bytes", Side::Info("shed_bytes")), 0);
}

#[test]
fn where_the_role_was_not_seen_the_kernel_is_told() {
    use agent_common::settings::socket_verdict::{ANSWERS, ASKS};
    for (why, server, known, expected) in [
        ("accepted before the agent came", true, false, vec![(7, ANSWERS)]),
        ("connected before the agent came", false, false, vec![(7, ASKS)]),
        ("seen to be accepted", true, true, vec![]),
    ] {
        let (mut tape, mut socket) = (Tape::default(), Socket::tcp(7, server));
        if !known {
            socket.connection.role = role::UNKNOWN;
        }
        socket.open(&mut tape);
        exchange(&mut tape, &mut socket, server, "/a", true);
        exchange(&mut tape, &mut socket, server, "/b", true);
        assert_eq!(run(&mut shard(), &tape.slots).verdicts, expected, "{why}");
    }
}
