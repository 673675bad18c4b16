//! Where spans go, and what the agent says about itself.

use kernspan_tests::agent::{Agent, Report};
use kernspan_tests::client::curl;
use kernspan_tests::otlp::{Span, Telemetry};
use kernspan_tests::process::free_port;
use kernspan_tests::python::Python;
use kernspan_tests::scenario::{Scenario, scaled};
use std::collections::BTreeSet;
use std::time::Duration;

fn server(scenario: &Scenario) -> (Python, u16) {
    let port = free_port();
    let text = port.to_string();
    (Python::serve(scenario, "server", "server.py", &["--port", &text], &[]), port)
}

fn ask(scenario: &Scenario, port: u16, count: usize) {
    let url = format!("http://127.0.0.1:{port}/out/size/10");
    curl(scenario, &[], &vec![url; count], 4);
}

fn ids(spans: &[&Span]) -> BTreeSet<String> {
    spans.iter().map(|span| span.id.clone()).collect()
}

#[test]
fn several_outputs_get_the_same_and_the_export_is_not_observed() {
    let Some(scenario) = Scenario::begin("outputs", &["curl"]) else { return };
    let (_server, port) = server(&scenario);
    let collector = free_port();
    let text = collector.to_string();
    let receiver = Python::serve(&scenario, "receiver", "receiver.py", &["--port", &text], &[]);
    let endpoint = format!("http://127.0.0.1:{collector}");
    let variables =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")];
    let outputs = ["--output", "otlp", "--output", "console"];
    let agent = Agent::run_with(&scenario, &outputs, &variables);
    ask(&scenario, port, 20);
    std::thread::sleep(Duration::from_secs(scaled(5, 60)));
    let receiver_pid = receiver.pid();
    let agent_pid = agent.pid();
    let report = agent.stop();
    let received = received(&receiver.stop());

    let expected = ids(&report.telemetry.under("/out/"));
    assert_eq!(expected.len(), 40, "a client and a server span a request");
    assert_eq!(ids(&received.under("/out/")), expected, "over OTLP and in the file");
    let lines = report.ended.stdout.matches("/out/size/10").count();
    assert!(lines >= 20, "{lines} requests on the console:\n{}", report.ended.stdout);
    for spans in [&report.telemetry, &received] {
        let about = spans.of_processes(&[agent_pid, receiver_pid]);
        let ports = spans.on_ports(&[collector]);
        let found: Vec<String> = about.iter().chain(&ports).map(|span| span.brief()).collect();
        assert!(found.is_empty(), "spans about the export:\n{}", found.join("\n"));
    }
}

fn received(log: &[serde_json::Value]) -> Telemetry {
    let lines: Vec<String> = log.iter().map(|line| format!("{}\n", line["request"])).collect();
    Telemetry::parse(&lines.concat())
}

#[test]
fn what_was_seen_leaves_before_the_agent_does() {
    let Some(scenario) = Scenario::begin("flush", &["curl"]) else { return };
    let (_server, port) = server(&scenario);
    let agent = Agent::run(&scenario, &[]);
    ask(&scenario, port, 50);
    // At once: what is in rings and queues is flushed, within the two seconds that stop checks.
    let Report { telemetry, ended, ledger } = agent.stop_at_once();
    assert_eq!(telemetry.under("/out/").len(), 100, "stopped in {:?}", ended.took);
    // What other programs of the machine said in unknown protocols is muted, not missed.
    let losses = ledger.losses();
    let losses: Vec<_> = losses.iter().filter(|loss| !loss.ends_with("(muted)")).collect();
    assert!(losses.is_empty(), "{losses:?}");
    assert!(ended.stderr.contains("records"), "the ledger at the end:\n{}", ended.stderr);
}

#[test]
fn the_endpoints_say_how_it_is() {
    let Some(scenario) = Scenario::begin("endpoints", &["curl"]) else { return };
    let (_server, port) = server(&scenario);
    let agent = Agent::run(&scenario, &[]);
    ask(&scenario, port, 10);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(agent.get("/livez").0, 200);
    assert_eq!(agent.get("/readyz").0, 200);
    assert_eq!(agent.get("/nothing").0, 404);
    let (code, metrics) = agent.get("/metrics");
    assert_eq!(code, 200);
    assert!(metrics.contains("# TYPE kernspan_"), "{metrics}");
    let status = agent.status();
    for key in ["version", "hooks", "ledger", "memory", "connections"] {
        assert!(status.get(key).is_some(), "no `{key}` in {status:#}");
    }
    let own = agent.address().port();
    let report = agent.stop();
    assert_eq!(report.ledger.imbalances(), Vec::<String>::new());
    let about = report.telemetry.on_ports(&[own]);
    assert!(about.is_empty(), "the agent's own endpoints: {}", about[0].brief());
}
