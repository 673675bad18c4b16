//! Plaintext of a TLS library beside the socket's own bytes.

use super::*;
use agent_common::settings::socket_verdict::TLS_ASKS;

/// Of a connection that is older than the agent no handshake is read: its ciphertext is muted once the
/// positions are known at which both ends meet, again and again, and its requests go on.
#[test]
fn ciphertext_of_an_older_connection_is_muted() {
    let (mut tape, mut socket) = (Tape::default(), Socket::tcp(7, false));
    socket.connection.role = role::UNKNOWN;
    socket.open(&mut tape);
    let mut plain = Socket::tcp(7, false);
    plain.positions = [1 << 40, 1 << 40];
    plain.flags |= flag::PLAINTEXT | flag::COUNTED;
    let mut kept = Kept::default();
    let mut shard = shard();
    for exchange in 0..80 {
        socket.send(&mut tape, b"\x17\x03\x03\x00\x10ciphertext......");
        plain.send(&mut tape, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        socket.receive(&mut tape, b"\x17\x03\x03\x00\x10ciphertext......");
        plain.receive(&mut tape, b"HTTP/1.1 204 No Content\r\n\r\n");
        let said = run(&mut shard, &tape.slots);
        tape.slots.clear();
        kept.signals.extend(said.signals);
        let told = said.verdicts.iter().filter(|verdict| **verdict == (7, TLS_ASKS)).count();
        // The first record came before any plaintext: of those behind it, this is one of each 64.
        let expected = usize::from(matches!(exchange, 0 | 32 | 64));
        assert_eq!(told, expected, "exchange {exchange}: {:?}", said.verdicts);
    }
    let ends = kept.signals.iter().filter(|signal| matches!(signal, Signal::Finished(_))).count();
    assert_eq!(ends, 80);
    assert_eq!(count(&shard, "records", Side::Lost("ciphertext")), 159);
}

/// Positions at which one end may be met by the other, as it told them.
fn told_marks(kept: &Kept) -> Vec<(u32, u32)> {
    let told = kept.signals.iter().filter_map(|signal| match signal {
        Signal::Opened { endpoints, .. } => endpoints.encryption.as_ref(),
        _ => None,
    });
    told.flat_map(|encryption| encryption.marks.iter().copied()).collect()
}

/// One end of an exchange over TLS: its ciphertext, then its plaintext.
fn encrypted_call(tape: &mut Tape, ends: &mut [Socket; 2], sends: bool, plain: &[u8]) {
    let bytes = [b"\x17\x03\x03\x00\x40", [b'.'; 64].as_slice()].concat();
    for (socket, bytes) in ends.iter_mut().zip([bytes.as_slice(), plain]) {
        if sends { socket.send(tape, bytes) } else { socket.receive(tape, bytes) }
    }
}

/// The agent comes within an answer of several writes: the ends first see it at different positions of the
/// ciphertext, and meet by the turn that follows.
#[test]
fn ends_first_seen_within_an_answer_meet_at_the_next_turn() {
    let marks = [false, true].map(|accepted| {
        let (mut tape, mut socket) = (Tape::default(), Socket::tcp(7, accepted));
        socket.connection.role = role::UNKNOWN;
        // The server's second write of three; the client has read none of them.
        socket.positions[usize::from(!accepted)] += if accepted { 69 } else { 0 };
        socket.open(&mut tape);
        let mut plain = Socket::tcp(7, accepted);
        plain.positions = [1 << 40, 1 << 40];
        plain.flags |= flag::PLAINTEXT | flag::COUNTED;
        let mut ends = [socket, plain];
        for _ in 0..if accepted { 2 } else { 3 } {
            encrypted_call(&mut tape, &mut ends, accepted, b"the rest of an answer");
        }
        encrypted_call(&mut tape, &mut ends, !accepted, GET);
        encrypted_call(&mut tape, &mut ends, accepted, OK);
        let kept = run(&mut shard(), &tape.slots);
        assert_eq!(started(&kept), 1, "accepted: {accepted}");
        told_marks(&kept)
    });
    let [client, server] = marks;
    let reversed: Vec<_> = server.iter().map(|(sent, received)| (*received, *sent)).collect();
    assert_ne!(client[0], reversed[0], "they were first seen elsewhere");
    assert!(client.iter().any(|mark| reversed.contains(mark)), "{client:?} {reversed:?}");
}
