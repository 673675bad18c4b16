//! A program that a request's handler executes carries the request's ids, and no other does.

use kernspan_tests::agent::Agent;
use kernspan_tests::execs::score;
use kernspan_tests::process::free_port;
use kernspan_tests::python::Python;
use kernspan_tests::scenario::{Scenario, say};
use std::time::Duration;

const ROUNDS: &str = "200";

#[test]
fn execs_carry_the_ids_of_their_request() {
    let Some(scenario) = Scenario::begin("exec", &[]) else { return };
    let port = free_port().to_string();
    let server = Python::serve(&scenario, "execs", "execs.py", &["--port", &port], &[]);
    let agent = Agent::run(&scenario, &[]);
    let ask = |name: &str, more: &[&str]| {
        Python::start(&scenario, name, "client.py", &[&["--port", &port], more].concat(), &[])
    };
    let idle =
        ask("idle", &["--requests", "1000000", "--concurrency", "16", "--path", "/idle/i{n}"]);
    let kinds =
        ["/run/r{n}/shell", "/run/r{n}/system", "/run/r{n}/thread", "/run/r{n}/double-fork"];
    let mut arguments = vec!["--requests", ROUNDS, "--concurrency", "3"];
    kinds.iter().for_each(|kind| arguments.extend(["--path", kind]));
    ask("runs", &arguments).finish(Duration::from_secs(120));
    let innocents = idle.stop().len();
    let report = agent.stop();
    let log = server.stop();

    let score = score(&report.telemetry.logs, &report.telemetry.spans, &log);
    say(&format!(
        "exec: {} executed for requests: {} right, {} without ids, {} wrong; {} outside; \
         {innocents} innocent requests",
        score.expected, score.right, score.without, score.wrong, score.outside
    ));
    assert_eq!(score.expected, 50 * (3 + 3 + 3 + 1));
    assert!(innocents > 200, "only {innocents} innocent requests ran beside them");
    assert!(score.outside > 20, "only {} programs ran outside requests", score.outside);
    assert_eq!(score.wrong, 0, "{}", score.examples.join("\n"));
    assert!(score.right * 100 >= score.expected * 99, "{score:?}");
}
