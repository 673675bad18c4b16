//! What the agent may cost: whole requests are left out where they begin, both ends of them, and
//! counted; everything is seen again a second later.

use kernspan_tests::agent::{Agent, Report};
use kernspan_tests::client::{curl, wrk};
use kernspan_tests::nginx::{Location, Nginx};
use kernspan_tests::otlp::{Kind, Span};
use kernspan_tests::process::{anonymous_bytes, free_port, kernel_map_bytes};
use kernspan_tests::scenario::{Scenario, say, scaled};
use std::collections::BTreeSet;
use std::time::Duration;

const CONNECTIONS: usize = 32;

/// Requests of which a part may be cut off when wrk goes away, at either end.
const CUT: u64 = 4 * CONNECTIONS as u64;

const CAUSES: [&str; 3] =
    ["shed_requests_ring_nearly_full", "shed_requests_cpu_budget", "shed_requests_process_rate"];

fn nginx(scenario: &Scenario) -> (Nginx, String) {
    for name in ["load", "after", "calm"] {
        Nginx::page(scenario, name, 500);
    }
    let listen = format!("127.0.0.1:{}", free_port());
    let nginx = Nginx::start(scenario, &listen, &[("/", Location::Static)], &[]);
    (nginx, listen)
}

/// Requests at leisure, a connection and a process each.
fn paced(scenario: &Scenario, listen: &str, path: &str, count: usize) {
    for n in 0..count {
        curl(scenario, &[], &[format!("http://{listen}/{path}?n={n}")], 1);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Each of the requests under `path` has both ends, joined.
fn complete(report: &Report, path: &str, count: usize) {
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
fn exact(report: &Report, asked: u64) -> (u64, u64, u64) {
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
fn pairs(report: &Report) -> (usize, usize) {
    let spans = report.telemetry.under("/load");
    let clients: BTreeSet<_> =
        spans.iter().filter(|s| s.kind == Kind::Client).map(|s| &s.id).collect();
    let servers: Vec<_> = spans.iter().filter(|s| s.kind == Kind::Server).collect();
    let joined = servers.iter().filter(|server| clients.contains(&server.parent)).count();
    (joined, servers.len())
}

#[test]
fn many_times_the_budget_is_shed_by_whole_requests_and_all_is_seen_a_second_later() {
    /// Far below what a second of wrk costs: nearly everything has to go.
    const BUDGET: &str = "10%";
    /// 64 MB, and what the JSON output takes.
    const ANONYMOUS: u64 = 64_000_000 + 32_000_000;
    let Some(scenario) = Scenario::begin("budget", &["nginx", "wrk", "curl"]) else { return };
    let (nginx, listen) = nginx(&scenario);
    let agent = Agent::run(&scenario, &["--max-cpu", BUDGET]);
    // What it reads at its start costs as well.
    std::thread::sleep(Duration::from_secs(2));
    paced(&scenario, &listen, "calm", 20);
    let asked = wrk(&scenario, &format!("http://{listen}/load"), CONNECTIONS, scaled(6, 60));
    let anonymous = anonymous_bytes(agent.pid());
    std::thread::sleep(Duration::from_secs(1));
    paced(&scenario, &listen, "after", 20);
    let report = agent.stop();
    drop(nginx);
    let (ends, seen, shed) = exact(&report, asked);
    complete(&report, "calm", 20);
    complete(&report, "after", 20);
    let (joined, servers) = pairs(&report);
    say(&format!(
        "budget {BUDGET}: {ends} ends of requests, {seen} spans, {shed} shed; {joined} of {servers} \
         server spans have their client span; {} KiB",
        anonymous / 1024
    ));
    assert!(seen * 3 < ends, "the budget was not kept to: {seen} spans of {ends} ends");
    // The share changes ten times a second, and the two ends of a request ask one after the other.
    assert!(joined * 10 >= servers * 8, "both ends shed the same requests: {joined} of {servers}");
    assert!(anonymous <= ANONYMOUS, "{anonymous} bytes");
}

/// At full scale for a minute, at ten times what is seen of it and more.
#[test]
fn ten_times_the_sustainable_rate_keeps_to_the_memory_budget_and_ends_within_a_second() {
    const BUDGET: &str = "5%";
    const MEMORY: u64 = 128 << 20;
    let Some(scenario) = Scenario::begin("overload", &["nginx", "wrk", "curl"]) else { return };
    let (nginx, listen) = nginx(&scenario);
    // What else the machine does would be shed and counted as well.
    let (_, port) = listen.rsplit_once(':').expect("an address with a port");
    let budgets = ["--max-cpu", BUDGET, "--max-memory", "128MiB", "--port", port];
    let agent = Agent::run(&scenario, &budgets);
    std::thread::sleep(Duration::from_secs(2));
    let pid = agent.pid();
    let mut most = 0;
    let url = format!("http://{listen}/load");
    let asked = std::thread::scope(|scope| {
        let load = scope.spawn(|| wrk(&scenario, &url, CONNECTIONS, scaled(5, 60)));
        while !load.is_finished() {
            most = most.max(anonymous_bytes(pid) + kernel_map_bytes(pid));
            std::thread::sleep(Duration::from_millis(200));
        }
        load.join().expect("the load")
    });
    std::thread::sleep(Duration::from_secs(1));
    paced(&scenario, &listen, "after", 20);
    let report = agent.stop();
    drop(nginx);
    let (ends, seen, shed) = exact(&report, asked);
    complete(&report, "after", 20);
    say(&format!(
        "overload {BUDGET}: {ends} ends of requests in {} s, {seen} spans, {shed} shed; at most {} KiB",
        scaled(5, 60),
        most / 1024
    ));
    // The first seconds of a short run find the share.
    let times = scaled(3, 10);
    assert!(seen * times <= ends, "not {times} times what fits: {seen} spans of {ends} ends");
    assert!(most <= MEMORY, "{most} bytes");
}

#[test]
fn a_process_beyond_its_rate_costs_no_other_process() {
    const SECONDS: u64 = 3;
    const RATE: u64 = 200;
    let Some(scenario) = Scenario::begin("request rate", &["nginx", "wrk", "curl"]) else { return };
    let (nginx, listen) = nginx(&scenario);
    let agent = Agent::run(&scenario, &["--max-request-rate", &RATE.to_string()]);
    let asked = wrk(&scenario, &format!("http://{listen}/load"), CONNECTIONS, SECONDS);
    // The servers' bucket is empty, curl's is full: each has its own.
    paced(&scenario, &listen, "calm", 5);
    let report = agent.stop();
    drop(nginx);
    let (ends, seen, shed) = exact(&report, asked);
    let calm = report.telemetry.under("/calm");
    assert_eq!(calm.iter().filter(|span| span.kind == Kind::Client).count(), 5);
    say(&format!("rate {RATE}: {ends} ends of requests, {seen} spans, {shed} shed"));
    // wrk and two workers, a second's worth at the start and as much each second (a token may
    // count twice).
    let most = 3 * RATE * (SECONDS + 2);
    assert!((RATE * SECONDS..=most).contains(&seen), "{seen} spans at {RATE} requests/s");
}

#[test]
fn a_ring_that_is_nearly_full_takes_no_new_requests() {
    let Some(scenario) = Scenario::begin("full ring", &["nginx", "wrk", "curl"]) else { return };
    let (nginx, listen) = nginx(&scenario);
    let agent = Agent::run(&scenario, &["--ring-size", "1MiB", "--poll-interval", "200ms"]);
    let asked = wrk(&scenario, &format!("http://{listen}/load"), CONNECTIONS, scaled(3, 60));
    std::thread::sleep(Duration::from_secs(1));
    paced(&scenario, &listen, "after", 20);
    let report = agent.stop();
    drop(nginx);
    let (ends, seen, shed) = exact(&report, asked);
    complete(&report, "after", 20);
    let (joined, servers) = pairs(&report);
    say(&format!(
        "full ring: {ends} ends of requests, {seen} spans, {shed} shed; {joined} of {servers} pairs"
    ));
}
