//! Outputs of the assembler: OTLP, JSON lines, nothing, and several of them at once.

mod json_lines;

pub use json_lines::JsonOutput;

use super::Submitter;
use agent_core::ledger::{Entry, Side};
use agent_core::metric::Metric;
use agent_core::otlp::{Batch, Signal};
use agent_core::span::{LogRecord, Output, Span};
use std::collections::BTreeMap;
use std::time::Instant;

/// A place where spans and log records go. All calls come from one thread.
pub trait Destination: Output + Send {
    /// Passes on what is due. Called at least every 100 ms; `now_boot_ns` is boot time.
    fn flush(&mut self, now_boot_ns: u64);

    /// Passes on everything; nothing follows.
    fn finish(&mut self, now_boot_ns: u64);

    /// Waits until what was passed on is written, at most until `deadline`. After
    /// [`Destination::finish`]. An [`super::Exporter`] is shut down by its owner.
    fn close(&mut self, _deadline: Instant) {}

    /// True when nobody will ever read what comes from now on.
    fn is_gone(&self) -> bool {
        false
    }

    /// Something that people watching should know and that is no span.
    fn note(&mut self, _text: &str) {}

    /// Whether [`Destination::in_flight`] is of any use.
    fn wants_in_flight(&self) -> bool {
        false
    }

    /// Requests that services are answering now, about once a second.
    fn in_flight(&mut self, _services: &BTreeMap<String, u64>) {}

    /// Adds the account of this output.
    fn ledger(&self, entries: &mut Vec<Entry>);
}

/// Sends to an exporter, at most 100 ms or 512 KiB late.
#[derive(Debug)]
pub struct OtlpOutput {
    batch: Batch,
    submitter: Submitter,
    flush_bytes: usize,
}

/// A batch this large is sent without waiting for the next flush.
const FLUSH_BYTES: usize = 512 * 1024;

/// This many batches fit into the queue, however small it is: a request that never fits would be
/// lost although the receiver is there.
const BATCHES_IN_QUEUE: usize = 8;

impl OtlpOutput {
    /// In front of `submitter`.
    pub fn new(submitter: Submitter) -> OtlpOutput {
        let flush_bytes = FLUSH_BYTES.min(submitter.max_queued_bytes() / BATCHES_IN_QUEUE);
        OtlpOutput { batch: Batch::new(env!("CARGO_PKG_VERSION")), submitter, flush_bytes }
    }

    fn send(&mut self) {
        let OtlpOutput { batch, submitter, .. } = self;
        while let Some(body) = submitter.spare() {
            batch.reuse(body);
        }
        batch.flush(|request| {
            submitter.submit(request.signal, request.body.into(), request.items);
        });
    }

    fn send_if_large(&mut self) {
        if self.batch.bytes() >= self.flush_bytes {
            self.send();
        }
    }
}

impl Output for OtlpOutput {
    fn span(&mut self, span: &Span<'_>) {
        self.batch.span(span);
        self.send_if_large();
    }

    fn log(&mut self, record: &LogRecord<'_>) {
        self.batch.log(record);
        self.send_if_large();
    }

    fn metric(&mut self, metric: &Metric<'_>) {
        self.batch.metric(metric);
        self.send_if_large();
    }
}

impl Destination for OtlpOutput {
    fn flush(&mut self, _now_boot_ns: u64) {
        self.send();
    }

    fn finish(&mut self, _now_boot_ns: u64) {
        self.send();
    }

    fn ledger(&self, entries: &mut Vec<Entry>) {
        for signal in Signal::ALL {
            let account = self.batch.account(signal);
            let sides = [
                (Side::In, account.came_in),
                (Side::Held, account.held),
                (Side::Out, account.out()),
                (Side::Lost("oversized"), account.oversized),
            ];
            let unit = signal.unit();
            entries.extend(sides.map(|(side, count)| Entry { stage: "encode", unit, side, count }));
        }
        self.submitter.ledger(entries);
    }
}

/// Counts and forgets.
#[derive(Debug, Default)]
pub struct NoneOutput {
    spans: u64,
    log_records: u64,
    data_points: u64,
}

impl Output for NoneOutput {
    fn span(&mut self, _span: &Span<'_>) {
        self.spans += 1;
    }

    fn log(&mut self, _record: &LogRecord<'_>) {
        self.log_records += 1;
    }

    fn metric(&mut self, metric: &Metric<'_>) {
        self.data_points += metric.data.len() as u64;
    }
}

impl Destination for NoneOutput {
    fn flush(&mut self, _now_boot_ns: u64) {}

    fn finish(&mut self, _now_boot_ns: u64) {}

    fn ledger(&self, entries: &mut Vec<Entry>) {
        let NoneOutput { spans, log_records, data_points } = *self;
        for (unit, count) in
            [("spans", spans), ("log_records", log_records), ("data_points", data_points)]
        {
            for side in [Side::In, Side::Out] {
                entries.push(Entry { stage: "none", unit, side, count });
            }
        }
    }
}

/// Several outputs; each gets everything.
#[derive(Default)]
pub struct Fanout {
    outputs: Vec<Box<dyn Destination>>,
}

impl Fanout {
    /// To all of `outputs`.
    pub fn new(outputs: Vec<Box<dyn Destination>>) -> Fanout {
        Fanout { outputs }
    }
}

impl Output for Fanout {
    fn span(&mut self, span: &Span<'_>) {
        self.outputs.iter_mut().for_each(|output| output.span(span));
    }

    fn log(&mut self, record: &LogRecord<'_>) {
        self.outputs.iter_mut().for_each(|output| output.log(record));
    }

    fn metric(&mut self, metric: &Metric<'_>) {
        self.outputs.iter_mut().for_each(|output| output.metric(metric));
    }
}

impl Destination for Fanout {
    fn flush(&mut self, now_boot_ns: u64) {
        self.outputs.iter_mut().for_each(|output| output.flush(now_boot_ns));
    }

    fn finish(&mut self, now_boot_ns: u64) {
        self.outputs.iter_mut().for_each(|output| output.finish(now_boot_ns));
    }

    fn close(&mut self, deadline: Instant) {
        self.outputs.iter_mut().for_each(|output| output.close(deadline));
    }

    fn is_gone(&self) -> bool {
        !self.outputs.is_empty() && self.outputs.iter().all(|output| output.is_gone())
    }

    fn note(&mut self, text: &str) {
        self.outputs.iter_mut().for_each(|output| output.note(text));
    }

    fn wants_in_flight(&self) -> bool {
        self.outputs.iter().any(|output| output.wants_in_flight())
    }

    fn in_flight(&mut self, services: &BTreeMap<String, u64>) {
        self.outputs.iter_mut().for_each(|output| output.in_flight(services));
    }

    fn ledger(&self, entries: &mut Vec<Entry>) {
        self.outputs.iter().for_each(|output| output.ledger(entries));
    }
}
