//! Services in Go: goroutines take the place of threads, parents are right.

use kernspan_tests::agent::Agent;
use kernspan_tests::certificates::Certificates;
use kernspan_tests::golang::{Service, build};
use kernspan_tests::links::{Score, Truth, score};
use kernspan_tests::process::free_ports;
use kernspan_tests::python::Python;
use kernspan_tests::scenario::{Scenario, say, scaled};
use std::path::Path;
use std::time::Duration;

/// Requests at once.
const CONCURRENCY: &str = "64";

/// When the services start, of the agent.
#[derive(Clone, Copy, PartialEq)]
enum Start {
    BeforeIt,
    AfterIt,
    /// After it, which has the image's rights only.
    BesideOneConfined,
}

/// a → {b, c}, b → c, in `mode`; asks a by 64 clients at once and scores the agent's report.
fn run(scenario: &Scenario, program: &Path, mode: &str, start: Start) -> Score {
    run_over(scenario, program, mode, start, None)
}

/// The same; with certificates over TLS.
fn run_over(
    scenario: &Scenario,
    program: &Path,
    mode: &str,
    start: Start,
    certificates: Option<&Certificates>,
) -> Score {
    let tls = certificates.map(|certificates| {
        let [certificate, key] = ["server.crt", "server.key"].map(|name| certificates.file(name));
        ["--certificate".to_owned(), certificate, "--key".to_owned(), key]
    });
    let tls: Vec<&str> = tls.iter().flatten().map(String::as_str).collect();
    let ports = free_ports::<3>().map(|port| port.to_string());
    let (b, c) = (format!("b:{}", ports[1]), format!("c:{}", ports[2]));
    let serve = |name: &str, port: &str, more: &[&str]| {
        let own = ["--port", port, "--mode", mode];
        Service::serve(scenario, program, name, &[&own, more, &tls].concat())
    };
    let services = || {
        let calls = ["--call", &b, "--call", &c, "--call", &b, "--timer", "13ms"];
        [
            serve("c", &ports[2], &[]),
            serve("b", &ports[1], &["--call", &c, "--timer", "17ms"]),
            serve("a", &ports[0], &calls),
        ]
    };
    let (services, agent) = match start {
        Start::BeforeIt => {
            let services = services();
            (services, Agent::run(scenario, &[]))
        }
        Start::AfterIt => {
            let agent = Agent::run(scenario, &[]);
            (services(), agent)
        }
        Start::BesideOneConfined => {
            let agent = Agent::run_confined(scenario, &[]);
            (services(), agent)
        }
    };
    // A program that starts is known within 100 ms.
    std::thread::sleep(Duration::from_millis(100));
    let unseen: Vec<usize> = services.iter().map(|service| service.log().len()).collect();
    let requests = scaled(400, 4_000).to_string();
    let own = ["--port", &ports[0], "--requests", &requests, "--concurrency", CONCURRENCY];
    let secure: &[&str] = if certificates.is_some() { &["--tls"] } else { &[] };
    let arguments = [&own[..], &["--path", "/a/r{n}"], secure].concat();
    let client = Python::start(scenario, "client", "client.py", &arguments, &[]);
    client.finish(Duration::from_secs(240));
    let logs: Vec<_> = services.iter().map(Service::log).collect();
    // Their timers would go on. Callers end before those whom they call: net/http asks again over another
    // connection when a server ends, and a call would have two client spans.
    services.into_iter().rev().for_each(drop);
    agent.settle(Duration::from_secs(30));
    let report = agent.stop();
    let mut truth = Truth::default();
    logs.iter().zip(unseen).for_each(|(log, before)| truth.add(&log[before..]));
    let losses = report.ledger.losses();
    if !losses.is_empty() {
        say(&format!("lost on the way: {}", losses.join("; ")));
    }
    let truth = truth.finished(&logs.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let score = score(&report.telemetry.spans, &truth);
    say(&format!(
        "{mode}: {} calls, {} with a parent: {} right, {} missing, {} wrong; {} joined, {} misjoined",
        score.calls,
        score.linked_calls,
        score.right,
        score.missing,
        score.wrong,
        score.joined,
        score.misjoined
    ));
    assert_eq!((score.wrong, score.misjoined), (0, 0), "{}", score.examples.join("\n"));
    assert!(score.linked_calls >= 1000 && score.joined_share() >= 0.995, "{score:?}");
    score
}

/// Handlers that call from goroutines of their own, and from goroutines that those make, 64 at once,
/// while others are left behind: their connections and threads say nothing.
#[test]
fn parents_of_goroutines_are_right() {
    let Some(scenario) = Scenario::begin("links of goroutines", &["go", "setpriv"]) else { return };
    let plain = build(&scenario, "plain", "local", &[]).expect("go is installed");
    let stripped = build(&scenario, "stripped", "local", &["-ldflags=-s -w"]).expect("the same");
    let pie = ["-buildmode=pie", "-ldflags=-s -w"];
    let pie = build(&scenario, "pie", "local", &pie).expect("the same");
    for (program, mode, start) in [
        (&plain, "goroutines", Start::BeforeIt),
        (&stripped, "goroutines", Start::BesideOneConfined),
        (&pie, "handler", Start::AfterIt),
    ] {
        let score = run(&scenario, program, mode, start);
        assert!(score.share() >= 0.995, "{mode}: {score:?}");
    }
}

/// The same over TLS at every hop: who reads and writes the plaintext counts.
#[test]
fn parents_of_goroutines_are_right_over_tls() {
    let names = ["go", "openssl"];
    let Some(scenario) = Scenario::begin("links of goroutines over tls", &names) else { return };
    let certificates = Certificates::make(&scenario);
    let stripped = build(&scenario, "stripped", "local", &["-ldflags=-s -w"]).expect("go is there");
    for (mode, start) in [("goroutines", Start::AfterIt), ("handler", Start::BeforeIt)] {
        let score = run_over(&scenario, &stripped, mode, start, Some(&certificates));
        assert!(score.share() >= 0.995, "{mode}: {score:?}");
    }
}

/// Older toolchains, where they can be had: the offsets are others.
#[test]
fn parents_are_right_with_older_toolchains() {
    let Some(scenario) = Scenario::begin("links of older goroutines", &["go"]) else { return };
    for version in ["go1.21.13", "go1.23.12", "go1.25.4"] {
        let Some(program) = build(&scenario, version, version, &["-ldflags=-s -w"]) else {
            say(&format!("{version} cannot be had here"));
            continue;
        };
        let score = run(&scenario, &program, "goroutines", Start::BeforeIt);
        assert!(score.share() >= 0.995, "{version}: {score:?}");
    }
}

/// Requests handed over a channel to goroutines that live on: nothing tells whose a call is.
#[test]
fn a_pool_of_workers_is_not_guessed() {
    let Some(scenario) = Scenario::begin("links of a worker pool", &["go"]) else { return };
    let program = build(&scenario, "plain", "local", &[]).expect("go is installed");
    let score = run(&scenario, &program, "pool", Start::BeforeIt);
    assert_eq!(score.right, 0, "guessed: {score:?}");
}
