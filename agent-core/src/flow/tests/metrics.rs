use super::table::tcp;
use crate::flow::conversation::Conversation;
use crate::flow::metrics::Sample;
use crate::flow::table::{Change, FlowChange};
use crate::flow::{FlowMetrics, PeerLabels, Totals};
use crate::otlp::{Batch, Signal};
use crate::process::Resource;
use agent_common::record::{Flow, role};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data, number_data_point};
use prost::Message;
use std::collections::BTreeMap;
use std::sync::Arc;

fn resource(id: u32) -> Arc<Resource> {
    Arc::new(Resource {
        id,
        service: format!("service{id}"),
        attributes: Vec::new(),
        part_of: None,
    })
}

fn change(flow: &Flow) -> FlowChange {
    let conversation = Conversation::from_record(flow);
    let delta = conversation.totals;
    FlowChange { change: Change::End, conversation, delta, is_new: true }
}

/// What a receiver decodes.
fn exported(metrics: &mut FlowMetrics) -> Vec<Metric> {
    let mut batch = Batch::new("0");
    metrics.report(1000, &mut batch);
    let mut all = Vec::new();
    batch.flush(|request| {
        assert_eq!(request.signal, Signal::Metrics);
        let request = ExportMetricsServiceRequest::decode(&request.body[..]).expect("a request");
        let scopes = request.resource_metrics.into_iter().flat_map(|group| group.scope_metrics);
        all.extend(scopes.flat_map(|scope| scope.metrics));
    });
    all
}

fn sum(metrics: &[Metric], name: &str) -> i64 {
    let points =
        metrics.iter().filter(|metric| metric.name == name).flat_map(|metric| match &metric.data {
            Some(Data::Sum(sum)) => {
                assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
                sum.data_points.clone()
            }
            other => panic!("{name}: {other:?}"),
        });
    points
        .map(|point| match point.value {
            Some(number_data_point::Value::AsInt(value)) => value,
            other => panic!("{name}: {other:?}"),
        })
        .sum()
}

#[test]
fn sums_are_decoded_as_they_were_added() {
    let mut metrics = FlowMetrics::new(PeerLabels::default(), 10);
    let connected = Flow {
        role: role::CONNECTED,
        first_ns: 1_000_000,
        established_ns: 4_000_000,
        srtt_us: 8 * 150,
        segments_in: 3,
        retransmits: 2,
        ..tcp(1, 5, 100)
    };
    let failed = Flow { old_state: 2, state: 7, error: 111, ..tcp(2, 5, 0) };
    for flow in [connected, failed] {
        metrics.add(&change(&flow), &resource(1), 500);
    }
    let all = exported(&mut metrics);
    assert_eq!(sum(&all, "kernspan.network.flow.bytes"), 100);
    assert_eq!(sum(&all, "kernspan.network.flow.packets"), 3);
    assert_eq!(sum(&all, "kernspan.network.flow.count"), 2);
    assert_eq!(sum(&all, "kernspan.tcp.retransmits"), 2);
    assert_eq!(sum(&all, "kernspan.tcp.failed.connections"), 1);
    let text = format!("{all:?}");
    assert!(text.contains("ECONNREFUSED"), "{text}");
    for (name, value) in [("kernspan.tcp.rtt", 150e-6), ("kernspan.tcp.connect.duration", 3e-3)] {
        let found = all.iter().find(|metric| metric.name == name).expect(name);
        let Some(Data::Histogram(histogram)) = &found.data else { panic!("{found:?}") };
        let point = &histogram.data_points[0];
        assert_eq!((point.count, point.sum), (1, Some(value)));
        assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
        let bucket = point.bucket_counts.iter().position(|count| *count == 1).expect("one");
        assert!(
            point.explicit_bounds[bucket] >= value && point.explicit_bounds[bucket - 1] < value
        );
    }
}

#[test]
fn series_above_the_bound_fold_into_one_and_no_byte_is_lost() {
    let mut metrics = FlowMetrics::new(PeerLabels::default(), 10);
    for id in 0..100 {
        metrics.add(&change(&tcp(id.into(), 5, 7)), &resource(id), 500);
    }
    let all = exported(&mut metrics);
    assert_eq!(sum(&all, "kernspan.network.flow.bytes"), 700);
    let overflow = format!("{all:?}").matches("otel.metric.overflow").count();
    assert!(overflow > 0 && overflow <= 10, "one series: {overflow} points");
    let ledger = metrics.ledger();
    let folded = ledger.iter().find(|entry| entry.side == crate::ledger::Side::Info("overflowed"));
    assert_eq!(folded.map(|entry| entry.count), Some(90));
}

#[test]
fn ports_and_addresses_are_labels_only_when_asked_for() {
    let labels = PeerLabels { name: true, address: true, port: true };
    for (why, labels, expected) in
        [("by default", PeerLabels::default(), false), ("asked for", labels, true)]
    {
        let mut metrics = FlowMetrics::new(labels, 10);
        let mut one = change(&Flow { role: role::CONNECTED, ..tcp(1, 5, 7) });
        one.conversation.remote_name = Some("shop.test".into());
        one.delta = Totals::default();
        metrics.add(&one, &resource(1), 500);
        let text = format!("{:?}", exported(&mut metrics));
        for label in ["10.0.0.2", "shop.test", "server.port"] {
            assert_eq!(text.contains(label), expected, "{why}: {label}");
        }
    }
}

#[test]
fn processes_of_a_service_are_one_in_the_text_format() {
    let mut metrics = FlowMetrics::new(PeerLabels::default(), 10);
    for id in 0..3 {
        let resource = Arc::new(Resource {
            id,
            service: "shop".to_owned(),
            attributes: Vec::new(),
            part_of: None,
        });
        metrics.add(&change(&tcp(id.into(), 5, 7)), &resource, 500);
    }
    let samples = metrics.samples();
    let sent = samples.iter().find(|sample| {
        sample.prometheus == "kernspan_network_flow_bytes_total"
            && sample.labels.iter().any(|(_, value)| value == "transmit")
    });
    assert_eq!(sent.map(|sample| sample.value), Some(21.0), "{samples:?}");
}

#[test]
fn no_flow_counter_of_the_text_falls_when_containers_are_replaced() {
    let mut metrics = FlowMetrics::new(PeerLabels::default(), 10);
    let counters = |metrics: &FlowMetrics| -> BTreeMap<String, f64> {
        let of =
            |sample: Sample| (format!("{} {:?}", sample.prometheus, sample.labels), sample.value);
        metrics.samples().into_iter().map(of).collect()
    };
    let mut before = BTreeMap::new();
    for id in 0..5 {
        let resource = Arc::new(Resource {
            id,
            service: "shop".to_owned(),
            attributes: Vec::new(),
            part_of: None,
        });
        // Less each time: what is left of the last sum must not be all.
        for round in 0..(100 - 15 * u64::from(id)) {
            let cookie = 1000 * u64::from(id) + round;
            let failed = Flow { old_state: 2, state: 7, error: 111, ..tcp(cookie, 5, 0) };
            let moved = Flow { srtt_us: 8 * 150, segments_in: 3, ..tcp(cookie + 500, 5, 7) };
            for flow in [failed, moved] {
                metrics.add(&change(&flow), &resource, 500);
            }
            exported(&mut metrics);
            let now = counters(&metrics);
            for (name, value) in &before {
                assert!(now.get(name) >= Some(value), "{name}: {value} -> {:?}", now.get(name));
            }
            before = now;
        }
    }
    let total = |name: &str, label: &str| {
        let of = |(key, _): &(&String, &f64)| key.starts_with(name) && key.contains(label);
        before.iter().filter(of).map(|(_, value)| *value).collect::<Vec<_>>()
    };
    assert_eq!(total("kernspan_network_flow_bytes_total", "transmit"), [350.0 * 7.0]);
    assert_eq!(total("kernspan_tcp_failed_connections_total", "ECONNREFUSED"), [350.0]);
    assert_eq!(total("kernspan_tcp_rtt_seconds_count_total", ""), [350.0]);
    let live = metrics.ledger().into_iter().find(|entry| entry.unit == "series");
    assert_eq!(live.map(|entry| entry.count), Some(1), "of the last alone");
    // An hour later nobody remembers, and what comes then begins anew.
    for _ in 0..400 {
        exported(&mut metrics);
    }
    assert_eq!(counters(&metrics), BTreeMap::new());
}
