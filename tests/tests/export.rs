//! Everything arrives in a real OpenTelemetry Collector, over every transport, and unseen.

use kernspan_tests::agent::Agent;
use kernspan_tests::client::curl;
use kernspan_tests::collector::Collector;
use kernspan_tests::delivery::Delivery;
use kernspan_tests::otlp::{Kind, Telemetry};
use kernspan_tests::process::{Process, free_port};
use kernspan_tests::python::Python;
use kernspan_tests::scenario::{Scenario, say, scaled};
use serde_json::Value;
use std::process::Command;
use std::time::{Duration, Instant};

const REQUESTS: usize = 20;

/// A way to the Collector.
struct Way {
    name: &'static str,
    protocol: &'static str,
    port: fn(&Collector) -> u16,
    mutual: bool,
    gzip: bool,
}

impl Way {
    fn new(name: &'static str, protocol: &'static str, port: fn(&Collector) -> u16) -> Way {
        Way { name, protocol, port, mutual: false, gzip: false }
    }

    fn arguments(&self, collector: &Collector) -> Vec<String> {
        let scheme = if self.mutual { "https" } else { "http" };
        let endpoint = format!("{scheme}://127.0.0.1:{}", (self.port)(collector));
        let mut words = vec!["--output".to_owned(), "otlp".to_owned()];
        words.extend(["--otlp-endpoint".to_owned(), endpoint]);
        words.extend(["--otlp-protocol".to_owned(), self.protocol.to_owned()]);
        if self.mutual {
            let files = [
                ("--otlp-ca", "ca.crt"),
                ("--otlp-client-cert", "client.crt"),
                ("--otlp-client-key", "client.key"),
            ];
            for (flag, name) in files {
                words.extend([flag.to_owned(), collector.certificates.file(name)]);
            }
        }
        if self.gzip {
            words.extend(["--otlp-compression".to_owned(), "gzip".to_owned()]);
        }
        words
    }
}

fn run(scenario: &Scenario, arguments: &[String]) -> Agent {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Agent::run_with(scenario, &words, &[("OTEL_METRIC_EXPORT_INTERVAL", "1000")])
}

fn server(scenario: &Scenario) -> (Python, String) {
    let port = free_port();
    let text = port.to_string();
    let python = Python::serve(scenario, "server", "server.py", &["--port", &text], &[]);
    (python, format!("http://127.0.0.1:{port}/export/size/10"))
}

/// What the agent sent by this way, by its own JSON file, is what the Collector wrote.
fn arrives(way: &Way) {
    let name = format!("export_{}", way.name);
    let Some(scenario) = Scenario::begin(&name, &["curl", "openssl"]) else { return };
    let Some(collector) = Collector::start(&scenario, &name) else { return };
    let (_server, url) = server(&scenario);
    let agent = run(&scenario, &way.arguments(&collector));
    curl(&scenario, &[], &vec![url; REQUESTS], 4);
    let report = agent.stop();
    let received = collector.received();
    assert_eq!(report.telemetry.under("/export/").len(), 2 * REQUESTS, "seen");
    let spans = Delivery::of_spans(&report.telemetry, &received);
    spans.complete("spans");
    let logs = Delivery::of_logs(&report.telemetry, &received);
    logs.complete("log records");
    assert!(logs.sent > 0, "curl was executed");
    let accounts = ["spans", "log_records"].map(|unit| report.ledger.count("export", unit, "out"));
    assert_eq!(accounts.map(|count| count as usize), [spans.sent, logs.sent], "the agent's count");
    own_metrics(&received);
    let repeated = spans.repeated + logs.repeated;
    assert_eq!(repeated, 0, "nothing failed, so nothing comes twice");
    say(&format!("{name}: {} spans and {} log records arrived, equal", spans.sent, logs.sent));
}

/// The agent's own figures, under its own name.
fn own_metrics(received: &Telemetry) {
    let groups = received.metrics.iter().flat_map(|request| list(&request["resourceMetrics"]));
    let own = groups.filter(|group| group["resource"].to_string().contains("\"kernspan\""));
    let scopes = own.flat_map(|group| list(&group["scopeMetrics"]));
    let metrics = scopes.flat_map(|scope| list(&scope["metrics"]));
    let items = metrics.filter(|metric| metric["name"] == "kernspan.stage.items");
    let points = items.flat_map(|metric| list(&metric["sum"]["dataPoints"]));
    let counts = points.filter_map(|point| point["asInt"].as_str()?.parse::<u64>().ok());
    assert!(counts.max() > Some(0), "kernspan.stage.items in {:?}", received.metrics.last());
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[test]
fn everything_arrives_over_grpc() {
    arrives(&Way::new("grpc", "grpc", |collector| collector.grpc));
}

#[test]
fn everything_arrives_over_grpc_compressed() {
    let way = Way::new("grpc_gzip", "grpc", |collector| collector.grpc);
    arrives(&Way { gzip: true, ..way });
}

#[test]
fn everything_arrives_over_http_as_protobuf() {
    arrives(&Way::new("http_protobuf", "http/protobuf", |collector| collector.http));
}

#[test]
fn everything_arrives_over_http_as_json_compressed() {
    let way = Way::new("http_json", "http/json", |collector| collector.http);
    arrives(&Way { gzip: true, ..way });
}

#[test]
fn everything_arrives_over_grpc_with_mutual_tls() {
    let way = Way::new("grpc_mtls", "grpc", |collector| collector.grpc_mtls);
    arrives(&Way { mutual: true, ..way });
}

#[test]
fn everything_arrives_over_http_with_mutual_tls() {
    let way = Way::new("http_mtls", "http/protobuf", |collector| collector.http_mtls);
    arrives(&Way { mutual: true, ..way });
}

#[test]
fn without_a_client_certificate_nothing_arrives_and_that_is_counted() {
    let name = "export_no_certificate";
    let Some(scenario) = Scenario::begin(name, &["curl", "openssl"]) else { return };
    let Some(collector) = Collector::start(&scenario, name) else { return };
    let (_server, url) = server(&scenario);
    let endpoint = format!("https://127.0.0.1:{}", collector.grpc_mtls);
    let ca = collector.certificates.file("ca.crt");
    let words = ["--output", "otlp", "--otlp-endpoint", &endpoint, "--otlp-ca", &ca];
    let protocol = ["--otlp-protocol", "grpc"];
    let words: Vec<_> = words.iter().chain(&protocol).map(|&word| word.to_owned()).collect();
    let agent = run(&scenario, &words);
    curl(&scenario, &[], &vec![url; REQUESTS], 4);
    let report = agent.stop();
    let received = collector.received();
    assert_eq!((received.spans.len(), received.metrics.len()), (0, 0), "without certificate");
    let sent = report.telemetry.spans.len() as u64;
    let [out, lost] = ["out", "lost"].map(|side| report.ledger.count("export", "spans", side));
    assert_eq!((out, lost), (0, sent), "{:?}", report.ledger);
    let log = &report.ended.stderr;
    let said = log.lines().find(|line| line.contains("spans are held back"));
    // With TLS 1.3 the refusal comes after the handshake; the request may fail a moment before.
    let said = said.unwrap_or_else(|| panic!("no word about it:\n{log}"));
    say(&format!("{name}: {lost} spans lost, all counted; the log: {said}"));
}

/// Between agent and Collector runs HTTP/1 here, which the agent would see if it looked. Only a
/// stranger's request to the same port may appear.
#[test]
fn an_idle_agent_beside_a_collector_sees_nothing_of_the_export() {
    let name = "export_idle";
    let Some(scenario) = Scenario::begin(name, &["curl", "openssl"]) else { return };
    for (protocol, port) in [("http/protobuf", true), ("grpc", false)] {
        let Some(collector) = Collector::start(&scenario, name) else { return };
        let port = if port { collector.http } else { collector.grpc };
        let endpoint = format!("http://127.0.0.1:{port}");
        let words = ["--output", "otlp", "--otlp-endpoint", &endpoint, "--otlp-protocol", protocol];
        let agent = run(&scenario, &words.map(str::to_owned));
        idle(&scenario, scaled(5, 60));
        let url = format!("http://127.0.0.1:{}/stranger", collector.http);
        curl(&scenario, &[], &[url], 1);
        let (pids, ports) = ([agent.pid(), collector.pid()], collector.ports());
        let report = agent.stop();
        let received = collector.received();
        Delivery::of_spans(&report.telemetry, &received).complete("spans");
        let requests = received.metrics.len();
        assert!(requests >= 4, "metrics each second, so the export was at work: {requests}");
        about_the_export(&report.telemetry, &pids, &ports);
        say(&format!("{name}: {protocol}: {requests} requests with metrics, none observed"));
    }
}

/// No requests; a program a second, so that log records go out too.
fn idle(scenario: &Scenario, seconds: u64) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        Process::start(Command::new("/bin/true"), scenario.dir(), "true")
            .succeed(Duration::from_secs(60));
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn about_the_export(seen: &Telemetry, pids: &[u32], ports: &[u16]) {
    let of_them = seen.of_processes(pids);
    let all = of_them.into_iter().chain(seen.on_ports(ports));
    let (stranger, export): (Vec<_>, Vec<_>) = all.partition(|span| span.path() == "/stranger");
    let export: Vec<_> = export.iter().map(|span| span.brief()).collect();
    assert!(export.is_empty(), "spans about the export:\n{}", export.join("\n"));
    // The Collector is not hidden from view: only the agent's own conversation is.
    for kind in [Kind::Client, Kind::Server] {
        assert!(stranger.iter().any(|span| span.kind == kind), "the stranger's {kind:?} span");
    }
}
