//! What bytes become: of any connection as many as its socket moved.

use super::*;
use crate::traffic::{Class, Findings, Followed, Protocol, Protocols};

const REQUEST: &[u8] = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const HELLO: &[u8] = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00";
const SECRET: &[u8] = b"\x17\x03\x03\x00\x10ciphertext......";

/// A shard that sees one connection, and what became of its bytes.
struct Watch {
    shard: Shard,
    tape: Tape,
    socket: Socket,
    began: u64,
}

impl Watch {
    fn new(socket: Socket, conversations: bool) -> Watch {
        let config = ShardConfig { conversations, ..ShardConfig::default() };
        let began = position(&socket);
        let (shard, mut tape) = (Shard::new(config), Tape::default());
        socket.open(&mut tape);
        Watch { shard, tape, socket, began }
    }

    fn findings(&mut self) -> Findings {
        run(&mut self.shard, &self.tape.slots);
        self.tape.slots.clear();
        self.shard.findings(self.tape.now)
    }

    fn bytes(&mut self) -> Vec<(Class, u64)> {
        let findings = self.findings();
        let Some(moved) = findings.moved.get(&self.socket.process) else { return Vec::new() };
        let all = Class::ALL.map(|class| (class, moved.bytes.of(class)));
        all.into_iter().filter(|(_, bytes)| *bytes > 0).collect()
    }

    fn followed(&mut self) -> Followed {
        let findings = self.findings();
        let [followed] = findings.followed.values().copied().collect::<Vec<_>>()[..] else {
            panic!("{findings:?}")
        };
        followed
    }

    /// What the socket has moved so far.
    fn moved(&self) -> u64 {
        position(&self.socket) - self.began
    }
}

fn position(socket: &Socket) -> u64 {
    socket.positions.iter().sum()
}

fn one(protocol: Protocol) -> Protocols {
    Some(protocol).into()
}

#[test]
fn all_bytes_of_requests_are_decoded_each_once() {
    let mut watch = Watch::new(Socket::tcp(7, true), true);
    let mut sum = 0;
    for _ in 0..3 {
        watch.socket.receive(&mut watch.tape, REQUEST);
        watch.socket.send(&mut watch.tape, ANSWER);
        let bytes = watch.bytes();
        assert_eq!(bytes, [(Class::Decoded, (REQUEST.len() + ANSWER.len()) as u64)]);
        sum += bytes[0].1;
    }
    assert_eq!(sum, watch.moved());
    // A request under way counts as far as it goes, also where the connection ends with it.
    watch.socket.receive(&mut watch.tape, &REQUEST[..20]);
    watch.socket.close(&mut watch.tape, 0);
    let findings = watch.findings();
    let moved = findings.moved[&watch.socket.process];
    assert_eq!(moved.bytes.of(Class::Decoded), 20);
    assert_eq!(moved.protocols, one(Protocol::Http1));
    assert!(findings.followed.is_empty());
}

#[test]
fn what_is_not_parsed_is_left_to_its_conversation_from_the_first_byte_on() {
    for (bytes, class, protocols) in [
        (&b"*1\r\n$4\r\nPING\r\n"[..], Class::Unknown, one(Protocol::Redis)),
        (b"\x01\x02\x03\x04", Class::Unknown, None.into()),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Class::Unknown, one(Protocol::Http2)),
        (HELLO, Class::Encrypted, one(Protocol::Tls)),
    ] {
        let mut watch = Watch::new(Socket::tcp(7, false), true);
        let process = watch.socket.process;
        watch.socket.send(&mut watch.tape, bytes);
        for _ in 0..40 {
            watch.socket.receive(&mut watch.tape, SECRET);
        }
        let mut findings = watch.findings();
        if class == Class::Encrypted {
            assert!(findings.followed.is_empty(), "a library may show its plaintext");
            findings = watch.findings();
        }
        assert!(findings.moved.is_empty(), "{bytes:?}: {findings:?}");
        let expected = Followed { process, class, protocols, counted: 0, whole: true };
        assert_eq!(findings.followed[&7], expected, "{bytes:?}");
    }
}

#[test]
fn without_conversations_and_on_unix_sockets_records_tell() {
    for unix in [false, true] {
        let mut socket = Socket::tcp(7, false);
        if unix {
            socket.connection.family = 1;
        }
        let mut watch = Watch::new(socket, unix);
        watch.socket.send(&mut watch.tape, b"*1\r\n$4\r\nPING\r\n");
        watch.socket.receive(&mut watch.tape, b"+PONG\r\n");
        let moved = watch.moved();
        assert_eq!(watch.bytes(), [(Class::Unknown, moved)], "unix: {unix}");
    }
}

#[test]
fn one_that_is_older_than_the_agent_is_counted_until_it_is_muted() {
    let mut socket = Socket::tcp(7, false);
    socket.connection.role = role::UNKNOWN;
    let mut watch = Watch::new(socket, true);
    for _ in 0..3 {
        watch.socket.send(&mut watch.tape, b"\x01\x02\x03\x04");
        watch.socket.receive(&mut watch.tape, b"\x05\x06");
    }
    let findings = watch.findings();
    let moved = findings.moved[&watch.socket.process];
    // Three turns decide. What its conversation had moved before them is the account's to know.
    assert_eq!(moved.bytes.of(Class::Unknown), 4 + 2 + 4);
    let followed = findings.followed[&7];
    assert_eq!((followed.whole, followed.counted), (false, 4 + 2 + 4));
}

#[test]
fn an_upgraded_connection_is_followed_from_where_it_left_http() {
    let mut watch = Watch::new(Socket::tcp(7, false), true);
    let upgrade = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    watch.socket.send(&mut watch.tape, upgrade);
    watch.socket.receive(
        &mut watch.tape,
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    );
    let spoken = watch.moved();
    watch.socket.send(&mut watch.tape, &[0x81; 50]);
    let findings = watch.findings();
    let decoded = findings.moved[&watch.socket.process].bytes.of(Class::Decoded);
    let followed = findings.followed[&7];
    assert_eq!((followed.class, followed.protocols), (Class::Unknown, one(Protocol::Upgraded)));
    assert_eq!((followed.whole, followed.counted), (true, decoded));
    assert!(decoded >= spoken && decoded <= watch.moved(), "{decoded} of {spoken}");
}

#[test]
fn bytes_within_tls_that_is_read_are_those_of_the_socket() {
    let mut watch = Watch::new(Socket::tcp(7, false), true);
    let mut plain = Socket::tcp(7, false);
    plain.positions = [0, 0];
    plain.flags |= flag::PLAINTEXT | flag::COUNTED;
    watch.socket.send(&mut watch.tape, HELLO);
    watch.socket.receive(&mut watch.tape, HELLO);
    // Whoever asks between the handshake and the first plaintext.
    for _ in 0..40 {
        watch.socket.receive(&mut watch.tape, SECRET);
    }
    assert!(watch.findings().followed.is_empty());
    for _ in 0..5 {
        watch.socket.send(&mut watch.tape, SECRET);
        plain.send(&mut watch.tape, REQUEST);
        watch.socket.receive(&mut watch.tape, SECRET);
        plain.receive(&mut watch.tape, ANSWER);
    }
    let followed = watch.followed();
    let of = (followed.class, followed.counted);
    assert_eq!(of, (Class::Decoded, 0), "its conversation counts all of them");
    plain.send(&mut watch.tape, REQUEST);
    watch.socket.close(&mut watch.tape, 0);
    assert_eq!(watch.bytes(), [], "and no record does");
    // Of another protocol, which the same socket speaks anew.
    let mut watch = Watch::new(Socket::tcp(7, false), true);
    plain.positions = [0, 0];
    watch.socket.send(&mut watch.tape, HELLO);
    watch.socket.send(&mut watch.tape, SECRET);
    plain.send(&mut watch.tape, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let followed = watch.followed();
    assert_eq!((followed.class, followed.protocols), (Class::Unknown, one(Protocol::Http2)));
}

#[test]
fn a_short_connection_over_tls_is_followed_when_it_ends() {
    let mut watch = Watch::new(Socket::tcp(7, false), true);
    watch.socket.send(&mut watch.tape, HELLO);
    for _ in 0..40 {
        watch.socket.receive(&mut watch.tape, SECRET);
    }
    watch.socket.close(&mut watch.tape, 0);
    let followed = watch.followed();
    assert_eq!((followed.class, followed.counted), (Class::Encrypted, 0));
}

#[test]
fn what_no_record_shows_is_unreachable_and_the_sum_is_what_was_moved() {
    let mut watch = Watch::new(Socket::tcp(7, true), true);
    watch.socket.receive(&mut watch.tape, REQUEST);
    watch.socket.send(&mut watch.tape, b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n");
    watch.socket.send(&mut watch.tape, &[b'x'; 1000]);
    watch.socket.unreachable(&mut watch.tape, direction::SEND, 3000);
    watch.socket.send(&mut watch.tape, &[b'x'; 400]);
    watch.tape.lose_last();
    watch.socket.send(&mut watch.tape, &[b'x'; 600]);
    watch.tape.now += 10_000_000;
    watch.socket.receive(&mut watch.tape, REQUEST);
    watch.socket.send(&mut watch.tape, ANSWER);
    watch.socket.close(&mut watch.tape, 0);
    let bytes = watch.bytes();
    assert_eq!(bytes[1], (Class::Unreachable, 3400));
    assert_eq!(bytes.iter().map(|(_, bytes)| bytes).sum::<u64>(), watch.moved());
    // A connection of which nothing at all can be read.
    let mut watch = Watch::new(Socket::tcp(7, true), true);
    for _ in 0..5000 {
        watch.socket.unreachable(&mut watch.tape, direction::SEND, 10);
    }
    let findings = watch.findings();
    let told = findings.moved[&watch.socket.process].bytes;
    assert_eq!(told.of(Class::Unreachable), told.total());
    let followed = findings.followed[&7];
    assert_eq!((followed.class, followed.counted), (Class::Unreachable, told.total()));
}

#[test]
fn bytes_of_requests_that_were_shed_are_named_so() {
    let mut watch = Watch::new(Socket::tcp(7, true), true);
    watch.socket.receive(&mut watch.tape, REQUEST);
    watch.socket.send(&mut watch.tape, ANSWER);
    let mut unseen = Tape::default();
    watch.socket.receive(&mut unseen, REQUEST);
    watch.socket.send(&mut unseen, ANSWER);
    watch.socket.flags |= flag::SHED;
    watch.socket.receive(&mut watch.tape, REQUEST);
    watch.socket.flags &= !flag::SHED;
    watch.socket.send(&mut watch.tape, ANSWER);
    let each = (REQUEST.len() + ANSWER.len()) as u64;
    assert_eq!(watch.bytes(), [(Class::Decoded, 2 * each), (Class::Shed, each)]);
}

#[test]
fn a_silent_beginning_is_of_an_unknown_protocol_until_it_goes_on() {
    let mut watch = Watch::new(Socket::tcp(7, true), true);
    watch.socket.receive(&mut watch.tape, b"GE");
    assert_eq!(watch.bytes(), [], "it may still be anything");
    watch.tape.now += 2_000_000_000;
    assert_eq!(watch.bytes(), [(Class::Unknown, 2)]);
    watch.socket.receive(&mut watch.tape, b"T / HTTP/1.1\r\n\r\n");
    assert_eq!(watch.bytes(), [(Class::Decoded, 16)]);
}

#[test]
fn the_agents_own_connections_are_nobodys() {
    let mut watch = Watch::new(Socket::tcp(7, true), true);
    watch.shard.mute_endpoint(OwnEndpoint { addr: None, port: 8080, netns: None });
    watch.socket.receive(&mut watch.tape, REQUEST);
    watch.socket.send(&mut watch.tape, ANSWER);
    watch.socket.close(&mut watch.tape, 0);
    let findings = watch.findings();
    assert!(findings.moved.is_empty() && findings.followed.is_empty(), "{findings:?}");
}
