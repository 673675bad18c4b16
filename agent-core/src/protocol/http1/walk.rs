//! Through the bytes of one segment: heads, bodies, and what is missing.

use super::body::Step;
use super::stream::{Added, Origin, Partial, State, Turn};
use super::{Http1, Side};
use crate::protocol::{Direction, Read, Segment, Sink};

/// What a head came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// It took so many bytes; the stream's state says what follows.
    Taken(usize),
    /// It goes on behind these bytes.
    NeedMore,
    /// It was cut, or is none: the stream's state is [`State::Unknown`].
    Lost,
}

impl Http1 {
    /// Takes one segment, whether it had to wait or not.
    pub(super) fn process(&mut self, segment: &Segment<'_>, sink: &mut impl Sink) {
        let direction = segment.direction;
        let Some(placed) = self.stream(direction).place(segment) else { return };
        let segment = &placed.segment;
        if self.left {
            return;
        }
        if placed.missing > 0 {
            self.gap(direction, segment.position - placed.missing, placed.missing, sink);
        }
        let turn = self.stream(direction).turn(&placed);
        let moved = self.stream(direction).opposite_moved(segment);
        self.stream_mut(direction).advance(segment);
        self.stream_mut(direction.opposite()).stand(segment.opposite);
        match self.side(direction) {
            None => self.discover(segment, turn == Turn::Yes, sink),
            Some(Side::Request) => {
                if self.resumes(segment, turn == Turn::Yes, sink) {
                    self.walk(Side::Request, segment, turn, sink);
                }
            }
            Some(Side::Response) => {
                self.response_moves(segment, moved, sink);
                self.walk(Side::Response, segment, turn, sink);
            }
        }
    }

    /// Takes the bytes of a segment, then those that were not captured.
    pub(super) fn walk(
        &mut self,
        side: Side,
        segment: &Segment<'_>,
        turn: Turn,
        sink: &mut impl Sink,
    ) {
        let hole = segment.len - segment.bytes.len() as u64;
        let direction = self.direction(side);
        // The turn is that of the first message that begins here; a body may go on at one.
        let starts = matches!(self.stream(direction).state, State::Start);
        let mut turn = if starts { turn } else { Turn::No };
        let mut at = 0;
        while !self.left {
            let rest = segment.bytes.get(at..).unwrap_or_default();
            let used = match &mut self.stream_mut(direction).state {
                State::Unknown => return,
                State::Start => {
                    let text = super::classify::skip_newlines(rest);
                    let newlines = rest.get(..rest.len() - text.len()).unwrap_or_default();
                    let position = segment.position.saturating_add(at as u64);
                    sink.read(direction, position, newlines, Read::Framing);
                    at = segment.bytes.len() - text.len();
                    self.start(side, segment, at, std::mem::take(&mut turn), sink)
                }
                State::Head(_) => self.more_head(side, rest, hole, segment, sink),
                State::Body(body) => {
                    if sink.wants_reads() {
                        let position = segment.position.saturating_add(at as u64);
                        body.framing(rest, |offset, byte, what| {
                            let position = position.saturating_add(offset as u64);
                            sink.read(direction, position, &[byte], what);
                        });
                    }
                    match body.feed(rest) {
                        Step::Done(used) => {
                            self.body_done(side, segment, sink);
                            usize::try_from(used).ok()
                        }
                        Step::More => None,
                        Step::Broken => return self.lose(side, false),
                    }
                }
            };
            match used {
                Some(used) => at += used,
                None => break,
            }
        }
        if hole > 0 && !self.left {
            self.skip(side, hole, Some(segment), sink);
        }
    }

    /// A message may begin `at` bytes into `segment`. `None` when nothing is left to look at.
    fn start(
        &mut self,
        side: Side,
        segment: &Segment<'_>,
        at: usize,
        turn: Turn,
        sink: &mut impl Sink,
    ) -> Option<usize> {
        let rest = segment.bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let hole = segment.len > segment.bytes.len() as u64;
        let origin = Origin::new(segment, at, turn);
        let end_ns = self.end_of(segment);
        match self.head(side, &origin, end_ns, rest, hole, sink) {
            Parsed::Taken(used) => return Some(used),
            Parsed::Lost => {}
            Parsed::NeedMore => {
                let mut partial = Box::new(Partial { origin, bytes: Vec::new() });
                if partial.add(rest) == Added::More {
                    let direction = self.direction(side);
                    self.stream_mut(direction).state = State::Head(partial);
                } else {
                    self.head(side, &origin, end_ns, &partial.bytes, true, sink);
                }
            }
        }
        None
    }

    /// The head goes on with `rest`.
    fn more_head(
        &mut self,
        side: Side,
        rest: &[u8],
        hole: u64,
        segment: &Segment<'_>,
        sink: &mut impl Sink,
    ) -> Option<usize> {
        let direction = self.direction(side);
        let stream = self.stream_mut(direction);
        let State::Head(mut partial) = std::mem::take(&mut stream.state) else { return None };
        let added = partial.add(rest);
        if added == Added::More && hole == 0 {
            stream.state = State::Head(partial);
            return None;
        }
        let cut = !matches!(added, Added::Complete(_));
        let end_ns = self.end_of(segment);
        // Go's server has another goroutine wait for the first byte of the next request: who reads the
        // end of the head serves it.
        if segment.thread.context != 0 {
            partial.origin.thread = segment.thread;
        }
        self.head(side, &partial.origin, end_ns, &partial.bytes, cut, sink);
        match added {
            Added::Complete(used) => Some(used),
            Added::More | Added::Full => None,
        }
    }

    /// Takes the head in `bytes`, which began at `origin` and ends, as far as it goes, at `end_ns`.
    pub(super) fn head(
        &mut self,
        side: Side,
        origin: &Origin,
        end_ns: u64,
        bytes: &[u8],
        cut: bool,
        sink: &mut impl Sink,
    ) -> Parsed {
        let parsed = match side {
            Side::Request => self.request_head(origin, bytes, cut, sink),
            Side::Response => self.response_head(origin, end_ns, bytes, cut, sink),
        };
        if sink.wants_reads() && parsed != Parsed::NeedMore {
            let len = if let Parsed::Taken(len) = parsed { len } else { bytes.len() };
            let read = bytes.get(..len).unwrap_or(bytes);
            sink.read(self.direction(side), origin.position, read, Read::Head);
        }
        parsed
    }

    /// Bytes that no call reported.
    pub(super) fn gap(
        &mut self,
        direction: Direction,
        position: u64,
        len: u64,
        sink: &mut impl Sink,
    ) {
        self.begun = true;
        let missing = self.stream_mut(direction).miss(position, position.saturating_add(len));
        if missing == 0 {
            return;
        }
        match self.side(direction) {
            Some(side) => self.skip(side, missing, None, sink),
            None => {
                self.sent.state = State::Unknown;
                self.received.state = State::Unknown;
            }
        }
    }

    /// Takes `missing` bytes: those of `segment` that were not captured, or a gap.
    fn skip(
        &mut self,
        side: Side,
        missing: u64,
        segment: Option<&Segment<'_>>,
        sink: &mut impl Sink,
    ) {
        let direction = self.direction(side);
        let by_gap = segment.is_none();
        match &mut self.stream_mut(direction).state {
            State::Body(body) => match body.skip(missing) {
                Step::More => {}
                Step::Broken => self.lose(side, by_gap),
                Step::Done(used) => {
                    match segment {
                        Some(segment) => self.body_done(side, segment, sink),
                        None => self.body_done_unseen(side, sink),
                    }
                    if used < missing {
                        self.lose(side, by_gap);
                    }
                }
            },
            State::Head(_) => {
                let state = std::mem::take(&mut self.stream_mut(direction).state);
                if let State::Head(partial) = state {
                    let end_ns = partial.origin.first_ns;
                    self.head(side, &partial.origin, end_ns, &partial.bytes, true, sink);
                }
                self.lose(side, by_gap);
            }
            State::Start | State::Unknown => self.lose(side, by_gap),
        }
    }

    /// From here on nobody can tell what the bytes of this direction are.
    pub(super) fn lose(&mut self, side: Side, by_gap: bool) {
        let direction = self.direction(side);
        self.stream_mut(direction).state = State::Unknown;
        match side {
            Side::Request => {
                self.doubt.turn_spent = false;
                self.doubt.hidden |= by_gap;
            }
            // A final response whose end was not captured is still an answer.
            Side::Response => self.doubt.answered &= !by_gap && self.reply.is_some(),
        }
    }
}
