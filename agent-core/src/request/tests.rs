use super::*;
use crate::otlp::{Batch, Signal};
use crate::process::Resource;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogramDataPoint, HistogramDataPoint, metric::Data,
};
use prost::Message;
use std::sync::Arc;

mod identities;
mod restarts;
mod services;

fn resource(id: u32) -> SharedResource {
    Arc::new(Resource {
        id,
        service: format!("service{}", id % 100),
        attributes: Vec::new(),
        part_of: None,
    })
}

fn request(status: u16, seconds: f64) -> Observed<'static> {
    Observed {
        role: Role::Server,
        method: "GET",
        route: "",
        scheme: "http",
        version: "1.1",
        status: Some(status),
        error: None,
        server: "",
        server_port: None,
        seconds,
        exemplar: Some((TraceId([1; 16]), SpanId([2; 8]), 77)),
    }
}

fn metrics(limits: RequestLimits, temporality: Temporality) -> RequestMetrics {
    RequestMetrics::new(limits, temporality)
}

/// Points of a histogram as a receiver decodes them, with the temporality, and the sums of counters.
fn exported(metrics: &mut RequestMetrics, unix_ns: u64) -> Vec<(String, i32, HistogramDataPoint)> {
    let mut batch = Batch::new("0");
    metrics.report(unix_ns, &mut batch);
    let mut found = Vec::new();
    batch.flush(|request| {
        assert_eq!(request.signal, Signal::Metrics);
        let request = ExportMetricsServiceRequest::decode(&request.body[..]).expect("a request");
        let scopes = request.resource_metrics.into_iter().flat_map(|group| group.scope_metrics);
        for metric in scopes.flat_map(|scope| scope.metrics) {
            if let Some(Data::Histogram(histogram)) = metric.data {
                let since = histogram.aggregation_temporality;
                let points = histogram.data_points.into_iter();
                found.extend(points.map(|point| (metric.name.clone(), since, point)));
            }
        }
    });
    found
}

fn text<'p>(point: &'p HistogramDataPoint, key: &str) -> Option<&'p any_value::Value> {
    let found = point.attributes.iter().find(|attribute| attribute.key == key)?;
    found.value.as_ref()?.value.as_ref()
}

#[test]
fn buckets_hold_their_upper_bound_and_exemplars_the_newest_of_each() {
    let mut metrics = metrics(RequestLimits::default(), Temporality::Cumulative);
    for seconds in [0.005, 0.005_1, 0.006, 11.0] {
        metrics.add(&request(200, seconds), &resource(1), 10);
    }
    let all = exported(&mut metrics, 1000);
    let [(name, since, point)] = &all[..] else { panic!("{all:?}") };
    assert_eq!((name.as_str(), *since), ("http.server.request.duration", 2));
    assert_eq!(point.explicit_bounds, BOUNDS);
    assert_eq!(
        (point.bucket_counts[0], point.bucket_counts[1], point.bucket_counts[14]),
        (1, 2, 1)
    );
    assert_eq!((point.count, point.start_time_unix_nano, point.time_unix_nano), (4, 10, 1000));
    let values: Vec<String> =
        point.exemplars.iter().map(|one| format!("{:?}", one.value)).collect();
    assert_eq!(values, ["Some(AsDouble(0.005))", "Some(AsDouble(0.006))", "Some(AsDouble(11.0))"]);
    assert_eq!(point.exemplars[0].trace_id, [1; 16]);
    assert_eq!(point.exemplars[0].span_id, [2; 8]);
    let again = exported(&mut metrics, 2000);
    assert!(again[0].2.exemplars.is_empty(), "an exemplar is sent once");
    assert_eq!(again[0].2.count, 4, "a sum is what it was");
}

#[test]
fn deltas_add_up_to_the_sum_and_text_stays_cumulative() {
    let mut metrics = metrics(RequestLimits::default(), Temporality::Delta);
    let mut counts = Vec::new();
    for round in 1..=3_u64 {
        for _ in 0..round {
            metrics.add(&request(200, 0.2), &resource(1), 5);
        }
        let all = exported(&mut metrics, round * 1000);
        let [(_, since, point)] = &all[..] else { panic!("{all:?}") };
        assert_eq!(*since, 1);
        counts.push((point.count, point.start_time_unix_nano));
    }
    assert_eq!(counts, [(1, 5), (2, 1000), (3, 2000)]);
    assert!(exported(&mut metrics, 9000).is_empty(), "nothing new, nothing sent");
    let (histograms, _) = metrics.text();
    assert_eq!(histograms[0].counts.iter().sum::<u64>(), 6);
    assert!((histograms[0].sum - 1.2).abs() < 1e-9, "{}", histograms[0].sum);
}

#[test]
fn ten_thousand_services_stay_under_the_bounds_and_nothing_is_lost() {
    let limits = RequestLimits { by_service: 3, in_all: 100, edges: 10 };
    let mut metrics = metrics(limits, Temporality::Cumulative);
    for service in 0..10_000 {
        for status in 200..210 {
            let client = Observed { role: Role::Client, ..request(status, 0.01) };
            metrics.add(&request(status, 0.01), &resource(service), 1);
            metrics.add(&client, &resource(service), 1);
        }
        metrics.edge(&resource(service), &resource(service + 1), 1);
    }
    let all = exported(&mut metrics, 10);
    let total: u64 = all.iter().map(|(_, _, point)| point.count).sum();
    assert_eq!(total, 200_000);
    // Both overflow series of each service that has any, and of those that have none.
    assert!(all.len() <= 100 + 2 * 34 + 2, "{}", all.len());
    let folded = all.iter().filter(|(_, _, point)| text(point, "otel.metric.overflow").is_some());
    assert!(folded.map(|(_, _, point)| point.count).sum::<u64>() > 199_000);
    let ledger = metrics.ledger();
    let held = |unit| {
        let is = |entry: &&Entry| entry.unit == unit && entry.side == Side::Held;
        ledger.iter().find(is).map(|entry| entry.count)
    };
    // All that there is room for, and one for the rest.
    assert_eq!(held("edges"), Some(10 + 1), "{ledger:?}");
    let (_, numbers) = metrics.text();
    let requests = numbers.iter().filter(|number| number.name == emit::REQUESTS);
    assert_eq!(requests.map(|number| number.value).sum::<u64>(), 10_000);
}

#[test]
fn what_is_quiet_for_long_is_dropped_and_begins_anew() {
    let mut metrics = metrics(RequestLimits::default(), Temporality::Cumulative);
    metrics.add(&request(200, 0.01), &resource(1), 1);
    let edge = metrics.edge(&resource(1), &resource(2), 1);
    for round in 0..40 {
        exported(&mut metrics, round);
    }
    let ledger = metrics.ledger();
    let held = ledger.iter().filter(|entry| entry.side == Side::Held);
    let held: Vec<_> = held.map(|entry| (entry.unit, entry.count)).collect();
    // The text has the sums a while longer.
    assert_eq!(held, [("series", 0), ("edges", 0), ("retired", 2)]);
    metrics.edge_failed(edge);
    assert_ne!(metrics.edge(&resource(1), &resource(2), 1), edge, "numbers are not used again");
}

#[test]
fn processes_of_a_service_are_one_series_as_text() {
    let mut metrics = metrics(RequestLimits::default(), Temporality::Cumulative);
    for process in [1, 101, 201] {
        metrics.add(&request(503, 0.01), &resource(process), 1);
    }
    let (histograms, _) = metrics.text();
    let [only] = &histograms[..] else { panic!("{histograms:?}") };
    assert_eq!(only.counts.iter().sum::<u64>(), 3);
    assert_eq!(only.labels[0], ("service_name", "service1".to_owned()));
    assert!(only.labels.contains(&("http.response.status_code", "503".to_owned())));
}

/// Exponential points as a receiver decodes them.
fn grown(metrics: &mut RequestMetrics, unix_ns: u64) -> Vec<ExponentialHistogramDataPoint> {
    let mut batch = Batch::new("0");
    metrics.report(unix_ns, &mut batch);
    let mut found = Vec::new();
    batch.flush(|request| {
        let request = ExportMetricsServiceRequest::decode(&request.body[..]).expect("a request");
        let scopes = request.resource_metrics.into_iter().flat_map(|group| group.scope_metrics);
        for metric in scopes.flat_map(|scope| scope.metrics) {
            match metric.data {
                Some(Data::ExponentialHistogram(histogram)) => found.extend(histogram.data_points),
                other => panic!("{other:?}"),
            }
        }
    });
    found
}

#[test]
fn exponential_buckets_hold_every_request_and_the_text_keeps_its_own() {
    for (temporality, counts) in
        [(Temporality::Cumulative, [101, 202]), (Temporality::Delta, [101, 101])]
    {
        let plain = metrics(RequestLimits::default(), temporality);
        let mut metrics = plain.with_buckets(Buckets::Exponential);
        for (round, expected) in counts.into_iter().enumerate() {
            for at in 0..100 {
                metrics.add(&request(200, 0.001 * f64::from(at + 1)), &resource(1), 10);
            }
            metrics.add(&request(200, 0.0), &resource(1), 10);
            let all = grown(&mut metrics, 1000 * (round as u64 + 1));
            let [point] = &all[..] else { panic!("{all:?}") };
            let positive = point.positive.as_ref().expect("buckets");
            let zeros = expected / 101;
            let total: u64 = positive.bucket_counts.iter().sum();
            assert_eq!((point.count, point.zero_count, total), (expected, zeros, expected - zeros));
            // 1 to 100 ms are seven doublings: with 160 buckets 16 of each.
            assert_eq!(point.scale, 4);
            let base = f64::from(-point.scale).exp2().exp2();
            let lowest = base.powi(positive.offset);
            assert!(lowest < 0.001 && lowest * base >= 0.001, "{lowest}");
            let sum = 5.05 * expected as f64 / 101.0;
            assert!((point.sum.expect("a sum") - sum).abs() < 1e-9, "{point:?}");
            assert!(!point.exemplars.is_empty() && point.attributes.len() > 2);
        }
        let (text, _) = metrics.text();
        assert_eq!((text[0].bounds.len(), text[0].counts.iter().sum::<u64>()), (14, 202));
    }
}
