//! A server and a client that speak HTTP by io_uring, or over MPTCP: their spans are those of ordinary
//! ones.

use kernspan_tests::agent::Agent;
use kernspan_tests::otlp::{Kind, Span};
use kernspan_tests::process::{Process, free_port, until};
use kernspan_tests::scenario::{Scenario, say, skip};
use kernspan_tests::sys;
use kernspan_tests::uring;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

const CONNECTIONS: usize = 8;
const REQUESTS: usize = 25;

/// What a span says, without what differs from run to run.
type Content = (Kind, String, String, String, Option<i64>, String);

#[test]
fn spans_of_io_uring_are_those_of_ordinary_calls() {
    if !uring::is_allowed() {
        return skip("uring_http", "io_uring is disabled on this machine");
    }
    let Some(scenario) = Scenario::begin("uring_http", &[]) else { return };
    let agent = Agent::run(&scenario, &[]);
    if !agent.has("received packets") {
        drop(agent.stop());
        return skip("uring_http", "the kernel does not show received packets");
    }
    let mut runs = Vec::new();
    let mut ways =
        vec![("plain", "plain"), ("uring", "plain"), ("plain", "uring"), ("uring", "uring")];
    if sys::mptcp_listener(0).is_ok() {
        ways.push(("mptcp", "mptcp"));
    }
    let ways_count = ways.len();
    for (server, client) in ways {
        runs.push((server, client, run(&scenario, &agent, server, client)));
    }
    let report = agent.stop();
    let mut expected = None;
    for (server, client, (port, pids)) in runs {
        let what = format!("{server} server, {client} client");
        let spans = report.telemetry.of_processes(&pids);
        let contents = contents(&spans);
        let count: usize = contents.values().sum();
        assert_eq!(count, 2 * CONNECTIONS * REQUESTS, "{what}: spans on port {port}");
        assert_joined(&what, &spans);
        let expected = expected.get_or_insert_with(|| contents.clone());
        let differing: Vec<_> = contents
            .iter()
            .filter(|(content, count)| expected.get(content) != Some(count))
            .collect();
        assert!(differing.is_empty(), "{what}: not as ordinary ones: {differing:#?}");
    }
    say(&format!(
        "uring_http: {ways_count} runs of {} requests, equal spans",
        CONNECTIONS * REQUESTS
    ));
}

/// Runs a server and a client; its port and the numbers of both.
fn run(scenario: &Scenario, agent: &Agent, server: &str, client: &str) -> (u16, [u32; 2]) {
    let port = free_port();
    let program = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_uring_http"));
        command.args(words);
        command
    };
    let at = port.to_string();
    let name = format!("{server}-{client}");
    let serving = program(&["serve", server, &at]);
    let mut serving = Process::start(serving, scenario.dir(), &format!("{name}-server"));
    until("the server", Duration::from_secs(10), || {
        assert!(serving.is_running(), "the server ended: {}", serving.tail());
        serving.stdout().contains("ready").then_some(())
    });
    let (connections, requests) = (CONNECTIONS.to_string(), REQUESTS.to_string());
    let asking = program(&["ask", client, &at, &connections, &requests]);
    let asking = Process::start(asking, scenario.dir(), &format!("{name}-client"));
    let pids = [serving.pid(), asking.pid()];
    asking.succeed(Duration::from_secs(60));
    let status = agent.status();
    let users = status["in_kernel"].as_array().expect("in_kernel");
    let row = users.iter().find(|row| row["pid"] == pids[0]);
    let received = row.and_then(|row| row["packet_receives"].as_u64());
    let least = (server == "uring").then_some((CONNECTIONS * REQUESTS) as u64);
    assert!(received >= least, "/status of a {server} server: {users:?}");
    drop(serving);
    (port, pids)
}

fn contents(spans: &[&Span]) -> BTreeMap<Content, usize> {
    let mut contents = BTreeMap::new();
    for span in spans {
        let sizes = ["http.request.body.size", "http.response.body.size"]
            .map(|key| span.int(key).map_or_else(String::new, |size| size.to_string()));
        let content = (
            span.kind,
            span.name.clone(),
            span.method().to_owned(),
            span.path().to_owned(),
            span.status(),
            sizes.join(" "),
        );
        *contents.entry(content).or_insert(0) += 1;
    }
    contents
}

/// Every server span is the child of the client span of the same request, and lies inside it.
fn assert_joined(what: &str, spans: &[&Span]) {
    let clients: BTreeMap<&str, &Span> = spans
        .iter()
        .filter(|span| span.kind == Kind::Client)
        .map(|span| (span.id.as_str(), *span))
        .collect();
    for server in spans.iter().filter(|span| span.kind == Kind::Server) {
        let client = clients.get(server.parent.as_str());
        let client =
            client.unwrap_or_else(|| panic!("{what}: without a client: {}", server.brief()));
        assert_eq!(client.path(), server.path(), "{what}: {}", server.brief());
        assert!(client.covers(server), "{what}: {} outside {}", server.brief(), client.brief());
    }
}
