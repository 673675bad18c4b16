//! Programs that end before anybody can look at them.

use kernspan_tests::agent::Agent;
use kernspan_tests::cgroup::Cgroup;
use kernspan_tests::client::curl;
use kernspan_tests::ledger::Ledger;
use kernspan_tests::nginx::{Location, Nginx};
use kernspan_tests::otlp::{Kind, Span};
use kernspan_tests::process::{Process, free_port, until};
use kernspan_tests::scenario::{Scenario, skip};
use rustix::process::{Pid, Signal, kill_process};
use std::process::Command;
use std::time::Duration;

/// Programs that ask once and end.
const PROGRAMS: usize = 20;

/// Programs one after the other whose records, of a kilobyte and more, do not fit into a ring of 1 MiB.
const STORM: usize = 2000;

/// Stops the agent: every thread of it stands still.
fn stop(agent: &Agent) {
    signal(agent, Signal::STOP);
    let tasks = format!("/proc/{}/task", agent.pid());
    until("the agent stands still", Duration::from_secs(30), || {
        let tasks = std::fs::read_dir(&tasks).expect("the agent's threads").flatten();
        let mut states =
            tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
        states.all(|stat| stat.contains(") T ")).then_some(())
    });
}

/// Sends `signal` to the agent.
fn signal(agent: &Agent, signal: Signal) {
    let pid = Pid::from_raw(agent.pid().cast_signed()).expect("a process number");
    kill_process(pid, signal).expect("the agent runs");
}

/// What a busy machine does to a few of them, done to all: the agent has no processor while they live.
#[test]
fn programs_that_are_gone_before_they_are_looked_at_have_their_container() {
    let id = "5e".repeat(32);
    let Some(cgroup) = Cgroup::make(&format!("docker-{id}.scope")) else {
        return skip("short lives", "no cgroup v2 that can be written");
    };
    let Some(scenario) = Scenario::begin("short lives", &["curl", "nginx"]) else { return };
    let port = free_port();
    Nginx::page(&scenario, "page", 100);
    let _nginx =
        Nginx::start(&scenario, &format!("127.0.0.1:{port}"), &[("/", Location::Static)], &[]);
    // In its cgroup, and known to the agent, before the first of them.
    let go = scenario.path("go");
    let script = format!(
        "until [ -e {} ]; do sleep 0.02; done; n=0; while [ $n -lt {PROGRAMS} ]; do \
         curl -sS -o /dev/null http://127.0.0.1:{port}/page || exit 1; n=$((n + 1)); done; exit 0",
        go.display()
    );
    let wrap = cgroup.wrap();
    let mut command = Command::new(&wrap[0]);
    command.args(&wrap[1..]).args(["/bin/sh", "-c", &script]);
    command.env("OTEL_RESOURCE_ATTRIBUTES", "team=blue");
    let shell = Process::start(command, scenario.dir(), "shell");
    let agent = Agent::run(&scenario, &[]);

    stop(&agent);
    std::fs::write(&go, b"").expect("a file");
    let ended = shell.wait(Duration::from_secs(60));
    signal(&agent, Signal::CONT);
    assert!(ended.status.success(), "{}\n{}", ended.status, ended.stderr);

    let report = agent.stop();
    let spans = report.telemetry.under("/page");
    let clients: Vec<&Span> =
        spans.iter().copied().filter(|span| span.kind == Kind::Client).collect();
    assert_eq!((clients.len(), spans.len()), (PROGRAMS, 2 * PROGRAMS));
    for span in clients {
        assert_eq!(span.service(), "curl", "{}", span.brief());
        for (name, value) in [("container.id", id.as_str()), ("team", "blue")] {
            let found = span.resource.get(name).and_then(|found| found.as_str());
            assert_eq!(found, Some(value), "{name} of {}", span.brief());
        }
    }
    let gone = report.ledger.cause("gone");
    assert!(gone >= PROGRAMS as u64, "only {gone} were gone: this shows nothing");
}

/// More programs than the ring has room for, while nobody reads it: who begins then is found all the same.
#[test]
fn a_program_whose_records_were_lost_is_named_soon() {
    let Some(scenario) = Scenario::begin("lost records", &["curl", "python3"]) else { return };
    let port = free_port();
    let go = scenario.path("go");
    // The shell is known; what it becomes at the end of its storm is told by a record without room.
    let script = format!(
        "until [ -e {0} ]; do sleep 0.02; done; n=0; while [ $n -lt {STORM} ]; do /bin/true; n=$((n + 1)); done; \
         exec python3 -m http.server {port} --bind 127.0.0.1 --directory {1}",
        go.display(),
        scenario.dir().display()
    );
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &script]);
    let _server = Process::start(command, scenario.dir(), "server");
    let agent = Agent::run(&scenario, &[]);

    stop(&agent);
    std::fs::write(&go, b"").expect("a file");
    let url = format!("http://127.0.0.1:{port}/");
    until("the server answers", Duration::from_secs(60), || {
        let mut command = Command::new("curl");
        let status = command.args(["-s", "-o", "/dev/null", &url]).status().expect("curl");
        status.success().then_some(())
    });
    signal(&agent, Signal::CONT);
    until("all processes have been looked at", Duration::from_secs(30), || {
        let ledger = Ledger::from_status(&agent.status());
        (ledger.cause("rescans") > 0).then_some(())
    });
    curl(&scenario, &[], &[format!("{url}?after")], 1);

    let report = agent.stop();
    let lost = report.ledger.count("kernel_process", "records", "lost");
    assert!(lost > 0, "the ring had room for all: this shows nothing");
    let of_server = |span: &&Span| span.kind == Kind::Server && span.text("url.query") == "after";
    let services: Vec<&str> =
        report.telemetry.spans.iter().filter(of_server).map(Span::service).collect();
    assert_eq!(services, ["http.server"]);
}
