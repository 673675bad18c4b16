//! `kernspan top` and `kernspan trace`, as they are used.

use kernspan_tests::client::curl_with;
use kernspan_tests::nginx::{Location, Nginx};
use kernspan_tests::process::{Process, free_port, until};
use kernspan_tests::python::Python;
use kernspan_tests::scenario::{Scenario, binary, say};
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

fn screen(scenario: &Scenario, arguments: &[&str]) -> Process {
    let mut command = Command::new(binary());
    command.args(arguments);
    Process::start(command, scenario.dir(), "screen")
}

/// The configuration of an agent that runs: it keeps few, logs, and has the address where it listens.
fn agents(scenario: &Scenario) -> (TcpListener, String) {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address");
    let text = format!("listen: {address}\nsample: 0\nmax-request-rate: 1\nlog-level: debug\n");
    let file = scenario.file("agent.yaml", text.as_bytes());
    (taken, file.display().to_string())
}

#[test]
fn top_shows_services_with_what_they_do_and_what_is_open() {
    let Some(scenario) = Scenario::begin("top", &["curl", "python3"]) else { return };
    let port = free_port();
    let python = Python::serve(&scenario, "slow", "server.py", &["--port", &port.to_string()], &[]);
    let (_taken, config) = agents(&scenario);
    let select = ["--port", &port.to_string(), "--config", &config];
    let top = screen(&scenario, &[&["top", "--every", "500ms"], &select[..]].concat());
    until("the first screen", LIMIT, || top.stdout().contains("SERVICE").then_some(()));
    let url = |path: &str| format!("http://127.0.0.1:{port}/{path}");
    let quick = vec![url("size/10"); 50];
    curl_with(&scenario, &[], &quick, 1);
    curl_with(&scenario, &[], &vec![url("nothing"); 50], 1);
    curl_with(&scenario, &[], &vec![url("slow/2500"); 3], 3);
    std::thread::sleep(Duration::from_secs(1));
    let ended = top.terminate(LIMIT);
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(ended.stderr.is_empty(), "nothing but the screen: {}", ended.stderr);
    let rows: Vec<Vec<&str>> = ended
        .stdout
        .lines()
        .filter(|line| line.starts_with("workloads "))
        .map(|line| line.split_whitespace().collect())
        .collect();
    let number = |row: &[&str], at: usize| -> f64 {
        row.get(at).and_then(|text| text.parse().ok()).unwrap_or(-1.0)
    };
    assert!(rows.iter().any(|row| number(row, 1) >= 3.0), "answers: {}", ended.stdout);
    assert!(rows.iter().any(|row| number(row, 5) == 3.0), "three are open: {}", ended.stdout);
    let last = rows.last().expect("the server has a row");
    assert_eq!(last.get(4).map(|text| text.ends_with('s') && text.starts_with('2')), Some(true));
    // A client counts a 404 as a failure, its server does not.
    let curl = ended.stdout.lines().rfind(|line| line.starts_with("curl ")).expect("curl");
    let asked = curl.rsplit_once('|').expect("two halves").1;
    let failed: f64 = asked.split_whitespace().nth(1).and_then(|t| t.parse().ok()).unwrap_or(0.0);
    assert!((30.0..=70.0).contains(&failed), "half of all: {curl}");
    assert_eq!(number(last, 2), 0.0, "{}", ended.stdout);
    drop(python);
    say(&format!("top: {} screens", ended.stdout.matches("SERVICE").count()));
}

#[test]
fn trace_shows_the_traces_that_are_asked_for_and_no_others() {
    let Some(scenario) = Scenario::begin("trace", &["curl", "nginx", "python3"]) else { return };
    let (port, behind) = (free_port(), free_port());
    let python =
        Python::serve(&scenario, "behind", "server.py", &["--port", &behind.to_string()], &[]);
    let places = [("/", Location::Tcp(behind))];
    let nginx = Nginx::start(&scenario, &format!("127.0.0.1:{port}"), &places, &[]);
    let (_taken, config) = agents(&scenario);
    let select = ["--port", &port.to_string(), "--port", &behind.to_string(), "--config", &config];
    let shown = |filter: &[&str]| {
        let trace =
            screen(&scenario, &[&["trace", "--log-level", "info"], &select[..], filter].concat());
        until("it is ready", LIMIT, || trace.stderr().contains("ready").then_some(()));
        for path in ["size/1?id=77", "size/2", "nothing", "slow/400"] {
            curl_with(&scenario, &[], &[format!("http://127.0.0.1:{port}/{path}")], 1);
        }
        std::thread::sleep(Duration::from_secs(1));
        let ended = trace.terminate(LIMIT);
        assert!(ended.status.success(), "{}", ended.stderr);
        let found = ["size/1", "size/2", "nothing", "slow/400"];
        found.map(|path| ended.stdout.contains(path))
    };
    assert_eq!(shown(&[]), [true; 4]);
    assert_eq!(shown(&["--slower", "300ms"]), [false, false, false, true]);
    assert_eq!(shown(&["--errors"]), [false, false, true, false]);
    assert_eq!(shown(&["--service", "work*", "--request", "/size/"]), [true, true, false, false]);
    assert_eq!(shown(&["--request", "?id=77"]), [true, false, false, false]);
    assert_eq!(shown(&["--service", "nobody"]), [false; 4]);
    drop((python, nginx));
}
