//! Finished spans and log records to request bodies: one request per flush for all services.

use super::group::{Groups, Scope};
use super::{Request, Signal};
use super::{encode, metric};
use crate::metric::Metric;
use crate::span::{LogRecord, Output, Span};

/// Largest request body. Many gRPC receivers refuse messages above 4 MiB; what remains is room for
/// a proxy's additions.
pub const MAX_REQUEST_BYTES: usize = 3_584 * 1024;

/// Collects spans and log records and hands them out as request bodies.
///
/// ```text
/// span ─► Groups(traces): per resource  [span][span][span]   ─ flush ─► ExportTraceServiceRequest
/// log  ─► Groups(logs):   per resource  [record][record]     ─ flush ─► ExportLogsServiceRequest
/// metric ─► Groups(metrics): per resource [metric][metric]   ─ flush ─► ExportMetricsServiceRequest
/// ```
///
/// Each item is written once, as protobuf, into the buffer of its resource; a flush joins the
/// buffers. Buffers and encoded resources are kept between flushes, within bounds.
#[derive(Debug)]
pub struct Batch {
    pub(super) traces: Groups,
    logs: Groups,
    metrics: Groups,
    sealed: Vec<Request>,
}

/// Items of one signal in a [`Batch`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchAccount {
    /// Given to the batch.
    pub came_in: u64,
    /// Waiting for a flush.
    pub held: u64,
    /// Lost because one alone is larger than [`MAX_REQUEST_BYTES`].
    pub oversized: u64,
}

impl BatchAccount {
    /// Handed out in requests.
    pub fn out(&self) -> u64 {
        self.came_in - self.held - self.oversized
    }
}

impl Batch {
    /// An empty batch. `version` is the agent's, for the instrumentation scope.
    pub fn new(version: &str) -> Batch {
        let scope = Scope::new(version);
        Batch {
            traces: Groups::new(Signal::Traces, scope.clone(), MAX_REQUEST_BYTES),
            logs: Groups::new(Signal::Logs, scope.clone(), MAX_REQUEST_BYTES),
            metrics: Groups::new(Signal::Metrics, scope, MAX_REQUEST_BYTES),
            sealed: Vec::new(),
        }
    }

    /// Bytes waiting for the next flush, all signals together.
    pub fn bytes(&self) -> usize {
        let sealed: usize = self.sealed.iter().map(|request| request.body.len()).sum();
        self.traces.bytes() + self.logs.bytes() + self.metrics.bytes() + sealed
    }

    /// Hands out everything collected so far, traces first. Nothing collected: nothing handed out.
    pub fn flush(&mut self, mut emit: impl FnMut(Request)) {
        self.sealed.drain(..).for_each(&mut emit);
        [self.traces.take(), self.logs.take(), self.metrics.take()]
            .into_iter()
            .flatten()
            .for_each(emit);
    }

    /// Takes back the body of a trace request that was sent, for a later one.
    pub fn reuse(&mut self, body: Vec<u8>) {
        self.traces.reuse(body);
    }

    /// What came in of `signal` so far; what went out is the rest.
    pub fn account(&self, signal: Signal) -> BatchAccount {
        let groups = match signal {
            Signal::Traces => &self.traces,
            Signal::Logs => &self.logs,
            Signal::Metrics => &self.metrics,
        };
        let sealed = self.sealed.iter().filter(|request| request.signal == signal);
        BatchAccount {
            came_in: groups.count().came_in,
            held: groups.items() + sealed.map(|request| request.items).sum::<u64>(),
            oversized: groups.count().oversized,
        }
    }
}

impl Output for Batch {
    fn span(&mut self, span: &Span<'_>) {
        let sealed = self.traces.add(span.resource, |out| encode::span(out, 2, span));
        self.sealed.extend(sealed);
    }

    fn log(&mut self, record: &LogRecord<'_>) {
        let sealed = self.logs.add(record.resource, |out| encode::log(out, 2, record));
        self.sealed.extend(sealed);
    }

    /// Each metric of one point, so that items are data points.
    fn metric(&mut self, one: &Metric<'_>) {
        let sealed = self.metrics.add(one.resource, |out| metric::metric(out, 2, one));
        self.sealed.extend(sealed);
    }
}
