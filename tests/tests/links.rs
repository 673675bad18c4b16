//! Three services with threads, pooled connections and a timer of their own: parents are right.

use kernspan_tests::agent::Agent;
use kernspan_tests::links::{Score, Truth, score};
use kernspan_tests::process::free_port;
use kernspan_tests::python::Python;
use kernspan_tests::scenario::{Scenario, say, scaled};
use std::time::Duration;

/// Seconds until timers show that they are: what a host that runs for a while has behind it.
const BEFORE: Duration = Duration::from_millis(1500);

/// Starts a → {b, c}, b → c, asks a, and scores the agent's report. `programs` of a and b.
fn run(scenario: &Scenario, programs: [&str; 2], load: Load, arguments: &[&str]) -> Score {
    let ports: Vec<String> = (0..3).map(|_| free_port().to_string()).collect();
    let (b, c) = (format!("b:{}", ports[1]), format!("c:{}", ports[2]));
    let serve = |name: &str, program: &str, port: &str, more: &[&str]| {
        let own = ["--name", name, "--port", port];
        Python::serve(scenario, name, program, &[&own, more].concat(), &[])
    };
    let [first, second] = programs;
    let calls = ["--call", &b, "--call", &c, "--call", &b, "--timer", "0.013"];
    let services = [
        serve("c", "links.py", &ports[2], &[]),
        serve("b", second, &ports[1], &["--call", &c, "--timer", "0.017"]),
        serve("a", first, &ports[0], &calls),
    ];
    let agent = Agent::run(scenario, arguments);
    // The timers called before the agent looked.
    let unseen: Vec<usize> = services.iter().map(|service| service.log().len()).collect();
    std::thread::sleep(load.before);
    let (requests, concurrency) = (load.requests.to_string(), load.concurrency.to_string());
    let own = ["--port", &ports[0], "--requests", &requests, "--concurrency", &concurrency];
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

/// What is asked of the services.
#[derive(Clone, Copy, Debug)]
struct Load {
    requests: u64,
    concurrency: u64,
    /// Time that the agent watches before.
    before: Duration,
}

impl Load {
    /// By 16 clients at once.
    fn full() -> Load {
        Load { requests: scaled(1000, 10_000), concurrency: 16, before: Duration::ZERO }
    }
}

/// With threads: a connection says nothing about the request, a thread does.
const THREADS: [&str; 2] = ["links.py"; 2];

fn told(what: &str, score: &Score) {
    say(&format!(
        "{what}: {} calls, {} with a parent: {} right, {} missing, {} wrong; {} joined, {} misjoined",
        score.calls,
        score.linked_calls,
        score.right,
        score.missing,
        score.wrong,
        score.joined,
        score.misjoined
    ));
}

#[test]
fn parents_are_right() {
    let Some(scenario) = Scenario::begin("links", &[]) else { return };
    let score = run(&scenario, THREADS, Load::full(), &[]);
    told("links", &score);
    assert!(score.linked_calls >= 4000 && score.calls > score.linked_calls, "{score:?}");
    assert_eq!((score.wrong, score.misjoined), (0, 0), "{}", score.examples.join("\n"));
    assert!(score.share() >= 0.995 && score.joined_share() >= 0.995, "{score:?}");
}

/// The two ends of a connection are mostly in different rings, and so is what a request calls.
#[test]
fn parents_are_right_across_rings() {
    let Some(scenario) = Scenario::begin("links across rings", &[]) else { return };
    let score = run(&scenario, THREADS, Load::full(), &["--payload-rings", "4"]);
    told("links across rings", &score);
    assert!(score.linked_calls >= 4000 && score.calls > score.linked_calls, "{score:?}");
    assert_eq!((score.wrong, score.misjoined), (0, 0), "{}", score.examples.join("\n"));
    assert!(score.share() >= 0.995 && score.joined_share() >= 0.995, "{score:?}");
}

#[test]
fn without_the_linker_no_parent_is_right() {
    let Some(scenario) = Scenario::begin("links off", &[]) else { return };
    let score = run(&scenario, THREADS, Load::full(), &["--link", "none"]);
    assert_eq!((score.right, score.wrong), (0, 0), "{}", score.examples.join("\n"));
    // Not vacuous: the calls were seen, only not linked.
    assert!(score.missing >= 4000 && score.seen * 1000 >= score.calls * 995, "{score:?}");
}

/// Event loops: on one thread are several requests, and a timer that calls out beside them. Nothing
/// that the agent sees tells whose a call is, so it has to keep silent.
#[test]
fn event_loops_get_no_wrong_parent() {
    let (python, both) = (["links_async.py"; 2], ["links_async.py", "links.js"]);
    for (programs, requests, concurrency, before) in [
        (both, 300, 1, BEFORE),
        (both, scaled(1000, 10_000), 16, BEFORE),
        // The agent has just come: no timer has shown itself.
        (python, 300, 1, Duration::ZERO),
    ] {
        let Some(scenario) = Scenario::begin("links of event loops", &["node"]) else { return };
        let load = Load { requests, concurrency, before };
        let score = run(&scenario, programs, load, &[]);
        told(&format!("event loops at concurrency {concurrency} after {before:?}"), &score);
        assert_eq!((score.wrong, score.misjoined), (0, 0), "{}", score.examples.join("\n"));
        // Not vacuous: the calls were seen, and both ends of each are one.
        assert!(score.linked_calls as u64 >= 4 * requests, "{score:?}");
        assert!(score.joined_share() >= 0.995, "{score:?}");
    }
}
