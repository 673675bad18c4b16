//! What the fuzz targets call: bytes to inputs of a stage, and what must hold whatever they are.

mod kubernetes;
mod names;
mod proc;
mod recording;
mod redact;
mod wire;

pub use kubernetes::kubernetes;
pub use names::names;
pub use proc::proc;
pub use recording::recording;
pub use redact::redact;
pub use wire::wire;

use crate::elf::thread_local::Place;
use crate::elf::{Elf, boringssl};
use crate::event;
use crate::flow::{self, dns};
use crate::golang;
use crate::id::SpanId;
use crate::message::{Failure, Finished, Started, Thread};
use crate::process;
use crate::protocol::http1::{self, Http1};
use crate::protocol::tls::Handshake;
use crate::protocol::{Direction, Input, Progress, Segment, Sink};
use crate::route::{OVERFLOW, RouteConfig, RouteLimits, Routes, Rule, Template};

/// Most heap bytes one HTTP/1 connection may hold: two heads of 24 KiB (a growing vector may have
/// twice that), held segments, and the queue of open requests.
const MAX_HELD_BYTES: usize = 256 * 1024;

/// Decodes a record; every record must fit its slot.
///
/// # Panics
/// When that does not hold.
pub fn record(bytes: &[u8]) {
    if let Ok(event) = event::decode(bytes) {
        assert!(event::record_len(&event) <= bytes.len(), "a record longer than its slot");
    }
}

/// Reads an executable.
///
/// # Panics
/// When what is found lies outside of what any file can hold.
pub fn golang(bytes: &[u8]) {
    let mut file = bytes;
    if let Ok(Some(program)) = golang::analyse(&mut file) {
        assert!(program.slot < 0, "the goroutine's place lies below the thread pointer");
        if let Some((first, last)) = program.servants {
            assert!(first <= last, "{first:#x} {last:#x}");
        }
    }
    if let Ok(Some(places)) = golang::tls(&mut file) {
        let sorted = places.is_sorted_by(|(one, _), (other, _)| one < other);
        assert!(sorted, "each place once: {places:?}");
    }
    golang::check_exits(bytes);
}

/// Reads a DNS answer, and records of the flow ring.
///
/// # Panics
/// When an answer has no address, too many, or a name longer than DNS allows.
pub fn dns(bytes: &[u8]) {
    if let Some(answer) = dns::answer(bytes) {
        assert!((1..=dns::MAX_ADDRESSES).contains(&answer.addresses.len()), "addresses");
        assert!((1..=255).contains(&answer.name.len()), "a name of {} bytes", answer.name.len());
    }
    let _ = flow::record::decode(bytes);
}

/// Learns routes of paths, a line each, and reads each as a template.
///
/// # Panics
/// When a name is no path, is longer than its parts may be, or there are more than were allowed.
pub fn routes(bytes: &[u8]) {
    let limits = RouteLimits { services: 3, routes: 8, nodes: 40 };
    let text = String::from_utf8_lossy(bytes);
    let template = |line: &str| Template::parse(line).ok();
    let rules = text.lines().take(2).filter_map(template);
    let rules: Vec<Rule> = rules.map(|template| Rule { service: None, template }).collect();
    let mut routes = Routes::new(RouteConfig { rules: rules.clone(), learn: true, limits });
    let mut names = std::collections::BTreeSet::new();
    for (at, line) in text.lines().enumerate() {
        let service = if at % 7 == 6 { "other" } else { "one" };
        let Some(route) = routes.route(service, line, at % 5 != 4) else { continue };
        let name = route.text;
        let by_rule = rules.iter().any(|rule| rule.template.text() == name);
        assert!(by_rule || name == OVERFLOW || name.starts_with('/'), "{name}");
        assert!(name.len() <= 13 * 33, "{name}");
        names.insert((service, name.to_owned()));
    }
    assert!(names.len() <= text.lines().count(), "a name for each path at most");
    let ledger = routes.ledger();
    let held = ledger.iter().find(|entry| entry.unit == "places");
    assert!(held.is_some_and(|held| held.count <= 40), "{held:?}");
}

/// Reads lines of `/proc/PID/cgroup`.
///
/// # Panics
/// When what is found is not in the text.
pub fn cgroup(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let found = process::place(&text);
    for id in &found.containers {
        assert!(text.contains(id) && id.len() >= 34, "{id} in {text}");
    }
    for pod in &found.pods {
        let name = pod.to_string();
        assert!(text.contains(&name) || text.contains(&name.replace('-', "_")) || pod.is_uuid);
        assert_eq!(process::PodUid::parse(&name), Some(*pod), "{name} in {text}");
    }
}

/// Looks for functions, the build id and marks in a program of a stranger.
///
/// # Panics
/// When a parser does; or when more is found than is in the file.
pub fn elf(bytes: &[u8]) {
    let Some(elf) = Elf::parse(bytes) else { return };
    let exported = elf.exported(&["SSL_read", "main"]);
    let named = elf.functions(&|name| name.len() < 64);
    let end = bytes.len() as u64;
    for offset in exported.values().chain(named.values()) {
        let code = elf.bytes(*offset, 16);
        assert!(*offset < end || code.is_empty(), "code behind the file's end");
    }
    assert!(elf.build_id().len() <= bytes.len());
    let _ = (elf.is_program(), elf.contains(&[b"mark"]));
    for (_, places) in elf.marks(&[boringssl::MARK]) {
        let _ = boringssl::find(&elf, &places);
    }
    let variable = elf.thread_local("otel_thread_ctx_v1");
    let place = variable.and_then(|found| found.place(0, |at| words(bytes, at)).ok());
    if let Some(Place { offset, module }) = place {
        assert_eq!(module == 0, offset < 0, "a place that no thread has");
    }
}

/// Two words of a program's memory, here of its file.
fn words(bytes: &[u8], at: u64) -> Option<[u64; 2]> {
    let bytes = bytes.get(usize::try_from(at).ok()?..)?.first_chunk::<16>()?;
    let [first, second] = [bytes.first_chunk(), bytes.last_chunk()];
    Some([u64::from_le_bytes(*first?), u64::from_le_bytes(*second?)])
}

/// Plays a handshake in pieces: the first byte of each says which way, and how long it is.
///
/// # Panics
/// When the parser does, or keeps more than it says.
pub fn tls(bytes: &[u8]) {
    let mut handshake = Handshake::default();
    let mut rest = bytes;
    while let [first, after @ ..] = rest {
        let way = if first & 1 == 0 { Direction::Send } else { Direction::Receive };
        let len = usize::from(first >> 1) * 4;
        let (piece, next) = after.split_at(len.min(after.len()));
        if handshake.take(way, piece, len as u64) {
            break;
        }
        rest = next;
    }
    let facts = handshake.into_facts();
    assert!(facts.server_name.len() <= 255 && facts.protocol.len() <= 255);
}

/// Plays inputs made of `bytes` to one connection.
///
/// # Panics
/// When the parser holds too much memory, or ends a request that it did not start or ended before.
pub fn http1(bytes: &[u8]) {
    let _ = http1::classify(bytes);
    let mut http = Http1::new();
    let mut check = Check::default();
    let mut script = Script { rest: bytes, positions: [1 << 32, 2 << 32], now: 0 };
    while let Some(input) = script.next() {
        if http.input(&input, &mut check) == Progress::Left {
            break;
        }
        assert!(http.held_bytes() <= MAX_HELD_BYTES, "{} bytes held", http.held_bytes());
        assert_eq!(http.open_requests() as u64, check.started - check.ended, "requests open");
    }
    let closed = Input::Closed { at: script.now, failure: Failure::ConnectionClosed };
    let _ = http.input(&closed, &mut check);
    assert_eq!(check.started, check.ended, "every request ends with its connection");
}

/// Counts, and names requests by a number.
#[derive(Default)]
struct Check {
    started: u64,
    ended: u64,
    open: std::collections::BTreeSet<u64>,
}

impl Sink for Check {
    fn blank(&mut self) -> Box<Started> {
        Box::default()
    }

    fn started(&mut self, started: Box<Started>) -> SpanId {
        assert!(started.role.is_some(), "a request without a role");
        self.started += 1;
        self.open.insert(self.started);
        SpanId(self.started.to_be_bytes())
    }

    fn finished(&mut self, finished: Finished) {
        let number = u64::from_be_bytes(finished.span.0);
        assert!(self.open.remove(&number), "request {number} ended twice, or never started");
        self.ended += 1;
    }
}

/// Inputs from bytes: an instruction, its numbers, its payload. Payload ends at an instruction
/// byte's length or at 0xff, so that text mutates as text.
struct Script<'a> {
    rest: &'a [u8],
    positions: [u64; 2],
    now: u64,
}

impl<'a> Script<'a> {
    fn next(&mut self) -> Option<Input<'a>> {
        let op = self.byte()?;
        self.now += 1;
        let direction = if op & 1 == 0 { Direction::Receive } else { Direction::Send };
        let side = usize::from(op & 1);
        let at = self.now;
        Some(match op >> 1 & 7 {
            0..=3 => self.segment(direction, side, 0, 0),
            4 => {
                let hole = self.number();
                self.segment(direction, side, hole, 0)
            }
            5 => {
                let shift = self.number();
                self.segment(direction, side, 0, shift)
            }
            6 => {
                let len = self.number();
                let position = self.advance(side, len);
                match op >> 7 {
                    0 => Input::Gap { direction, position, len },
                    _ => Input::Shed { direction, position, len },
                }
            }
            _ => Input::End { direction, at },
        })
    }

    /// `shift` misplaces the segment, and what it saw of the other direction.
    fn segment(&mut self, direction: Direction, side: usize, hole: u64, shift: u64) -> Input<'a> {
        let end = memchr::memchr(0xff, self.rest).unwrap_or(self.rest.len());
        let (bytes, rest) = self.rest.split_at_checked(end).unwrap_or_default();
        self.rest = rest.get(1..).unwrap_or_default();
        let len = hole.saturating_add(bytes.len() as u64);
        let position = self.advance(side, len).wrapping_add(shift);
        let opposite = self.positions.get(1 - side).copied().unwrap_or_default();
        let now = self.now;
        Input::Segment(Segment {
            direction,
            position,
            bytes,
            len,
            opposite: opposite.wrapping_sub(shift),
            first_ns: now,
            last_ns: now,
            taken_ns: now,
            true_first: shift == 0,
            thread: Thread::default(),
        })
    }

    /// The position of `side`, which moves on by `len`.
    fn advance(&mut self, side: usize, len: u64) -> u64 {
        let Some(position) = self.positions.get_mut(side) else { return 0 };
        std::mem::replace(position, position.saturating_add(len))
    }

    /// Small mostly; large ones to try the limits of arithmetic.
    fn number(&mut self) -> u64 {
        let byte = u64::from(self.byte().unwrap_or_default());
        match byte {
            0..=0xef => byte,
            _ => 1 << (byte & 0xf) << (byte & 0xf) << (byte & 0xf) << (byte & 0xf),
        }
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }
}
