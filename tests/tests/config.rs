//! Exit codes and messages as a user sees them.

use kernspan_tests::agent::{self, Agent};
use kernspan_tests::process::{Ended, Process};
use kernspan_tests::scenario::{Scenario, binary};
use std::process::Command;
use std::time::Duration;

fn contains_all(ended: &Ended, texts: &[&str]) {
    for text in texts {
        assert!(ended.stderr.contains(text), "no `{text}` in:\n{}", ended.stderr);
    }
}

#[test]
fn every_mistake_is_reported_at_once() {
    let Some(scenario) = Scenario::begin("config", &[]) else { return };
    let yaml = "output: [nowhere]\nport: 99999\nno-such-key: 1\n";
    let file = scenario.file("bad.yaml", yaml.as_bytes()).display().to_string();
    let flags = ["run", "--config", &file, "--pid", "zero", "--sample", "7", "--ring-size", "1"];
    let ended = agent::once(&scenario, "bad", &flags);
    assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
    contains_all(&ended, &["--pid", "--sample", "--ring-size", "nowhere", "99999", "no-such-key"]);
    contains_all(&ended, &["bad.yaml:1", "bad.yaml:2", "bad.yaml:3"]);
    let unknown = agent::once(&scenario, "unknown", &["run", "--no-such-flag"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", unknown.stderr);
    let missing = agent::once(&scenario, "missing", &["run", "--config", "/no/such/file"]);
    assert_eq!(missing.status.code(), Some(2), "{}", missing.stderr);
    contains_all(&missing, &["/no/such/file"]);
}

#[test]
fn flags_win_over_the_file() {
    let Some(scenario) = Scenario::begin("config wins", &[]) else { return };
    let file = scenario.file("good.yaml", b"output: [none]\nport: 1\nlog-level: debug\n");
    let file = file.display().to_string();
    // Ready, with the JSON output of the flag and not the file's `none`.
    let report = Agent::run(&scenario, &["--config", &file, "--log-level", "error"]).stop();
    assert!(report.ended.status.success());
    assert!(!report.ended.stderr.contains("DEBUG"), "{}", report.ended.stderr);
}

#[test]
fn commands_that_need_nothing_succeed() {
    let Some(scenario) = Scenario::begin("commands", &[]) else { return };
    for (arguments, text) in [
        (&["version"][..], "kernspan"),
        (&["--version"], "kernspan"),
        (&["--help"], "replay"),
        (&["run", "--help"], "Examples"),
        (&["record", "--help"], "Examples"),
        (&["replay", "--help"], "Examples"),
        (&["doctor", "--help"], "Examples"),
        (&["doctor"], "payload"),
    ] {
        let ended = agent::once(&scenario, "command", arguments);
        assert_eq!(ended.status.code(), Some(0), "{arguments:?}: {}", ended.stderr);
        assert!(ended.stdout.contains(text), "{arguments:?}:\n{}", ended.stdout);
    }
}

#[test]
fn without_capabilities_it_says_so_in_one_sentence() {
    let Some(scenario) = Scenario::begin("capabilities", &["setpriv"]) else { return };
    let run = ["run", "--output", "none"];
    for (why, privileges) in [
        ("root without capabilities", &["--bounding-set", "-all", "--inh-caps", "-all"][..]),
        ("without bpf", &["--bounding-set", "-bpf,-sys_admin", "--inh-caps", "-all"]),
        ("without perfmon", &["--bounding-set", "-perfmon,-sys_admin", "--inh-caps", "-all"]),
    ] {
        let mut command = Command::new("setpriv");
        command.args(privileges).arg(binary()).args(run);
        let ended = Process::start(command, scenario.dir(), "bare").wait(Duration::from_secs(60));
        assert_eq!(ended.status.code(), Some(2), "{why}: {}", ended.stderr);
        let lines: Vec<&str> = ended.stderr.lines().filter(|line| !line.is_empty()).collect();
        assert!(lines.len() <= 2 && ended.stderr.contains("CAP_"), "{why}: {}", ended.stderr);
    }
}

#[test]
fn a_taken_address_is_the_operators_to_mend() {
    let Some(scenario) = Scenario::begin("address", &[]) else { return };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let flags = ["run", "--output", "none", "--listen", &address];
    let ended = agent::once(&scenario, "taken", &flags);
    assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
    contains_all(&ended, &[&address]);
}
