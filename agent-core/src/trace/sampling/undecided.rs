//! Spans of traces that are not decided yet.

use super::super::settle::Settled;
use crate::id::{SpanId, TraceId};
use crate::process::SharedResource;
use crate::span::{Attribute, Kind, Output, Span, Value};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use smallvec::SmallVec;
use std::collections::VecDeque;

/// Most spare spans: as many as wait of a few hundred traces.
const MAX_SPARE: usize = 1024;

/// What a trace takes beside its spans: its place in both tables.
const TRACE: usize = 256;

/// A span, owned: its texts in one.
#[derive(Debug, Default)]
pub(in crate::trace) struct Kept {
    pub(in crate::trace) settled: Settled,
    id: SpanId,
    parent: Option<SpanId>,
    parent_remote: bool,
    is_server: bool,
    error: bool,
    start_unix_ns: u64,
    end_unix_ns: u64,
    end_boot_ns: u64,
    text: String,
    /// Where name and tracestate lie in the text.
    name: Place,
    state: Place,
    attributes: Vec<(&'static str, Stored)>,
    resource: Option<SharedResource>,
}

/// A part of a text: where it begins, and its length.
type Place = (u32, u32);

#[derive(Clone, Copy, Debug)]
enum Stored {
    Text(Place),
    Int(i64),
    Double(f64),
    Bool(bool),
}

/// The spans of one trace that wait.
#[derive(Debug)]
pub(in crate::trace) struct Waiting {
    /// A reference to its tree.
    pub(in crate::trace) tree: u32,
    #[expect(clippy::vec_box, reason = "the boxes go back to be used again")]
    pub(in crate::trace) spans: Vec<Box<Kept>>,
    bytes: usize,
    number: u64,
}

/// See the module.
#[derive(Debug)]
pub(in crate::trace) struct Undecided {
    traces: HashMap<TraceId, Waiting, RandomState>,
    /// Traces by when their wait is over, with the number that tells a stale entry.
    order: VecDeque<(u64, TraceId, u64)>,
    number: u64,
    spans: usize,
    bytes: usize,
    most_bytes: usize,
    #[expect(clippy::vec_box, reason = "the boxes themselves are what is used again")]
    spare: Vec<Box<Kept>>,
}

impl Undecided {
    pub(in crate::trace) fn new(most_bytes: usize) -> Undecided {
        Undecided {
            traces: HashMap::default(),
            order: VecDeque::new(),
            number: 0,
            spans: 0,
            bytes: 0,
            most_bytes,
            spare: Vec::new(),
        }
    }

    /// Spans that wait.
    pub(in crate::trace) fn len(&self) -> usize {
        self.spans
    }

    pub(in crate::trace) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps a copy of `span`. True when its trace is new here: then the caller hands over a reference to
    /// its tree.
    pub(in crate::trace) fn push(
        &mut self,
        span: &Span<'_>,
        resource: &SharedResource,
        settled: Settled,
        (tree, until): (u32, u64),
    ) -> bool {
        let mut kept = self.spare.pop().unwrap_or_default();
        kept.copy(span, resource, settled);
        let bytes = kept.bytes();
        self.spans += 1;
        self.bytes += bytes;
        if let Some(waiting) = self.traces.get_mut(&span.trace) {
            waiting.spans.push(kept);
            waiting.bytes += bytes;
            return false;
        }
        self.number += 1;
        self.bytes += TRACE;
        let bytes = bytes + TRACE;
        let waiting = Waiting { tree, spans: vec![kept], bytes, number: self.number };
        self.traces.insert(span.trace, waiting);
        self.order.push_back((until, span.trace, self.number));
        true
    }

    /// The tree of a trace that waits, and what was settled of it.
    pub(in crate::trace) fn first(&self, trace: TraceId) -> Option<(u32, Settled)> {
        let waiting = self.traces.get(&trace)?;
        Some((waiting.tree, waiting.spans.first()?.settled))
    }

    /// The spans of a trace that is decided.
    pub(in crate::trace) fn take(&mut self, trace: TraceId) -> Option<Waiting> {
        let waiting = self.traces.remove(&trace)?;
        self.spans -= waiting.spans.len();
        self.bytes = self.bytes.saturating_sub(waiting.bytes);
        if self.order.len() > 2 * self.traces.len() + 64 {
            let traces = &self.traces;
            self.order.retain(|(_, trace, number)| is_current(traces, trace, *number));
        }
        Some(waiting)
    }

    /// The first trace whose wait was over before `now`.
    pub(in crate::trace) fn overdue(&mut self, now: u64) -> Option<TraceId> {
        while let Some((until, trace, number)) = self.order.front().copied() {
            if is_current(&self.traces, &trace, number) {
                return (until < now).then_some(trace);
            }
            self.order.pop_front();
        }
        None
    }

    /// The trace that waits longest, when there is too much.
    pub(in crate::trace) fn surplus(&mut self) -> Option<TraceId> {
        if self.bytes <= self.most_bytes { None } else { self.overdue(u64::MAX) }
    }

    /// Takes a span back whose memory can be used again.
    pub(in crate::trace) fn reuse(&mut self, mut kept: Box<Kept>) {
        if self.spare.len() < MAX_SPARE {
            kept.resource = None;
            self.spare.push(kept);
        }
    }
}

fn is_current(
    traces: &HashMap<TraceId, Waiting, RandomState>,
    trace: &TraceId,
    number: u64,
) -> bool {
    traces.get(trace).is_some_and(|waiting| waiting.number == number)
}

impl Kept {
    fn bytes(&self) -> usize {
        size_of::<Kept>()
            + self.text.capacity()
            + self.attributes.capacity() * size_of::<(&str, Stored)>()
    }

    fn copy(&mut self, span: &Span<'_>, resource: &SharedResource, settled: Settled) {
        self.text.clear();
        self.attributes.clear();
        self.settled = settled;
        self.id = span.id;
        self.parent = span.parent;
        self.parent_remote = span.parent_remote;
        self.is_server = span.kind == Kind::Server;
        self.error = span.error;
        (self.start_unix_ns, self.end_unix_ns) = (span.start_unix_ns, span.end_unix_ns);
        self.end_boot_ns = span.end_boot_ns;
        self.name = self.add(span.name);
        self.state = self.add(span.tracestate);
        for (key, value) in span.attributes {
            let stored = match value {
                Value::Str(text) => Stored::Text(self.add(text)),
                Value::Int(number) => Stored::Int(*number),
                Value::Double(number) => Stored::Double(*number),
                Value::Bool(truth) => Stored::Bool(*truth),
                // No span of a request has one.
                Value::List(_) => continue,
            };
            self.attributes.push((key, stored));
        }
        self.resource = Some(SharedResource::clone(resource));
    }

    fn add(&mut self, text: &str) -> Place {
        let at = self.text.len();
        self.text.push_str(text);
        // A head is 4 KiB: both fit.
        (u32::try_from(at).unwrap_or(0), u32::try_from(text.len()).unwrap_or(0))
    }

    fn part(&self, (at, len): Place) -> &str {
        let at = at as usize;
        self.text.get(at..at + len as usize).unwrap_or_default()
    }

    /// The tracestate with which it came.
    pub(in crate::trace) fn state(&self) -> &str {
        self.part(self.state)
    }

    /// Gives it out with this tracestate.
    pub(in crate::trace) fn lend(&self, tracestate: &str, out: &mut dyn Output) {
        let Some(resource) = &self.resource else { return };
        let attributes: SmallVec<[Attribute<'_>; 32]> = self
            .attributes
            .iter()
            .map(|(key, stored)| {
                let value = match stored {
                    Stored::Text(place) => Value::Str(self.part(*place)),
                    Stored::Int(number) => Value::Int(*number),
                    Stored::Double(number) => Value::Double(*number),
                    Stored::Bool(truth) => Value::Bool(*truth),
                };
                (*key, value)
            })
            .collect();
        out.span(&Span {
            trace: self.settled.trace,
            id: self.id,
            parent: self.parent,
            parent_remote: self.parent_remote,
            trace_flags: self.settled.flags,
            tracestate,
            name: self.part(self.name),
            kind: if self.is_server { Kind::Server } else { Kind::Client },
            start_unix_ns: self.start_unix_ns,
            end_unix_ns: self.end_unix_ns,
            end_boot_ns: self.end_boot_ns,
            error: self.error,
            attributes: &attributes,
            links: &[],
            resource,
        });
    }
}
