//! (being written)

use super::{Input, Progress, Sink};
use crate::message::Role;

/// How much bytes look like this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// They do.
    Yes,
    /// They do not.
    No,
    /// Too few bytes to say.
    NeedMore,
}

/// Judges first bytes.
pub fn classify(bytes: &[u8]) -> Likeness {
    if bytes.starts_with(b"GET /") { Likeness::Yes } else { Likeness::No }
}

/// State of one connection.
#[derive(Debug, Default)]
pub struct Http1;

impl Http1 {
    /// A connection of which nothing has been seen.
    pub fn new() -> Http1 {
        Http1
    }
    /// Takes one step.
    pub fn input(&mut self, _input: &Input<'_>, _sink: &mut impl Sink) -> Progress {
        Progress::Continues
    }
    /// Which end was observed, once known.
    pub fn role(&self) -> Option<Role> {
        None
    }
    /// Requests that started and did not finish.
    pub fn open_requests(&self) -> usize {
        0
    }
    /// Bytes held.
    pub fn held_bytes(&self) -> usize {
        0
    }
}
