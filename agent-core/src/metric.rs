//! Metrics as they leave the agent, in the words of OpenTelemetry's data model, borrowed from the
//! stage that made them.

use crate::histogram::exponential::Exponential;
use crate::id::{SpanId, TraceId};
use crate::process::Resource;
use crate::span::Attribute;

/// One metric of one resource.
#[derive(Clone, Copy, Debug)]
pub struct Metric<'a> {
    /// Name, for example `kernspan.network.flow.bytes`.
    pub name: &'static str,
    /// One sentence.
    pub description: &'static str,
    /// Unit (UCUM).
    pub unit: &'static str,
    /// Points.
    pub data: Data<'a>,
    /// Since when sums and histograms count.
    pub temporality: Temporality,
    /// Whose.
    pub resource: &'a Resource,
}

/// Since when sums and histograms count. The numbers are those of OTLP's `AggregationTemporality`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Temporality {
    /// Since the last report.
    Delta = 1,
    /// Since what they count began.
    #[default]
    Cumulative = 2,
}

/// Points of one kind.
#[derive(Clone, Copy, Debug)]
pub enum Data<'a> {
    /// Only grows.
    Counter(&'a [Point<'a>]),
    /// Only grows; numbers are ns, and sent as seconds.
    Seconds(&'a [Point<'a>]),
    /// Adds up over what it is of, and may fall.
    Level(&'a [Point<'a>]),
    /// As it is.
    Gauge(&'a [Point<'a>]),
    /// Distribution.
    Histogram(&'a [Distribution<'a>]),
    /// Distribution over buckets that grow.
    Exponential(&'a [Growing<'a>]),
}

/// One number.
#[derive(Clone, Copy, Debug)]
pub struct Point<'a> {
    /// What tells it from others of the metric.
    pub attributes: &'a [Attribute<'a>],
    /// Since when it counts, unix ns.
    pub start_unix_ns: u64,
    /// When it was read, unix ns.
    pub unix_ns: u64,
    /// It.
    pub value: u64,
}

/// One distribution.
#[derive(Clone, Copy, Debug)]
pub struct Distribution<'a> {
    /// What tells it from others of the metric.
    pub attributes: &'a [Attribute<'a>],
    /// Since when it counts, unix ns.
    pub start_unix_ns: u64,
    /// When it was read, unix ns.
    pub unix_ns: u64,
    /// Sum of all values.
    pub sum: f64,
    /// Upper bounds of all buckets but the last.
    pub bounds: &'a [f64],
    /// Values in each bucket: one more than bounds.
    pub counts: &'a [u64],
    /// Some of the values, with the spans that they are of.
    pub exemplars: &'a [Exemplar],
}

/// One distribution over buckets that grow.
#[derive(Clone, Copy, Debug)]
pub struct Growing<'a> {
    /// What tells it from others of the metric.
    pub attributes: &'a [Attribute<'a>],
    /// Since when it counts, unix ns.
    pub start_unix_ns: u64,
    /// When it was read, unix ns.
    pub unix_ns: u64,
    /// It.
    pub histogram: &'a Exponential,
    /// Some of the values, with the spans that they are of.
    pub exemplars: &'a [Exemplar],
}

/// A value, and the span that it is of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exemplar {
    /// Its trace.
    pub trace: TraceId,
    /// Its span.
    pub span: SpanId,
    /// When it was measured, unix ns.
    pub unix_ns: u64,
    /// It.
    pub value: f64,
}

impl Data<'_> {
    /// Number of points.
    pub fn len(&self) -> usize {
        match self {
            Data::Counter(points)
            | Data::Seconds(points)
            | Data::Level(points)
            | Data::Gauge(points) => points.len(),
            Data::Histogram(points) => points.len(),
            Data::Exponential(points) => points.len(),
        }
    }

    /// No points.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
