//! The ground truth itself, without an agent: the programs' logs agree with each other.

use kernspan_tests::client::{ab, curl, wrk};
use kernspan_tests::counts::Request;
use kernspan_tests::links::Truth;
use kernspan_tests::nginx::{Location, Nginx};
use kernspan_tests::process::{Process, free_port};
use kernspan_tests::python::{Python, read_log};
use kernspan_tests::scenario::Scenario;
use kernspan_tests::streams::{self, Piece};
use kernspan_tests::uring;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn clients_nginx_and_servers_log_the_same_requests() {
    let Some(scenario) = Scenario::begin_without_agent("truth", &["nginx", "curl", "ab", "wrk"])
    else {
        return;
    };
    let (port, behind) = (free_port(), free_port());
    let socket = scenario.path("upstream.socket");
    let (behind_text, socket_text) = (behind.to_string(), socket.display().to_string());
    let tcp = Python::serve(&scenario, "tcp", "server.py", &["--port", &behind_text], &[]);
    let unix = Python::serve(&scenario, "unix", "server.py", &["--unix", &socket_text], &[]);
    Nginx::page(&scenario, "page", 1000);
    let listen = format!("127.0.0.1:{port}");
    let locations = [
        ("/tcp/", Location::Tcp(behind)),
        ("/unix/", Location::Unix(socket)),
        ("/", Location::Static),
    ];
    let nginx = Nginx::start(&scenario, &listen, &locations, &[]);
    curl(&scenario, &[], &vec![format!("http://{listen}/page"); 20], 8);
    ab(&scenario, &[], &format!("http://{listen}/tcp/size/9"), 50, 8);
    let port = port.to_string();
    let paths = ["--path", "/unix/size/5", "--path", "POST:/tcp/echo", "--path", "/tcp/missing"];
    let own = ["--port", &port, "--requests", "60", "--concurrency", "8"];
    let client = Python::start(&scenario, "client", "client.py", &[&own[..], &paths].concat(), &[]);
    let (_, asked) = client.finish(LIMIT);
    let counted = wrk(&scenario, &format!("http://{listen}/page"), 4, 1);
    let access = nginx.stop();
    let served = [tcp.stop(), unix.stop()].concat();

    assert_eq!(asked.len(), 60);
    let by_client: Vec<Request> =
        asked.iter().filter_map(|line| Request::of_log(line, "", "")).collect();
    let posts = by_client.iter().filter(|r| r.method == "POST");
    assert!(posts.clone().count() == 20 && posts.clone().all(|r| r.response_body == 1000));
    assert_eq!(served.len(), 50 + 60, "what the servers logged");
    let exact = access.iter().filter(|line| line.path != "/page").count();
    assert_eq!(exact, 50 + 60, "what nginx logged beside the page");
    let pages = (access.len() - exact - 20) as u64;
    assert!(pages.abs_diff(counted) <= 4, "{pages} log lines of {counted} responses to wrk");
}

#[test]
fn services_log_every_call_with_what_they_served() {
    let Some(scenario) = Scenario::begin_without_agent("truth of links", &[]) else { return };
    let (a, b) = (free_port().to_string(), free_port().to_string());
    let call = format!("b:{b}");
    let callee = Python::serve(&scenario, "b", "links.py", &["--name", "b", "--port", &b], &[]);
    let own = ["--name", "a", "--port", &a, "--call", &call, "--call", &call, "--timer", "0.01"];
    let caller = Python::serve(&scenario, "a", "links.py", &own, &[]);
    let arguments = ["--port", &a, "--requests", "64", "--concurrency", "16", "--path", "/a/r{n}"];
    Python::start(&scenario, "client", "client.py", &arguments, &[]).finish(LIMIT);
    let (log, served) = (caller.stop(), callee.stop());
    let mut truth = Truth::default();
    truth.add(&log);
    let truth = truth.finished(&[&log, &served]);
    let linked = truth.calls.values().flatten().count();
    assert_eq!(linked, 128, "two calls a request");
    assert!(truth.calls.len() > linked, "the timer called too");
    let threads: std::collections::BTreeSet<u64> =
        log.iter().filter_map(|line| line["tid"].as_u64()).collect();
    assert!(threads.len() >= 16, "one thread a client and the timer's: {threads:?}");
}

#[test]
fn handlers_log_what_they_executed() {
    let Some(scenario) = Scenario::begin_without_agent("truth of exec", &[]) else { return };
    let port = free_port().to_string();
    let server = Python::serve(&scenario, "execs", "execs.py", &["--port", &port], &[]);
    let kinds =
        ["shell", "system", "thread", "double-fork"].map(|kind| format!("/run/r{{n}}/{kind}"));
    let mut arguments = vec!["--port", &port, "--requests", "8", "--concurrency", "2"];
    kinds.iter().for_each(|kind| arguments.extend(["--path", kind]));
    Python::start(&scenario, "client", "client.py", &arguments, &[]).finish(LIMIT);
    let log = server.stop();
    let execs: u64 = log.iter().filter_map(|line| line["execs"].as_u64()).sum();
    assert_eq!(execs, 2 * (3 + 3 + 3 + 1));
    assert!(log.iter().any(|line| line["outside"].is_string()));
}

#[test]
fn shapes_are_played_to_their_end_by_both_sides() {
    let Some(scenario) = Scenario::begin_without_agent("truth of shapes", &[]) else { return };
    let port = free_port().to_string();
    let server = Python::serve(&scenario, "server", "shapes.py", &["--port", &port, "serve"], &[]);
    let client = Python::start(&scenario, "client", "shapes.py", &["--port", &port, "ask"], &[]);
    let (_, log) = client.finish(LIMIT);
    assert_eq!(log.len(), 24);
    // Fails on a server thread that ended by an exception.
    let _ = server.stop();
}

#[test]
fn calls_move_what_they_log() {
    let Some(scenario) = Scenario::begin_without_agent("truth of calls", &[]) else { return };
    let log = scenario.path("calls.log");
    let mut calls = Command::new(env!("CARGO_BIN_EXE_calls"));
    calls.arg(&log);
    Process::start(calls, scenario.dir(), "calls").succeed(LIMIT);
    let truths: Vec<streams::Truth> =
        read_log(&log).iter().filter_map(streams::Truth::of_log).collect();
    for truth in &truths {
        let matching = |other: &&streams::Truth| {
            other.case == truth.case && other.cookie != truth.cookie && other.sent != truth.sent
        };
        let other = truths.iter().find(matching).expect("the other end");
        assert_eq!(truth.bytes, other.bytes, "{}: both ends", truth.case);
        let whole = truth.uncaptured.is_empty() && other.uncaptured.is_empty();
        assert!(!whole || truth.sha256 == other.sha256, "{}: both ends' bytes", truth.case);
        // An agent that saw nothing must not pass, unless there was nothing to see.
        let nothing: [Piece; 0] = [];
        assert_eq!(streams::judge(&nothing, truth).is_err(), truth.bytes > 0, "{}", truth.case);
    }
}

#[test]
fn completions_run_inside_the_read() {
    if !uring::is_allowed() {
        return kernspan_tests::scenario::skip("truth of guard", "io_uring is disabled");
    }
    let Some(scenario) = Scenario::begin_without_agent("truth of guard", &[]) else { return };
    let log = scenario.path("guard.log");
    let mut guard = Command::new(env!("CARGO_BIN_EXE_guard"));
    guard.arg("1000").arg(&log).env("KERNSPAN_CANARY", "canary-of-the-test");
    Process::start(guard, scenario.dir(), "guard").succeed(LIMIT);
    let line = read_log(&log).remove(0);
    assert!(line["overlaps"].as_u64() >= Some(990), "{line}");
    assert_eq!(line["receive"]["bytes"].as_u64(), Some(900 * 64), "{line}");
}
