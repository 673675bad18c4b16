//! What was written, read back with the structures generated from the proto files.

use super::group::{Groups, Scope};
use super::{Batch, BatchAccount, Request, Signal};
use crate::id::{SpanId, TraceId};
use crate::process::{Resource, ResourceValue};
use crate::span::{Attribute, Kind, Link, LogRecord, Output, Span, Value};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1 as proto;
use proptest::prelude::*;
use prost::Message;

const SCHEMA: &str = "https://opentelemetry.io/schemas/1.44.0";

fn resource(id: u32) -> Resource {
    let attributes = vec![
        ("process.command_args".to_string(), ResourceValue::List(vec!["a".into(), "".into()])),
        ("process.pid".to_string(), ResourceValue::Int(-5)),
        ("service.name".to_string(), ResourceValue::Str(format!("svc-{id}"))),
    ];
    Resource { id, service: format!("svc-{id}"), attributes, part_of: None }
}

fn span<'a>(resource: &'a Resource, attributes: &'a [Attribute<'a>]) -> Span<'a> {
    Span {
        trace: TraceId([7; 16]),
        id: SpanId([8; 8]),
        parent: None,
        parent_remote: false,
        trace_flags: 1,
        tracestate: "",
        name: "GET",
        kind: Kind::Server,
        start_unix_ns: 1_700_000_000_000_000_001,
        end_unix_ns: 1_700_000_000_000_000_002,
        end_boot_ns: 5,
        error: false,
        attributes,
        links: &[],
        resource,
    }
}

fn flush(batch: &mut Batch) -> Vec<Request> {
    let mut requests = Vec::new();
    batch.flush(|request| requests.push(request));
    requests
}

fn traces(request: &Request) -> ExportTraceServiceRequest {
    assert_eq!(request.signal, Signal::Traces);
    ExportTraceServiceRequest::decode(&request.body[..]).unwrap()
}

fn text(value: &str) -> Option<AnyValue> {
    Some(AnyValue { value: Some(any_value::Value::StringValue(value.into())) })
}

fn expected_value(value: Value<'_>) -> Option<AnyValue> {
    let value = match value {
        Value::Str(text) => any_value::Value::StringValue(text.into()),
        Value::Int(number) => any_value::Value::IntValue(number),
        Value::Double(number) => any_value::Value::DoubleValue(number),
        Value::Bool(truth) => any_value::Value::BoolValue(truth),
        Value::List(texts) => {
            let values = texts.iter().filter_map(|t| text(t)).collect();
            any_value::Value::ArrayValue(opentelemetry_proto::tonic::common::v1::ArrayValue {
                values,
            })
        }
    };
    Some(AnyValue { value: Some(value) })
}

fn expected_attributes(attributes: &[Attribute<'_>]) -> Vec<KeyValue> {
    let one = |(key, value): &Attribute<'_>| KeyValue {
        key: (*key).into(),
        value: expected_value(*value),
        ..KeyValue::default()
    };
    attributes.iter().map(one).collect()
}

/// The span as the generated structures hold it: written from the specification, not the encoder.
fn expected(span: &Span<'_>) -> proto::Span {
    let links = span.links.iter().map(|link| proto::span::Link {
        trace_id: link.trace.0.to_vec(),
        span_id: link.span.0.to_vec(),
        attributes: expected_attributes(link.attributes),
        ..proto::span::Link::default()
    });
    proto::Span {
        trace_id: span.trace.0.to_vec(),
        span_id: span.id.0.to_vec(),
        trace_state: span.tracestate.into(),
        parent_span_id: span.parent.map(|id| id.0.to_vec()).unwrap_or_default(),
        flags: u32::from(span.trace_flags) | 0x100 | if span.parent_remote { 0x200 } else { 0 },
        name: span.name.into(),
        kind: match span.kind {
            Kind::Server => proto::span::SpanKind::Server,
            Kind::Client => proto::span::SpanKind::Client,
        } as i32,
        start_time_unix_nano: span.start_unix_ns,
        end_time_unix_nano: span.end_unix_ns,
        attributes: expected_attributes(span.attributes),
        links: links.collect(),
        status: span.error.then(|| proto::Status {
            code: proto::status::StatusCode::Error as i32,
            message: String::new(),
        }),
        ..proto::Span::default()
    }
}

#[test]
fn one_request_holds_all_services_with_scope_and_schema() {
    let (first, second) = (resource(1), resource(2));
    let mut batch = Batch::new("1.2.3");
    batch.span(&span(&first, &[]));
    batch.span(&span(&second, &[]));
    batch.span(&span(&first, &[]));
    let requests = flush(&mut batch);
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].items, 3);

    let decoded = traces(&requests[0]);
    let counts: Vec<usize> =
        decoded.resource_spans.iter().map(|r| r.scope_spans[0].spans.len()).collect();
    assert_eq!(counts, [2, 1]);
    for (group, name) in decoded.resource_spans.iter().zip(["svc-1", "svc-2"]) {
        assert_eq!(group.schema_url, SCHEMA);
        assert_eq!(group.scope_spans.len(), 1);
        assert_eq!(group.scope_spans[0].schema_url, SCHEMA);
        let scope = group.scope_spans[0].scope.as_ref().unwrap();
        assert_eq!((scope.name.as_str(), scope.version.as_str()), ("kernspan", "1.2.3"));
        let attributes = expected_attributes(&[
            ("process.command_args", Value::List(&["a", ""])),
            ("process.pid", Value::Int(-5)),
            ("service.name", Value::Str(name)),
        ]);
        assert_eq!(group.resource.as_ref().unwrap().attributes, attributes);
    }
    assert_eq!(flush(&mut batch), [], "nothing is handed out twice");
}

#[test]
fn log_records_are_events_with_the_ids_of_their_cause() {
    let resource = resource(1);
    let cause = (TraceId([1; 16]), SpanId([2; 8]));
    let attributes = [("process.pid", Value::Int(7))];
    for cause in [Some(cause), None] {
        let mut batch = Batch::new("1");
        batch.log(&LogRecord {
            event_name: "process.exec",
            unix_ns: 11,
            observed_unix_ns: 12,
            severity: 9,
            body: "sh -c id",
            attributes: &attributes,
            cause,
            trace_flags: 3,
            resource: &resource,
        });
        let requests = flush(&mut batch);
        assert_eq!(requests[0].signal, Signal::Logs);
        let decoded = ExportLogsServiceRequest::decode(&requests[0].body[..]).unwrap();
        let group = &decoded.resource_logs[0];
        assert_eq!(group.schema_url, SCHEMA);
        assert_eq!(group.scope_logs[0].scope.as_ref().unwrap().name, "kernspan");
        let expected = opentelemetry_proto::tonic::logs::v1::LogRecord {
            time_unix_nano: 11,
            observed_time_unix_nano: 12,
            severity_number: 9,
            severity_text: "INFO".into(),
            body: text("sh -c id"),
            attributes: expected_attributes(&attributes),
            flags: if cause.is_some() { 3 } else { 0 },
            trace_id: cause.map(|(trace, _)| trace.0.to_vec()).unwrap_or_default(),
            span_id: cause.map(|(_, span)| span.0.to_vec()).unwrap_or_default(),
            event_name: "process.exec".into(),
            ..Default::default()
        };
        assert_eq!(group.scope_logs[0].log_records, [expected]);
    }
}

#[test]
fn requests_stay_below_the_limit_and_no_span_is_lost_between_them() {
    let resource = resource(1);
    let scope = Scope::new("1");
    let limit = 2000;
    let mut groups = Groups::new(Signal::Traces, scope, limit);
    let mut requests = Vec::new();
    for index in 0..100u64 {
        let span = Span { start_unix_ns: index, ..span(&resource, &[]) };
        requests.extend(groups.add(&resource, |out| super::encode::span(out, 2, &span)));
    }
    requests.extend(groups.take());
    assert!(requests.len() > 3);
    let mut starts = Vec::new();
    for request in &requests {
        assert!(request.body.len() <= limit, "{} bytes", request.body.len());
        let decoded = traces(request);
        let spans = &decoded.resource_spans[0].scope_spans[0].spans;
        assert_eq!(spans.len() as u64, request.items);
        starts.extend(spans.iter().map(|span| span.start_time_unix_nano));
    }
    assert_eq!(starts, (0..100).collect::<Vec<u64>>());
}

#[test]
fn an_item_larger_than_a_request_is_counted_and_leaves_the_others_whole() {
    let resource = resource(1);
    let huge = "x".repeat(super::MAX_REQUEST_BYTES);
    let attributes = [("url.path", Value::Str(&huge))];
    let mut batch = Batch::new("1");
    batch.span(&span(&resource, &[]));
    batch.span(&span(&resource, &attributes));
    batch.span(&span(&resource, &[]));
    let requests = flush(&mut batch);
    assert_eq!(requests.len(), 1);
    assert_eq!(traces(&requests[0]).resource_spans[0].scope_spans[0].spans.len(), 2);

    let account = batch.account(Signal::Traces);
    assert_eq!(account, BatchAccount { came_in: 3, held: 0, oversized: 1 });
    assert_eq!(account.out(), 2);
}

#[test]
fn memory_for_resources_is_bounded_by_use_and_not_by_history() {
    let mut batch = Batch::new("1");
    for id in 0..20_000 {
        let resource = resource(id);
        batch.span(&span(&resource, &[]));
        if id % 100 == 99 {
            let requests = flush(&mut batch);
            let decoded = traces(&requests[0]);
            assert_eq!(decoded.resource_spans.len(), 100);
        }
    }
    assert!(batch.traces.known_resources() <= 4096 + 100);
}

#[derive(Clone, Debug)]
enum Owned {
    Str(String),
    Int(i64),
    Double(f64),
    Bool(bool),
    List(Vec<String>),
}

fn any_owned() -> impl Strategy<Value = Owned> {
    prop_oneof![
        ".{0,200}".prop_map(Owned::Str),
        any::<i64>().prop_map(Owned::Int),
        (-1e300..1e300f64).prop_map(Owned::Double),
        any::<bool>().prop_map(Owned::Bool),
        prop::collection::vec(".{0,40}", 0..5).prop_map(Owned::List),
    ]
}

const KEYS: [&str; 4] = ["", "url.path", "http.request.method", "kernspan.link.method"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_span_is_read_back_as_it_was_written(
        (trace, id, parent) in any::<([u8; 16], [u8; 8], Option<[u8; 8]>)>(),
        (parent_remote, trace_flags, error, server) in any::<(bool, u8, bool, bool)>(),
        (start_unix_ns, end_unix_ns) in any::<(u64, u64)>(),
        (tracestate, name) in (".{0,300}", ".{0,300}"),
        owned in prop::collection::vec((0..KEYS.len(), any_owned()), 0..20),
        links in prop::collection::vec(any::<([u8; 16], [u8; 8])>(), 0..4),
    ) {
        let lists: Vec<Vec<&str>> = owned
            .iter()
            .map(|(_, value)| match value {
                Owned::List(texts) => texts.iter().map(String::as_str).collect(),
                _ => Vec::new(),
            })
            .collect();
        let attributes: Vec<Attribute<'_>> = owned
            .iter()
            .zip(&lists)
            .map(|((key, value), list)| {
                let value = match value {
                    Owned::Str(text) => Value::Str(text),
                    Owned::Int(number) => Value::Int(*number),
                    Owned::Double(number) => Value::Double(*number),
                    Owned::Bool(truth) => Value::Bool(*truth),
                    Owned::List(_) => Value::List(list),
                };
                (KEYS[*key], value)
            })
            .collect();
        let links: Vec<Link<'_>> = links
            .into_iter()
            .map(|(trace, span)| Link {
                trace: TraceId(trace),
                span: SpanId(span),
                attributes: &attributes,
            })
            .collect();
        let resource = resource(3);
        let span = Span {
            trace: TraceId(trace),
            id: SpanId(id),
            parent: parent.map(SpanId),
            parent_remote,
            trace_flags,
            tracestate: &tracestate,
            name: &name,
            kind: if server { Kind::Server } else { Kind::Client },
            start_unix_ns,
            end_unix_ns,
            end_boot_ns: 0,
            error,
            attributes: &attributes,
            links: &links,
            resource: &resource,
        };
        let mut batch = Batch::new("1");
        batch.span(&span);
        let requests = flush(&mut batch);
        let decoded = traces(&requests[0]);
        prop_assert_eq!(&decoded.resource_spans[0].scope_spans[0].spans[0], &expected(&span));
        // Also the bytes are the shortest form, so that strict readers take them.
        prop_assert_eq!(decoded.encode_to_vec().len(), requests[0].body.len());
    }
}
