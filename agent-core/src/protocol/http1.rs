//! HTTP/1.0 and 1.1 (RFC 9110, RFC 9112): which requests a connection carries, when each began
//! and ended, and with what status.
//!
//! Passive, and blind in part: most body bytes are never captured, and records can be lost. The
//! rule for every decision here is that a request may be missed but never invented, and a response
//! may stay unattributed but never be given to the wrong request.
//!
//! ```text
//! input ── held (wrong order) ── walk ─┬─ head ─ begin  ─► Started       request direction
//!                                      ├─ head ─ answer ─► Finished      response direction
//!                                      └─ body: Content-Length, chunked, until close
//! ```
//!
//! **Where a message begins** is known by framing alone while framing is known. When it is not (a
//! head cut by the capture, chunk sizes that were not captured, a gap), only a *turn* can begin a
//! new request: a point of the request direction at which response bytes moved. That a turn is
//! the end of an exchange and not a `100 Continue` in the middle of one needs evidence too: the
//! last head seen in the response direction was a final one. Where that could have been missed, a
//! turn goes by unused.
//!
//! **What cannot be known**: a client that sends a further request before it has all responses,
//! and whose earlier requests were lost so that nothing shows it, looks exactly like one that does
//! not. Once a connection was seen to do so, it is not followed any further after a loss
//! ([`Progress::Left`]).

mod body;
mod classify;
mod discover;
mod exchange;
mod fields;
mod framing;
mod head;
mod held;
mod open;
mod request;
mod response;
mod stream;
mod walk;

pub use classify::{Likeness, classify};

use super::{Direction, Input, Progress, Segment, Sink};
use crate::message::Role;
use held::{Held, Item};
use open::{Queue, Reply};
use stream::{State, Stream};

/// One direction by what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Request,
    Response,
}

/// Parser and pairing of one connection.
#[derive(Debug, Default)]
pub struct Http1 {
    sent: Stream,
    received: Stream,
    role: Option<Role>,
    open: Queue,
    /// The final response to the oldest open request, once its status line was seen.
    reply: Option<Reply>,
    /// Content-Length of the request body under way.
    request_length: Option<u64>,
    held: Option<Box<Held>>,
    doubt: Doubt,
    begun: bool,
    /// A response was given to a request.
    confirmed: bool,
    left: bool,
}

// Each kept connection has one, in a size class of the allocator that ends here (the next is 256).
const _: () = assert!(size_of::<Http1>() <= 224);

/// What is not certain about a connection.
#[derive(Clone, Copy, Debug, Default)]
struct Doubt {
    /// The last head seen in the response direction was a final one, and nothing is missing since.
    answered: bool,
    /// A turn of the request direction went by unused since it was lost, and the next one is sure.
    turn_spent: bool,
    /// Requests may have passed unseen.
    hidden: bool,
    /// The client was seen to send a request before the response to an earlier one was complete.
    pipelined: bool,
}

impl Http1 {
    /// A connection of which nothing has been seen.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next input. Bytes must come in stream order within a direction.
    ///
    /// Answers [`Progress::Left`] once the connection switched to another protocol, does not begin
    /// as HTTP/1, or can no longer be followed with certainty; later inputs are ignored.
    pub fn input(&mut self, input: &Input<'_>, sink: &mut impl Sink) -> Progress {
        if !self.left {
            match *input {
                Input::Segment(ref segment) => self.segment(segment, sink),
                Input::Gap { direction, position, len } => {
                    self.named_gap(direction, position, len, sink);
                }
                Input::Shed { direction, position, len } => {
                    self.shed(direction, position, len, sink);
                }
                Input::End { direction, at } => {
                    self.flush(sink);
                    self.end(direction, at, sink);
                }
                Input::Closed { at, failure } => {
                    self.flush(sink);
                    self.closed(at, failure, sink);
                }
            }
        }
        if self.left {
            self.held = None;
            return Progress::Left;
        }
        Progress::Continues
    }

    /// Which end this is, once known.
    pub fn role(&self) -> Option<Role> {
        self.role
    }

    /// Requests that started and did not finish.
    pub fn open_requests(&self) -> usize {
        self.open.len()
    }

    /// Heap bytes in use: 0 when idle.
    pub fn held_bytes(&self) -> usize {
        let held = self.held.as_ref().map_or(0, |held| held.held_bytes());
        self.sent.held_bytes() + self.received.held_bytes() + self.open.held_bytes() + held
    }

    fn segment(&mut self, segment: &Segment<'_>, sink: &mut impl Sink) {
        let holds = self.held.as_ref().map(|held| held.direction);
        match holds {
            None if self.must_wait(segment) => self.hold(segment, sink),
            None => self.process(segment, sink),
            Some(direction) if direction == segment.direction => self.hold(segment, sink),
            Some(_) => {
                if !self.precedes_held(segment) {
                    self.flush(sink);
                }
                self.process(segment, sink);
                self.release(sink);
            }
        }
    }

    fn named_gap(&mut self, direction: Direction, position: u64, len: u64, sink: &mut impl Sink) {
        if let Some(held) = self.held.as_mut().filter(|held| held.direction == direction) {
            if !held.is_full(0) {
                held.push_gap(position, len);
                return;
            }
            self.flush(sink);
        }
        self.gap(direction, position, len, sink);
        self.release(sink);
    }

    /// Whole exchanges passed unseen. Between exchanges nothing is lost by that; in the middle of one
    /// (a client that pipelines) it is a gap like any other.
    fn shed(&mut self, direction: Direction, position: u64, len: u64, sink: &mut impl Sink) {
        let between = self.role.is_some() && self.open.is_empty() && self.held.is_none();
        let stream = self.stream_mut(direction);
        if between && matches!(stream.state, State::Start) {
            stream.pass(position.saturating_add(len));
        } else {
            self.named_gap(direction, position, len, sink);
        }
    }

    /// `segment` was reported before what it follows in the other direction.
    fn must_wait(&self, segment: &Segment<'_>) -> bool {
        let Some(side) = self.side(segment.direction) else { return false };
        let other = self.stream(segment.direction.opposite());
        let unasked = side == Side::Response
            && self.open.is_empty()
            && matches!(other.state, State::Start)
            && matches!(self.stream(segment.direction).state, State::Start);
        unasked || is_ahead(segment, other)
    }

    /// `segment` comes before what is held, by position or by true time.
    fn precedes_held(&self, segment: &Segment<'_>) -> bool {
        let first = self.held.as_ref().and_then(|held| held.first());
        first.is_none_or(|first| {
            segment.position < first.opposite || segment.first_ns <= first.first_ns
        })
    }

    fn hold(&mut self, segment: &Segment<'_>, sink: &mut impl Sink) {
        if self.held.as_ref().is_some_and(|held| held.is_full(segment.bytes.len())) {
            self.flush(sink);
            return self.process(segment, sink);
        }
        self.held.get_or_insert_with(|| Box::new(Held::new(segment.direction))).push(segment);
    }

    /// Goes on with what no longer has to wait.
    fn release(&mut self, sink: &mut impl Sink) {
        let Some(mut held) = self.held.take() else { return };
        loop {
            let other = self.stream(held.direction.opposite());
            let Some(item) = held.pop_if(|segment| !is_ahead(segment, other)) else { break };
            self.item(held.direction, &item, sink);
        }
        if !held.is_empty() {
            self.held = Some(held);
        }
    }

    /// Goes on with everything that waits: what it waited for will not come.
    fn flush(&mut self, sink: &mut impl Sink) {
        let Some(mut held) = self.held.take() else { return };
        while let Some(item) = held.pop_if(|_| true) {
            if let Item::Segment(waiting) = &item {
                let segment = waiting.segment();
                let other = held.direction.opposite();
                let stands = self.stream(other).next;
                if is_ahead(&segment, self.stream(other)) {
                    self.gap(other, stands, segment.opposite - stands, sink);
                }
            }
            self.item(held.direction, &item, sink);
        }
    }

    fn item(&mut self, direction: Direction, item: &Item, sink: &mut impl Sink) {
        match item {
            Item::Segment(waiting) => self.process(&waiting.segment(), sink),
            Item::Gap { position, len } => self.gap(direction, *position, *len, sink),
        }
    }

    fn side(&self, direction: Direction) -> Option<Side> {
        Some(match (self.role?, direction) {
            (Role::Server, Direction::Receive) | (Role::Client, Direction::Send) => Side::Request,
            (Role::Server, Direction::Send) | (Role::Client, Direction::Receive) => Side::Response,
        })
    }

    fn direction(&self, side: Side) -> Direction {
        let client = self.role == Some(Role::Client);
        match side {
            Side::Request if client => Direction::Send,
            Side::Request => Direction::Receive,
            Side::Response if client => Direction::Receive,
            Side::Response => Direction::Send,
        }
    }

    fn stream(&self, direction: Direction) -> &Stream {
        match direction {
            Direction::Send => &self.sent,
            Direction::Receive => &self.received,
        }
    }

    fn stream_mut(&mut self, direction: Direction) -> &mut Stream {
        match direction {
            Direction::Send => &mut self.sent,
            Direction::Receive => &mut self.received,
        }
    }

    fn request(&mut self) -> &mut Stream {
        self.stream_mut(self.direction(Side::Request))
    }

    fn response(&mut self) -> &mut Stream {
        self.stream_mut(self.direction(Side::Response))
    }
}

/// `segment` saw the other direction further on than it has been seen here. One byte does not
/// count: a FIN takes a place in the sequence numbers of TCP.
fn is_ahead(segment: &Segment<'_>, other: &Stream) -> bool {
    other.known && segment.opposite.saturating_sub(other.next) > 1
}
