//! Two agents at once see the same, and neither disturbs the other.

use kernspan_tests::agent::Agent;
use kernspan_tests::client::curl;
use kernspan_tests::otlp::{Kind, Span};
use kernspan_tests::process::free_port;
use kernspan_tests::python::Python;
use kernspan_tests::scenario::Scenario;

const REQUESTS: usize = 20;

#[test]
fn two_agents_see_the_same() {
    let Some(scenario) = Scenario::begin("two_agents", &["curl"]) else { return };
    let port = free_port();
    let _server =
        Python::serve(&scenario, "server", "server.py", &["--port", &port.to_string()], &[]);
    let first = Agent::run(&scenario, &[]);
    let second = Agent::run(&scenario, &[]);
    let url = format!("http://127.0.0.1:{port}/both/size/10");
    curl(&scenario, &[], &vec![url; REQUESTS], 1);
    // The second ends first: what it leaves must not take the first one's hooks along.
    let reports = [second.stop(), first.stop()];
    for report in &reports {
        let spans = report.telemetry.under("/both/");
        let of = |kind: Kind| spans.iter().filter(|span: &&&Span| span.kind == kind).count();
        assert_eq!((of(Kind::Client), of(Kind::Server)), (REQUESTS, REQUESTS));
    }
}

#[test]
fn agents_do_not_report_each_others_exports() {
    let Some(scenario) = Scenario::begin("two_agents_export", &["curl"]) else { return };
    let port = free_port();
    let _server =
        Python::serve(&scenario, "server", "server.py", &["--port", &port.to_string()], &[]);
    let url = format!("http://127.0.0.1:{port}");
    // The watched server is the receiver as well: whatever it answers, the exports are requests.
    let variables =
        [("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"), ("OTEL_EXPORTER_OTLP_ENDPOINT", &url)];
    let first = Agent::run_with(&scenario, &["--output", "otlp"], &variables);
    let second = Agent::run_with(&scenario, &["--output", "otlp"], &variables);
    for _ in 0..3 {
        curl(&scenario, &[], &vec![format!("{url}/both/size/10"); REQUESTS], 1);
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    for report in [second.stop(), first.stop()] {
        assert_eq!(report.telemetry.under("/both/").len(), 2 * 3 * REQUESTS);
        assert_eq!(report.telemetry.under("/v1/").len(), 0, "exports were reported");
    }
}
