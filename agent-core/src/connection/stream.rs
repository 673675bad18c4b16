//! Where one direction of a connection stands, and what a record's position means there.

/// A jump beyond this is no gap: the position or the state is wrong. 1 TiB is more than a
/// connection moves while its records are lost (15 minutes at 10 Gbit/s).
pub(super) const PLAUSIBLE: u64 = 1 << 40;

/// One direction of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stream {
    /// Position of the next byte that no record has reported yet.
    next: u64,
    /// A record has told `next`; before, it is a hint at best.
    known: bool,
    /// `next` is where the connection record said that the stream begins.
    hinted: bool,
    /// The sender's end was reported.
    pub(super) ended: bool,
}

/// What a position means to a [`Stream`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The bytes follow those before.
    Next,
    /// The first `skip` bytes are known already.
    Overlap { skip: u64 },
    /// `gap` bytes before these have not been reported.
    Ahead { gap: u64 },
    /// Not a position that this stream can have: begin anew.
    Elsewhere,
}

impl Stream {
    /// Judges `position`. A stream without history takes any that is not beyond its hint: the
    /// connection record may have been written by the very call whose bytes come first.
    pub(super) fn place(&self, position: u64) -> Place {
        let ahead = position.wrapping_sub(self.next);
        let behind = self.next.wrapping_sub(position);
        match () {
            () if ahead == 0 => Place::Next,
            () if ahead <= PLAUSIBLE && (self.known || self.hinted) => Place::Ahead { gap: ahead },
            () if !self.known => Place::Next,
            () if behind <= PLAUSIBLE => Place::Overlap { skip: behind },
            () => Place::Elsewhere,
        }
    }

    /// The stream begins at `position`, as far as is known.
    pub(super) fn hint(&mut self, position: u64) {
        if !self.known {
            self.next = position;
            self.hinted = true;
        }
    }

    /// Whether no record has told anything of this stream.
    pub(super) fn untouched(&self) -> bool {
        !self.known
    }

    /// Whether `position` is the very first byte of the stream.
    pub(super) fn is_first(&self, position: u64) -> bool {
        !self.known && self.hinted && self.next == position
    }

    /// Takes the bytes up to `position`, exclusive.
    pub(super) fn reach(&mut self, position: u64) {
        self.next = position;
        self.known = true;
    }

    /// First byte not yet reported.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Bytes that are missing before the end of the stream at `end`.
    ///
    /// A FIN takes one sequence number, and whether `end` counts it depends on the state of the
    /// socket: one missing byte is not told from it.
    pub(super) fn missing_before(&self, end: u64) -> Option<u64> {
        match self.place(end) {
            Place::Ahead { gap } if gap > 1 && !self.ended => Some(gap),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let top = u64::MAX;
        for (why, next, position, expected) in [
            ("adjacent", 100, 100, Place::Next),
            ("beyond", 100, 130, Place::Ahead { gap: 30 }),
            ("before", 100, 90, Place::Overlap { skip: 10 }),
            ("adjacent across the wrap", 5, 5, Place::Next),
            ("beyond across the wrap", top - 9, 20, Place::Ahead { gap: 30 }),
            ("before across the wrap", 10, top - 9, Place::Overlap { skip: 20 }),
            ("largest gap", 0, PLAUSIBLE, Place::Ahead { gap: PLAUSIBLE }),
            ("too far", 0, PLAUSIBLE + 1, Place::Elsewhere),
            ("too far back", PLAUSIBLE + 1, 0, Place::Elsewhere),
            ("half the space", 0, 1 << 63, Place::Elsewhere),
        ] {
            let mut stream = Stream::default();
            stream.reach(next);
            assert_eq!(stream.place(position), expected, "{why}");
        }
    }

    #[test]
    fn a_new_stream_takes_any_position() {
        assert_eq!(Stream::default().place(u64::MAX), Place::Next);
    }

    #[test]
    fn a_hint_shows_lost_first_bytes_and_nothing_else() {
        let mut stream = Stream::default();
        stream.hint(100);
        for (position, expected) in
            [(100, Place::Next), (90, Place::Next), (110, Place::Ahead { gap: 10 })]
        {
            assert_eq!(stream.place(position), expected, "first record at {position}");
        }
        assert!(stream.is_first(100) && !stream.is_first(90));
        stream.reach(120);
        stream.hint(100);
        assert_eq!(stream.next(), 120, "a record knows better");
    }

    #[test]
    fn a_fin_is_not_a_missing_byte() {
        let mut stream = Stream::default();
        stream.reach(100);
        for (end, expected) in [(100, None), (101, None), (102, Some(2)), (90, None)] {
            assert_eq!(stream.missing_before(end), expected, "end at {end}");
        }
    }
}
