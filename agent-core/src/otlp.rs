//! Stage 6: spans and log records to OTLP request bodies, grouped by resource.
//!
//! The SDK's exporter makes one request per resource and builds a structure per span; an agent
//! has many resources and many spans, so this stage writes protobuf itself, straight from the
//! borrowed span, and hands out one body per flush for all services.

mod batch;
mod encode;
mod group;
mod metric;
mod wire;

#[cfg(test)]
mod tests;

pub use batch::{Batch, BatchAccount, MAX_REQUEST_BYTES};
pub use encode::severity_text;

/// What a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// `ExportTraceServiceRequest`.
    Traces,
    /// `ExportLogsServiceRequest`.
    Logs,
    /// `ExportMetricsServiceRequest`.
    Metrics,
}

impl Signal {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Signal; 3] = [Signal::Traces, Signal::Logs, Signal::Metrics];

    /// In what its items are counted.
    pub fn unit(self) -> &'static str {
        match self {
            Signal::Traces => "spans",
            Signal::Logs => "log_records",
            Signal::Metrics => "data_points",
        }
    }
}

/// Body of one OTLP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it carries.
    pub signal: Signal,
    /// Protobuf bytes.
    pub body: Vec<u8>,
    /// Spans or log records in it.
    pub items: u64,
}
