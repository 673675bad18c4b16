//! Two points of one report never say the same of themselves: a receiver would keep one, or neither.

use super::*;
use crate::metric::{Data as Points, Metric};
use crate::span::{Attribute, LogRecord, Output, Span};
use std::collections::BTreeSet;

/// Name, resource and attributes of each point.
#[derive(Default)]
struct Identities(Vec<String>);

impl Output for Identities {
    fn span(&mut self, _: &Span<'_>) {}
    fn log(&mut self, _: &LogRecord<'_>) {}
    fn metric(&mut self, metric: &Metric<'_>) {
        let mut add = |attributes: &[Attribute<'_>]| {
            let mut attributes: Vec<String> =
                attributes.iter().map(|one| format!("{one:?}")).collect();
            attributes.sort();
            self.0.push(format!("{} of {} {attributes:?}", metric.name, metric.resource.id));
        };
        match metric.data {
            Points::Counter(points) => points.iter().for_each(|point| add(point.attributes)),
            Points::Histogram(points) => points.iter().for_each(|point| add(point.attributes)),
            Points::Exponential(points) => points.iter().for_each(|point| add(point.attributes)),
            _ => panic!("{metric:?}"),
        }
    }
}

/// All of one report: each once.
fn unique(metrics: &mut RequestMetrics, unix_ns: u64) -> Vec<String> {
    let mut found = Identities::default();
    metrics.report(unix_ns, &mut found);
    let single: BTreeSet<&String> = found.0.iter().collect();
    assert_eq!(single.len(), found.0.len(), "{:#?}", found.0);
    found.0
}

#[test]
fn resources_of_one_server_are_one_edge_of_their_client() {
    let mut metrics = metrics(RequestLimits::default(), Temporality::Cumulative);
    let (web, other_web) = (resource(1), resource(101));
    for server in [2, 102, 202] {
        for client in [&web, &other_web] {
            let edge = metrics.edge(client, &resource(server), 10);
            metrics.edge_took(edge, Role::Server, 0.1);
            metrics.edge_took(edge, Role::Client, 0.1);
            metrics.edge_failed(edge);
        }
    }
    // Two counters and two histograms of each client.
    assert_eq!(unique(&mut metrics, 100).len(), 2 * 4);
    let (_, numbers) = metrics.text();
    let values: Vec<_> = numbers.iter().map(|number| (number.name, number.value)).collect();
    assert_eq!(values, [(emit::REQUESTS, 6), (emit::FAILED, 6)]);
}

#[test]
fn what_is_no_attribute_tells_no_series_apart() {
    for buckets in [Buckets::Explicit, Buckets::Exponential] {
        let plain = metrics(RequestLimits::default(), Temporality::Cumulative);
        let mut metrics = plain.with_buckets(buckets);
        for role in [Role::Client, Role::Server] {
            for scheme in ["http", "https"] {
                for (server, server_port) in [("", None), ("a", None), ("a", Some(80))] {
                    let one = Observed { role, scheme, server, server_port, ..request(200, 0.1) };
                    metrics.add(&one, &resource(1), 10);
                }
            }
        }
        // Three servers that were asked, two schemes that were answered.
        assert_eq!(unique(&mut metrics, 100).len(), 3 + 2);
    }
}

#[test]
fn the_service_that_names_the_overflow_of_all_has_no_other_one() {
    let limits = RequestLimits { by_service: 10, in_all: 2, edges: 1 };
    let mut metrics = metrics(limits, Temporality::Cumulative);
    let (first, late) = (resource(1), resource(2));
    for status in [200, 201] {
        metrics.add(&request(status, 0.1), &first, 1);
    }
    for round in 0..40 {
        // First without room, which there is when the other service has fallen silent.
        metrics.add(&request(203, 0.1), &late, 1);
        metrics.add(&request(204, 0.1), &late, 1);
        unique(&mut metrics, round);
    }
    let left = unique(&mut metrics, 100);
    assert!(left.iter().any(|one| one.contains("Int(203)")), "it has got room: {left:#?}");
    assert!(left.iter().any(|one| one.contains("overflow")), "and overflows: {left:#?}");
    let (text, _) = metrics.text();
    assert_eq!(text.iter().flat_map(|one| &one.counts).sum::<u64>(), 82);
}

#[test]
fn a_client_whose_server_nobody_knows_names_none() {
    let mut metrics = metrics(RequestLimits::default(), Temporality::Cumulative);
    let client = Observed { role: Role::Client, ..request(200, 0.1) };
    metrics.add(&client, &resource(1), 1);
    metrics.add(&Observed { server: "shop", ..client }, &resource(2), 1);
    let named = |point: &HistogramDataPoint| text(point, "server.address").cloned();
    let mut named: Vec<_> =
        exported(&mut metrics, 10).iter().filter_map(|(_, _, point)| named(point)).collect();
    assert_eq!(named.pop(), Some(any_value::Value::StringValue("shop".to_owned())));
    assert_eq!(named, []);
    let (histograms, _) = metrics.text();
    let labels = histograms.iter().flat_map(|one| &one.labels);
    assert_eq!(labels.filter(|(name, _)| *name == "server.address").count(), 1);
}

/// Letters, as many as at most 4 KB of a header hold.
fn host(state: &mut u64) -> String {
    let mut next = || {
        *state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *state >> 33
    };
    let length = if next() % 2 == 0 { next() % 253 + 1 } else { next() % 3843 + 254 };
    (0..length).map(|_| char::from(b'a' + (next() % 26) as u8)).collect()
}

#[test]
fn servers_with_names_that_dns_has_no_room_for_fold_into_one_series() {
    let mut metrics = metrics(RequestLimits::default(), Temporality::Cumulative);
    let (mut state, mut long, total) = (7, 0, 20_000_u32);
    let edge = ["a".repeat(253), "b".repeat(254)];
    for at in 0..total {
        let random = host(&mut state);
        let server = edge.get(at as usize).unwrap_or(&random);
        long += u64::from(server.len() > 253);
        let client = Observed { role: Role::Client, server, ..request(200, 0.1) };
        metrics.add(&client, &resource(at % 100), 1);
    }
    let of = |side| {
        let ledger = metrics.ledger();
        ledger.iter().find(|entry| entry.side == side).expect("an entry").count
    };
    assert_eq!(of(Side::Info("server_too_long")), long);
    assert!(long > 9000 && of(Side::Info("overflowed")) >= long);
    let servers: Vec<usize> = metrics
        .services
        .values()
        .flat_map(|service| service.series.keys().map(|key| key.server.len()))
        .collect();
    assert!(servers.len() <= 10_100, "{}", servers.len());
    assert_eq!(servers.iter().max(), Some(&253));
    assert!(servers.iter().sum::<usize>() <= 10_000 * 253);
    let (histograms, _) = metrics.text();
    let counted: u64 = histograms.iter().flat_map(|one| &one.counts).sum();
    assert_eq!(counted, u64::from(total), "nothing is lost");
    let has =
        |name: &str| histograms.iter().flat_map(|one| &one.labels).any(|(_, value)| value == name);
    assert!(has(&edge[0]) && !has(&edge[1]));
}
