//! OTLP receivers inside the test: a gRPC one by tonic and an HTTP one by hand, both with scripted
//! answers, both keeping what they took.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod grpc;
pub mod http;

use agent::export::{Account, OtlpConfig, Protocol, SignalConfig, Submitter, Tls};
use agent_core::id::{SpanId, TraceId};
use agent_core::otlp::Signal;
use agent_core::process::{Resource, ResourceValue};
use agent_core::span::{Kind, Span};
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a receiver answers to one request; without a script it takes everything.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Taken.
    Ok,
    /// Taken but for some.
    Partial(i64, &'static str),
    /// gRPC status.
    Status(tonic::Status),
    /// HTTP status line number and additional header lines.
    Http(u16, &'static str),
    /// No answer for this long, then taken.
    Late(Duration),
    /// The connection is closed without an answer.
    Drop,
}

/// What arrived, and when.
#[derive(Debug, Default)]
pub struct Inbox {
    pub script: VecDeque<Answer>,
    pub attempts: Vec<Instant>,
    pub taken: Vec<ExportTraceServiceRequest>,
    pub logs: u64,
    pub headers: Vec<(String, String)>,
}

pub type SharedInbox = Arc<Mutex<Inbox>>;

pub fn inbox(script: impl IntoIterator<Item = Answer>) -> SharedInbox {
    let script = script.into_iter().collect();
    Arc::new(Mutex::new(Inbox { script, ..Inbox::default() }))
}

/// Start times of all spans that were taken: each test span has its own.
pub fn received(inbox: &SharedInbox) -> Vec<u64> {
    let inbox = inbox.lock().unwrap();
    let mut starts: Vec<u64> = inbox
        .taken
        .iter()
        .flat_map(|request| &request.resource_spans)
        .flat_map(|resource| &resource.scope_spans)
        .flat_map(|scope| &scope.spans)
        .map(|span| span.start_time_unix_nano)
        .collect();
    starts.sort_unstable();
    starts
}

pub fn signal_config(endpoint: &str, protocol: Protocol) -> SignalConfig {
    SignalConfig {
        endpoint: endpoint.to_string(),
        protocol,
        headers: vec![("x-tenant".to_string(), "blue".to_string())],
        gzip: false,
        timeout: Duration::from_secs(10),
        tls: Tls::default(),
    }
}

pub fn config(traces: SignalConfig) -> OtlpConfig {
    OtlpConfig { traces: Some(traces), logs: None, metrics: None, queue_bytes: 16 << 20 }
}

pub fn resource() -> Resource {
    let attributes = vec![("service.name".to_string(), ResourceValue::Str("shop".to_string()))];
    Resource { id: 1, service: "shop".to_string(), attributes, part_of: None }
}

pub fn span(resource: &Resource, start: u64) -> Span<'_> {
    Span {
        trace: TraceId([1; 16]),
        id: SpanId((start + 1).to_be_bytes()),
        parent: None,
        parent_remote: false,
        trace_flags: 1,
        tracestate: "",
        name: "GET",
        kind: Kind::Server,
        start_unix_ns: start,
        end_unix_ns: start + 1000,
        end_boot_ns: 0,
        error: false,
        attributes: &[],
        links: &[],
        resource,
    }
}

/// A request body with the spans that start at `starts`.
pub fn body(starts: std::ops::Range<u64>) -> (Bytes, u64) {
    use agent_core::span::Output;
    let resource = resource();
    let mut batch = agent_core::otlp::Batch::new("test");
    let items = starts.end - starts.start;
    for start in starts {
        batch.span(&span(&resource, start));
    }
    let mut bodies = Vec::new();
    batch.flush(|request| bodies.push(request.body));
    assert_eq!(bodies.len(), 1);
    (bodies.remove(0).into(), items)
}

/// Waits until nothing is held.
pub async fn settled(submitter: &Submitter) -> Account {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let account = submitter.account(Signal::Traces);
        if account.held == 0 {
            return account;
        }
        assert!(Instant::now() < end, "still held: {account:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// `came_in = out + held + Σ lost`.
pub fn assert_balanced(account: &Account) {
    let Account { came_in, held, out, queue_full, rejected, refused, shutdown, .. } = *account;
    assert_eq!(came_in, out + held + queue_full + rejected + refused + shutdown, "{account:?}");
}
