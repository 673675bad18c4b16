//! Services are told apart by name and namespace.

use super::*;
use crate::process::ResourceValue;
use std::collections::BTreeMap;

/// One of `api`.
fn of(id: u32, namespace: &str) -> SharedResource {
    let text = |key: &str, value: &str| (key.to_owned(), ResourceValue::Str(value.to_owned()));
    let mut attributes = vec![text("service.name", "api")];
    if !namespace.is_empty() {
        attributes.push(text("service.namespace", namespace));
    }
    Arc::new(Resource { id, service: "api".to_owned(), attributes, part_of: None })
}

/// Requests by the labels of their service, and of their edge.
fn counted(metrics: &RequestMetrics) -> BTreeMap<String, u64> {
    let (histograms, numbers) = metrics.text();
    let is_service = |name: &str| name.contains("service") || name == "client" || name == "server";
    let labels = |all: &text::Labels| {
        let own = all.iter().filter(|(name, _)| is_service(name));
        own.map(|(name, value)| format!("{name}={value} ")).collect::<String>()
    };
    let served = histograms.iter().filter(|one| one.name == emit::SERVER);
    let served = served.map(|one| (labels(&one.labels), one.counts.iter().sum()));
    let edges = numbers.iter().filter(|one| one.name == emit::REQUESTS);
    served.chain(edges.map(|one| (labels(&one.labels), one.value))).collect()
}

#[test]
fn services_of_one_name_in_two_namespaces_are_two() {
    let mut metrics = metrics(RequestLimits::default(), Temporality::Cumulative);
    let [bank, shop, none, other_shop] =
        [(1, "bank"), (2, "shop"), (3, ""), (4, "shop")].map(|(id, namespace)| of(id, namespace));
    for (service, times) in [(&bank, 3), (&shop, 2), (&none, 1), (&other_shop, 4)] {
        for _ in 0..times {
            metrics.add(&request(200, 0.1), service, 1);
            metrics.edge(&resource(5), service, 1);
            metrics.edge(service, &bank, 1);
        }
    }
    let expected = [
        ("client=api client_service_namespace=bank server=api server_service_namespace=bank ", 3),
        ("client=api client_service_namespace=shop server=api server_service_namespace=bank ", 6),
        ("client=api server=api server_service_namespace=bank ", 1),
        ("client=service5 server=api ", 1),
        ("client=service5 server=api server_service_namespace=bank ", 3),
        ("client=service5 server=api server_service_namespace=shop ", 6),
        ("service_name=api ", 1),
        ("service_name=api service_namespace=bank ", 3),
        ("service_name=api service_namespace=shop ", 6),
    ];
    let expected = BTreeMap::from(expected.map(|(labels, count)| (labels.to_owned(), count)));
    assert_eq!(counted(&metrics), expected);
    // Over OTLP the client is the resource; its edges to two servers of one name are two.
    let all = exported_edges(&mut metrics);
    assert_eq!(all.len(), 3 + 4, "{all:?}");
    // They are kept apart as well when they are gone.
    for round in 0..40 {
        exported(&mut metrics, round);
    }
    assert_eq!(metrics.in_all, 0);
    assert_eq!(counted(&metrics), expected);
}

/// Attributes of each point of the counter of edges.
fn exported_edges(metrics: &mut RequestMetrics) -> Vec<String> {
    let mut batch = Batch::new("0");
    metrics.report(10, &mut batch);
    let mut found = Vec::new();
    batch.flush(|request| {
        let request = ExportMetricsServiceRequest::decode(&request.body[..]).expect("a request");
        let scopes = request.resource_metrics.into_iter().flat_map(|group| group.scope_metrics);
        for metric in scopes.flat_map(|scope| scope.metrics) {
            if let (emit::REQUESTS, Some(Data::Sum(sum))) = (metric.name.as_str(), metric.data) {
                found.extend(sum.data_points.iter().map(|one| format!("{:?}", one.attributes)));
            }
        }
    });
    found
}

/// A job whose environment says something else with each run.
fn job(run: u32) -> SharedResource {
    let text = |key: &str, value: &str| (key.to_owned(), ResourceValue::Str(value.to_owned()));
    let attributes = vec![text("run.id", &run.to_string()), text("service.name", "job")];
    Arc::new(Resource { id: 1000 + run, service: "job".to_owned(), attributes, part_of: None })
}

#[test]
fn a_service_with_resources_without_end_takes_its_part_of_the_room_and_no_more() {
    let limits = RequestLimits { by_service: 10, in_all: 100, edges: 50 };
    let mut metrics = metrics(limits, Temporality::Cumulative);
    for round in 0..3 {
        for run in 0..1000 {
            metrics.add(&request(200, 0.1), &job(run), 1);
            metrics.edge(&job(run), &resource(2), 1);
        }
        // Five others come late, and have all that they need.
        for service in 1..6 {
            metrics.edge(&resource(service), &resource(2), 1);
            for status in 200..205 {
                metrics.add(&request(status, 0.1), &resource(service), 1);
            }
        }
        let all = exported(&mut metrics, round);
        let folded = |point: &HistogramDataPoint| text(point, "otel.metric.overflow").is_some();
        let overflows = all.iter().filter(|(_, _, point)| folded(point)).count();
        // Its part is a fifth; the first without room has the series for the rest, later each that has one.
        assert!(all.len() <= 20 + 1 + 25 && overflows == 1, "{} {overflows}", all.len());
    }
    let (histograms, numbers) = metrics.text();
    let job_alone = histograms.iter().filter(|one| {
        let has = |key, value: &str| one.labels.contains(&(key, value.to_owned()));
        has("otel.metric.overflow", "true") && has("service_name", "job")
    });
    assert_eq!(job_alone.flat_map(|one| &one.counts).sum::<u64>(), 3 * (1000 - 20));
    let edges: Vec<(String, u64)> = numbers
        .iter()
        .filter(|one| one.name == emit::REQUESTS && one.labels.contains(&("client", "job".into())))
        .map(|one| (format!("{:?}", one.labels.last()), one.value))
        .collect();
    assert_eq!(edges.iter().map(|(_, count)| count).sum::<u64>(), 3000, "{edges:?}");
    assert!(edges.iter().any(|(last, count)| last.contains("overflow") && *count == 3 * 990));
    let ledger = metrics.ledger();
    let count = |side| ledger.iter().find(|entry| entry.side == side).expect("an entry").count;
    assert_eq!(count(Side::Info("service_without_room")), 3 * (1000 - 20));
    // It falls silent: its room is free again.
    for round in 0..40 {
        exported(&mut metrics, round);
    }
    metrics.add(&request(200, 0.1), &job(5000), 1);
    let all = exported(&mut metrics, 100);
    assert_eq!(all.len(), 1);
    assert!(text(&all[0].2, "otel.metric.overflow").is_none());
}
