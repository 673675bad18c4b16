//! Three services with threads, pooled connections and a timer of their own: parents are right.

use kernspan_tests::agent::Agent;
use kernspan_tests::links::{Score, Truth, score};
use kernspan_tests::process::free_port;
use kernspan_tests::python::Python;
use kernspan_tests::scenario::{Scenario, say, scaled};
use std::time::Duration;

/// Starts a → {b, c}, b → c, asks a by 16 clients, and scores the agent's report.
fn run(scenario: &Scenario, arguments: &[&str]) -> Score {
    let ports: Vec<String> = (0..3).map(|_| free_port().to_string()).collect();
    let (b, c) = (format!("b:{}", ports[1]), format!("c:{}", ports[2]));
    let serve = |name: &str, port: &str, more: &[&str]| {
        let own = ["--name", name, "--port", port];
        Python::serve(scenario, name, "links.py", &[&own, more].concat(), &[])
    };
    let services = [
        serve("c", &ports[2], &[]),
        serve("b", &ports[1], &["--call", &c, "--timer", "0.017"]),
        serve("a", &ports[0], &["--call", &b, "--call", &c, "--call", &b, "--timer", "0.013"]),
    ];
    let agent = Agent::run(scenario, arguments);
    // The timers called before the agent looked.
    let unseen: Vec<usize> = services.iter().map(|service| service.log().len()).collect();
    let requests = scaled(1000, 10_000).to_string();
    let own = ["--port", &ports[0], "--requests", &requests, "--concurrency", "16"];
    let client = Python::start(
        scenario,
        "client",
        "client.py",
        &[&own[..], &["--path", "/a/r{n}"]].concat(),
        &[],
    );
    client.finish(Duration::from_secs(240));
    // The timers go on until here: what they do after this is not in the agent's report.
    let logs: Vec<_> = services.iter().map(Python::log).collect();
    let report = agent.stop();
    drop(services);
    let mut truth = Truth::default();
    logs.iter().zip(unseen).for_each(|(log, before)| truth.add(&log[before..]));
    let truth = truth.finished(&logs.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let losses = report.ledger.losses();
    if !losses.is_empty() {
        say(&format!("lost on the way: {}", losses.join("; ")));
    }
    score(&report.telemetry.spans, &truth)
}

#[test]
fn parents_are_right() {
    let Some(scenario) = Scenario::begin("links", &[]) else { return };
    let score = run(&scenario, &[]);
    say(&format!(
        "links: {} calls, {} with a parent: {} right, {} missing, {} wrong; {} joined, {} misjoined",
        score.calls,
        score.linked_calls,
        score.right,
        score.missing,
        score.wrong,
        score.joined,
        score.misjoined
    ));
    assert!(score.linked_calls >= 4000 && score.calls > score.linked_calls, "{score:?}");
    assert_eq!((score.wrong, score.misjoined), (0, 0), "{}", score.examples.join("\n"));
    assert!(score.share() >= 0.995 && score.joined_share() >= 0.995, "{score:?}");
}

#[test]
fn without_the_linker_no_parent_is_right() {
    let Some(scenario) = Scenario::begin("links off", &[]) else { return };
    let score = run(&scenario, &["--link", "none"]);
    assert_eq!((score.right, score.wrong), (0, 0), "{}", score.examples.join("\n"));
    // Not vacuous: the calls were seen, only not linked.
    assert!(score.missing >= 4000 && score.seen * 1000 >= score.calls * 995, "{score:?}");
}
