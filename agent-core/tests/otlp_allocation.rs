//! Collecting spans allocates nothing once buffers have grown; a flush allocates one body.

mod counting;

use agent_core::id::{SpanId, TraceId};
use agent_core::otlp::Batch;
use agent_core::process::{Resource, ResourceValue};
use agent_core::span::{Attribute, Kind, Output, Span, Value};
use counting::ALLOCATIONS;

const ATTRIBUTES: [Attribute<'static>; 8] = [
    ("http.request.method", Value::Str("GET")),
    ("url.path", Value::Str("/api/v1/cart/items")),
    ("url.scheme", Value::Str("http")),
    ("server.address", Value::Str("shop.example")),
    ("server.port", Value::Int(8080)),
    ("http.response.status_code", Value::Int(200)),
    ("network.protocol.version", Value::Str("1.1")),
    ("kernspan.link.confidence", Value::Double(1.0)),
];

fn resources() -> Vec<Resource> {
    let one = |id: u32| {
        let name = format!("service-{id}");
        let attributes = vec![("service.name".to_string(), ResourceValue::Str(name.clone()))];
        Resource { id, service: name, attributes, part_of: None }
    };
    (0..20).map(one).collect()
}

fn fill(batch: &mut Batch, resources: &[Resource]) -> u64 {
    let before = ALLOCATIONS.get();
    for index in 0..1000u64 {
        batch.span(&Span {
            trace: TraceId([1; 16]),
            id: SpanId(index.to_be_bytes()),
            parent: Some(SpanId([1; 8])),
            parent_remote: true,
            trace_flags: 1,
            tracestate: "a=b",
            name: "GET",
            kind: Kind::Server,
            start_unix_ns: index,
            end_unix_ns: index,
            end_boot_ns: index,
            error: index % 10 == 0,
            attributes: &ATTRIBUTES,
            links: &[],
            resource: &resources[index as usize % resources.len()],
        });
    }
    ALLOCATIONS.get() - before
}

#[test]
fn the_steady_path_allocates_nothing_per_span() {
    let resources = resources();
    let mut batch = Batch::new("1");
    for _ in 0..3 {
        assert!(fill(&mut batch, &resources) < 1000);
        batch.flush(drop);
    }
    assert_eq!(fill(&mut batch, &resources), 0);
    let before = ALLOCATIONS.get();
    batch.flush(drop);
    assert_eq!(ALLOCATIONS.get() - before, 1, "one body");
}
