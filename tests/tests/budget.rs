//! What the agent may cost: whole requests are left out where they begin, both ends of them, and
//! counted; everything is seen again a second later.

use kernspan_tests::agent::Agent;
use kernspan_tests::budget::{CONNECTIONS, complete, exact, paced, pairs};
use kernspan_tests::certificates::Certificates;
use kernspan_tests::client::wrk;
use kernspan_tests::nginx::{Location, Nginx};
use kernspan_tests::otlp::Kind;
use kernspan_tests::process::{anonymous_bytes, free_port, kernel_map_bytes};
use kernspan_tests::scenario::{Scenario, say, scaled};
use std::time::Duration;

fn nginx(scenario: &Scenario) -> (Nginx, String) {
    for name in ["load", "after", "calm", "first"] {
        Nginx::page(scenario, name, 500);
    }
    let listen = format!("127.0.0.1:{}", free_port());
    let nginx = Nginx::start(scenario, &listen, &[("/", Location::Static)], &[]);
    (nginx, format!("http://{listen}"))
}

/// The same encrypted.
fn secure_nginx(scenario: &Scenario) -> (Nginx, String) {
    for name in ["load", "after", "calm"] {
        Nginx::page(scenario, name, 500);
    }
    let certificates = Certificates::make(scenario);
    let directives = format!(
        "ssl_certificate {}; ssl_certificate_key {};",
        certificates.file("server.crt"),
        certificates.file("server.key")
    );
    let listen = format!("127.0.0.1:{}", free_port());
    let places = [("/", Location::Static)];
    let nginx = Nginx::start_with(scenario, &format!("{listen} ssl"), &places, &directives, &[]);
    (nginx, format!("https://{listen}"))
}

#[test]
fn many_times_the_budget_is_shed_by_whole_requests_and_all_is_seen_a_second_later() {
    /// Far below what a second of wrk costs: nearly everything has to go.
    const BUDGET: &str = "10%";
    /// 64 MB, and what the JSON output takes.
    const ANONYMOUS: u64 = 64_000_000 + 32_000_000;
    let Some(scenario) = Scenario::begin("budget", &["nginx", "wrk", "curl"]) else { return };
    let (nginx, site) = nginx(&scenario);
    let agent = Agent::run(&scenario, &["--max-cpu", BUDGET]);
    // What it reads at its start costs as well, and programs that it has not met.
    paced(&scenario, &site, "first", 1);
    std::thread::sleep(Duration::from_secs(4));
    paced(&scenario, &site, "calm", 20);
    let asked = wrk(&scenario, &format!("{site}/load"), CONNECTIONS, scaled(6, 60));
    let anonymous = anonymous_bytes(agent.pid());
    std::thread::sleep(Duration::from_secs(1));
    paced(&scenario, &site, "after", 20);
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
    let (nginx, site) = nginx(&scenario);
    // What else the machine does would be shed and counted as well.
    let (_, port) = site.rsplit_once(':').expect("an address with a port");
    let budgets = ["--max-cpu", BUDGET, "--max-memory", "128MiB", "--port", port];
    let agent = Agent::run(&scenario, &budgets);
    std::thread::sleep(Duration::from_secs(2));
    let pid = agent.pid();
    let mut most = 0;
    let url = format!("{site}/load");
    let asked = std::thread::scope(|scope| {
        let load = scope.spawn(|| wrk(&scenario, &url, CONNECTIONS, scaled(5, 60)));
        while !load.is_finished() {
            most = most.max(anonymous_bytes(pid) + kernel_map_bytes(pid));
            std::thread::sleep(Duration::from_millis(200));
        }
        load.join().expect("the load")
    });
    std::thread::sleep(Duration::from_secs(1));
    paced(&scenario, &site, "after", 20);
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
    each_process_has_its_rate("rate", nginx);
}

fn each_process_has_its_rate(name: &str, start: fn(&Scenario) -> (Nginx, String)) {
    const SECONDS: u64 = 3;
    const RATE: u64 = 200;
    let Some(scenario) = Scenario::begin(name, &["nginx", "wrk", "curl"]) else { return };
    let (nginx, site) = start(&scenario);
    let agent = Agent::run(&scenario, &["--max-request-rate", &RATE.to_string()]);
    let asked = wrk(&scenario, &format!("{site}/load"), CONNECTIONS, SECONDS);
    // The servers' bucket is empty, curl's is full: each has its own.
    paced(&scenario, &site, "calm", 5);
    let report = agent.stop();
    drop(nginx);
    let (ends, seen, shed) = exact(&report, asked);
    let calm = report.telemetry.under("/calm");
    assert_eq!(calm.iter().filter(|span| span.kind == Kind::Client).count(), 5);
    say(&format!("{name} {RATE}: {ends} ends of requests, {seen} spans, {shed} shed"));
    // wrk and two workers, a second's worth at the start and as much each second (a token may
    // count twice).
    let most = 3 * RATE * (SECONDS + 2);
    assert!((RATE * SECONDS..=most).contains(&seen), "{seen} spans at {RATE} requests/s");
}

#[test]
fn a_ring_that_is_nearly_full_takes_no_new_requests() {
    let Some(scenario) = Scenario::begin("full ring", &["nginx", "wrk", "curl"]) else { return };
    let (nginx, site) = nginx(&scenario);
    // Some hundred requests a second are enough to fill it, of nobody else.
    let port = site.rsplit(':').next().unwrap_or_default();
    let arguments = ["--ring-size", "1MiB", "--poll-interval", "1s", "--port", port];
    let agent = Agent::run(&scenario, &arguments);
    let asked = wrk(&scenario, &format!("{site}/load"), CONNECTIONS, scaled(3, 60));
    // Until it has been read, and a second.
    std::thread::sleep(Duration::from_secs(2));
    paced(&scenario, &site, "after", 20);
    let report = agent.stop();
    drop(nginx);
    let (ends, seen, shed) = exact(&report, asked);
    complete(&report, "after", 20);
    let (joined, servers) = pairs(&report);
    say(&format!(
        "full ring: {ends} ends of requests, {seen} spans, {shed} shed; {joined} of {servers} pairs"
    ));
}

/// Plaintext of a TLS library is shed as bytes in the clear are: whole requests, by both ends the same.
#[test]
fn encrypted_requests_are_shed_whole() {
    let Some(scenario) = Scenario::begin("tls budget", &["nginx", "wrk", "curl"]) else { return };
    let (nginx, site) = secure_nginx(&scenario);
    let agent = Agent::run(&scenario, &["--max-cpu", "12%"]);
    // What it reads at its start costs as well.
    std::thread::sleep(Duration::from_secs(3));
    let asked = wrk(&scenario, &format!("{site}/load"), CONNECTIONS, scaled(6, 60));
    let report = agent.stop();
    drop(nginx);
    let (ends, seen, shed) = exact(&report, asked);
    let (joined, servers) = pairs(&report);
    say(&format!(
        "tls budget: {ends} ends of requests, {seen} spans, {shed} shed; {joined} of {servers} \
         server spans have their client span"
    ));
    assert!(seen * 3 < ends * 2, "the budget was not kept to: {seen} spans of {ends} ends");
    assert!(joined * 10 >= servers * 8, "both ends shed the same requests: {joined} of {servers}");
}

#[test]
fn encrypted_requests_have_their_processs_rate() {
    each_process_has_its_rate("tls rate", secure_nginx);
}

#[test]
fn a_ring_that_is_nearly_full_takes_no_new_encrypted_requests() {
    let Some(scenario) = Scenario::begin("tls full ring", &["nginx", "wrk", "curl"]) else {
        return;
    };
    let (nginx, site) = secure_nginx(&scenario);
    let agent = Agent::run(&scenario, &["--ring-size", "1MiB", "--poll-interval", "200ms"]);
    let asked = wrk(&scenario, &format!("{site}/load"), CONNECTIONS, scaled(3, 60));
    std::thread::sleep(Duration::from_secs(1));
    paced(&scenario, &site, "after", 10);
    let report = agent.stop();
    drop(nginx);
    let (ends, seen, shed) = exact(&report, asked);
    complete(&report, "after", 10);
    let (joined, servers) = pairs(&report);
    say(&format!(
        "tls full ring: {ends} ends of requests, {seen} spans, {shed} shed; {joined} of {servers} pairs"
    ));
}
