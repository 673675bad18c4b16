//! Whatever way a conversation is cut, and whatever is missing of it: the same messages, or fewer,
//! and never another one.

#[expect(dead_code, reason = "the table tests use the rest of this vocabulary")]
mod http1_support;

use agent_core::message::{Failure, Name, Role};
use agent_core::protocol::{Input, Progress};
use http1_support::{Player, Side};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Bodies that look like messages or framing. `/evil` and 500 occur nowhere else.
const BODIES: [&str; 6] = [
    "",
    "x",
    "GET /evil HTTP/1.1\r\nHost: e\r\n\r\n",
    "HTTP/1.1 500 Evil\r\nContent-Length: 0\r\n\r\n",
    "0\r\n\r\nGET /evil HTTP/1.1\r\n\r\n",
    "\r\n\r\nHTTP/1.1 500 Evil\r\n\r\nlong enough to be cut in several places, several times over",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length,
    Chunked,
    /// Response only: no body allowed.
    NoContent,
    /// Request only: HEAD.
    Head,
}

#[derive(Clone, Debug)]
struct Exchange {
    request: (Framing, &'static str),
    response: (Framing, &'static str),
    interim: usize,
    folded: bool,
}

/// Requests that are sent at once and answered at once; or one that waits for `100 Continue`.
#[derive(Clone, Debug)]
enum Batch {
    Pipelined(Vec<Exchange>),
    Expecting(Exchange),
}

/// What a perfect observer knows of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    path: String,
    position: u64,
    status: u16,
    request_body: u64,
    response_body: u64,
}

/// The bytes of a conversation, turn by turn.
#[derive(Default)]
struct Script {
    turns: Vec<(Side, Vec<u8>)>,
    known: Vec<Known>,
    sent: u64,
}

impl Script {
    fn of(batches: &[Batch]) -> Script {
        let mut script = Script::default();
        for batch in batches {
            match batch {
                Batch::Pipelined(exchanges) => script.pipelined(exchanges),
                Batch::Expecting(exchange) => script.expecting(exchange),
            }
        }
        script
    }

    fn pipelined(&mut self, exchanges: &[Exchange]) {
        let (mut requests, mut responses) = (Vec::new(), Vec::new());
        for exchange in exchanges {
            let (head, body) = self.exchange(exchange, requests.len(), "");
            requests.extend(head);
            requests.extend(body);
            responses.extend(self.response(exchange));
        }
        self.turn(Side::Request, requests);
        self.turn(Side::Response, responses);
    }

    fn expecting(&mut self, exchange: &Exchange) {
        let (head, body) = self.exchange(exchange, 0, "Expect: 100-continue\r\n");
        let response = self.response(exchange);
        self.turn(Side::Request, head);
        self.turn(Side::Response, b"HTTP/1.1 100 Continue\r\n\r\n".to_vec());
        self.turn(Side::Request, body);
        self.turn(Side::Response, response);
    }

    fn exchange(&mut self, exchange: &Exchange, before: usize, more: &str) -> (Vec<u8>, Vec<u8>) {
        let index = self.known.len();
        let (framing, body) = exchange.request;
        let method = if framing == Framing::Head { "HEAD" } else { "POST" };
        let fold = if exchange.folded { "X: a\r\n  b\r\n" } else { "" };
        let (field, body) = framed(framing, body);
        let head = format!("{method} /{index} HTTP/1.1\r\nHost: a\r\n{fold}{more}{field}\r\n");
        let silent = framing == Framing::Head || exchange.response.0 == Framing::NoContent;
        self.known.push(Known {
            path: format!("/{index}"),
            position: http1_support::REQUEST_START + self.sent + before as u64,
            status: status(exchange, index),
            request_body: if framing == Framing::Head {
                0
            } else {
                exchange.request.1.len() as u64
            },
            response_body: if silent { 0 } else { exchange.response.1.len() as u64 },
        });
        (head.into_bytes(), body)
    }

    /// The response to the youngest request.
    fn response(&self, exchange: &Exchange) -> Vec<u8> {
        let status = status(exchange, self.known.len() - 1);
        let (framing, body) = exchange.response;
        let (field, mut body) = framed(framing, body);
        if exchange.request.0 == Framing::Head {
            body.clear();
        }
        let mut bytes =
            "HTTP/1.1 103 Early\r\nLink: x\r\n\r\n".repeat(exchange.interim).into_bytes();
        bytes.extend(format!("HTTP/1.1 {status} S\r\nServer: s\r\n{field}\r\n").bytes());
        bytes.extend(body);
        bytes
    }

    fn turn(&mut self, side: Side, bytes: Vec<u8>) {
        if side == Side::Request {
            self.sent += bytes.len() as u64;
        }
        self.turns.push((side, bytes));
    }
}

/// Every response has a status of its own, so that a wrong pair shows.
fn status(exchange: &Exchange, index: usize) -> u16 {
    match exchange.response.0 {
        Framing::NoContent => [204, 304][index % 2],
        _ => 210 + index as u16,
    }
}

/// Field line and body.
fn framed(framing: Framing, body: &str) -> (String, Vec<u8>) {
    match framing {
        Framing::NoContent | Framing::Head => (String::new(), Vec::new()),
        Framing::Length => {
            (format!("Content-Length: {}\r\n", body.len()), body.as_bytes().to_vec())
        }
        Framing::Chunked => {
            let (first, second) = body.split_at(body.len() / 2);
            let chunk = |text: &str| match text {
                "" => String::new(),
                text => format!("{:x};e=1\r\n{text}\r\n", text.len()),
            };
            let coded =
                format!("{}{}0\r\nT: GET /evil HTTP/1.1\r\n\r\n", chunk(first), chunk(second));
            ("Transfer-Encoding: chunked\r\n".into(), coded.into_bytes())
        }
    }
}

/// What becomes of a segment.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Whole,
    /// So many 16ths of it are captured.
    Cut(usize),
    Lost,
}

fn exchange() -> impl Strategy<Value = Exchange> {
    let request = select(vec![Framing::Length, Framing::Length, Framing::Chunked, Framing::Head]);
    let response =
        select(vec![Framing::Length, Framing::Length, Framing::Chunked, Framing::NoContent]);
    let interim = prop_oneof![4 => Just(0), 1 => Just(1), 1 => Just(2)];
    (request, select(&BODIES[..]), response, select(&BODIES[..]), interim, any::<bool>()).prop_map(
        |(request, sent, response, received, interim, folded)| Exchange {
            request: (request, sent),
            response: (response, received),
            interim,
            folded,
        },
    )
}

fn batches() -> impl Strategy<Value = Vec<Batch>> {
    let expecting = exchange()
        .prop_filter("a HEAD has no body to wait with", |e| e.request.0 != Framing::Head)
        .prop_filter("nor has an empty one", |e| !e.request.1.is_empty())
        .prop_map(Batch::Expecting);
    let one = exchange().prop_map(|exchange| Batch::Pipelined(vec![exchange]));
    let several = vec(exchange(), 2..5).prop_map(Batch::Pipelined);
    vec(prop_oneof![4 => one, 1 => several, 1 => expecting], 1..8)
}

fn roles() -> impl Strategy<Value = Role> {
    select(vec![Role::Server, Role::Client])
}

/// Sizes of segments, used in turn; each a share of what is common.
fn sizes() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![1 => 1..4usize, 2 => 1..60usize, 2 => 60..400usize], 1..40)
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![
        6 => Just(Fate::Whole),
        1 => (0..16usize).prop_map(Fate::Cut),
        1 => Just(Fate::Lost),
    ];
    vec(fate, 1..40)
}

/// Plays calls with true positions. Missing bytes are named when the next call in their direction
/// is reported, as the connection stage does.
struct Calls {
    player: Player,
    missing: [u64; 2],
    next: [u64; 2],
}

impl Calls {
    fn new(role: Role) -> Calls {
        let player = Player::new(role);
        let next = [player.position(Side::Request), player.position(Side::Response)];
        Calls { player, missing: [0; 2], next }
    }

    /// Plays `turns`, cut into `sizes`, each piece with its fate.
    fn play(&mut self, turns: &[(Side, Vec<u8>)], sizes: &[usize], fates: &[Fate]) {
        let (mut sizes, mut fates) = (sizes.iter().cycle(), fates.iter().cycle());
        for (side, bytes) in turns {
            let mut rest = bytes.as_slice();
            while !rest.is_empty() && self.player.progress == Progress::Continues {
                let size = (*sizes.next().expect("sizes are repeated without end")).min(rest.len());
                // The last byte goes with those before it: see the test that loses calls.
                let size = if size > 1 && rest.len() == size + 1 { rest.len() } else { size };
                let (piece, after) = rest.split_at(size);
                rest = after;
                match fates.next().expect("fates are repeated without end") {
                    Fate::Whole => self.call(*side, piece, size),
                    Fate::Cut(part) => self.call(*side, &piece[..size * part / 16], size),
                    Fate::Lost => {
                        self.missing[*side as usize] += size as u64;
                        self.next[*side as usize] += size as u64;
                    }
                }
            }
        }
    }

    fn call(&mut self, side: Side, captured: &[u8], len: usize) {
        self.name_gap(side);
        let [this, other] = [side as usize, 1 - side as usize];
        self.player.raw(side, self.next[this], self.next[other], captured, len as u64);
        self.next[this] += len as u64;
    }

    fn name_gap(&mut self, side: Side) {
        let len = std::mem::take(&mut self.missing[side as usize]);
        if len > 0 {
            let direction = side.direction(self.player.role);
            let position = self.next[side as usize] - len;
            self.player.input(&Input::Gap { direction, position, len });
        }
    }

    fn closed(mut self) -> Player {
        self.name_gap(Side::Request);
        self.name_gap(Side::Response);
        self.player.closed(Failure::ConnectionClosed)
    }
}

fn play(script: &Script, role: Role, sizes: &[usize], fates: &[Fate]) -> Player {
    let mut calls = Calls::new(role);
    calls.play(&script.turns, sizes, fates);
    calls.closed()
}

/// Every message is a true one, with a true status and true sizes where it says any.
fn assert_true(player: &Player, known: &[Known]) {
    for (index, started) in player.log.started.iter().enumerate() {
        let path = String::from_utf8_lossy(started.head.get(Name::Path).unwrap_or_default());
        let truth = known.iter().find(|k| k.position == started.position && k.path == path);
        let Some(truth) = truth else { panic!("{path} at {} never was", started.position) };
        let Some(end) = player.log.end_of(index) else { panic!("{path} never ends") };
        assert!(end.status.is_none_or(|s| s == truth.status), "{path}: {:?}", end.status);
        let request = end.request_body.is_none_or(|size| size == truth.request_body);
        let response = end.response_body.is_none_or(|size| size == truth.response_body);
        assert!(request && response, "{path}: {end:?}, true {truth:?}");
        let complete = end.status.is_some() || end.failure.is_some();
        assert!(complete, "{path}: neither a status nor a failure");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_the_same_messages(
        batches in batches(), role in roles(), sizes in sizes(),
    ) {
        let script = Script::of(&batches);
        let player = play(&script, role, &sizes, &[Fate::Whole]);
        assert_true(&player, &script.known);
        prop_assert_eq!(player.log.started.len(), script.known.len());
        for (index, truth) in script.known.iter().enumerate() {
            let end = player.log.end_of(index).unwrap();
            prop_assert_eq!(end.status, Some(truth.status));
            prop_assert_eq!(end.failure, None);
            prop_assert_eq!(end.request_body, Some(truth.request_body));
            prop_assert_eq!(end.response_body, Some(truth.response_body));
        }
    }

    #[test]
    fn any_loss_gives_a_subset_and_never_a_false_message(
        batches in batches(), role in roles(), sizes in sizes(), fates in fates(),
    ) {
        let script = Script::of(&batches);
        let player = play(&script, role, &sizes, &fates);
        assert_true(&player, &script.known);
    }

    /// Without pipelining and 100-continue, a lost call costs at most the exchanges that it
    /// touches, those whose framing it hides, and one turn to be sure. Calls of one byte are not
    /// lost here: that much cannot be told from a FIN, and looks like pipelining.
    #[test]
    fn after_a_loss_a_plain_connection_is_found_again(
        before in vec(exchange(), 1..4), role in roles(), sizes in vec(2..200usize, 1..40),
        fates in fates(),
    ) {
        let plain = |exchange: &Exchange| Batch::Pipelined(vec![exchange.clone()]);
        let damaged = Script::of(&before.iter().map(plain).collect::<Vec<_>>());
        let sure = Exchange {
            request: (Framing::Length, ""),
            response: (Framing::Length, "x"),
            interim: 0,
            folded: false,
        };
        let all = before.iter().map(plain).chain(std::iter::repeat_n(plain(&sure), 3));
        let script = Script::of(&all.collect::<Vec<_>>());
        let (damaged, sound) = script.turns.split_at(damaged.turns.len());
        let mut calls = Calls::new(role);
        calls.play(damaged, &sizes, &fates);
        calls.play(sound, &[4096], &[Fate::Whole]);
        let player = calls.closed();
        let last = player.log.started.len().checked_sub(1).expect("nothing found again");
        let truth = script.known.last().unwrap();
        prop_assert_eq!(player.log.started[last].position, truth.position);
        prop_assert_eq!(player.log.end_of(last).unwrap().status, Some(truth.status));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..2000)) {
        agent_core::fuzzing::http1(&bytes);
    }

    #[test]
    fn pieces_of_messages_in_any_order_never_panic(
        pieces in vec((0..=255u8, select(&PIECES[..]), any::<bool>()), 0..60),
    ) {
        let mut bytes = Vec::new();
        for (op, piece, ends) in pieces {
            if ends {
                bytes.extend([0xff, op]);
            }
            bytes.extend(piece.as_bytes());
        }
        agent_core::fuzzing::http1(&bytes);
    }
}

const PIECES: [&str; 14] = [
    "GET / HTTP/1.1\r\n",
    "HEAD /a HTTP/1.0\r\n",
    "CONNECT a:1 HTTP/1.1\r\n",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 100 C\r\n",
    "HTTP/1.1 101 S\r\n",
    "HTTP/1.1 304 N\r\n",
    "Content-Length: 7\r\n",
    "Transfer-Encoding: chunked\r\n",
    "\r\n",
    "5\r\nabcde\r\n",
    "0\r\n\r\n",
    " folded\r\n",
    "\n",
];
