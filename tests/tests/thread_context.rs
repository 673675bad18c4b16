//! Trace contexts that programs publish by thread (OTEP 4947): spans are linked by them.

use kernspan_tests::agent::{Agent, Report};
use kernspan_tests::contexts::{Built, Model, Truth, build, complaints, run_sdk};
use kernspan_tests::nginx::{Location, Nginx};
use kernspan_tests::otlp::Kind;
use kernspan_tests::process::free_port;
use kernspan_tests::scenario::{Scenario, say, scaled, tool};
use std::collections::HashMap;
use std::path::Path;

const THREADS: u32 = 16;

fn nginx(scenario: &Scenario) -> (Nginx, u16) {
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    (Nginx::start(scenario, &listen, &[("/", Location::Static)], &[]), port)
}

fn judge(report: &Report, truths: &[Truth]) {
    let spans = report.telemetry.under("/contexts/");
    let mut wrong = complaints(&spans, truths);
    let traces: HashMap<&str, &str> = spans
        .iter()
        .filter(|span| span.kind == Kind::Client)
        .map(|span| (span.id.as_str(), span.trace.as_str()))
        .collect();
    let servers = spans.iter().filter(|span| span.kind == Kind::Server);
    let apart =
        servers.filter(|span| traces.get(span.parent.as_str()) != Some(&span.trace.as_str()));
    wrong.extend(apart.map(|span| format!("not its client's trace: {}", span.brief())));
    let all = wrong.len();
    wrong.truncate(20);
    assert!(wrong.is_empty(), "{all} wrong\n{}\n{:?}", wrong.join("\n"), report.ledger);
    let linked = truths.iter().filter(|truth| truth.context.is_some()).count() as u64;
    assert!(linked > 0, "nothing was published");
    assert_eq!(report.ledger.cause("published_contexts"), linked, "{:?}", report.ledger);
}

/// Each client span has the context that its thread had published when it sent the request, and none where
/// there was none; its server span is in that trace.
#[test]
fn spans_have_the_published_context() {
    let Some(scenario) = Scenario::begin("thread contexts", &["nginx", "gcc"]) else { return };
    let (_nginx, port) = nginx(&scenario);
    let load = (THREADS, scaled(40, 400) as u32);
    let models = [
        Model::Program,
        Model::Static,
        Model::InitialExec,
        Model::Descriptor,
        Model::LateDescriptor,
        Model::LateModule,
    ];
    let built: Vec<Built> = models.iter().map(|model| build(&scenario, *model)).collect();
    let agent = Agent::run(&scenario, &[]);
    let mut truths = Vec::new();
    for built in &built {
        truths.extend(built.run(&scenario, port, load, "plain"));
    }
    let report = agent.stop();
    judge(&report, &truths);
    say(&format!(
        "thread contexts: {} requests in {} models, all right",
        truths.len(),
        built.len()
    ));
}

/// A worker that a server has forked has its variables where the server has them.
#[test]
fn a_forked_worker_is_known() {
    let Some(scenario) = Scenario::begin("forked contexts", &["nginx", "gcc"]) else { return };
    let (_nginx, port) = nginx(&scenario);
    let built = [build(&scenario, Model::Program), build(&scenario, Model::LateModule)];
    let agent = Agent::run(&scenario, &[]);
    let run = |built: &Built| built.run(&scenario, port, (4, 40), "fork");
    let truths: Vec<Truth> = built.iter().flat_map(run).collect();
    judge(&agent.stop(), &truths);
}

/// Garbage in place of a record is no context, and harms nobody.
#[test]
fn garbage_is_no_context() {
    let Some(scenario) = Scenario::begin("hostile contexts", &["nginx", "gcc"]) else { return };
    let (_nginx, port) = nginx(&scenario);
    let built = build(&scenario, Model::Program);
    let agent = Agent::run(&scenario, &[]);
    let truths = built.run(&scenario, port, (THREADS, 50), "hostile");
    judge(&agent.stop(), &truths);
}

/// An SDK as it is released: Datadog's for Python, which exports the variable from a library that the
/// interpreter loads late.
#[test]
fn a_released_sdk_is_read() {
    let Some(scenario) = Scenario::begin("thread contexts of an SDK", &["nginx"]) else { return };
    let Some(init) = tool("ddtrace", "ddtrace/__init__.py") else {
        return say("SKIP thread_context_sdk: no ddtrace without pip");
    };
    let sdk = init.parent().and_then(Path::parent).expect("its directory");
    let (_nginx, port) = nginx(&scenario);
    let agent = Agent::run(&scenario, &[]);
    let truths = run_sdk(&scenario, sdk, port, (THREADS, scaled(30, 300) as u32));
    judge(&agent.stop(), &truths);
    say(&format!("thread contexts of an SDK: {} requests, all right", truths.len()));
}
