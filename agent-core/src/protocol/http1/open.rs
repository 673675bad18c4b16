//! Requests that wait for their response, oldest first, and the response under way.

use super::framing::Method;
use crate::id::SpanId;
use crate::message::{Failure, Finished};
use std::collections::VecDeque;

/// Most requests of one connection that are followed at once. Clients that pipeline send tens;
/// 1024 of them hold 40 KiB.
pub(super) const MAX_OPEN: usize = 1024;

/// A request without its response.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) span: SpanId,
    pub(super) method: Method,
    pub(super) request_body: Option<u64>,
}

/// First in, first out (RFC 9112, 9.3.2). The usual one lies in place, so that a connection
/// without pipelining never allocates, and an idle one holds nothing.
#[derive(Debug, Default)]
pub(super) struct Queue {
    front: Option<Open>,
    /// Only while the client pipelines.
    rest: Option<Box<Rest>>,
}

#[derive(Debug, Default)]
struct Rest(VecDeque<Open>);

impl Queue {
    pub(super) fn len(&self) -> usize {
        let rest = self.rest.as_ref().map_or(0, |rest| rest.0.len());
        usize::from(self.front.is_some()) + rest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.front.is_none()
    }

    pub(super) fn front(&self) -> Option<&Open> {
        self.front.as_ref()
    }

    /// The youngest.
    pub(super) fn back_mut(&mut self) -> Option<&mut Open> {
        let rest = self.rest.as_mut().and_then(|rest| rest.0.back_mut());
        rest.or(self.front.as_mut())
    }

    pub(super) fn push(&mut self, open: Open) {
        if self.front.is_none() {
            self.front = Some(open);
        } else {
            self.rest.get_or_insert_default().0.push_back(open);
        }
    }

    pub(super) fn pop(&mut self) -> Option<Open> {
        let open = self.front.take();
        self.front = self.rest.as_mut().and_then(|rest| rest.0.pop_front());
        if self.front.is_none() {
            self.rest = None;
        }
        open
    }

    pub(super) fn held_bytes(&self) -> usize {
        let rest = |rest: &Rest| size_of::<Rest>() + rest.0.capacity() * size_of::<Open>();
        self.rest.as_deref().map_or(0, rest)
    }
}

/// The final response to the oldest request, from its status line on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) first_byte_ns: u64,
    /// Time of the last byte seen, by the clock rule of [`Finished::end_ns`].
    pub(super) last_ns: u64,
    /// Size by the head.
    pub(super) size: Option<u64>,
}

/// How a request ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    pub(super) end_ns: u64,
    pub(super) response_body: Option<u64>,
    pub(super) failure: Option<Failure>,
}

impl Open {
    pub(super) fn finished(&self, reply: Option<&Reply>, ending: Ending) -> Finished {
        Finished {
            span: self.span,
            cookie: 0,
            end_ns: ending.end_ns,
            first_byte_ns: reply.map(|reply| reply.first_byte_ns),
            status: reply.map(|reply| reply.status),
            request_body: self.request_body,
            response_body: ending.response_body,
            failure: ending.failure,
        }
    }
}
