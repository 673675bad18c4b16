//! The first bytes of a connection: which end it is, and where its messages begin.

use super::classify::{Likeness, classify, skip_newlines};
use super::stream::{Origin, Partial, State, Turn};
use super::{Http1, Side};
use crate::message::Role;
use crate::protocol::{Direction, Segment, Sink};
use smallvec::SmallVec;

impl Http1 {
    /// Takes a segment of a connection whose role is not known yet.
    ///
    /// The first bytes of all begin a message or the connection is not HTTP. After a gap, only a
    /// turn can tell.
    pub(super) fn discover(&mut self, segment: &Segment<'_>, turned: bool, sink: &mut impl Sink) {
        let first = !std::mem::replace(&mut self.begun, true);
        let before = match &self.stream(segment.direction).state {
            State::Head(partial) => partial.bytes.as_slice(),
            State::Start | State::Body(_) | State::Unknown => &[],
        };
        if !before.is_empty() {
            let line: SmallVec<[u8; 256]> = [before, segment.bytes].concat().into();
            self.judge(&line, segment, sink);
        } else if first {
            self.judge(segment.bytes, segment, sink);
        } else if turned && classify(segment.bytes) == Likeness::Yes {
            self.recognise_at_turn(segment, sink);
        }
    }

    /// `line` is all there is of the connection.
    fn judge(&mut self, line: &[u8], segment: &Segment<'_>, sink: &mut impl Sink) {
        let hole = segment.len > segment.bytes.len() as u64;
        match classify(line) {
            Likeness::Yes => {
                let side = self.set_role(line, segment.direction);
                if side == Side::Response {
                    self.request().state = State::Unknown;
                }
                self.walk(side, segment, Turn::No, sink);
            }
            Likeness::NeedMore if !hole => {
                let stream = self.stream_mut(segment.direction);
                if let State::Head(partial) = &mut stream.state {
                    partial.add(segment.bytes);
                } else {
                    let origin = Origin::new(segment, 0, Turn::No);
                    let bytes = segment.bytes.to_vec();
                    stream.state = State::Head(Box::new(Partial { origin, bytes }));
                }
            }
            Likeness::NeedMore => {
                self.sent.state = State::Unknown;
                self.received.state = State::Unknown;
            }
            Likeness::No => self.left = true,
        }
    }

    /// A start line at a turn, after bytes that were not understood.
    fn recognise_at_turn(&mut self, segment: &Segment<'_>, sink: &mut impl Sink) {
        self.sent.state = State::Unknown;
        self.received.state = State::Unknown;
        match self.set_role(segment.bytes, segment.direction) {
            Side::Response => self.response_moves(segment, true, sink),
            Side::Request => {
                if self.resumes(segment, true, sink) {
                    self.walk(Side::Request, segment, Turn::Yes, sink);
                }
            }
        }
    }

    fn set_role(&mut self, line: &[u8], direction: Direction) -> Side {
        let response = skip_newlines(line).starts_with(b"HTTP/");
        self.role = Some(match (direction, response) {
            (Direction::Receive, false) | (Direction::Send, true) => Role::Server,
            (Direction::Send, false) | (Direction::Receive, true) => Role::Client,
        });
        if response { Side::Response } else { Side::Request }
    }
}
