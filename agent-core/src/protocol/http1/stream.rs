//! One direction of a connection: where it stands, and in what.

use super::body::Body;
use super::head;
use crate::message::Thread;
use crate::protocol::Segment;

/// Longest head kept while it arrives in pieces, per direction: 24 KiB. With what may be held back
/// ([`super::held`]) that is 64 KiB a connection. nginx refuses heads beyond 32 KiB, node beyond
/// 16 KiB, and the kernel side captures 4 KiB and then 256 bytes a call, so longer ones are cut
/// anyway.
pub(super) const MAX_HEAD: usize = 24 * 1024;

/// What the next byte belongs to.
#[derive(Debug, Default)]
pub(super) enum State {
    /// A new message, or the empty lines before it.
    #[default]
    Start,
    /// A head that arrives in pieces.
    Head(Box<Partial>),
    /// A framed body.
    Body(Body),
    /// Nobody can tell: framing or bytes are missing.
    Unknown,
}

/// A head so far.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) origin: Origin,
    pub(super) bytes: Vec<u8>,
}

/// What adding to a [`Partial`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// The head is complete with so many of the bytes given.
    Complete(usize),
    /// It took all and goes on.
    More,
    /// It is longer than [`MAX_HEAD`].
    Full,
}

impl Partial {
    pub(super) fn add(&mut self, bytes: &[u8]) -> Added {
        let before = self.bytes.len();
        let room = MAX_HEAD.saturating_sub(before);
        self.bytes.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        // The empty line may have begun in the last two bytes: `\n` and `\n\r`.
        match head::end(&self.bytes, before.saturating_sub(2)) {
            Some(end) => {
                self.bytes.truncate(end);
                Added::Complete(end.saturating_sub(before))
            }
            None if bytes.len() >= room => Added::Full,
            None => Added::More,
        }
    }
}

/// The segment that holds a message's first byte, as far as the message needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) position: u64,
    pub(super) opposite: u64,
    pub(super) first_ns: u64,
    pub(super) taken_ns: u64,
    pub(super) true_first: bool,
    pub(super) thread: Thread,
    pub(super) turn: Turn,
}

impl Origin {
    /// The message that begins `at` bytes into `segment`.
    pub(super) fn new(segment: &Segment<'_>, at: usize, turn: Turn) -> Origin {
        Origin {
            position: segment.position.saturating_add(at as u64),
            opposite: segment.opposite,
            first_ns: segment.first_ns,
            taken_ns: segment.taken_ns,
            true_first: segment.true_first,
            thread: segment.thread,
            turn,
        }
    }
}

/// Whether the other direction moved right before a point of this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Turn {
    /// It did.
    Yes,
    /// It did not, or this is not the first byte of a call.
    #[default]
    No,
    /// It moved while bytes of this direction passed unseen.
    Unclear,
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) state: State,
    /// Position of the next byte, once `known`.
    pub(super) next: u64,
    pub(super) known: bool,
    /// Bytes are missing between the last segment and `next`.
    pub(super) gapped: bool,
    /// `opposite` of the last segment.
    last_opposite: u64,
    /// Where this direction stood when the other one last moved, once that is known: apart from its
    /// place, because so an idle connection's state is 16 bytes shorter.
    stood_at: u64,
    stood: bool,
}

/// How a segment lies to what came before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed<'a> {
    /// What of it is new.
    pub(super) segment: Segment<'a>,
    /// Bytes missing before it.
    pub(super) missing: u64,
    /// Its first byte is the first byte of the call.
    pub(super) whole: bool,
}

impl Stream {
    /// Cuts off what was there before. `None` when nothing is left, or the numbers make no sense.
    pub(super) fn place<'a>(&self, segment: &Segment<'a>) -> Option<Placed<'a>> {
        let mut segment = *segment;
        segment.len = segment.len.max(segment.bytes.len() as u64);
        segment.position.checked_add(segment.len)?;
        if segment.len == 0 {
            return None;
        }
        let next = if self.known { self.next } else { segment.position };
        let missing = segment.position.saturating_sub(next);
        let old = next.saturating_sub(segment.position);
        if old >= segment.len {
            return None;
        }
        segment.position += old;
        segment.len -= old;
        let old_bytes = usize::try_from(old).unwrap_or(usize::MAX);
        segment.bytes = segment.bytes.get(old_bytes..).unwrap_or_default();
        Some(Placed { segment, missing, whole: old == 0 })
    }

    /// The other direction moved between the byte before `placed` and its first one: by a segment
    /// of the other direction that saw this one stand here, or by its position as seen by the
    /// calls on both sides of this point.
    pub(super) fn turn(&self, placed: &Placed<'_>) -> Turn {
        let segment = &placed.segment;
        let seen = self.stood && self.stood_at == segment.position;
        let adjacent = self.known && !self.gapped && placed.missing == 0;
        let moved = (1..1 << 63).contains(&segment.opposite.wrapping_sub(self.last_opposite));
        match (placed.whole, seen, moved, adjacent) {
            (true, true, ..) | (true, _, true, true) => Turn::Yes,
            (true, false, true, false) => Turn::Unclear,
            _ => Turn::No,
        }
    }

    /// The other direction was elsewhere when the last segment passed.
    pub(super) fn opposite_moved(&self, segment: &Segment<'_>) -> bool {
        segment.opposite != self.last_opposite
    }

    pub(super) fn advance(&mut self, segment: &Segment<'_>) {
        self.next = segment.position.saturating_add(segment.len);
        self.known = true;
        self.gapped = false;
        self.last_opposite = segment.opposite;
    }

    /// The other direction moved while this one stood at `position`.
    pub(super) fn stand(&mut self, position: u64) {
        self.stood_at = position;
        self.stood = true;
        if !self.known {
            self.known = true;
            self.next = position;
            self.last_opposite = 0;
            // Nothing passed yet: there is no call before this point to compare with.
            self.gapped = true;
        }
    }

    /// Whole exchanges up to `end` passed: what follows is as good as adjacent.
    pub(super) fn pass(&mut self, end: u64) {
        self.next = self.next.max(end);
        self.known = true;
        self.gapped = false;
    }

    /// Bytes up to `end` are missing; how many of them are new.
    pub(super) fn miss(&mut self, position: u64, end: u64) -> u64 {
        let from = if self.known { self.next } else { position };
        let missing = end.saturating_sub(from);
        if missing > 0 {
            self.next = end;
            self.known = true;
            self.gapped = true;
        }
        missing
    }

    pub(super) fn held_bytes(&self) -> usize {
        match &self.state {
            State::Head(partial) => partial.bytes.capacity() + size_of::<Partial>(),
            State::Start | State::Body(_) | State::Unknown => 0,
        }
    }
}
