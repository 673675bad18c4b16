//! What holds of a run in which requests were shed on purpose.

use crate::agent::Report;
use crate::client::curl_with;
use crate::otlp::{Kind, Span};
use crate::scenario::Scenario;
use std::collections::BTreeSet;
use std::time::Duration;

/// Connections of the load.
pub const CONNECTIONS: usize = 32;

/// Requests of which a part may be cut off when wrk goes away, at either end.
const CUT: u64 = 4 * CONNECTIONS as u64;

const CAUSES: [&str; 3] =
    ["shed_requests_ring_nearly_full", "shed_requests_cpu_budget", "shed_requests_process_rate"];

/// Requests at leisure, a connection and a process each.
pub fn paced(scenario: &Scenario, site: &str, path: &str, count: usize) {
    for n in 0..count {
        curl_with(scenario, &["--insecure"], &[format!("{site}/{path}?n={n}")], 1);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Each of the requests under `path` has both ends, joined.
///
/// # Panics
/// When it does not hold.
pub fn complete(report: &Report, path: &str, count: usize) {
    let spans = report.telemetry.under(&format!("/{path}"));
    let clients: BTreeSet<_> =
        spans.iter().filter(|s| s.kind == Kind::Client).map(|s| &s.id).collect();
    let joined = spans.iter().filter(|s| s.kind == Kind::Server && clients.contains(&s.parent));
    assert_eq!((clients.len(), joined.count()), (count, count), "{path}: {:?}", report.ledger);
}

fn no_false_span(spans: &[&Span]) {
    for span in spans {
        let status = span.status().is_none_or(|status| status == 200);
        assert!(status && span.method() == "GET", "false span: {}", span.brief());
    }
}

/// What was asked, seen and shed is the same number, but for what was cut off at the end.
///
/// # Panics
/// When it does not hold.
pub fn exact(report: &Report, asked: u64) -> (u64, u64, u64) {
    let seen = report.telemetry.under("/load");
    no_false_span(&seen);
    let shed: u64 = CAUSES.iter().map(|cause| report.ledger.cause(cause)).sum();
    let (ends, seen_ends) = (2 * asked, seen.len() as u64);
    assert!(shed > 0, "nothing was shed: {:?}", report.ledger);
    assert!(
        (ends..=ends + CUT).contains(&(seen_ends + shed)),
        "{ends} ends of requests; {seen_ends} spans and {shed} shed\n{:?}",
        report.ledger
    );
    assert_eq!(report.ledger.imbalances(), Vec::<String>::new());
    assert_eq!(report.ledger.count("kernel_payload", "records", "lost"), 0, "{:?}", report.ledger);
    assert_eq!(report.ledger.cause("gaps"), 0, "what is shed is no gap: {:?}", report.ledger);
    (ends, seen_ends, shed)
}

/// Of the server spans, those whose client span was seen as well.
pub fn pairs(report: &Report) -> (usize, usize) {
    let spans = report.telemetry.under("/load");
    let clients: BTreeSet<_> =
        spans.iter().filter(|s| s.kind == Kind::Client).map(|s| &s.id).collect();
    let servers: Vec<_> = spans.iter().filter(|s| s.kind == Kind::Server).collect();
    let joined = servers.iter().filter(|server| clients.contains(&server.parent)).count();
    (joined, servers.len())
}
