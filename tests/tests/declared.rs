//! Context that a request declares (traceparent, b3, x-request-id) holds its trace together through
//! a proxy that serves many requests on one thread.

use kernspan_tests::agent::Agent;
use kernspan_tests::nginx::{Location, Nginx};
use kernspan_tests::otlp::{Kind, Span, Telemetry};
use kernspan_tests::process::free_port;
use kernspan_tests::python::Python;
use kernspan_tests::scenario::{Scenario, say};
use std::time::Duration;

const REQUESTS: u64 = 64;

/// Client → nginx → server with `header` on every request; `{n}` in it is the request's number.
fn report(scenario: &Scenario, header: &str) -> Telemetry {
    let (port, behind) = (free_port(), free_port());
    let (port_text, behind_text) = (port.to_string(), behind.to_string());
    let _server = Python::serve(scenario, "server", "server.py", &["--port", &behind_text], &[]);
    let listen = format!("127.0.0.1:{port}");
    let _nginx = Nginx::start(scenario, &listen, &[("/tcp/", Location::Tcp(behind))], &[]);
    let agent = Agent::run(scenario, &[]);
    let requests = REQUESTS.to_string();
    let own = ["--port", &port_text, "--requests", &requests, "--first", "1"];
    let more = ["--concurrency", "16", "--path", "/tcp/{n}/size/5", "--header", header];
    let client = Python::start(scenario, "client", "client.py", &[own, more].concat(), &[]);
    client.finish(Duration::from_secs(60));
    agent.stop().telemetry
}

/// The four spans of request `number`, from the client to the last server.
fn chain(all: &Telemetry, number: u64) -> [&Span; 4] {
    let one = |prefix: &str, kind: Kind| {
        let path = format!("/{prefix}/{number}/size/5");
        let found: Vec<&Span> =
            all.spans.iter().filter(|s| s.kind == kind && s.path() == path).collect();
        assert_eq!(found.len(), 1, "{kind:?} spans of {path}");
        found[0]
    };
    [
        one("tcp", Kind::Client),
        one("tcp", Kind::Server),
        one("behind-tcp", Kind::Client),
        one("behind-tcp", Kind::Server),
    ]
}

fn assert_one_trace(chain: [&Span; 4]) {
    for pair in chain.windows(2) {
        let whole = pair[1].parent == pair[0].id && pair[1].trace == pair[0].trace;
        assert!(whole, "{}\nis not the child of\n{}", pair[1].brief(), pair[0].brief());
        for key in ["kernspan.link.method", "kernspan.link.confidence"] {
            assert!(pair[1].attributes.contains_key(key), "no {key}: {}", pair[1].brief());
        }
    }
}

fn continued(name: &str, header: &str) {
    let Some(scenario) = Scenario::begin(name, &["nginx"]) else { return };
    let all = report(&scenario, header);
    for number in 1..=REQUESTS {
        let chain = chain(&all, number);
        assert_eq!(chain[0].trace, format!("{number:016x}{number:016x}"), "the header's trace");
        assert_eq!(chain[0].parent, format!("{number:016x}"), "the header's span");
        assert_one_trace(chain);
    }
    say(&format!("{name}: {REQUESTS} traces of 4 spans continue the header's"));
}

#[test]
fn traceparent_is_continued() {
    continued("traceparent", "traceparent: 00-{n}{n}-{n}-01");
}

#[test]
fn b3_is_continued() {
    continued("b3", "b3: {n}{n}-{n}-1");
}

#[test]
fn a_request_id_links_within_the_proxy() {
    let Some(scenario) = Scenario::begin("x-request-id", &["nginx"]) else { return };
    let all = report(&scenario, "X-Request-Id: id-{n}");
    for number in 1..=REQUESTS {
        let chain = chain(&all, number);
        assert_eq!(chain[0].parent, "", "a root: {}", chain[0].brief());
        assert_one_trace(chain);
    }
}
