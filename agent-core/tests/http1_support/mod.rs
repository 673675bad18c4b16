//! A connection played to the parser, and what it says of it. Each test file that includes this
//! uses a part of it only.

use agent_core::id::SpanId;
use agent_core::message::{Failure, Finished, Name, Role, Started, Thread};
use agent_core::protocol::http1::Http1;
use agent_core::protocol::{Direction, Input, Progress, Segment, Sink};

/// Direction by what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Request,
    Response,
}

impl Side {
    pub fn direction(self, role: Role) -> Direction {
        match (self, role) {
            (Side::Request, Role::Server) | (Side::Response, Role::Client) => Direction::Receive,
            (Side::Request, Role::Client) | (Side::Response, Role::Server) => Direction::Send,
        }
    }
}

/// What the parser said, in order of the starts.
#[derive(Default)]
pub struct Log {
    pub started: Vec<Started>,
    pub finished: Vec<Finished>,
}

impl Sink for Log {
    fn blank(&mut self) -> Box<Started> {
        Box::default()
    }

    fn started(&mut self, started: Box<Started>) -> SpanId {
        self.started.push(*started);
        SpanId((self.started.len() as u64).to_be_bytes())
    }

    fn finished(&mut self, finished: Finished) {
        let number = u64::from_be_bytes(finished.span.0);
        assert!((1..=self.started.len() as u64).contains(&number), "end of {number} not started");
        let again = self.finished.iter().any(|before| before.span == finished.span);
        assert!(!again, "request {number} ended twice");
        self.finished.push(finished);
    }
}

impl Log {
    pub fn end_of(&self, index: usize) -> Option<&Finished> {
        let span = SpanId((index as u64 + 1).to_be_bytes());
        self.finished.iter().find(|finished| finished.span == span)
    }

    /// `path status[ failure]` of each request; `-` without a status, `…` while open.
    pub fn lines(&self) -> Vec<String> {
        let line = |(index, started): (usize, &Started)| {
            let text =
                |name| started.head.get(name).map(|t| String::from_utf8_lossy(t).into_owned());
            let name = text(Name::Path).or(text(Name::Authority)).unwrap_or_default();
            let Some(end) = self.end_of(index) else { return format!("{name} …") };
            let status = end.status.map_or("-".to_string(), |status| status.to_string());
            match end.failure {
                None => format!("{name} {status}"),
                Some(failure) => format!("{name} {status} {}", failure.error_type()),
            }
        };
        self.started.iter().enumerate().map(line).collect()
    }
}

/// Plays a connection: bytes get positions, each call takes 10 ns.
pub struct Player {
    pub http: Http1,
    pub log: Log,
    pub role: Role,
    pub progress: Progress,
    positions: [u64; 2],
    now: u64,
}

/// First position of each direction: over 32 bits, so that truncation would show.
pub const REQUEST_START: u64 = 0x1_0000_0100;
const RESPONSE_START: u64 = 0x2_0000_0200;

impl Player {
    pub fn new(role: Role) -> Player {
        Player {
            http: Http1::new(),
            log: Log::default(),
            role,
            progress: Progress::Continues,
            positions: [REQUEST_START, RESPONSE_START],
            now: 1000,
        }
    }

    pub fn request(self, bytes: &(impl AsRef<[u8]> + ?Sized)) -> Player {
        self.moved(Side::Request, bytes.as_ref(), 0)
    }

    pub fn response(self, bytes: &(impl AsRef<[u8]> + ?Sized)) -> Player {
        self.moved(Side::Response, bytes.as_ref(), 0)
    }

    /// A call of which the last `hole` bytes were not captured.
    pub fn moved(mut self, side: Side, bytes: &[u8], hole: u64) -> Player {
        let position = self.positions[side as usize];
        let opposite = self.positions[1 - side as usize];
        let len = bytes.len() as u64 + hole;
        self.positions[side as usize] += len;
        self.raw(side, position, opposite, bytes, len);
        self
    }

    /// A segment with positions of the caller's choice.
    pub fn raw(&mut self, side: Side, position: u64, opposite: u64, bytes: &[u8], len: u64) {
        self.now += 10;
        let direction = side.direction(self.role);
        let sends = direction == Direction::Send;
        let segment = Segment {
            direction,
            position,
            bytes,
            len,
            opposite,
            first_ns: self.now,
            last_ns: if sends { self.now } else { self.now + 3 },
            taken_ns: self.now + 5,
            true_first: true,
            thread: Thread { tid: 7, ..Thread::default() },
        };
        self.input(&Input::Segment(segment));
    }

    pub fn gap(mut self, side: Side, len: u64) -> Player {
        let position = self.positions[side as usize];
        self.positions[side as usize] += len;
        self.input(&Input::Gap { direction: side.direction(self.role), position, len });
        self
    }

    pub fn end(mut self, side: Side) -> Player {
        self.now += 10;
        self.input(&Input::End { direction: side.direction(self.role), at: self.now });
        self
    }

    pub fn closed(mut self, failure: Failure) -> Player {
        self.now += 10;
        self.input(&Input::Closed { at: self.now, failure });
        self
    }

    pub fn position(&self, side: Side) -> u64 {
        self.positions[side as usize]
    }

    pub fn input(&mut self, input: &Input<'_>) {
        self.progress = self.http.input(input, &mut self.log);
    }

    pub fn lines(&self) -> Vec<String> {
        self.log.lines()
    }
}
