use crate::flow::dns::{Answer, MAX_ADDRESSES, answer};
use proptest::prelude::*;
use std::net::IpAddr;
use std::slice::from_ref;

/// A name on the wire.
fn wire(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut bytes: Vec<u8> =
        labels.flat_map(|l| [&[l.len() as u8], l.as_bytes()].concat()).collect();
    bytes.push(0);
    bytes
}

fn message(flags: u16, name: &[u8], kind: u16, answers: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34];
    for word in [flags, 1, answers.len() as u16, 0, 0] {
        bytes.extend(word.to_be_bytes());
    }
    bytes.extend(name);
    bytes.extend([kind.to_be_bytes(), [0, 1]].concat());
    bytes.extend(answers.concat());
    bytes
}

/// A record whose name is a pointer to `at`.
fn record(at: u16, kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = (0xc000 | at).to_be_bytes().to_vec();
    bytes.extend([kind.to_be_bytes(), [0, 1]].concat());
    bytes.extend(ttl.to_be_bytes());
    bytes.extend((data.len() as u16).to_be_bytes());
    bytes.extend(data);
    bytes
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn answers_are_read_and_everything_else_is_none() {
    let name = wire("Shop.Example.test");
    let a = record(12, 1, 300, &[192, 0, 2, 7]);
    let aaaa = record(12, 28, 60, &"2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    let alias = record(12, 5, 60, &wire("other.test"));
    let odd = record(12, 1, 60, &[1, 2, 3]);
    let some = |addresses: &[(&str, u32)]| {
        let addresses = addresses.iter().map(|(text, ttl)| (ip(text), *ttl)).collect();
        Some(Answer { name: "shop.example.test".to_owned(), addresses })
    };
    let mut cut = message(0x8180, &name, 1, &[a.clone(), a.clone()]);
    cut.truncate(cut.len() - 3);
    for (why, bytes, expected) in [
        ("one", message(0x8180, &name, 1, from_ref(&a)), some(&[("192.0.2.7", 300)])),
        ("IPv6", message(0x8180, &name, 28, from_ref(&aaaa)), some(&[("2001:db8::1", 60)])),
        (
            "behind an alias",
            message(0x8180, &name, 1, &[alias.clone(), a.clone()]),
            some(&[("192.0.2.7", 300)]),
        ),
        ("the first of two, the second cut", cut, some(&[("192.0.2.7", 300)])),
        ("an address of three bytes", message(0x8180, &name, 1, &[odd]), None),
        ("no address", message(0x8180, &name, 1, &[alias]), None),
        ("a query", message(0x0100, &name, 1, from_ref(&a)), None),
        ("an error", message(0x8183, &name, 1, from_ref(&a)), None),
        ("a status request", message(0x9180, &name, 1, from_ref(&a)), None),
        ("the root", message(0x8180, &[0], 1, from_ref(&a)), None),
        ("a name that points to itself", message(0x8180, &[0xc0, 12], 1, from_ref(&a)), None),
        ("a name that points ahead", message(0x8180, &[0xc0, 99], 1, from_ref(&a)), None),
        ("a label of a reserved kind", message(0x8180, &[0x80, 0], 1, &[a]), None),
        ("nothing", Vec::new(), None),
    ] {
        assert_eq!(answer(&bytes), expected, "{why}");
    }
}

#[test]
fn a_name_cannot_speak_to_a_terminal_or_grow() {
    let a = record(12, 1, 1, &[192, 0, 2, 7]);
    let mut strange = vec![4, 0x1b, b'[', b'2', b'J', 0];
    let found = answer(&message(0x8180, &strange, 1, from_ref(&a))).expect("an answer");
    assert_eq!(found.name, "??2j".to_owned());
    // 127 labels of one byte are the longest that fit; more are refused.
    strange = [[1, b'a']; 200].concat();
    strange.push(0);
    assert_eq!(answer(&message(0x8180, &strange, 1, from_ref(&a))), None);
    let many = vec![a; 1000];
    let found = answer(&message(0x8180, &wire("a.test"), 1, &many)).expect("an answer");
    assert_eq!(found.addresses.len(), MAX_ADDRESSES);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Any bytes, and any bytes behind a right header.
    #[test]
    fn nothing_panics(tail in proptest::collection::vec(any::<u8>(), 0..200), header: bool) {
        let mut bytes = vec![0, 0, 0x81, 0x80, 0, 1, 0, 9, 0, 0, 0, 0];
        if !header {
            bytes.clear();
        }
        bytes.extend(tail);
        if let Some(found) = answer(&bytes) {
            prop_assert!(found.name.len() <= 255 && !found.addresses.is_empty());
        }
    }
}
