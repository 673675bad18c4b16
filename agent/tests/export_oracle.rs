//! The same span, sent by the SDK's exporter and by ours, arrives with the same content.

#![expect(clippy::unwrap_used, reason = "a test panics")]

mod export_support;

use agent::export::{Exporter, Protocol, SignalConfig};
use agent_core::id::{SpanId, TraceId};
use agent_core::otlp::{Batch, Signal};
use agent_core::span::{Kind, Link, Output, Span, Value};
use export_support::{config, grpc, http, inbox, settled, signal_config};
use opentelemetry::trace::{
    SpanContext, SpanId as SdkSpanId, SpanKind, Status, TraceFlags, TraceId as SdkTraceId,
    TraceState,
};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value as SdkValue};
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter, SpanLinks};
use std::str::FromStr;
use std::time::{Duration, Instant, UNIX_EPOCH};
use tokio::runtime::Handle;

const START: u64 = 1_760_000_000_123_456_789;
const TRACE: [u8; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.44.0";

const ATTRIBUTES: [(&str, Value<'static>); 6] = [
    ("http.request.method", Value::Str("GET")),
    ("url.path", Value::Str("/käse/🧀")),
    ("http.response.status_code", Value::Int(503)),
    ("kernspan.link.confidence", Value::Double(0.75)),
    ("kernspan.test", Value::Bool(true)),
    ("http.request.header.accept", Value::List(&["a", ""])),
];

/// Server and client span, with and without parent, link, error and tracestate.
fn spans(resource: &agent_core::process::Resource) -> [Span<'_>; 2] {
    let root = Span {
        trace: TraceId(TRACE),
        id: SpanId([9; 8]),
        parent: None,
        parent_remote: false,
        trace_flags: 1,
        tracestate: "",
        name: "GET",
        kind: Kind::Client,
        start_unix_ns: START,
        end_unix_ns: START + 1,
        end_boot_ns: 0,
        error: false,
        attributes: &[],
        links: &[],
        resource,
    };
    const LINKS: &[Link<'static>] = &[Link {
        trace: TraceId([0xaa; 16]),
        span: SpanId([0xbb; 8]),
        attributes: &[("kernspan.link.method", Value::Str("thread"))],
    }];
    let child = Span {
        id: SpanId([10; 8]),
        parent: Some(SpanId([9; 8])),
        parent_remote: true,
        tracestate: "vendor=1,other=2",
        name: "POST /x",
        kind: Kind::Server,
        end_unix_ns: START + 2_000_000_000,
        error: true,
        attributes: &ATTRIBUTES,
        links: LINKS,
        ..root
    };
    [root, child]
}

fn sdk_value(value: Value<'_>) -> SdkValue {
    match value {
        Value::Str(text) => text.to_string().into(),
        Value::Int(number) => number.into(),
        Value::Double(number) => number.into(),
        Value::Bool(truth) => truth.into(),
        Value::List(texts) => {
            let texts = texts.iter().map(|text| StringValue::from(text.to_string()));
            SdkValue::Array(Array::String(texts.collect()))
        }
    }
}

fn sdk_span(span: &Span<'_>) -> SpanData {
    let attributes = |list: &[(&'static str, Value<'_>)]| -> Vec<KeyValue> {
        list.iter().map(|(key, value)| KeyValue::new(*key, sdk_value(*value))).collect()
    };
    let mut links = SpanLinks::default();
    links.links = span
        .links
        .iter()
        .map(|link| {
            let context = SpanContext::new(
                SdkTraceId::from_bytes(link.trace.0),
                SdkSpanId::from_bytes(link.span.0),
                TraceFlags::default(),
                false,
                TraceState::NONE,
            );
            opentelemetry::trace::Link::new(context, attributes(link.attributes), 0)
        })
        .collect();
    SpanData {
        span_context: SpanContext::new(
            SdkTraceId::from_bytes(span.trace.0),
            SdkSpanId::from_bytes(span.id.0),
            TraceFlags::new(span.trace_flags),
            false,
            TraceState::from_str(span.tracestate).unwrap(),
        ),
        parent_span_id: span.parent.map_or(SdkSpanId::INVALID, |id| SdkSpanId::from_bytes(id.0)),
        parent_span_is_remote: span.parent_remote,
        span_kind: match span.kind {
            Kind::Server => SpanKind::Server,
            Kind::Client => SpanKind::Client,
        },
        name: span.name.to_string().into(),
        start_time: UNIX_EPOCH + Duration::from_nanos(span.start_unix_ns),
        end_time: UNIX_EPOCH + Duration::from_nanos(span.end_unix_ns),
        attributes: attributes(span.attributes),
        dropped_attributes_count: 0,
        events: Default::default(),
        links,
        status: if span.error { Status::error("") } else { Status::Unset },
        instrumentation_scope: InstrumentationScope::builder("kernspan")
            .with_version("test")
            .with_schema_url(SCHEMA)
            .build(),
    }
}

/// What the two may write differently without meaning anything else.
fn normalised(mut request: ExportTraceServiceRequest) -> ExportTraceServiceRequest {
    for span in request
        .resource_spans
        .iter_mut()
        .flat_map(|resource| &mut resource.scope_spans)
        .flat_map(|scope| &mut scope.spans)
    {
        // A status of UNSET without a message is the same as none.
        span.status = span.status.take().filter(|status| status.code != 0);
        // The SDK writes "known, not remote" on links; our links do not know.
        span.links.iter_mut().for_each(|link| link.flags = 0);
    }
    request
}

async fn by_sdk(mut exporter: opentelemetry_otlp::SpanExporter, spans: &[Span<'_>]) {
    let resource = Resource::builder_empty()
        .with_schema_url([KeyValue::new("service.name", "shop")], SCHEMA)
        .build();
    exporter.set_resource(&resource);
    exporter.export(spans.iter().map(sdk_span).collect()).await.unwrap();
}

async fn by_us(config_: SignalConfig, spans: &[Span<'_>]) {
    let mut batch = Batch::new("test");
    spans.iter().for_each(|span| batch.span(span));
    let exporter = Exporter::start(config(config_), &Handle::current()).unwrap();
    batch.flush(|request| exporter.submit(Signal::Traces, request.body.into(), request.items));
    assert_eq!(settled(&exporter.submitter()).await.out, spans.len() as u64);
    exporter.shutdown(Instant::now() + Duration::from_secs(1)).await;
}

#[tokio::test]
async fn both_exporters_say_the_same_over_grpc() {
    let resource = export_support::resource();
    let spans = spans(&resource);
    let inbox = inbox([]);
    let (address, _server) = grpc::serve(inbox.clone(), "127.0.0.1:0", None).await;
    let endpoint = format!("http://{address}/");
    let sdk = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(&endpoint)
        .build()
        .unwrap();
    by_sdk(sdk, &spans).await;
    by_us(signal_config(&endpoint, Protocol::Grpc), &spans).await;
    assert_same(&inbox);
}

#[tokio::test]
async fn both_exporters_say_the_same_over_http() {
    let resource = export_support::resource();
    let spans = spans(&resource);
    for protocol in [Protocol::HttpProtobuf, Protocol::HttpJson] {
        let inbox = inbox([]);
        let endpoint = format!("http://{}/v1/traces", http::serve(inbox.clone(), None).await);
        agent::export::install_crypto();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let sdk = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
            .with_endpoint(&endpoint)
            .build()
            .unwrap();
        by_sdk(sdk, &spans).await;
        by_us(signal_config(&endpoint, protocol), &spans).await;
        assert_same(&inbox);
    }
}

fn assert_same(inbox: &export_support::SharedInbox) {
    let taken = std::mem::take(&mut inbox.lock().unwrap().taken);
    let [sdk, own]: [ExportTraceServiceRequest; 2] = taken.try_into().unwrap();
    let [sdk, own] = [normalised(sdk), normalised(own)];
    assert_eq!(sdk.resource_spans[0].scope_spans[0].spans.len(), 2);
    assert_eq!(sdk, own);
}
