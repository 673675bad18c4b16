//! Counters at `/metrics` while containers come and go.

use super::*;
use std::collections::BTreeMap;

/// All counters of the text, sums of durations in ms, by name and labels.
fn counters(metrics: &RequestMetrics) -> BTreeMap<String, u64> {
    let (histograms, numbers) = metrics.text();
    let mut all = BTreeMap::new();
    let mut add = |name: &str, labels: &text::Labels, value| {
        let before = all.insert(format!("{name} {labels:?}"), value);
        assert_eq!(before, None, "{name} {labels:?} stands there twice");
    };
    for one in &histograms {
        let mut count = 0;
        for (at, more) in one.counts.iter().enumerate() {
            count += more;
            add(&format!("{} {at}", one.name), &one.labels, count);
        }
        add(&format!("{} sum", one.name), &one.labels, (one.sum * 1000.0).round() as u64);
    }
    for one in &numbers {
        add(one.name, &one.labels, one.value);
    }
    all
}

fn held(metrics: &RequestMetrics, unit: &str) -> u64 {
    let ledger = metrics.ledger();
    let of = |entry: &&Entry| entry.unit == unit && entry.side == Side::Held;
    ledger.iter().find(of).expect("an entry").count
}

/// Requests that a container of `service1` sends to one of `service2`.
fn traffic(metrics: &mut RequestMetrics, generation: u32, requests: u32) {
    let (client, server) = (resource(1 + 100 * generation), resource(2 + 100 * generation));
    for _ in 0..requests {
        metrics.add(&request(200, 0.1), &server, 10);
        let sent = Observed { role: Role::Client, server: "shop", ..request(200, 0.1) };
        metrics.add(&sent, &client, 10);
        let edge = metrics.edge(&client, &server, 10);
        metrics.edge_failed(edge);
        metrics.edge_took(edge, Role::Client, 0.1);
        metrics.edge_took(edge, Role::Server, 0.1);
    }
}

#[test]
fn no_counter_of_the_text_falls_when_containers_are_replaced() {
    for temporality in [Temporality::Cumulative, Temporality::Delta] {
        let mut metrics = metrics(RequestLimits::default(), temporality);
        let mut before = BTreeMap::new();
        // Each sends much, then is replaced, one after the other; the last but one answers a while longer.
        for generation in 0..6 {
            traffic(&mut metrics, generation, 1000 - 150 * generation);
            for round in 0..50 {
                traffic(&mut metrics, generation, 1);
                if round < 10 {
                    traffic(&mut metrics, generation.saturating_sub(1), 1);
                }
                exported(&mut metrics, 100);
                let now = counters(&metrics);
                for (name, value) in &before {
                    assert!(now.get(name) >= Some(value), "{name}: {value} -> {:?}", now.get(name));
                }
                before = now;
            }
        }
        assert_eq!(held(&metrics, "series"), 2, "of the last alone");
        assert_eq!(held(&metrics, "edges"), 1);
        let total = (0..6).map(|generation| 1000 - 150 * generation + 50 + 10).sum::<u64>();
        let requests = before.iter().filter(|(name, _)| name.starts_with(emit::REQUESTS));
        assert_eq!(requests.map(|(_, value)| *value).collect::<Vec<_>>(), [total]);
        let last = before.iter().filter(|(name, _)| name.contains("duration 14"));
        assert_eq!(last.map(|(_, value)| *value).collect::<Vec<_>>(), [total, total]);
    }
}

#[test]
fn what_comes_back_within_the_hour_goes_on_and_later_begins_anew() {
    let mut metrics = metrics(RequestLimits::default(), Temporality::Cumulative);
    traffic(&mut metrics, 0, 5);
    let quiet = |metrics: &mut RequestMetrics, reports: u32| {
        for _ in 0..reports {
            exported(metrics, 100);
        }
    };
    quiet(&mut metrics, 300);
    assert_eq!((held(&metrics, "series"), held(&metrics, "edges")), (0, 0));
    traffic(&mut metrics, 1, 1);
    let all = counters(&metrics);
    let requests = all.iter().find(|(name, _)| name.starts_with(emit::REQUESTS));
    assert_eq!(requests.map(|(_, value)| *value), Some(6));
    quiet(&mut metrics, 30 + crate::retired::QUIET_REPORTS);
    assert_eq!(counters(&metrics), BTreeMap::new());
    assert_eq!(held(&metrics, "retired"), 0);
}

#[test]
fn what_the_text_keeps_is_bounded() {
    let limits = RequestLimits { by_service: 10, in_all: 100, edges: 20 };
    let mut metrics = metrics(limits, Temporality::Cumulative);
    for round in 0..2000 {
        let name = format!("service{round}");
        let of = |id| {
            let (service, attributes) = (name.clone(), Vec::new());
            Arc::new(Resource { id, service, attributes, part_of: None })
        };
        for status in 200..220 {
            metrics.add(&request(status, 0.1), &of(round), 1);
        }
        metrics.edge(&of(round), &of(round), 1);
        exported(&mut metrics, 100);
        // Those that are kept, and those whose labels still occur, among them the overflow's.
        assert!(held(&metrics, "retired") <= 2 * (100 + 20), "{:?}", metrics.ledger());
        assert!(metrics.text().0.len() <= 3 * (100 + 20) + 100, "{}", metrics.text().0.len());
    }
    assert!(held(&metrics, "retired") > 100, "{:?}", metrics.ledger());
}
