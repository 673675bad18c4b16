//! Which bytes of an HTTP/1 connection are head or framing: only those are kept.
//!
//! Follows the same steps as the protocol's own state machine, and knows less: where it is unsure
//! it looks at the beginning of each turn for a start line, and keeps nothing else. Keeping a head
//! too many leaks nothing (its secrets are scrubbed as well); a body is never kept.

use super::line::{self, Framing};
use crate::protocol::http1::{Likeness, classify};
use crate::protocol::{Direction, Segment};
use std::collections::VecDeque;

/// Longest line followed; the parser gives up at the same length or before.
const MAX_LINE: usize = 16 * 1024;

/// Requests whose responses are awaited; more than clients pipeline.
const MAX_REQUESTS: usize = 256;

/// A start line that the capture cut is kept from this length on: shorter ones may be any words.
const MIN_CUT_LINE: usize = 64;

/// Takes kept bytes: direction, stream position, bytes.
pub(super) trait Patch {
    fn patch(&mut self, way: Direction, position: u64, bytes: &[u8]);
}

/// Both directions of one connection.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    send: Way,
    receive: Way,
    requests: VecDeque<Method>,
    /// Responses whose requests are still to come: another thread's record was faster.
    early: u32,
    latest: Option<Direction>,
    /// Bytes were missing: framing may be out of step.
    unsure: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Head,
    Connect,
    Other,
}

/// One direction.
#[derive(Debug, Default)]
struct Way {
    at: At,
    /// The line so far, and its position.
    line: Vec<u8>,
    line_position: u64,
    head: Head,
    /// Position behind the latest call, once there was one, and of the other direction then.
    next: Option<u64>,
    opposite: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// A start line may begin here; nothing is known of what came before.
    #[default]
    Tentative,
    /// A start line begins here.
    Start,
    Fields,
    Trailers,
    Length(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    /// Not known until the direction turns.
    Opaque,
}

/// What the head so far says of the body.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    status: Option<u16>,
    length: Option<Option<u64>>,
    chunked: Option<bool>,
    keep: bool,
}

impl Conversation {
    /// Takes the next bytes of one direction.
    pub(super) fn segment(&mut self, segment: &Segment<'_>, patch: &mut impl Patch) {
        // The call that turned the direction may have been lost: then its position shows it.
        let opposite =
            std::mem::replace(&mut self.way(segment.direction).opposite, segment.opposite);
        let turned = self.latest.replace(segment.direction) != Some(segment.direction)
            || opposite != segment.opposite;
        let unsure = self.unsure;
        let other = self.way(segment.direction.opposite());
        if turned && other.at == At::Tentative {
            other.lose();
        }
        let way = self.way(segment.direction);
        way.next = Some(segment.position.wrapping_add(segment.len));
        let doubtful = turned && unsure && classify(segment.bytes) == Likeness::Yes;
        if (way.at == At::Opaque && turned) || doubtful {
            way.lose();
            way.at = At::Tentative;
        }
        let mut rest = segment.bytes;
        let mut position = segment.position;
        while !rest.is_empty() && self.way(segment.direction).at != At::Opaque {
            let taken = self.take(segment.direction, rest, position, patch).clamp(1, rest.len());
            rest = rest.get(taken..).unwrap_or_default();
            position = position.wrapping_add(taken as u64);
        }
        let missing = segment.len.saturating_sub(segment.bytes.len() as u64);
        self.missing(segment.direction, missing, patch);
    }

    /// Bytes that nobody captured.
    pub(super) fn gap(&mut self, way: Direction, len: u64, patch: &mut impl Patch) {
        self.unsure = true;
        if std::mem::take(&mut self.early) > 0 {
            // They were not late but lost.
            self.way(way.opposite()).lose();
        }
        let stream = self.way(way);
        stream.next = stream.next.map(|next| next.wrapping_add(len));
        self.missing(way, len, patch);
    }

    /// Whether bytes wait for more of their line.
    pub(super) fn waits(&self) -> bool {
        [&self.send, &self.receive]
            .iter()
            .any(|way| matches!(way.at, At::Start | At::Tentative) && !way.line.is_empty())
    }

    fn way(&mut self, direction: Direction) -> &mut Way {
        match direction {
            Direction::Send => &mut self.send,
            Direction::Receive => &mut self.receive,
        }
    }

    fn missing(&mut self, direction: Direction, len: u64, patch: &mut impl Patch) {
        if len == 0 {
            return;
        }
        let way = self.way(direction);
        way.at = match way.at {
            At::Length(left) if len < left => At::Length(left - len),
            At::Length(left) if len == left => At::Start,
            At::ChunkData(left) if len < left => At::ChunkData(left - len),
            At::ChunkData(left) if len == left => At::ChunkEnd,
            At::Start | At::Tentative if way.line.len() >= MIN_CUT_LINE => {
                if classify(&way.line) == Likeness::NeedMore {
                    line::start_line(&mut way.line);
                    patch.patch(direction, way.line_position, &way.line);
                }
                At::Opaque
            }
            _ => At::Opaque,
        };
        way.line.clear();
    }

    /// Takes some of `rest`; how many bytes.
    fn take(
        &mut self,
        direction: Direction,
        rest: &[u8],
        position: u64,
        patch: &mut impl Patch,
    ) -> usize {
        let way = self.way(direction);
        let skip = |left: u64| usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
        match way.at {
            At::Length(left) => {
                let taken = skip(left);
                let left = left - taken as u64;
                way.at = if left == 0 { At::Start } else { At::Length(left) };
                taken
            }
            At::ChunkData(left) => {
                let taken = skip(left);
                let left = left - taken as u64;
                way.at = if left == 0 { At::ChunkEnd } else { At::ChunkData(left) };
                taken
            }
            At::Opaque => rest.len(),
            _ => {
                let end = memchr::memchr(b'\n', rest).map(|at| at + 1);
                let taken = end.unwrap_or(rest.len());
                way.extend(rest.get(..taken).unwrap_or_default(), position);
                self.line(direction, end.is_some(), patch);
                taken
            }
        }
    }

    /// The line has grown, or is complete.
    fn line(&mut self, direction: Direction, complete: bool, patch: &mut impl Patch) {
        let way = self.way(direction);
        if way.line.len() > MAX_LINE {
            return way.lose();
        }
        match way.at {
            At::Start | At::Tentative => self.start_line(direction, complete, patch),
            At::Fields | At::Trailers => self.field(direction, complete, patch),
            At::ChunkSize => {
                let mut line = way.line.clone();
                let size = line::chunk_size(&mut line);
                let next = match size {
                    None => At::Opaque,
                    Some(0) => At::Trailers,
                    Some(size) => At::ChunkData(size),
                };
                if size.is_some() {
                    patch.patch(direction, way.line_position, &line);
                }
                if complete || size.is_none() {
                    way.next(next);
                }
            }
            At::ChunkEnd => {
                let next = match way.line.as_slice() {
                    b"\n" | b"\r\n" => At::ChunkSize,
                    b"\r" if !complete => At::ChunkEnd,
                    _ => return way.lose(),
                };
                patch.patch(direction, way.line_position, &way.line);
                if complete {
                    way.next(next);
                }
            }
            At::Length(_) | At::ChunkData(_) | At::Opaque => {}
        }
    }

    fn start_line(&mut self, direction: Direction, complete: bool, patch: &mut impl Patch) {
        let way = self.way(direction);
        if way.line.iter().all(|b| matches!(b, b'\r' | b'\n')) {
            // Empty lines before a message are ignored (RFC 9112 section 2.2).
            patch.patch(direction, way.line_position, &way.line);
            if complete {
                way.line.clear();
            }
            return;
        }
        let fits = match (way.at, complete) {
            (At::Tentative, true) => classify(&way.line) == Likeness::Yes,
            (At::Tentative, false) => classify(&way.line) == Likeness::NeedMore,
            (_, true) => is_start_line(&way.line),
            (_, false) => way.line.iter().all(|&b| b >= b' ' || matches!(b, b'\t' | b'\r')),
        };
        if !fits {
            return way.lose();
        }
        if !complete {
            return;
        }
        let status = status(&way.line);
        let method = match way.line.get(..5) {
            Some(b"HEAD ") => Method::Head,
            Some(b"CONNE") => Method::Connect,
            _ => Method::Other,
        };
        line::start_line(&mut way.line);
        patch.patch(direction, way.line_position, &way.line);
        way.head = Head { status, ..Head::default() };
        way.next(At::Fields);
        if status.is_none() && self.early > 0 {
            self.early -= 1;
        } else if status.is_none() {
            if self.unsure || self.requests.len() >= MAX_REQUESTS {
                self.requests.clear();
            }
            self.requests.push_back(method);
        }
    }

    fn field(&mut self, direction: Direction, complete: bool, patch: &mut impl Patch) {
        let way = self.way(direction);
        let mut line = way.line.clone();
        let ends = complete && matches!(line.as_slice(), b"\n" | b"\r\n");
        let folded = matches!(line.first(), Some(b' ' | b'\t'));
        let framing = match ends || line == b"\r" {
            true => Framing::None,
            false => line::field(&mut line, complete, &mut way.head.keep),
        };
        patch.patch(direction, way.line_position, &line);
        if !complete {
            return;
        }
        way.line.clear();
        if ends {
            let next = if way.at == At::Trailers { At::Start } else { self.body(direction) };
            self.way(direction).next(next);
        } else if way.at == At::Fields {
            way.head.note(framing, folded);
        }
    }

    /// What follows the head just read.
    fn body(&mut self, direction: Direction) -> At {
        let head = self.way(direction).head;
        let framed = match (head.chunked, head.length) {
            (Some(true), _) => Some(At::ChunkSize),
            (Some(false), _) | (None, Some(None)) => Some(At::Opaque),
            (None, Some(Some(0))) => Some(At::Start),
            (None, Some(Some(length))) => Some(At::Length(length)),
            (None, None) => None,
        };
        match head.status {
            None => framed.unwrap_or(At::Start),
            Some(101) => At::Opaque,
            Some(100..=199) => At::Start,
            Some(status) => {
                let opposite = self.way(direction).opposite;
                let other = self.way(direction.opposite());
                let ahead = other.next.map_or(0, |next| opposite.wrapping_sub(next));
                let method = match self.requests.pop_front() {
                    None if (1..1 << 32).contains(&ahead) => {
                        self.early += 1;
                        Some(Method::Other)
                    }
                    method => method,
                };
                match (method, status) {
                    // Whether it has a body depends on a request that nobody saw.
                    (None, _) => At::Opaque,
                    (Some(Method::Head), _) | (_, 204 | 304) => At::Start,
                    (Some(Method::Connect), 200..=299) => At::Opaque,
                    _ => framed.unwrap_or(At::Opaque),
                }
            }
        }
    }
}

impl Way {
    fn extend(&mut self, bytes: &[u8], position: u64) {
        if self.line.is_empty() {
            self.line_position = position;
        }
        self.line.extend_from_slice(bytes);
    }

    fn next(&mut self, at: At) {
        self.at = at;
        self.line.clear();
    }

    fn lose(&mut self) {
        self.next(At::Opaque);
    }
}

impl Head {
    fn note(&mut self, framing: Framing, folded: bool) {
        match framing {
            Framing::Length(length) => {
                self.length = match self.length {
                    Some(before) if before != length => Some(None),
                    _ => Some(length),
                };
            }
            Framing::Chunked(chunked) => self.chunked = Some(chunked),
            // A value that goes on in the next line is not trusted.
            Framing::None if folded && self.keep => self.length = self.length.map(|_| None),
            Framing::None => {}
        }
    }
}

/// A start line by its form alone, as the parser takes it where one must stand.
fn is_start_line(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let version = line.len().checked_sub(9).and_then(|at| line.get(at..));
    line.starts_with(b"HTTP/1.") || version.is_some_and(|v| v.starts_with(b" HTTP/1."))
}

fn status(line: &[u8]) -> Option<u16> {
    if !line.starts_with(b"HTTP/1.") {
        return None;
    }
    let text = std::str::from_utf8(line.get(9..12)?).ok()?;
    Some(text.parse().unwrap_or(0))
}
