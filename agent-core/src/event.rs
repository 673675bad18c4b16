//! Stage 2: bytes of a ring slot to a typed, borrowed [`Event`].
//!
//! Every byte is hostile here: a recording may be forged. Lengths are checked against the slot.

use agent_common::record::{
    self, Closing, Connection, Exec, Exit, Fork, Header, Payload, Shed, ThreadContext, VERSION,
    kind,
};
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// A process for good: its number is reused, its start time is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessKey {
    /// Process number in the initial pid namespace.
    pub tgid: u32,
    /// Start on the boot-time clock, ns.
    pub start_ns: u64,
}

/// One decoded record. The kinds of [`record::kind`].
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A socket, with the path of a unix socket (else empty).
    Connection(&'a Connection, &'a [u8]),
    /// Bytes moved, with those captured.
    Payload(&'a Payload, &'a [u8]),
    /// A socket that closes.
    Closing(&'a Closing),
    /// A new task.
    Fork(&'a Fork),
    /// A new program, with its captured argument block.
    Exec(&'a Exec, &'a [u8]),
    /// A task that ended.
    Exit(&'a Exit),
    /// Requests of a process were shed.
    Shed(&'a Shed),
    /// A thread had published its trace context.
    ThreadContext(&'a ThreadContext),
}

impl Event<'_> {
    /// The part common to all kinds.
    pub fn header(&self) -> &Header {
        match self {
            Event::Connection(r, _) => &r.header,
            Event::Payload(r, _) => &r.header,
            Event::Closing(r) => &r.header,
            Event::Fork(r) => &r.header,
            Event::Exec(r, _) => &r.header,
            Event::Exit(r) => &r.header,
            Event::Shed(r) => &r.header,
            Event::ThreadContext(r) => &r.header,
        }
    }

    /// The process that the record names.
    pub fn process(&self) -> ProcessKey {
        let header = self.header();
        ProcessKey { tgid: header.tgid, start_ns: header.start_ns }
    }
}

/// Why bytes are no record. The kernel side and this build disagree, or a recording is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The slot ends before the fixed part does.
    #[error("record of kind {kind} has {len} bytes, fewer than its fixed part")]
    Short {
        /// Kind, 0 when not even the header is there.
        kind: u8,
        /// Bytes in the slot.
        len: usize,
    },
    /// `captured_len` says more than the slot holds.
    #[error("record of kind {kind} claims {claimed} captured bytes, its slot has {room}")]
    Overlong {
        /// Kind.
        kind: u8,
        /// `captured_len`.
        claimed: u32,
        /// Bytes behind the fixed part.
        room: usize,
    },
    /// Another layout version.
    #[error("record layout version {0}, this build reads {VERSION}")]
    Version(u8),
    /// A kind this build does not know.
    #[error("record of unknown kind {0}")]
    Kind(u8),
}

/// Reads one record. `slot` starts at a record and may be longer than it.
///
/// # Errors
/// [`DecodeError`] when the bytes are no record of this version.
pub fn decode(slot: &[u8]) -> Result<Event<'_>, DecodeError> {
    let short = DecodeError::Short { kind: 0, len: slot.len() };
    let (header, _) = Header::ref_from_prefix(slot).map_err(|_| short)?;
    if header.version != VERSION {
        return Err(DecodeError::Version(header.version));
    }
    match header.kind {
        kind::CONNECTION => with_tail(slot, header).map(|(r, tail)| Event::Connection(r, tail)),
        kind::PAYLOAD => with_tail(slot, header).map(|(r, tail)| Event::Payload(r, tail)),
        kind::CLOSING => with_tail(slot, header).map(|(r, _)| Event::Closing(r)),
        kind::FORK => with_tail(slot, header).map(|(r, _)| Event::Fork(r)),
        kind::EXEC => with_tail(slot, header).map(|(r, tail)| Event::Exec(r, tail)),
        kind::EXIT => with_tail(slot, header).map(|(r, _)| Event::Exit(r)),
        kind::SHED => with_tail(slot, header).map(|(r, _)| Event::Shed(r)),
        kind::THREAD_CONTEXT => with_tail(slot, header).map(|(r, _)| Event::ThreadContext(r)),
        other => Err(DecodeError::Kind(other)),
    }
}

fn with_tail<'a, T>(slot: &'a [u8], header: &Header) -> Result<(&'a T, &'a [u8]), DecodeError>
where
    T: FromBytes + KnownLayout + Immutable,
{
    let kind = header.kind;
    let (fixed, room) =
        T::ref_from_prefix(slot).map_err(|_| DecodeError::Short { kind, len: slot.len() })?;
    let claimed = header.captured_len;
    let tail = usize::try_from(claimed).ok().and_then(|len| room.get(..len));
    let room = room.len();
    tail.map(|tail| (fixed, tail)).ok_or(DecodeError::Overlong { kind, claimed, room })
}

/// Length of a record with its captured bytes: what of a slot is worth recording.
pub fn record_len(event: &Event<'_>) -> usize {
    let fixed = match event {
        Event::Connection(..) => size_of::<Connection>(),
        Event::Payload(..) => size_of::<Payload>(),
        Event::Closing(..) => size_of::<Closing>(),
        Event::Fork(..) => size_of::<Fork>(),
        Event::Exec(..) => size_of::<record::Exec>(),
        Event::Exit(..) => size_of::<Exit>(),
        Event::Shed(..) => size_of::<Shed>(),
        Event::ThreadContext(..) => size_of::<ThreadContext>(),
    };
    let tail = match event {
        Event::Connection(_, tail) | Event::Payload(_, tail) | Event::Exec(_, tail) => tail.len(),
        Event::Closing(_)
        | Event::Fork(_)
        | Event::Exit(_)
        | Event::Shed(_)
        | Event::ThreadContext(_) => 0,
    };
    fixed + tail
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    fn payload(captured_len: u32) -> Vec<u8> {
        let header =
            Header { version: VERSION, kind: kind::PAYLOAD, captured_len, ..Header::default() };
        let mut slot = Payload { header, ..Payload::default() }.as_bytes().to_vec();
        slot.extend_from_slice(b"hello, rest of the slot");
        slot
    }

    #[test]
    fn the_tail_is_what_was_captured_and_not_the_rest_of_the_slot() {
        let slot = payload(5);
        let Event::Payload(_, tail) = decode(&slot).unwrap() else { panic!("not a payload") };
        assert_eq!(tail, b"hello");
    }

    #[test]
    fn every_prefix_of_a_record_is_an_error_and_never_a_panic() {
        let slot = payload(5);
        for end in 0..size_of::<Payload>() + 5 {
            assert!(decode(&slot[..end]).is_err(), "prefix of {end} bytes");
        }
    }

    #[test]
    fn a_length_beyond_the_slot_is_refused_with_both_values() {
        let error = decode(&payload(1000)).unwrap_err();
        assert_eq!(error, DecodeError::Overlong { kind: kind::PAYLOAD, claimed: 1000, room: 23 });
    }
}
