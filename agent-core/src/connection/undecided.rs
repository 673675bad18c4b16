//! A connection whose protocol is not known yet.
//!
//! Seen from its first byte, a connection is judged by it, once. One that was joined in the middle
//! (older than the agent, or after a gap) may be in a body, whose bytes say nothing: it is judged
//! where the direction turns, and unknown only after [`MAX_TRIES`] turns.

use super::classify::{Judgement, Kind, judge};
use crate::protocol::{Direction, Segment};

/// Turns after which a connection joined in the middle is unknown. A body takes one; a second
/// covers a turn within it (100 Continue), a third one lost record.
const MAX_TRIES: u8 = 3;

/// Calls after which it is unknown even without a turn: each costs a record. At 64 KiB a call this
/// is a body of 256 MiB.
const MAX_CALLS: u16 = 4096;

/// Calls and bytes that may be too few to judge by: more than any start line sent byte by byte
/// is worth waiting for.
const MAX_PENDING: usize = 32;
const MAX_PREFIX: usize = 4096;

/// What has been tried so far.
#[derive(Debug, Default)]
pub(super) struct Undecided {
    tries: u8,
    calls: u16,
    /// The next bytes that count are those of a turn.
    waiting: bool,
    pending: Option<Box<Pending>>,
    /// Segments kept in vain since last asked: at most [`MAX_PENDING`] each time.
    dropped: u16,
}

/// Calls at the beginning of a turn that are too few bytes to judge by.
#[derive(Debug)]
pub(super) struct Pending {
    first: bool,
    direction: Direction,
    prefix: Vec<u8>,
    /// Without their bytes, which are `prefix`, one after the other.
    segments: Vec<Segment<'static>>,
}

/// What a segment led to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Kept: more bytes are needed.
    Kept,
    /// The bytes told nothing; wait for the next turn.
    Useless,
    /// Decided.
    Is(Kind),
}

impl Undecided {
    /// A connection that has lost its thread: only a turn can tell.
    pub(super) fn midway() -> Undecided {
        Undecided { waiting: true, ..Undecided::default() }
    }

    /// Segments kept.
    pub(super) fn kept(&self) -> usize {
        self.pending.as_ref().map_or(0, |pending| pending.segments.len())
    }

    /// What is kept: position and bytes of what may become a start line.
    pub(super) fn beginning(&self) -> Option<(u64, &[u8])> {
        let pending = self.pending.as_ref()?;
        Some((pending.segments.first()?.position, &pending.prefix))
    }

    /// Segments that were kept and then found useless, since this was last asked.
    pub(super) fn dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped).into()
    }

    /// Forgets what was kept: bytes are missing behind it.
    pub(super) fn gap(&mut self) {
        self.forget();
        self.waiting = true;
    }

    fn forget(&mut self) {
        self.dropped = self.dropped.saturating_add(u16::try_from(self.kept()).unwrap_or(u16::MAX));
        self.pending = None;
    }

    /// Takes a segment. `turn`: the direction turned with it; `first`: it is the first of the
    /// whole connection.
    ///
    /// When the outcome is a kind, what was kept is still there: see [`Undecided::into_pending`].
    pub(super) fn take(&mut self, segment: &Segment<'_>, turn: bool, first: bool) -> Outcome {
        self.calls += 1;
        if self.calls >= MAX_CALLS {
            return Outcome::Is(Kind::Unknown);
        }
        if self.pending.as_ref().is_some_and(|pending| pending.direction != segment.direction) {
            // The other side answered to what looked unfinished: it was no start line.
            if let Some(unknown) = self.fail() {
                return unknown;
            }
        }
        if self.pending.is_none() {
            if (self.waiting && !turn) || segment.bytes.is_empty() {
                self.waiting = true;
                return Outcome::Useless;
            }
            return self.judge(segment, first, judge(segment.bytes, segment.len));
        }
        let Some(pending) = &mut self.pending else { return Outcome::Useless };
        let len = pending.prefix.len();
        pending.prefix.extend_from_slice(segment.bytes);
        let judgement = judge(&pending.prefix, len as u64 + segment.len);
        pending.prefix.truncate(len);
        let first = pending.first;
        self.judge(segment, first, judgement)
    }

    /// What was kept, to be handed to the protocol.
    pub(super) fn into_pending(self) -> Option<Box<Pending>> {
        self.pending
    }

    fn judge(&mut self, segment: &Segment<'_>, first: bool, judgement: Judgement) -> Outcome {
        match judgement {
            Judgement::Is(kind) => Outcome::Is(kind),
            Judgement::NeedMore if self.keep(segment, first) => Outcome::Kept,
            // A start line longer than the capture, perhaps: what comes next may tell.
            Judgement::NeedMore => self.fail().unwrap_or(Outcome::Useless),
            _ if first => Outcome::Is(Kind::Unknown),
            _ => self.fail().unwrap_or(Outcome::Useless),
        }
    }

    fn fail(&mut self) -> Option<Outcome> {
        self.tries += 1;
        self.waiting = true;
        if self.tries >= MAX_TRIES {
            return Some(Outcome::Is(Kind::Unknown));
        }
        self.forget();
        None
    }

    fn keep(&mut self, segment: &Segment<'_>, first: bool) -> bool {
        let whole = segment.bytes.len() as u64 == segment.len;
        let pending = self.pending.get_or_insert_with(|| {
            Box::new(Pending {
                first,
                direction: segment.direction,
                prefix: Vec::new(),
                segments: Vec::new(),
            })
        });
        let room = pending.segments.len() < MAX_PENDING
            && pending.prefix.len() + segment.bytes.len() <= MAX_PREFIX;
        if whole && room {
            pending.prefix.extend_from_slice(segment.bytes);
            pending.segments.push(Segment { bytes: &[], ..*segment });
        }
        whole && room
    }
}

impl Pending {
    /// The kept segments with their bytes, in order.
    pub(super) fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        let mut rest = self.prefix.as_slice();
        self.segments.iter().map(move |segment| {
            let len = usize::try_from(segment.len).unwrap_or(usize::MAX).min(rest.len());
            let (bytes, after) = rest.split_at(len);
            rest = after;
            Segment { bytes, ..*segment }
        })
    }
}
