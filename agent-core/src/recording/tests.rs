//! What is recorded replays to the same, and holds no secret.

use super::*;
use crate::connection::tests::Kept;
use crate::connection::{Shard, ShardConfig};
use crate::event::{ProcessKey, decode};
use crate::id::IdKey;
use crate::message::{Name, Signal};
use crate::process::kubernetes::{Pod, PodChange, testing};
use crate::process::{HostFacts, PodUid, ProcessFacts};
use crate::redact;
use crate::testing::{Slot, Socket, Tape};
use agent_common::record::{self, Exec, Header, direction, flag, kind, role};
use proptest::prelude::*;
use zerocopy::IntoBytes;

const SECRET: &str = "hunter2";

/// Bytes that go one way; `true` from the client.
type Turn = (bool, String);

fn turn(from_client: bool, text: &str) -> Turn {
    (from_client, text.replace("SECRET", SECRET))
}

fn conversations() -> Vec<(&'static str, Vec<Turn>)> {
    let get = |path: &str| turn(true, &format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n"));
    let ok =
        turn(false, "HTTP/1.1 200 OK\r\nSet-Cookie: s=SECRET\r\nContent-Length: 7\r\n\r\nSECRET");
    // Where the opening and the head are both lost, nothing tells this body from a request: its
    // path is seen then, its secrets are not.
    let body = "GET /in-a-body?token=SECRET HTTP/1.1\r\nHost: b\r\nX-Y: SECRET\r\n\r\n";
    let post = "POST /p HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 12\r\n\r\n";
    vec![
        (
            "secrets everywhere",
            vec![
                turn(
                    true,
                    "GET http://bob:SECRET@a/x?q=1&token=SECRET&b=2 HTTP/1.1\r\nHost: a\r\n\
                     Cookie: id=SECRET\r\nauthorization: Bearer SECRET\r\nX-Request-Id: r1\r\n\
                     traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n",
                ),
                ok.clone(),
                get("/two"),
                ok.clone(),
            ],
        ),
        (
            "chunks with extensions and trailers",
            vec![
                turn(
                    true,
                    "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                     7;e=SECRET\r\nSECRET\r\n9\r\n0\r\nSECRET\r\n0\r\nX-Sum: SECRET\r\n\r\n",
                ),
                turn(
                    false,
                    "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n\
                     a\r\nxx\nSECRET\r\n0\r\n\r\n",
                ),
                get("/after"),
                ok.clone(),
            ],
        ),
        (
            "no bodies",
            vec![
                turn(true, "HEAD /h HTTP/1.1\r\nHost: a\r\n\r\n"),
                turn(false, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
                get("/304"),
                turn(false, "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
                get("/204"),
                turn(false, "HTTP/1.1 204 No Content\r\n\r\n"),
                get("/last"),
                ok.clone(),
            ],
        ),
        (
            "pipelined",
            vec![
                (true, format!("{}{}{}", get("/1").1, get("/2").1, get("/3").1)),
                (false, format!("{0}{0}{0}", ok.1)),
                get("/4"),
                ok.clone(),
            ],
        ),
        (
            "continue",
            vec![
                turn(true, post),
                turn(false, "HTTP/1.1 100 Continue\r\n\r\n"),
                turn(true, "SECRET and\r\n"),
                ok.clone(),
            ],
        ),
        (
            "until close",
            vec![get("/u"), turn(false, "HTTP/1.0 200 OK\r\n\r\nSECRET\r\n\r\nSECRET")],
        ),
        (
            "upgrade",
            vec![
                turn(
                    true,
                    "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
                ),
                turn(false, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
                turn(true, "SECRET"),
                turn(false, "SECRET"),
            ],
        ),
        (
            "a body that looks like a request",
            vec![
                turn(
                    true,
                    &format!(
                        "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
                        turn(true, body).1.len()
                    ),
                ),
                ok.clone(),
                get("/after"),
                ok.clone(),
            ],
        ),
        (
            "longer than the capture",
            vec![
                (true, format!("GET /l?{} HTTP/1.1\r\nHost: a\r\n\r\n", "q=SECRET&".repeat(3))),
                turn(
                    false,
                    &format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n{}",
                        "SECRET".repeat(10_000)
                    ),
                ),
                get("/after"),
                ok.clone(),
            ],
        ),
        ("TLS", vec![turn(true, "\x16\x03\x01\x02\x00\x01\x00SECRET"), turn(false, "SECRET")]),
        ("a line of another protocol", vec![turn(true, "SECRET"), turn(true, "\x01SECRET")]),
    ]
}

/// Both ends' records, each turn cut into calls at `cuts` (in 1/256 of its length).
fn tape(turns: &[Turn], cuts: &[u8], joined: bool) -> Tape {
    let mut tape = Tape::default();
    let mut ends = [Socket::tcp(1, false), Socket::tcp(2, true)];
    for end in &mut ends {
        end.connection.role = if joined { role::UNKNOWN } else { end.connection.role };
        end.open(&mut tape);
    }
    let [client, server] = &mut ends;
    for (from_client, text) in turns {
        let (from, to) =
            if *from_client { (&mut *client, &mut *server) } else { (&mut *server, &mut *client) };
        let mut at: Vec<usize> = cuts.iter().map(|c| usize::from(*c) * text.len() / 256).collect();
        at.extend([0, text.len()]);
        at.sort_unstable();
        for piece in at.windows(2).filter(|piece| piece[0] < piece[1]) {
            let bytes = &text.as_bytes()[piece[0]..piece[1]];
            from.send(&mut tape, bytes);
            to.receive(&mut tape, bytes);
        }
    }
    for end in &ends {
        end.shutdown(&mut tape);
        end.close(&mut tape, 0);
    }
    tape
}

fn shard() -> Shard {
    Shard::new(ShardConfig { id_key: IdKey([7; 16]), ..ShardConfig::default() })
}

/// Runs `slots` as `run` would: signals, the recording, and the copies that left undecided.
fn record(slots: &[Slot]) -> (Vec<String>, Vec<u8>, u64) {
    let preamble = Preamble { id_key: IdKey([7; 16]), ..Preamble::default() };
    let mut writer = Writer::new(Vec::new(), &preamble).unwrap();
    let (mut shard, mut scrubber, mut kept) = (shard(), Scrubber::new(), Kept::default());
    let mut write = |released: Released<'_>| {
        let item = match released {
            Released::Record(bytes) => Item::Record { ring: 1, bytes },
            Released::Tick(boot_ns) => Item::Tick { ring: 1, boot_ns },
        };
        writer.item(&item).unwrap();
    };
    for slot in slots {
        scrubber.ingest(&mut shard, &slot.event(), &mut kept, &mut write);
    }
    scrubber.idle(&mut shard, 60_000_000_000, &mut kept, &mut write);
    scrubber.finish(&mut shard, &mut kept, &mut write);
    (shown(&kept), writer.finish().unwrap(), scrubber.forced())
}

fn replay(file: &[u8]) -> Vec<String> {
    let (mut reader, preamble) = Reader::new(file).unwrap();
    assert_eq!(preamble.id_key, IdKey([7; 16]));
    let (mut shard, mut kept) = (shard(), Kept::default());
    while let Some(item) = reader.item().unwrap() {
        match item {
            Item::Record { bytes, .. } => shard.ingest(&decode(bytes).unwrap(), &mut kept),
            Item::Tick { boot_ns, .. } => shard.idle(boot_ns, &mut kept),
            _ => {}
        }
    }
    shard.finish(&mut kept);
    shown(&kept)
}

/// Signals as text, with what spans show of a query.
fn shown(kept: &Kept) -> Vec<String> {
    let show = |signal: &Signal| match signal {
        Signal::Started(started) => {
            let mut started = started.clone();
            let query =
                started.head.get(Name::Query).map(|q| String::from_utf8_lossy(q).into_owned());
            let query = query.map(|q| redact::query(&q).into_owned());
            let field = std::mem::replace(
                &mut started.head.fields[Name::Query as usize],
                crate::message::Field::ABSENT,
            );
            let range = field.start as usize..(field.start + field.len.min(9999)) as usize;
            if field.is_present() {
                started.head.text[range].fill(b'*');
            }
            format!("{started:?} {query:?}")
        }
        other => format!("{other:?}"),
    };
    kept.signals.iter().map(show).collect()
}

fn holds(file: &[u8], text: &str) -> bool {
    file.windows(text.len()).any(|window| window == text.as_bytes())
}

fn holds_secret(file: &[u8]) -> bool {
    holds(file, SECRET)
}

fn check(why: &str, tape: &Tape) -> Vec<String> {
    let (live, file, forced) = record(&tape.slots);
    assert_eq!(forced, 0, "{why}: undecided");
    assert!(!holds_secret(&file), "{why}: a secret is in the recording");
    assert!(!holds(&file, "in-a-body"), "{why}: a body is in the recording");
    assert_eq!(live, replay(&file), "{why}: replay differs");
    live
}

#[test]
fn a_recording_replays_to_the_same_signals_and_holds_no_secret() {
    for (why, turns) in conversations() {
        let live = check(why, &tape(&turns, &[], false));
        let started = live.iter().filter(|s| s.starts_with("Started")).count();
        let requests =
            turns.iter().filter(|t| t.0).map(|t| t.1.matches(" HTTP/1.1\r\nHost: a").count());
        assert_eq!(started, 2 * requests.sum::<usize>(), "{why}: {live:#?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_split_and_any_loss_replays_to_the_same(
        which in 0..conversations().len(),
        cuts in proptest::collection::vec(any::<u8>(), 0..6),
        lost in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
        joined in any::<bool>(),
    ) {
        let (why, turns) = conversations().swap_remove(which);
        let mut tape = tape(&turns, &cuts, joined);
        for index in lost {
            let at = index.index(tape.slots.len());
            tape.slots.remove(at);
        }
        let (live, file, forced) = record(&tape.slots);
        prop_assert!(!holds_secret(&file), "{}: a secret is in the recording", why);
        if forced > 0 {
            // A head whose end was lost waited in vain for it: it left as filler, and is counted.
            return Ok(());
        }
        if let Some((at, (live, again))) =
            live.iter().zip(&replay(&file)).enumerate().find(|(_, (a, b))| a != b)
        {
            prop_assert!(false, "{}: replay differs at {}\n{}\n{}", why, at, live, again);
        }
        prop_assert_eq!(live.len(), replay(&file).len(), "{}: replay is shorter or longer", why);
    }
}

/// A TLS handshake message in a record of its own.
fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    let len = body.len() as u8;
    [&[22, 3, 3, 0, len + 4, kind, 0, 0, len][..], body].concat()
}

#[test]
fn what_hellos_say_is_replayed_and_their_secrets_are_not() {
    let secret = format!("{SECRET:.<32}");
    let name = [&[0, 0, 0, 6, 0, 4, 0, 0, 1][..], b"a"].concat();
    let client =
        [&[3, 3][..], secret.as_bytes(), &[0, 0, 2, 0x13, 2, 1, 0, 0, name.len() as u8], &name]
            .concat();
    let server =
        [&[3, 3][..], secret.as_bytes(), &[0, 0x13, 2, 0, 0, 6, 0, 43, 0, 2, 3, 4]].concat();
    let (mut tape, mut socket) = (Tape::default(), Socket::tcp(7, false));
    socket.open(&mut tape);
    socket.send(&mut tape, &handshake(1, &client));
    // As OpenSSL reads: a record's header, then the record.
    let hello = handshake(2, &server);
    socket.receive(&mut tape, &hello[..5]);
    socket.receive(&mut tape, &hello[5..]);
    let mut plain = Socket::tcp(7, false);
    plain.positions = [0, 0];
    plain.flags |= flag::PLAINTEXT | flag::COUNTED;
    plain.send(&mut tape, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    plain.receive(&mut tape, b"HTTP/1.1 204 No Content\r\n\r\n");
    let live = check("TLS", &tape);
    let opened =
        live.iter().find(|signal| signal.contains("version: Some(772), cipher: Some(4866)"));
    assert!(opened.is_some(), "{live:#?}");
}

#[test]
fn items_survive() {
    let facts = ProcessFacts {
        key: ProcessKey { tgid: 7, start_ns: 9 },
        args: vec!["a".into(), String::new()],
        environment: vec![("OTEL_SERVICE_NAME".into(), "é".into())],
        cgroup: "0::/x".into(),
        ..ProcessFacts::default()
    };
    let items = [
        Item::Record { ring: 3, bytes: b"twelve bytes" },
        Item::Process(Box::new(facts)),
        Item::Pod(Box::new(PodChange::known(testing::pod()))),
        Item::Pod(Box::new(PodChange::known(Pod {
            cgroup_uid: PodUid::parse(&"4".repeat(32)),
            labels: vec![("tier".into(), "front".into())],
            annotations: vec![("service.name".into(), "said".into())],
            ..testing::pod()
        }))),
        Item::Pod(Box::new(PodChange::Gone(testing::uid()))),
        Item::Tick { ring: 1, boot_ns: 5 },
        Item::Clock { boot_ns: 6, unix_minus_boot_ns: -7 },
        Item::Counters(vec![1, 2, u64::MAX]),
        Item::Settle { ring: 2, cpu: 9, next: 10 },
    ];
    let preamble = Preamble {
        id_key: IdKey([1; 16]),
        record_version: 1,
        raw: true,
        host: HostFacts { name: "h".into(), ..HostFacts::default() },
        settings: vec![("head-bytes".into(), "4096".into())],
    };
    let mut writer = Writer::new(Vec::new(), &preamble).unwrap();
    items.iter().for_each(|item| writer.item(item).unwrap());
    let file = writer.finish().unwrap();
    let (mut reader, read) = Reader::new(file.as_slice()).unwrap();
    assert_eq!(read, preamble);
    for item in items {
        assert_eq!(reader.item().unwrap(), Some(item));
    }
    assert_eq!(reader.item().unwrap(), Some(Item::End(Totals { items: 9, records: 1 })));
    assert_eq!(reader.item().unwrap(), None);
}

fn read_all(file: &[u8]) -> Result<u64, ReadError> {
    let (mut reader, _) = Reader::new(file)?;
    while reader.item()?.is_some() {}
    Ok(reader.read().items)
}

#[test]
fn a_cut_file_says_where_and_replays_up_to_there() {
    let (_, turns) = conversations().swap_remove(0);
    let (_, file, _) = record(&tape(&turns, &[], false).slots);
    let all = read_all(&file).unwrap();
    let mut before = 0;
    for end in 0..file.len() {
        match read_all(&file[..end]) {
            Err(ReadError::Truncated { offset, items }) => {
                assert_eq!(offset, end as u64);
                assert!(items >= before, "more of the file, fewer items");
                before = items;
            }
            Err(ReadError::NotARecording) if end < 18 => {}
            other => panic!("{end} of {} bytes: {other:?}", file.len()),
        }
    }
    assert_eq!(before, all, "only the end item was missing");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_damaged_file_is_an_error_or_other_items_and_never_a_panic(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let (_, turns) = conversations().swap_remove(1);
        let (_, mut file, _) = record(&tape(&turns, &[], false).slots);
        for (at, byte) in damage {
            let at = at.index(file.len());
            file[at] = byte;
        }
        if let Ok((mut reader, _)) = Reader::new(file.as_slice()) {
            let (mut shard, mut kept) = (shard(), Kept::default());
            while let Ok(Some(item)) = reader.item() {
                if let Item::Record { bytes, .. } = item
                    && let Ok(event) = decode(bytes)
                {
                    shard.ingest(&event, &mut kept);
                }
            }
            shard.finish(&mut kept);
        }
    }
}

#[test]
fn secrets_of_an_argument_block_become_filler_that_redacts_to_the_same() {
    let block = b"mysql\0--password=hunter2\0-uroot\0";
    let header = Header {
        version: record::VERSION,
        kind: kind::EXEC,
        direction: direction::SEND,
        captured_len: block.len() as u32,
        total_len: block.len() as u32,
        ..Header::default()
    };
    let exec = Exec { header, ..record_zeroed() };
    let slot = Slot::new(exec.as_bytes(), block);
    let scrubbed = scrub_process_record(&slot.event());
    assert_eq!(scrubbed.len(), slot.bytes().len());
    assert!(!holds_secret(&scrubbed));
    let tail = &scrubbed[scrubbed.len() - block.len()..];
    assert_eq!(tail, b"mysql\0--password=xxxxxxx\0-uroot\0");
}

fn record_zeroed() -> Exec {
    zerocopy::FromBytes::read_from_bytes(&[0; size_of::<Exec>()]).unwrap()
}
