//! The response direction: which request a response answers, and when it ends.

use super::classify::{Likeness, classify};
use super::framing::{self, Framing, Method};
use super::head::{self, Scan, StatusLine};
use super::open::{Ending, Reply};
use super::stream::{Origin, State};
use super::walk::Parsed;
use super::{Http1, Side};
use crate::message::{Failure, Role};
use crate::protocol::{Segment, Sink};

/// Switching Protocols: interim by its number, final for HTTP (RFC 9110, 15.2.2).
const SWITCHING: u16 = 101;

impl Http1 {
    /// Time of a response's last byte, if `segment` holds it: a client has it when it is readable,
    /// a server is done when its last send begins to enter the socket.
    pub(super) fn end_of(&self, segment: &Segment<'_>) -> u64 {
        match self.role {
            Some(Role::Client) => segment.last_ns,
            Some(Role::Server) | None => segment.first_ns,
        }
    }

    /// A segment of the response direction is about to be looked at. The request direction `moved`
    /// since the one before.
    pub(super) fn response_moves(
        &mut self,
        segment: &Segment<'_>,
        moved: bool,
        sink: &mut impl Sink,
    ) {
        let end_ns = self.end_of(segment);
        if let Some(reply) = &mut self.reply {
            reply.last_ns = end_ns;
        }
        if moved && matches!(self.response().state, State::Unknown) {
            // Perhaps the answer to a request that passed unseen, or its `100 Continue`.
            self.doubt.answered = is_final(segment.bytes);
        }
        if self.open.is_empty() {
            self.cut_request_head(sink);
        }
    }

    pub(super) fn response_head(
        &mut self,
        origin: &Origin,
        end_ns: u64,
        bytes: &[u8],
        cut: bool,
        sink: &mut impl Sink,
    ) -> Parsed {
        let method = self.open.front().map(|open| open.method);
        match head::response(bytes) {
            Scan::Complete(line, fields, len) => {
                let framing = framing::response(method, line.status, line.minor, &fields);
                self.answer(origin, end_ns, line, framing, sink);
                Parsed::Taken(len)
            }
            Scan::Partial(line, _) if cut => {
                self.answer_cut(origin, end_ns, line, sink);
                Parsed::Lost
            }
            Scan::Partial(..) | Scan::NoLine if !cut => Parsed::NeedMore,
            Scan::Partial(..) | Scan::NoLine => {
                self.lose(Side::Response, false);
                Parsed::Lost
            }
            Scan::Invalid => {
                self.invalid(end_ns, bytes, sink);
                Parsed::Lost
            }
        }
    }

    /// A response head.
    fn answer(
        &mut self,
        origin: &Origin,
        end_ns: u64,
        line: StatusLine,
        framing: Framing,
        sink: &mut impl Sink,
    ) {
        let is_interim = line.status < 200 && line.status != SWITCHING;
        self.doubt.answered = !is_interim;
        self.response().state = State::Start;
        if is_interim {
            return;
        }
        let Some(open) = self.open.front().copied() else {
            // Not asked for, or its request passed unseen: HEAD or not, nobody knows.
            self.response().state = State::Unknown;
            return;
        };
        self.confirmed = true;
        let mut reply = Reply {
            status: line.status,
            first_byte_ns: origin.first_ns,
            last_ns: end_ns,
            size: None,
        };
        let tunnel = open.method == Method::Connect && (200..300).contains(&line.status);
        if tunnel || line.status == SWITCHING {
            self.reply = Some(reply);
            self.finish_front(Ending { end_ns, response_body: None, failure: None }, sink);
            return self.abandon(end_ns, sink);
        }
        match framing {
            Framing::NoBody => {
                self.reply = Some(reply);
                self.finish_front(Ending { end_ns, response_body: Some(0), failure: None }, sink);
            }
            Framing::Body(body, size) => {
                reply.size = size;
                self.reply = Some(reply);
                self.response().state = State::Body(body);
            }
            Framing::Unknown => {
                self.reply = Some(reply);
                self.response().state = State::Unknown;
            }
        }
    }

    /// A response head whose end is missing: its status counts, its framing is not known.
    fn answer_cut(&mut self, origin: &Origin, end_ns: u64, line: StatusLine, sink: &mut impl Sink) {
        self.answer(origin, end_ns, line, Framing::Unknown, sink);
        if line.status >= 200 {
            self.response().state = State::Unknown;
        } else {
            self.lose(Side::Response, false);
        }
    }

    /// What stands where a response must begin is none.
    fn invalid(&mut self, end_ns: u64, bytes: &[u8], sink: &mut impl Sink) {
        let reversed = !self.confirmed && classify(bytes) == Likeness::Yes;
        if reversed {
            // A request: what was taken for one in the other direction was something else.
            self.finish_all(Failure::Unobserved, end_ns, sink);
            self.role = None;
            self.sent.state = State::Unknown;
            self.received.state = State::Unknown;
            self.doubt.turn_spent = false;
            return;
        }
        if !self.open.is_empty() {
            let failure = Some(Failure::InvalidResponse);
            self.finish_front(Ending { end_ns, response_body: None, failure }, sink);
        }
        self.lose(Side::Response, false);
    }
}

fn is_final(bytes: &[u8]) -> bool {
    match head::response(super::classify::skip_newlines(bytes)) {
        Scan::Complete(line, ..) | Scan::Partial(line, _) => line.status >= 200,
        Scan::NoLine | Scan::Invalid => false,
    }
}
