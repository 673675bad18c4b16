//! Connections that are left out whole: each is counted, with the reason.

use super::*;

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
const SWITCHES: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

fn connections(shard: &Shard) -> Vec<(&'static str, u64)> {
    let of = |entry: Entry| match entry.side {
        Side::Info(name) if entry.unit == "connections" && entry.count > 0 => {
            Some((name, entry.count))
        }
        _ => None,
    };
    shard.ledger().into_iter().filter_map(of).collect()
}

#[test]
fn every_connection_that_is_left_out_is_counted_with_its_reason() {
    let export = format!("POST /v1/traces HTTP/1.1\r\nUser-Agent: {PRODUCT_TOKEN}1 x\r\n\r\n");
    // A record of a library's ciphertext that is older than the agent, and nothing to read it by.
    let record = b"\x17\x03\x03\x00\x45xx";
    for (why, own, said, expected) in [
        (
            "a banner",
            false,
            vec![&b"\x4a\x00\x00\x00\x0a8.0.36\x00"[..]],
            vec![("muted_unknown", 1)],
        ),
        ("HTTP/2", false, vec![b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], vec![("muted_http2", 1)]),
        ("TLS", false, vec![record; 4], vec![("muted_tls", 1)]),
        ("an upgrade", false, vec![GET, SWITCHES, b"\x81\x00"], vec![("muted_upgraded", 1)]),
        ("our own", true, vec![GET, OK], vec![("muted_own", 1)]),
        ("an agent's", false, vec![export.as_bytes(), OK], vec![("muted_own", 1)]),
        ("HTTP", false, vec![GET, OK, GET, OK], vec![]),
    ] {
        let (mut tape, mut socket) = (Tape::default(), Socket::tcp(7, false));
        socket.open(&mut tape);
        for (at, bytes) in said.iter().enumerate() {
            match at % 2 {
                0 => socket.send(&mut tape, bytes),
                _ => socket.receive(&mut tape, bytes),
            }
        }
        let mut shard = shard();
        if own {
            shard.mute_endpoint(OwnEndpoint { addr: None, port: 8080, netns: None });
        }
        let mut kept = run(&mut shard, &tape.slots);
        shard.finish(&mut kept);
        assert_eq!(connections(&shard), expected, "{why}");
        let of_agents = u64::from(why == "an agent's");
        assert_eq!(count(&shard, "requests", Side::Info("of_agents")), of_agents, "{why}");
    }
}

#[test]
fn a_connection_that_nobody_can_follow_any_more_is_counted() {
    let (mut tape, mut socket) = (Tape::default(), Socket::tcp(7, false));
    socket.open(&mut tape);
    socket.send(&mut tape, &[GET, GET].concat());
    // The answers are lost; the next request may be anybody's.
    socket.receive(&mut tape, &[OK, OK].concat());
    tape.lose_last();
    socket.send(&mut tape, GET);
    socket.receive(&mut tape, OK);
    let mut shard = shard();
    let mut kept = run(&mut shard, &tape.slots);
    shard.finish(&mut kept);
    assert_eq!(started(&kept), 2);
    assert_eq!(connections(&shard), [("muted_upgraded", 1), ("not_followed_further", 1)]);
}
