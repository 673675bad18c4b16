//! Names without end: series and routes stay under their bounds, and memory with them.

use agent_core::histogram::Buckets;
use agent_core::ledger::{Entry, Side};
use agent_core::message::Role;
use agent_core::metric::Temporality;
use agent_core::process::{Resource, SharedResource};
use agent_core::request::{Observed, RequestLimits, RequestMetrics};
use agent_core::route::{RouteConfig, RouteLimits, Routes};
use std::collections::BTreeSet;
use std::sync::Arc;

const SERVICES: u32 = 10_000;

/// What routes and series may take: 16 MB of exponential buckets and series, 4 MB of routes, and half as much
/// again for what an allocator and growing tables take beside.
const MOST_BYTES: u64 = 30 << 20;

/// Memory of this process that is no file's.
fn anonymous_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").expect("procfs");
    let line = text.lines().find(|line| line.starts_with("Anonymous:")).expect("a line");
    let number = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    number.expect("a number") << 10
}

fn held(ledger: &[Entry], unit: &str) -> u64 {
    let found = ledger.iter().find(|entry| entry.unit == unit && entry.side == Side::Held);
    found.expect("an entry").count
}

/// Ids, words and hashes as clients make them.
fn path(state: &mut u64) -> String {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let random = *state >> 16;
    let word = |number: u64| {
        let letter = |shift: u32| char::from(b'a' + (number >> shift) as u8 % 26);
        format!("{}{}{}{}", letter(0), letter(5), letter(10), letter(15))
    };
    match random % 4 {
        0 => format!("/users/{}", random % 1_000_000),
        1 => format!("/{}/{}", word(random), word(random >> 20)),
        2 => format!("/blobs/{random:016x}/part/{}", random % 90),
        _ => format!("/articles/{}", word(random)),
    }
}

#[test]
fn ten_thousand_services_with_random_routes_and_statuses_stay_under_the_bounds() {
    let resources: Vec<SharedResource> = (0..SERVICES)
        .map(|id| {
            Arc::new(Resource {
                id,
                service: format!("service-{id}"),
                attributes: Vec::new(),
                part_of: None,
            })
        })
        .collect();
    let limits = RequestLimits { by_service: 1000, ..RequestLimits::default() };
    let before = anonymous_bytes();
    let mut metrics =
        RequestMetrics::new(limits, Temporality::Cumulative).with_buckets(Buckets::Exponential);
    let mut routes = Routes::new(RouteConfig { learn: true, ..RouteConfig::default() });
    let (mut state, mut busiest) = (7, BTreeSet::new());
    let total = 200_000_u32;
    for at in 0..total {
        // Every second request is to one service.
        let resource = &resources[if at % 2 == 0 { 0 } else { (at / 2 % SERVICES) as usize }];
        let route = routes.route(resource.service_name(), &path(&mut state), true);
        let route = route.map(|route| route.text).unwrap_or_default();
        if at % 2 == 0 {
            busiest.insert(route.to_owned());
        }
        let request = Observed {
            role: Role::Server,
            method: "GET",
            route,
            scheme: "http",
            version: "1.1",
            status: Some(200 + (at / 3 % 300) as u16),
            error: None,
            server: "",
            server_port: None,
            seconds: f64::from(at % 1000) / 250.0,
            exemplar: None,
        };
        metrics.add(&request, resource, 1);
    }
    let grown = anonymous_bytes().saturating_sub(before);
    let (of_metrics, of_routes) = (metrics.ledger(), routes.ledger());
    let bounds = RouteLimits::default();
    let series = held(&of_metrics, "series");
    // Where there is no room a service that is known has one series for the rest.
    assert!(series <= limits.in_all as u64 + u64::from(SERVICES), "{series}");
    assert!(held(&of_routes, "services") <= bounds.services as u64, "{of_routes:?}");
    assert!(held(&of_routes, "places") <= bounds.nodes as u64, "{of_routes:?}");
    assert!(busiest.len() <= bounds.routes + 60, "{} names of one service", busiest.len());
    let (text, _) = metrics.text();
    let counted: u64 = text.iter().flat_map(|histogram| &histogram.counts).sum();
    assert_eq!(counted, u64::from(total), "nothing is lost");
    let folded = text.iter().filter(|histogram| {
        histogram.labels.iter().any(|(name, _)| *name == "otel.metric.overflow")
    });
    assert!(
        folded.count() > 0
            && of_metrics
                .iter()
                .any(|entry| { entry.side == Side::Info("overflowed") && entry.count > 0 })
    );
    println!("{series} series, {} names, {} KiB", busiest.len(), grown >> 10);
    assert!(grown <= MOST_BYTES, "{} MiB", grown >> 20);
}
