//! A request from its start until its span is given out.

use super::context::Declared;
use super::measure::Leg;
use crate::id::SpanId;
use crate::message::{Failure, Finished, Role, Started};
use crate::slab::NONE;

/// How a parent was found. The order is that of the evidence ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// Both ends of one connection.
    Connection,
    /// `traceparent`.
    Traceparent,
    /// `b3`.
    B3,
    /// The context that the thread had published.
    ThreadContext,
    /// `X-Request-Id`.
    RequestId,
    /// The goroutine, or the one that made it, serves one request.
    Goroutine,
    /// The thread serves one request.
    Thread,
}

impl Evidence {
    pub(super) const ALL: [Evidence; 7] = [
        Evidence::Connection,
        Evidence::Traceparent,
        Evidence::B3,
        Evidence::ThreadContext,
        Evidence::RequestId,
        Evidence::Goroutine,
        Evidence::Thread,
    ];

    /// Value of `kernspan.link.method`.
    pub(super) fn method(self) -> &'static str {
        match self {
            Evidence::Connection => "connection",
            Evidence::Traceparent => "traceparent",
            Evidence::B3 => "b3",
            Evidence::ThreadContext => "thread_context",
            Evidence::RequestId => "x-request-id",
            Evidence::Goroutine => "goroutine",
            Evidence::Thread => "thread",
        }
    }

    /// Value of `kernspan.link.confidence`.
    ///
    /// Stream positions of both directions, and ids that the program itself gives, are certain. A
    /// request id may have been reused by a program that retries; a thread may do work that was
    /// handed to it by another.
    pub(super) fn confidence(self) -> f64 {
        match self {
            Evidence::Connection
            | Evidence::Traceparent
            | Evidence::B3
            | Evidence::ThreadContext => 1.0,
            Evidence::RequestId => 0.98,
            Evidence::Goroutine => 0.97,
            Evidence::Thread => 0.95,
        }
    }
}

/// What a request hangs on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parent {
    pub(super) span: SpanId,
    pub(super) evidence: Evidence,
    /// Another process sent the context.
    pub(super) remote: bool,
}

/// One request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) started: Box<Started>,
    /// What `started` weighs.
    pub(super) bytes: usize,
    pub(super) role: Role,
    pub(super) tree: u32,
    /// It is the root of `tree`.
    pub(super) planted: bool,
    pub(super) parent: Option<Parent>,
    pub(super) declared: Option<Declared>,
    /// The other end's request was found.
    pub(super) joined: bool,
    /// Its slot, or `NONE`; also when it has been given out since.
    pub(super) peer: u32,
    /// End of the other end's request: a bound of this one.
    pub(super) peer_end_ns: Option<u64>,
    /// The same where nobody saw that end: a bound only where nobody saw this one either.
    pub(super) peer_unobserved_ns: Option<u64>,
    pub(super) finished: Option<Finished>,
    /// Earliest start that its parent on this host allows, 0 without one.
    pub(super) floor_ns: u64,
    /// Hashes under which it is in an index, 0 when it is not.
    pub(super) keys: Keys,
    /// Its place in the service graph.
    pub(super) leg: Leg,
}

/// Hashes under which a request is in an index, 0 when it is not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Keys {
    pub(super) join: u64,
    pub(super) declared: u64,
    pub(super) request_id: u64,
}

impl Request {
    pub(super) fn new(started: Box<Started>, role: Role, bytes: usize) -> Self {
        Request {
            started,
            bytes,
            role,
            tree: NONE,
            planted: false,
            parent: None,
            declared: None,
            joined: false,
            peer: NONE,
            peer_end_ns: None,
            peer_unobserved_ns: None,
            finished: None,
            floor_ns: 0,
            keys: Keys::default(),
            leg: Leg::default(),
        }
    }

    /// It ended, and with a response that was seen to its end.
    pub(super) fn is_complete(&self) -> bool {
        self.finished.is_some_and(|end| end.status.is_some() && end.failure.is_none())
    }

    /// It was given up: nobody saw its end.
    pub(super) fn is_unobserved(&self) -> bool {
        self.finished.is_some_and(|end| end.failure == Some(Failure::Unobserved))
    }

    /// Its response is not complete yet.
    pub(super) fn is_open(&self) -> bool {
        self.finished.is_none()
    }
}
