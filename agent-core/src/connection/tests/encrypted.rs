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
