//! How requests end.

use super::body::Body;
use super::open::Ending;
use super::stream::State;
use super::{Http1, Side};
use crate::message::Failure;
use crate::protocol::{Direction, Segment, Sink};

impl Http1 {
    /// The body under way ended within `segment`.
    pub(super) fn body_done(&mut self, side: Side, segment: &Segment<'_>, sink: &mut impl Sink) {
        let end_ns = self.end_of(segment);
        self.body_ended(side, end_ns, None, sink);
    }

    /// The body under way ended within a gap: its size is known, the time of its end is not.
    pub(super) fn body_done_unseen(&mut self, side: Side, sink: &mut impl Sink) {
        let end_ns = self.reply.map_or(0, |reply| reply.last_ns);
        self.body_ended(side, end_ns, Some(Failure::Unobserved), sink);
    }

    fn body_ended(
        &mut self,
        side: Side,
        end_ns: u64,
        failure: Option<Failure>,
        sink: &mut impl Sink,
    ) {
        let direction = self.direction(side);
        let State::Body(body) = std::mem::take(&mut self.stream_mut(direction).state) else {
            return;
        };
        let size = body.chunked_size();
        match side {
            Side::Request => {
                // A request whose response came early is no longer here; then none is younger.
                let size = size.or(self.request_length);
                if let Some(open) = self.open.back_mut() {
                    open.request_body = size;
                }
            }
            Side::Response => {
                let response_body = size.or(self.reply.and_then(|reply| reply.size));
                self.finish_front(Ending { end_ns, response_body, failure }, sink);
            }
        }
    }

    /// The oldest request ends, with the response under way if there is one.
    pub(super) fn finish_front(&mut self, ending: Ending, sink: &mut impl Sink) {
        let reply = self.reply.take();
        if let Some(open) = self.open.pop() {
            sink.finished(open.finished(reply.as_ref(), ending));
        }
    }

    /// All requests end with `failure`; the oldest with the response under way, at the time of its
    /// last byte, the others at `at`.
    pub(super) fn finish_all(&mut self, failure: Failure, at: u64, sink: &mut impl Sink) {
        while !self.open.is_empty() {
            let end_ns = self.reply.map_or(at, |reply| reply.last_ns);
            let failure = Some(failure);
            self.finish_front(Ending { end_ns, response_body: None, failure }, sink);
        }
    }

    /// Responses whose end framing does not give are over: all open requests end. `failure` is
    /// how the connection ended, `None` at a turn.
    pub(super) fn settle(&mut self, at: u64, failure: Option<Failure>, sink: &mut impl Sink) {
        let alone = self.open.len() == 1 && !self.doubt.hidden && !self.response().gapped;
        if let Some(reply) = self.reply.filter(|_| alone) {
            let ending = Ending { end_ns: reply.last_ns, response_body: None, failure };
            self.finish_front(ending, sink);
        }
        self.finish_all(Failure::Unobserved, at, sink);
    }

    /// The rest of the connection is not looked at.
    pub(super) fn abandon(&mut self, at: u64, sink: &mut impl Sink) {
        self.finish_all(Failure::Unobserved, at, sink);
        self.left = true;
    }

    /// The sender of `direction` is done.
    pub(super) fn end(&mut self, direction: Direction, at: u64, sink: &mut impl Sink) {
        if self.side(direction) == Some(Side::Response) {
            self.conclude(at, Failure::ConnectionClosed, sink);
        }
    }

    /// Nothing follows.
    pub(super) fn closed(&mut self, at: u64, failure: Failure, sink: &mut impl Sink) {
        if self.role.is_some() {
            self.conclude(at, failure, sink);
        }
    }

    /// No response bytes follow: what is open ends, well if only the end of the connection could
    /// end it.
    fn conclude(&mut self, at: u64, failure: Failure, sink: &mut impl Sink) {
        let orderly = failure == Failure::ConnectionClosed;
        match self.response().state {
            State::Unknown => self.settle(at, (!orderly).then_some(failure), sink),
            State::Body(Body::UntilClose { size }) => {
                let end_ns = self.reply.map_or(at, |reply| reply.last_ns);
                let lost = self.response().gapped.then_some(Failure::Unobserved);
                let failure = if orderly { lost } else { Some(failure) };
                let response_body = size.filter(|_| failure.is_none());
                self.finish_front(Ending { end_ns, response_body, failure }, sink);
            }
            State::Start | State::Head(_) | State::Body(_) => {}
        }
        self.finish_all(failure, at, sink);
        self.response().state = State::Unknown;
    }

    /// A response begins although the head of its request is not complete: the server had enough.
    pub(super) fn cut_request_head(&mut self, sink: &mut impl Sink) {
        let request = self.request();
        if !matches!(request.state, State::Head(_)) {
            return;
        }
        if let State::Head(partial) = std::mem::take(&mut request.state) {
            let end_ns = partial.origin.first_ns;
            self.head(Side::Request, &partial.origin, end_ns, &partial.bytes, true, sink);
        }
    }
}
