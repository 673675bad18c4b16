//! Stage 4: ordered bytes of one connection to requests that start and finish.
//!
//! A protocol is a state machine per connection that is fed [`Segment`]s in stream order, with
//! every missing byte named, and answers through a [`Sink`]. It never sees a byte twice, never
//! sees two bytes joined that were not adjacent, and never reports what the bytes do not show.

pub mod http1;
pub mod tls;

use crate::message::{Failure, Finished, Started, Thread};

/// Direction of bytes, seen from the watched program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The program sent them.
    Send,
    /// The program received them.
    Receive,
}

impl Direction {
    /// The other direction.
    pub fn opposite(self) -> Direction {
        match self {
            Direction::Send => Direction::Receive,
            Direction::Receive => Direction::Send,
        }
    }
}

/// What one call moved: `bytes`, then `len - bytes.len()` that were not captured.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Direction.
    pub direction: Direction,
    /// Stream position of the first byte.
    pub position: u64,
    /// The captured bytes at `position`.
    pub bytes: &'a [u8],
    /// Bytes that the call moved; at least `bytes.len()`.
    pub len: u64,
    /// Position of the opposite direction at that moment.
    pub opposite: u64,
    /// Boot-time ns. Send: the first byte entered the socket. Receive: it became readable.
    pub first_ns: u64,
    /// Boot-time ns. Receive: the last byte became readable. Send: as `first_ns`.
    pub last_ns: u64,
    /// Boot-time ns at which the call returned.
    pub taken_ns: u64,
    /// `first_ns` is the true time.
    pub true_first: bool,
    /// Who called.
    pub thread: Thread,
}

/// One step of a connection.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Bytes.
    Segment(Segment<'a>),
    /// Bytes of `direction` from `position` on that no call reported (records lost, or an
    /// in-kernel reader); what follows begins at `position + len`.
    Gap {
        /// Direction.
        direction: Direction,
        /// First missing byte.
        position: u64,
        /// Missing bytes.
        len: u64,
    },
    /// Bytes of `direction` from `position` on that belong to whole exchanges which were shed on
    /// purpose: both directions are told, before what follows.
    Shed {
        /// Direction.
        direction: Direction,
        /// First such byte.
        position: u64,
        /// How many.
        len: u64,
    },
    /// The sender of `direction` will send no more (FIN seen, or a receive returned 0).
    End {
        /// Direction.
        direction: Direction,
        /// Boot-time ns.
        at: u64,
    },
    /// Nothing follows in either direction.
    Closed {
        /// Boot-time ns.
        at: u64,
        /// How an unfinished request failed.
        failure: Failure,
    },
}

/// Whether the connection still speaks the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It does.
    Continues,
    /// It switched to another protocol (Upgrade, CONNECT) or never was this one: the rest of the
    /// connection is no longer looked at.
    Left,
}

/// Takes what a protocol finds.
pub trait Sink {
    /// An empty message to fill: a reused one where possible.
    fn blank(&mut self) -> Box<Started>;
    /// A request begins. The sink sets `span` and `cookie` (it knows connection and key) and
    /// returns the span id by which the end will name it.
    fn started(&mut self, started: Box<Started>) -> crate::id::SpanId;
    /// A request ends. The sink sets `cookie`.
    fn finished(&mut self, finished: Finished);
    /// A request begins whose start line is longer than what was captured: it stays without a
    /// span, because without the version nobody can tell that it is one.
    fn start_line_cut(&mut self) {}
    /// Something was lost, after which nobody can tell what belongs to what: the rest of the connection
    /// is not looked at.
    fn not_followed_further(&mut self) {}
    /// Whether [`Sink::read`] is to be called.
    fn wants_reads(&self) -> bool {
        false
    }
    /// Bytes that decided something, once they have. What is not named here could have been
    /// anything: recordings keep nothing else.
    fn read(&mut self, _direction: Direction, _position: u64, _bytes: &[u8], _what: Read) {}
}

/// What bytes were read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// What may become a start line, so far.
    Beginning,
    /// A head from its first byte on, whole or cut.
    Head,
    /// Framing outside of heads: chunk sizes, line ends.
    Framing,
    /// Text between framing whose content does not matter: chunk extensions, trailers.
    Text,
    /// A piece of a TLS hello, with filler for all of it that says nothing.
    Hello,
}
