//! Trace contexts that threads had published when they began to send on a connection.
//!
//! The record of a context goes before that of the send. Between them may lie records of other threads, and
//! either may be lost: they belong together only by thread and time. A request has the context of the send
//! that its first byte was in.

use crate::id::{SpanId, TraceId};
use crate::message::Published;
use agent_common::record;

/// Of one connection; nothing is allocated where nobody publishes.
#[derive(Debug, Default)]
pub(super) struct PublishedContexts(Option<Box<Latest>>);

#[derive(Debug, Default)]
struct Latest {
    /// Context whose send is to come.
    announced: Option<record::ThreadContext>,
    /// Positions of the send that came last, and its context.
    placed: Option<(u64, u64, Published)>,
}

impl PublishedContexts {
    /// Takes a context; a send follows.
    pub(super) fn announce(&mut self, record: &record::ThreadContext) {
        self.0.get_or_insert_default().announced = Some(*record);
    }

    /// The send that says that it has a context. False when that is not there.
    pub(super) fn place(&mut self, send: &record::Payload) -> bool {
        let Some(latest) = &mut self.0 else { return false };
        let header = &send.header;
        let same = |context: &mut record::ThreadContext| {
            let theirs = &context.header;
            (theirs.tgid, theirs.tid, theirs.boot_ns) == (header.tgid, header.tid, header.boot_ns)
        };
        // What else was announced has lost its send, or has it still to come from another CPU.
        let Some(context) = latest.announced.take_if(same) else { return false };
        let published = Published {
            trace: TraceId(context.trace_id),
            span: SpanId(context.span_id),
            flags: context.trace_flags,
        };
        if published.trace == TraceId::default() || published.span == SpanId::default() {
            return false;
        }
        latest.placed = Some((send.position, u64::from(header.total_len), published));
        true
    }

    /// Positions begin anew. What was announced stays: its send may be the first of them.
    pub(super) fn forget_placed(&mut self) {
        if let Some(latest) = &mut self.0 {
            latest.placed = None;
        }
    }

    /// The context of the send that has the byte at `position`.
    pub(super) fn at(&self, position: u64) -> Option<Published> {
        let (first, len, published) = self.0.as_ref()?.placed?;
        (position.wrapping_sub(first) < len).then_some(published)
    }
}
