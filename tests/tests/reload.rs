//! A configuration that changes while the agent runs.

use kernspan_tests::agent::{self, Agent};
use kernspan_tests::client::curl_with;
use kernspan_tests::nginx::{Location, Nginx};
use kernspan_tests::otlp::{Kind, Span};
use kernspan_tests::process::{Process, free_port, until};
use kernspan_tests::python::Python;
use kernspan_tests::scenario::{Scenario, say, scaled};
use rustix::fs::{CWD, Mode, OFlags, mkfifoat};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PROGRAMS: [&str; 3] = ["nginx", "curl", "python3"];
const LIMIT: Duration = Duration::from_secs(30);

/// How often `/status` says that one was taken up, or refused.
fn reloads(agent: &Agent, which: &str) -> u64 {
    agent.status()["configuration"][which].as_u64().expect("a number")
}

fn hang_up(agent: &Agent) {
    let pid = i32::try_from(agent.pid()).ok().and_then(Pid::from_raw).expect("a process");
    kill_process(pid, Signal::HUP).expect("the agent runs");
}

fn taken_up(agent: &Agent, count: u64) {
    until("the configuration is in use", LIMIT, || {
        (reloads(agent, "taken_up") == count).then_some(())
    });
}

#[test]
fn requests_are_told_once_while_one_run_follows_the_other() {
    let Some(scenario) = Scenario::begin("reload under load", &PROGRAMS) else { return };
    let port = free_port();
    std::fs::create_dir_all(scenario.path("www/static")).expect("a directory for files");
    Nginx::page(&scenario, "static/page", 1000);
    let places = [("/static/", Location::Static)];
    let nginx = Nginx::start(&scenario, &format!("127.0.0.1:{port}"), &places, &[]);
    let behind = free_port();
    let python =
        Python::serve(&scenario, "slow", "server.py", &["--port", &behind.to_string()], &[]);
    let config = scenario.file("kernspan.yaml", b"head-bytes: 4096\n");
    let agent = Agent::run(&scenario, &["--config", &config.display().to_string()]);
    let over = AtomicBool::new(false);
    let rounds = scaled(3, 20);
    std::thread::scope(|scope| {
        let ask = scope.spawn(|| {
            let url = format!("http://127.0.0.1:{port}/static/page");
            let urls = vec![url; 50];
            while !over.load(Ordering::Acquire) {
                curl_with(&scenario, &[], &urls, 4);
                // The machine has other things to do: attaching, for one.
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        // Some of them are under way whenever a run takes over, and as the other one is detached.
        let wait = scope.spawn(|| {
            let url = |ms: u64| format!("http://127.0.0.1:{behind}/slow/{ms}");
            let urls: Vec<String> = (300..1800).step_by(50).map(url).collect();
            while !over.load(Ordering::Acquire) {
                curl_with(&scenario, &[], &urls, urls.len());
            }
        });
        for round in 1..=rounds {
            match round % 2 {
                0 => hang_up(&agent),
                _ => std::fs::write(&config, format!("head-bytes: {}\n", 4096 - round)).unwrap(),
            }
            taken_up(&agent, round);
        }
        over.store(true, Ordering::Release);
        ask.join().expect("curl goes on");
        wait.join().expect("and waits");
    });
    let report = agent.stop();
    let slow = report.telemetry.under("/slow/");
    let ends =
        [Kind::Server, Kind::Client].map(|kind| slow.iter().filter(|s| s.kind == kind).count());
    let asked = python.log().len();
    assert_eq!(ends, [asked; 2], "of slow ones: {:?}", report.ledger);
    let lines = nginx.stop().len();
    assert!(lines > 300, "{lines} requests are too few to show anything");
    let spans = report.telemetry.under("/static/page");
    let of = |kind| spans.iter().filter(|span| span.kind == kind).count();
    let counts = (of(Kind::Server), of(Kind::Client));
    assert_eq!(counts, (lines, lines), "{:?}", report.ledger);
    let mut times: BTreeMap<&str, u32> = BTreeMap::new();
    spans.iter().for_each(|span| *times.entry(span.id.as_str()).or_default() += 1);
    assert!(times.values().all(|count| *count == 1), "a span was told twice");
    let unanswered: Vec<String> =
        spans.iter().filter(|s| s.status() != Some(200)).map(|s| s.brief()).collect();
    assert!(unanswered.is_empty(), "{unanswered:?}");
    let servers: Vec<&Span> = spans.iter().copied().filter(|s| s.kind == Kind::Server).collect();
    let ids = |span: &&&Span| times.contains_key(span.parent.as_str());
    assert_eq!(servers.iter().filter(ids).count(), lines, "each has its client's span above it");
    say(&format!(
        "reload: {rounds} times, {lines} requests and {asked} slow ones, each told once and by both ends"
    ));
}

#[test]
fn a_file_with_mistakes_changes_nothing_and_says_why() {
    let Some(scenario) = Scenario::begin("reload refused", &PROGRAMS) else { return };
    let port = free_port();
    let places = [("/", Location::Static)];
    Nginx::page(&scenario, "page", 100);
    let nginx = Nginx::start(&scenario, &format!("127.0.0.1:{port}"), &places, &[]);
    let config = scenario.file("kernspan.yaml", b"exclude: curl\n");
    let agent = Agent::run(&scenario, &["--config", &config.display().to_string()]);
    let ask = |path: &str| {
        curl_with(&scenario, &[], &[format!("http://127.0.0.1:{port}/{path}")], 1);
    };
    ask("page?before");
    for (count, text, said) in [
        (
            1,
            "exclude: [nginx]\nport: 99999\nno-such-key: 1\n",
            ["kernspan.yaml:2", "kernspan.yaml:3"],
        ),
        (2, "exclude: [nginx]\ncgroup: /no/such/cgroup\n", ["/no/such/cgroup", "refused"]),
    ] {
        std::fs::write(&config, text).unwrap();
        until("it is refused", LIMIT, || (reloads(&agent, "refused") == count).then_some(()));
        let status = agent.status();
        let refusal = status["configuration"]["refusal"].as_str().expect("why").to_owned();
        let log = agent.log();
        for text in said {
            assert!(refusal.contains(text) || log.contains(text), "{text}: {refusal}\n{log}");
        }
        assert!(log.contains("the one of before stays"), "{log}");
    }
    ask("page?refused");
    // The log's level and the address in force need no other run; a filter does.
    let listen = agent.address();
    std::fs::write(&config, format!("exclude: nginx\nlog-level: debug\nlisten: {listen}\n"))
        .unwrap();
    taken_up(&agent, 1);
    assert_eq!(agent.status()["configuration"]["refusal"], serde_json::Value::Null);
    ask("page?after");
    let report = agent.stop();
    assert_eq!(nginx.stop().len(), 3);
    let kinds = |query: &str| {
        let of_query = report.telemetry.spans.iter().filter(|span| {
            span.text("url.query") == query || span.text("url.full").ends_with(query)
        });
        of_query.map(|span| span.kind).collect::<Vec<_>>()
    };
    for (query, kind) in
        [("before", Kind::Server), ("refused", Kind::Server), ("after", Kind::Client)]
    {
        assert_eq!(kinds(query), [kind], "{query}: {:?}", report.ledger);
    }
}

#[test]
fn a_pipe_in_the_place_of_the_file_holds_up_nothing() {
    let Some(scenario) = Scenario::begin("reload of a pipe", &[]) else { return };
    let config = scenario.file("kernspan.yaml", b"sample: 0.5\n");
    let agent = Agent::run(&scenario, &["--config", &config.display().to_string()]);
    std::fs::remove_file(&config).unwrap();
    mkfifoat(CWD, &config, 0o600.into()).unwrap();
    hang_up(&agent);
    until("it is refused", LIMIT, || (reloads(&agent, "refused") >= 1).then_some(()));
    let status = agent.status();
    let refusal = status["configuration"]["refusal"].as_str().expect("why");
    for text in ["kernspan.yaml", "no regular file"] {
        assert!(refusal.contains(text), "{text}: {refusal}");
    }
    // In two seconds.
    agent.stop();
}

/// An agent whose configuration is another file by the time it has read it, and that may have got a SIGHUP by then. It
/// is a pipe at first, so that the test decides how far the agent comes.
fn changed_at_the_start(scenario: &Scenario, arguments: &[&str], hang_up: bool) -> Process {
    let config = scenario.path(&format!("{}.yaml", arguments[0]));
    let other = scenario.path("other.yaml");
    mkfifoat(CWD, &config, 0o600.into()).expect("a pipe");
    std::fs::write(&other, "sample: 0.25\n").expect("a file");
    let mut command = agent::command();
    command.args(arguments).arg("--config").arg(&config);
    let started = Process::start(command, scenario.dir(), arguments[0]);
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let pipe = until("the agent opens its configuration", LIMIT, || {
        rustix::fs::open(&config, flags, Mode::empty()).ok()
    });
    std::fs::rename(&other, &config).expect("a file in its place");
    if hang_up {
        started.signal(Signal::HUP);
    }
    std::fs::File::from(pipe).write_all(b"sample: 0.5\n").expect("it reads the pipe");
    started
}

fn taken_up_after_the_start(run: Process) {
    until("it has read the file again", LIMIT, || {
        let log = run.stderr();
        assert!(!log.contains("refused"), "{log}");
        log.contains("the new configuration is in use").then_some(())
    });
    let ended = run.terminate(LIMIT);
    assert!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    assert!(ended.stderr.contains("changed: sample"), "{}", ended.stderr);
}

#[test]
fn a_file_that_changes_while_the_agent_starts_is_taken_up_once_it_runs() {
    let Some(scenario) = Scenario::begin("changed at the start", &[]) else { return };
    let run = changed_at_the_start(&scenario, &["run", "--output", "none"], false);
    taken_up_after_the_start(run);
}

#[test]
fn a_hang_up_while_the_agent_starts_is_kept_until_it_runs() {
    let Some(scenario) = Scenario::begin("reload at the start", &[]) else { return };
    let run = changed_at_the_start(&scenario, &["run", "--output", "none"], true);
    taken_up_after_the_start(run);
    // What takes up no other file ends: the terminal has gone. In order, once it has started.
    let top = changed_at_the_start(&scenario, &["top"], true).wait(LIMIT);
    assert!(top.status.success(), "{}: {}", top.status, top.stderr);
    assert!(top.stdout.contains("SERVICE"), "{}", top.stdout);
}

#[test]
fn a_file_can_be_checked_before_it_is_used() {
    let Some(scenario) = Scenario::begin("config check", &[]) else { return };
    let check = |name: &str, text: &str| {
        let file = scenario.file(name, text.as_bytes()).display().to_string();
        agent::once(&scenario, "check", &["config", "check", &file])
    };
    let right = check("right.yaml", "sample: 0.5\noutput: none\n");
    assert_eq!((right.status.code(), right.stdout.contains("nothing is wrong")), (Some(0), true));
    let wrong = check("wrong.yaml", "sample: 2\nincluded: nginx\n");
    assert_eq!(wrong.status.code(), Some(2), "{}", wrong.stderr);
    for text in ["wrong.yaml:1", "wrong.yaml:2", "include"] {
        assert!(wrong.stderr.contains(text), "{text}: {}", wrong.stderr);
    }
}
