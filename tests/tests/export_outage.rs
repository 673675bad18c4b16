//! The Collector goes away and comes back while requests go on.

use kernspan_tests::agent::Agent;
use kernspan_tests::client::curl;
use kernspan_tests::collector::Collector;
use kernspan_tests::delivery::Delivery;
use kernspan_tests::ledger::Ledger;
use kernspan_tests::otlp::Telemetry;
use kernspan_tests::process::free_port;
use kernspan_tests::python::Python;
use kernspan_tests::scenario::{Scenario, say, scaled};
use std::time::{Duration, Instant};

/// From the Collector's return until the agent must have delivered: its longest wait is 5 s.
const CATCH_UP: Duration = Duration::from_secs(20);

struct Outage {
    sent: Telemetry,
    received: Telemetry,
    ledger: Ledger,
    /// Items held at the end of the outage.
    held: u64,
    /// Bytes these took.
    bytes: u64,
    caught_up: Duration,
    log: String,
}

/// Requests before, while and after the Collector is away for `seconds`.
fn outage(
    scenario: &Scenario,
    mut collector: Collector,
    arguments: &[&str],
    seconds: u64,
) -> Outage {
    let port = free_port();
    let text = port.to_string();
    let _server = Python::serve(scenario, "server", "server.py", &["--port", &text], &[]);
    let url = format!("http://127.0.0.1:{port}/outage/size/10");
    let agent = Agent::run(scenario, arguments);
    ask_for(scenario, &url, Duration::from_secs(1));
    collector.go_away();
    ask_for(scenario, &url, Duration::from_secs(seconds));
    let ledger = Ledger::from_status(&agent.status());
    let (held, bytes) = (held(&ledger), ledger.cause("queued"));
    let back = Instant::now();
    collector.come_back();
    while held_now(&agent) > 0 {
        let late = back.elapsed() > CATCH_UP;
        assert!(!late, "not delivered: {}\n{}", agent.status()["ledger"], agent.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    let caught_up = back.elapsed();
    ask_for(scenario, &url, Duration::from_secs(1));
    let pids = [agent.pid(), collector.pid()];
    let ports = collector.ports();
    let report = agent.stop();
    let received = collector.received();
    let sent = report.telemetry;
    for about in [sent.of_processes(&pids), sent.on_ports(&ports)] {
        assert!(about.is_empty(), "a span about the export: {}", about[0].brief());
    }
    Outage {
        sent,
        received,
        ledger: report.ledger,
        held,
        bytes,
        caught_up,
        log: report.ended.stderr,
    }
}

fn ask_for(scenario: &Scenario, url: &str, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        curl(scenario, &[], &vec![url.to_owned(); 20], 4);
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn held_now(agent: &Agent) -> u64 {
    held(&Ledger::from_status(&agent.status()))
}

fn held(ledger: &Ledger) -> u64 {
    ["spans", "log_records"].iter().map(|unit| ledger.count("export", unit, "held")).sum()
}

#[test]
fn an_outage_within_the_queues_bound_loses_nothing() {
    for (name, grpc) in [("export_outage_grpc", true), ("export_outage_http", false)] {
        let Some(scenario) = Scenario::begin(name, &["curl", "openssl"]) else { return };
        let Some(collector) = Collector::start(&scenario, name) else { return };
        let port = if grpc { collector.grpc } else { collector.http };
        let protocol = if grpc { "grpc" } else { "http/protobuf" };
        let endpoint = format!("http://127.0.0.1:{port}");
        let arguments =
            ["--output", "otlp", "--otlp-endpoint", &endpoint, "--otlp-protocol", protocol];
        let seconds = scaled(4, 30);
        let seen = outage(&scenario, collector, &arguments, seconds);
        assert!(seen.held > 0, "nothing was held back: no outage\n{}", seen.log);
        let spans = Delivery::of_spans(&seen.sent, &seen.received);
        spans.complete("spans");
        let logs = Delivery::of_logs(&seen.sent, &seen.received);
        logs.complete("log records");
        let losses = seen.ledger.losses();
        let losses: Vec<_> = losses.iter().filter(|loss| loss.starts_with("export ")).collect();
        assert!(losses.is_empty(), "{losses:?}");
        for said in ["are held back", "are taken again"] {
            assert!(seen.log.contains(said), "no word about it ({said}):\n{}", seen.log);
        }
        say(&format!(
            "{name}: away {seconds} s; {} items in {} bytes held, all delivered {:.1} s after the \
             return; {} spans and {} log records, none missing, {} and {} twice",
            seen.held,
            seen.bytes,
            seen.caught_up.as_secs_f64(),
            spans.sent,
            logs.sent,
            spans.repeated,
            logs.repeated
        ));
    }
}

#[test]
fn what_the_queue_cannot_hold_is_counted_exactly() {
    let name = "export_overflow";
    let Some(scenario) = Scenario::begin(name, &["curl", "openssl"]) else { return };
    let Some(collector) = Collector::start(&scenario, name) else { return };
    let endpoint = format!("http://127.0.0.1:{}", collector.http);
    let arguments =
        ["--output", "otlp", "--otlp-endpoint", &endpoint, "--otlp-queue-bytes", "64KiB"];
    let seen = outage(&scenario, collector, &arguments, 4);
    for (unit, delivery) in [
        ("spans", Delivery::of_spans(&seen.sent, &seen.received)),
        ("log_records", Delivery::of_logs(&seen.sent, &seen.received)),
    ] {
        delivery.unchanged(unit);
        let lost = seen.ledger.count("export", unit, "lost");
        assert_eq!(lost, delivery.missing.len() as u64, "{unit} lost, and missing there");
        let out = seen.ledger.count("export", unit, "out");
        assert_eq!(out, (delivery.sent - delivery.missing.len()) as u64, "{unit} delivered");
        assert!(lost > 0 || unit != "spans", "the queue was not small enough");
        say(&format!(
            "{name}: {unit}: {} sent, {out} arrived, {lost} lost and missing",
            delivery.sent
        ));
    }
    assert_eq!(seen.ledger.imbalances(), Vec::<String>::new());
    assert!(seen.bytes <= 64 << 10, "{} bytes held", seen.bytes);
}
