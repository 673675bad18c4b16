//! One request through four programs is one trace in Jaeger.

use kernspan_tests::agent::Agent;
use kernspan_tests::client::curl;
use kernspan_tests::jaeger::{Jaeger, Shown};
use kernspan_tests::nginx::{Location, Nginx};
use kernspan_tests::otlp::Span;
use kernspan_tests::process::{Process, free_ports, until};
use kernspan_tests::scenario::{Scenario, crate_dir, say};
use std::collections::BTreeSet;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

/// curl, nginx twice, the shop twice, the stock service.
const SPANS: usize = 6;

fn service(scenario: &Scenario, script: &str, port: u16, next: Option<&str>) -> Process {
    let mut python = Command::new("/usr/bin/python3");
    python.arg(crate_dir("workloads").join(script)).arg(port.to_string()).args(next);
    let process = Process::start(python, scenario.dir(), script);
    until(script, Duration::from_secs(60), || TcpStream::connect(("127.0.0.1", port)).ok());
    process
}

#[test]
fn a_request_through_four_programs_is_one_trace_in_jaeger() {
    let name = "export_jaeger";
    let Some(scenario) = Scenario::begin(name, &["curl", "nginx"]) else { return };
    let Some(jaeger) = Jaeger::start(&scenario, name) else { return };
    let [web, shop, stock] = free_ports();
    let _stock = service(&scenario, "stock.py", stock, None);
    let next = format!("http://127.0.0.1:{stock}");
    let _shop = service(&scenario, "shop.py", shop, Some(&next));
    let listen = format!("127.0.0.1:{web}");
    let _nginx = Nginx::start(&scenario, &listen, &[("/tcp/", Location::Tcp(shop))], &[]);
    let endpoint = format!("http://127.0.0.1:{}", jaeger.otlp);
    let words = ["--output", "otlp", "--otlp-endpoint", &endpoint, "--otlp-protocol", "grpc"];
    let agent = Agent::run(&scenario, &words);
    curl(&scenario, &[], &[format!("http://{listen}/tcp/hello")], 1);
    let report = agent.stop();
    let roots: Vec<_> =
        report.telemetry.under("/tcp/hello").into_iter().filter(|s| s.parent.is_empty()).collect();
    let [root] = roots.as_slice() else { panic!("{} roots", roots.len()) };
    let trace = &*root.trace;
    let spans = report.telemetry.spans.iter().filter(|span| span.trace == trace);
    let sent: BTreeSet<Shown> = spans.map(shown).collect();
    assert_eq!(sent.len(), SPANS, "{sent:?}");
    let read = jaeger.trace(trace, SPANS);
    assert_eq!(read, sent, "in Jaeger, and sent");
    assert_eq!(read.iter().filter(|span| span.parent.is_empty()).count(), 1, "one root");
    let services: BTreeSet<&str> = read.iter().map(|span| &*span.service).collect();
    say(&format!("{name}: trace {trace} has {SPANS} spans and one root, of {services:?}"));
}

fn shown(span: &Span) -> Shown {
    let (id, parent) = (span.id.clone(), span.parent.clone());
    Shown { id, parent, service: span.service().to_owned() }
}
