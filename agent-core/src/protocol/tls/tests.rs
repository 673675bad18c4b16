use super::*;
use proptest::prelude::*;

/// A record with one handshake message.
fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[kind], &len[1..], body].concat();
    let len = u16::try_from(message.len()).unwrap().to_be_bytes();
    [&[22, 3, 1][..], &len, &message].concat()
}

fn block(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &block(body)].concat()
}

fn client_hello(name: &str) -> Vec<u8> {
    let names = block(&[&[0][..], &block(name.as_bytes())].concat());
    let extensions = [extension(10, &[0, 2, 0, 29]), extension(0, &names)].concat();
    let body = [&[3, 3][..], &[7; 32], &[0], &block(&[0x13, 2]), &[1, 0], &block(&extensions)];
    record(1, &body.concat())
}

fn server_hello(extensions: &[u8]) -> Vec<u8> {
    let body = [&[3, 3][..], &[9; 32], &[0], &[0x13, 2], &[0], &block(extensions)];
    record(2, &body.concat())
}

#[test]
fn both_hellos_tell_who_and_how() {
    let protocol = extension(16, &block(b"\x08http/1.1"));
    for (why, extensions, version, alpn) in [
        ("TLS 1.3", extension(43, &[3, 4]), Some("1.3"), ""),
        ("TLS 1.2", protocol, Some("1.2"), "http/1.1"),
        ("no extensions", Vec::new(), Some("1.2"), ""),
    ] {
        let mut handshake = Handshake::default();
        let (client, server) = (client_hello("shop.example"), server_hello(&extensions));
        assert!(!handshake.take(Direction::Send, &client, client.len() as u64), "{why}");
        // As OpenSSL reads: the record's header first.
        assert!(!handshake.take(Direction::Receive, &server[..5], 5), "{why}");
        assert!(handshake.take(Direction::Receive, &server[5..], server.len() as u64 - 5), "{why}");
        let facts = handshake.into_facts();
        assert_eq!(facts.version_name(), version, "{why}");
        assert_eq!(facts.cipher.and_then(cipher_name), Some("TLS_AES_256_GCM_SHA384"), "{why}");
        assert_eq!((&*facts.server_name, &*facts.protocol), ("shop.example", alpn), "{why}");
    }
}

#[test]
fn a_connection_in_the_middle_tells_nothing_and_is_soon_done() {
    let mut handshake = Handshake::default();
    let data = b"\x17\x03\x03\x00\x05abcde";
    assert!(!handshake.take(Direction::Send, data, 10));
    assert!(handshake.take(Direction::Receive, data, 10));
    assert_eq!(handshake.into_facts(), Facts::default());
}

#[test]
fn a_cut_hello_is_given_up() {
    let mut handshake = Handshake::default();
    let client = client_hello("shop.example");
    assert!(!handshake.take(Direction::Send, &client[..40], client.len() as u64));
    let server = server_hello(&[]);
    assert!(handshake.take(Direction::Receive, &server, server.len() as u64));
}

/// Keys, tickets and random numbers are not recorded; what is read of them says the same.
#[test]
fn what_is_recorded_of_a_hello_is_what_is_read_of_it() {
    let ticket = extension(35, b"a ticket");
    let client = {
        let names = block(&[&[0][..], &block(b"shop.example")].concat());
        let extensions = [ticket, extension(0, &names)].concat();
        let session = [&[8][..], b"session."].concat();
        let body = [&[3, 3][..], b"some random bytes, thirty-two...", &session];
        record(1, &[&body.concat()[..], &block(&[0x13, 2]), &[1, 0], &block(&extensions)].concat())
    };
    let key = extension(51, b"\x00\x1d\x00\x05a key");
    let server = server_hello(&[key, extension(43, &[3, 4])].concat());
    let (mut live, mut again) = (Handshake::default(), Handshake::default());
    for (way, bytes) in [(Direction::Send, &client), (Direction::Receive, &server)] {
        let kept = live.recordable(way, bytes);
        assert_eq!(kept.len(), bytes.len());
        for secret in [&b"random"[..], b"session.", b"ticket", b"a key", &[9; 32]] {
            assert!(!kept.windows(secret.len()).any(|window| window == secret), "{secret:?}");
        }
        let _ = live.take(way, bytes, bytes.len() as u64);
        let _ = again.take(way, &kept, kept.len() as u64);
    }
    let facts = live.into_facts();
    assert_eq!(facts, again.into_facts());
    assert_eq!((facts.version_name(), &*facts.server_name), (Some("1.3"), "shop.example"));
}

proptest! {
    #[test]
    fn what_is_recorded_of_any_bytes_tells_the_same(
        pieces in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..300)), 0..9),
        cuts in prop::collection::vec(0_usize..200, 0..4),
    ) {
        let (client, server) = (client_hello("shop.example"), server_hello(&extension(43, &[3, 4])));
        let mut calls = Vec::new();
        for (sends, hello) in [(true, client), (false, server)] {
            let mut at: Vec<usize> = cuts.iter().map(|cut| (*cut).min(hello.len())).collect();
            at.extend([0, hello.len()]);
            at.sort_unstable();
            calls.extend(at.windows(2).map(|cut| (sends, hello[cut[0]..cut[1]].to_vec())));
        }
        // Cut hellos, with and without strange bytes before.
        for calls in [[pieces.clone(), calls.clone()].concat(), calls] {
            let (mut live, mut again) = (Handshake::default(), Handshake::default());
            for (sends, bytes) in &calls {
                let way = if *sends { Direction::Send } else { Direction::Receive };
                let mut kept = live.recordable(way, bytes);
                kept.resize(bytes.len(), crate::redact::FILLER);
                let ends = live.take(way, bytes, bytes.len() as u64);
                prop_assert_eq!(ends, again.take(way, &kept, bytes.len() as u64));
            }
            prop_assert_eq!(live.into_facts(), again.into_facts());
        }
    }

    #[test]
    fn any_bytes_in_any_pieces_are_bounded_and_no_panic(
        pieces in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..600)), 0..64)
    ) {
        let mut handshake = Handshake::default();
        for (sends, bytes) in &pieces {
            let way = if *sends { Direction::Send } else { Direction::Receive };
            if handshake.take(way, bytes, bytes.len() as u64) {
                break;
            }
            prop_assert!(handshake.sides.iter().all(|side| side.bytes.len() <= MAX_HELLO));
        }
    }

    #[test]
    fn a_hello_in_any_two_pieces_is_the_same(at in 0_usize..100) {
        let client = client_hello("shop.example");
        let (one, two) = client.split_at(at.min(client.len()));
        let mut handshake = Handshake::default();
        for piece in [one, two] {
            handshake.take(Direction::Send, piece, piece.len() as u64);
        }
        prop_assert_eq!(handshake.into_facts().server_name, "shop.example");
    }
}
