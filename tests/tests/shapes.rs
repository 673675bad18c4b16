//! What HTTP/1.x allows and ordinary libraries never send: each request one pair of spans.

use kernspan_tests::agent::Agent;
use kernspan_tests::process::free_port;
use kernspan_tests::python::Python;
use kernspan_tests::scenario::{Scenario, say};
use kernspan_tests::shapes::{EXCHANGES, judge};
use std::time::Duration;

#[test]
fn every_shape_gives_its_spans_and_no_others() {
    let Some(scenario) = Scenario::begin("shapes", &[]) else { return };
    let port = free_port().to_string();
    let agent = Agent::run(&scenario, &[]);
    let server = Python::serve(&scenario, "server", "shapes.py", &["--port", &port, "serve"], &[]);
    let client = Python::start(&scenario, "client", "shapes.py", &["--port", &port, "ask"], &[]);
    let pids = [server.pid(), client.pid()];
    let (_, log) = client.finish(Duration::from_secs(60));
    let report = agent.stop();
    drop(server);
    assert!(log.len() >= 24, "{} cases", log.len());
    let spans = report.telemetry.of_processes(&pids);
    let complaints = judge(&spans);
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
    say(&format!("shapes: {} exchanges, {} spans", EXCHANGES.len(), spans.len()));
}
