//! Metrics of requests against the servers' own logs.

use kernspan_tests::agent::Agent;
use kernspan_tests::client::curl_with;
use kernspan_tests::nginx::{Access, Location, Nginx};
use kernspan_tests::process::{free_port, until};
use kernspan_tests::python::Python;
use kernspan_tests::scenario::{Scenario, say, scaled};
use kernspan_tests::series::{CLIENT, SERVER, counted, distribution};
use std::collections::BTreeMap;
use std::time::Duration;

const PROGRAMS: [&str; 3] = ["nginx", "curl", "python3"];
const LIMIT: Duration = Duration::from_secs(30);
/// The Python server's service: its script lies there.
const PYTHON: &str = "workloads";

/// nginx with files, and with a Python server behind it.
struct Servers {
    nginx: Nginx,
    _python: Python,
    port: u16,
}

impl Servers {
    fn start(scenario: &Scenario) -> Servers {
        let (port, behind) = (free_port(), free_port());
        let arguments = ["--port", &behind.to_string()];
        let python = Python::serve(scenario, "behind", "server.py", &arguments, &[]);
        std::fs::create_dir_all(scenario.path("www/static")).expect("a directory for files");
        Nginx::page(scenario, "static/page", 1000);
        let places = [("/static/", Location::Static), ("/tcp/", Location::Tcp(behind))];
        let nginx = Nginx::start(scenario, &format!("127.0.0.1:{port}"), &places, &[]);
        Servers { nginx, _python: python, port }
    }

    /// Files, pages that are not there, and what Python answers; some at once.
    fn ask(&self, scenario: &Scenario, count: u64) {
        let url = |path: &str| format!("http://127.0.0.1:{}{path}", self.port);
        for (path, width) in [("/static/page", 8), ("/static/missing", 4), ("/tcp/size/100", 4)] {
            let urls: Vec<String> = (0..count).map(|_| url(path)).collect();
            curl_with(scenario, &[], &urls, width);
        }
    }
}

fn by_status(log: &[Access]) -> BTreeMap<i64, u64> {
    let mut counts = BTreeMap::new();
    for line in log {
        *counts.entry(line.status).or_insert(0) += 1;
    }
    counts
}

/// The value of a line of Prometheus's text whose labels contain all of `with`.
fn prometheus(page: &str, name: &str, with: &[&str]) -> u64 {
    let lines = page.lines().filter(|line| {
        line.starts_with(&format!("{name}{{")) && with.iter().all(|label| line.contains(label))
    });
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// Every request is counted once at each end, whatever is sampled, as sums and as deltas.
#[test]
fn requests_are_counted_as_the_server_logged_them() {
    for (kind, temporality) in [("cumulative", 2), ("delta", 1)] {
        let Some(scenario) = Scenario::begin(&format!("request metrics {kind}"), &PROGRAMS) else {
            return;
        };
        let servers = Servers::start(&scenario);
        let flags = ["--sample", "0.01", "--request-metrics", "1s", "--metrics-temporality", kind];
        let agent = Agent::run(&scenario, &flags);
        let count = scaled(200, 2000);
        // Over several reports.
        for _ in 0..3 {
            servers.ask(&scenario, count / 2);
            std::thread::sleep(Duration::from_millis(700));
        }
        let asked = count / 2 * 3;
        let mut page = String::new();
        let served = |page: &str| {
            let name = "http_server_request_duration_seconds_count";
            prometheus(page, name, &["service_name=\"nginx\""])
        };
        until("all are counted at /metrics", LIMIT, || {
            page = agent.get("/metrics").1;
            (served(&page) == 3 * asked).then_some(())
        });
        let report = agent.stop();
        let logged = by_status(&servers.nginx.stop());
        let counts = counted(&report.telemetry, temporality);
        let of = |service: &str, name: &str, status| {
            counts.get(&(service.to_owned(), name.to_owned(), status)).copied().unwrap_or(0)
        };
        for (status, number) in &logged {
            assert_eq!(of("nginx", SERVER, *status), *number, "{status} {kind}: {counts:?}");
            assert_eq!(of("curl", CLIENT, *status), *number, "{status} {kind}: {counts:?}");
        }
        assert_eq!(of(PYTHON, SERVER, 200), asked, "{kind}: {counts:?}");
        let edge = |client: &str, server: &str| {
            let labels = [format!("client=\"{client}\""), format!("server=\"{server}\"")];
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            prometheus(&page, "traces_service_graph_request_total", &labels)
        };
        assert_eq!((edge("curl", "nginx"), edge("nginx", PYTHON)), (3 * asked, asked), "{page}");
        let kept = report.telemetry.spans.len() as u64;
        assert!(kept < 2 * asked, "sampling keeps {kept} spans");
        assert_eq!(report.ledger.imbalances(), Vec::<String>::new());
        say(&format!("request metrics {kind}: {logged:?} logged, {kept} spans kept"));
    }
}

/// What single times of the log may differ by: nginx asks a clock that it sets when it wakes, so what passes between
/// that and a call is in one of the two alone.
const NEAR_MS: u64 = 40;
/// Requests within a bound that may differ by more, where the server had to wait for a processor.
const STRAYS: u64 = 2;

/// The histogram is that of the server's own times: of those that took long, and those that did not.
#[test]
fn histograms_are_those_of_the_access_log() {
    let Some(scenario) = Scenario::begin("request histograms", &PROGRAMS) else { return };
    let servers = Servers::start(&scenario);
    let flags = ["--request-metrics", "1s", "--metrics-temporality", "cumulative"];
    let agent = Agent::run(&scenario, &flags);
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", servers.port);
    let count = scaled(20, 200);
    // Between the bounds of the semantic conventions, and far from each.
    for wait in [170, 370, 620, 870] {
        let urls: Vec<String> = (0..count).map(|_| url(&format!("/tcp/slow/{wait}"))).collect();
        curl_with(&scenario, &[], &urls, 10);
    }
    servers.ask(&scenario, count);
    let report = agent.stop();
    let log = servers.nginx.stop();
    let (bounds, below) = distribution(&report.telemetry, "nginx", SERVER);
    assert_eq!(below.last(), Some(&(log.len() as u64)), "{bounds:?} {below:?}");
    let told = |most: u64| log.iter().filter(|line| line.took_ms <= most).count() as u64;
    for (bound, counted) in bounds.iter().zip(&below) {
        let bound = (bound * 1000.0) as u64;
        let least = told(bound.saturating_sub(NEAR_MS)).saturating_sub(STRAYS);
        let range = least..=told(bound + NEAR_MS) + STRAYS;
        assert!(range.contains(counted), "{counted} within {bound} ms, by the log {range:?}");
    }
    let slow = log.len() as u64 - told(160);
    assert!(slow >= 4 * count, "{slow} took more than 160 ms");
    say(&format!("request histograms: {below:?} of {} requests", log.len()));
}

#[test]
fn without_request_metrics_there_are_none() {
    let Some(scenario) = Scenario::begin("no request metrics", &PROGRAMS) else { return };
    let servers = Servers::start(&scenario);
    let agent = Agent::run(&scenario, &["--request-metrics", "off"]);
    servers.ask(&scenario, 10);
    let report = agent.stop();
    assert!(counted(&report.telemetry, 2).is_empty());
    assert!(!report.telemetry.spans.is_empty());
}
