//! Stage 5: what leaves the agent, in the words of OpenTelemetry, borrowed from the stage that
//! made it so that encoding copies each text once.

use crate::id::{SpanId, TraceId};
use crate::metric::Metric;
use crate::process::Resource;

/// Value of an attribute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// UTF-8 text.
    Str(&'a str),
    /// Integer.
    Int(i64),
    /// Floating-point number.
    Double(f64),
    /// Truth value.
    Bool(bool),
    /// List of texts.
    List(&'a [&'a str]),
}

impl Value<'_> {
    /// For formats that know texts only.
    pub fn to_text(self) -> String {
        match self {
            Value::Str(text) => text.to_owned(),
            Value::Int(number) => number.to_string(),
            Value::Bool(truth) => truth.to_string(),
            Value::Double(number) => number.to_string(),
            Value::List(texts) => texts.join(","),
        }
    }
}

/// One attribute.
pub type Attribute<'a> = (&'static str, Value<'a>);

/// OTLP span kind (the numbers of the proto file).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// SPAN_KIND_SERVER.
    Server = 2,
    /// SPAN_KIND_CLIENT.
    Client = 3,
}

/// A span link.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    /// Linked trace.
    pub trace: TraceId,
    /// Linked span.
    pub span: SpanId,
    /// Why.
    pub attributes: &'a [Attribute<'a>],
}

/// A finished span.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    /// Trace.
    pub trace: TraceId,
    /// Span.
    pub id: SpanId,
    /// Parent, if there is evidence for one.
    pub parent: Option<SpanId>,
    /// The parent is in another process (OTLP flags 0x100 and 0x200).
    pub parent_remote: bool,
    /// W3C trace flags.
    pub trace_flags: u8,
    /// W3C tracestate as received, else empty.
    pub tracestate: &'a str,
    /// Span name.
    pub name: &'a str,
    /// Kind.
    pub kind: Kind,
    /// Unix ns.
    pub start_unix_ns: u64,
    /// Unix ns.
    pub end_unix_ns: u64,
    /// Boot-time ns of the end: how old the span is when it leaves.
    pub end_boot_ns: u64,
    /// Status is ERROR (else UNSET).
    pub error: bool,
    /// Attributes.
    pub attributes: &'a [Attribute<'a>],
    /// Links.
    pub links: &'a [Link<'a>],
    /// The process that did it.
    pub resource: &'a Resource,
}

/// A log record (an OTLP event).
#[derive(Clone, Copy, Debug)]
pub struct LogRecord<'a> {
    /// Event name, for example `process.exec`.
    pub event_name: &'static str,
    /// Unix ns at which it happened.
    pub unix_ns: u64,
    /// Unix ns at which the agent saw it.
    pub observed_unix_ns: u64,
    /// OTLP severity number (9 INFO).
    pub severity: u8,
    /// Text for people.
    pub body: &'a str,
    /// Attributes.
    pub attributes: &'a [Attribute<'a>],
    /// The request that caused it, if there is evidence for one.
    pub cause: Option<(TraceId, SpanId)>,
    /// W3C trace flags of the cause's trace; 0 without one.
    pub trace_flags: u8,
    /// The process that did it.
    pub resource: &'a Resource,
}

/// Takes what leaves the trace stage.
pub trait Output {
    /// A finished span.
    fn span(&mut self, span: &Span<'_>);
    /// A log record.
    fn log(&mut self, record: &LogRecord<'_>);
    /// A metric. What is made for people leaves them out.
    fn metric(&mut self, _metric: &Metric<'_>) {}
}
