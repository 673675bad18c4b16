//! TLS of programs in Go, which is linked into them: reported as if it were not encrypted.

use kernspan_tests::agent::{Agent, Report};
use kernspan_tests::certificates::Certificates;
use kernspan_tests::client::curl_with;
use kernspan_tests::counts::{Request, judge};
use kernspan_tests::golang::build_of;
use kernspan_tests::https::{Program, SIZE, Server as Other, lasting, unlike_tls};
use kernspan_tests::process::{Process, free_port, until};
use kernspan_tests::scenario::{Scenario, say, scaled};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);

/// A program that starts is covered within this time.
const COVERED: Duration = Duration::from_millis(100);

fn build(scenario: &Scenario, name: &str, version: &str, more: &[&str]) -> Option<PathBuf> {
    build_of(scenario, "workloads/gotls", name, version, more)
}

/// A running server of the test's program; with certificates over TLS.
struct Server {
    _process: Process,
    port: u16,
    scheme: &'static str,
}

impl Server {
    fn start(scenario: &Scenario, program: &Path, certificates: Option<&Certificates>) -> Server {
        let port = free_port();
        let mut command = Command::new(program);
        command.args(["--port", &port.to_string()]);
        if let Some(certificates) = certificates {
            let [certificate, key] = ["server.crt", "server.key"].map(|n| certificates.file(n));
            command.args(["--certificate", &certificate, "--key", &key]);
        }
        let mut process = Process::start(command, scenario.dir(), &format!("server-{port}"));
        until("the server is ready", LIMIT, || {
            assert!(process.is_running(), "{}", process.tail());
            process.stdout().contains("ready").then_some(())
        });
        std::thread::sleep(COVERED);
        let scheme = if certificates.is_some() { "https" } else { "http" };
        Server { _process: process, port, scheme }
    }

    fn url(&self, path: &str) -> String {
        format!("{}://127.0.0.1:{}{path}", self.scheme, self.port)
    }
}

/// Asks for `url` by the test's program.
fn ask(scenario: &Scenario, program: &Path, url: &str, count: u64, width: u32, more: &[&str]) {
    start_asking(scenario, program, url, count, width, more).succeed(LIMIT);
}

fn start_asking(
    scenario: &Scenario,
    program: &Path,
    url: &str,
    count: u64,
    width: u32,
    more: &[&str],
) -> Process {
    let mut command = Command::new(program);
    command.args(["--url", url, "--requests", &count.to_string()]);
    command.args(["--concurrency", &width.to_string(), "--wait", "100ms"]).args(more);
    Process::start(command, scenario.dir(), "client")
}

/// Complaints about the spans under `path`, of which there are `count` at each end.
fn complaints(report: &Report, path: &str, count: u64) -> Vec<String> {
    let spans = report.telemetry.under(path);
    let truth = vec![Request::get(path, SIZE as i64); usize::try_from(count).unwrap_or(0)];
    let mut found = judge(&spans, &truth);
    found.extend(spans.iter().filter_map(|span| unlike_tls(span)));
    found.into_iter().take(20).map(|complaint| format!("{path}: {complaint}")).collect()
}

/// A server and a client, however they are built: spans as of the same run in the clear.
#[test]
fn go_speaks_tls_as_in_the_clear() {
    let Some(scenario) = Scenario::begin("tls of go", &["go", "openssl"]) else { return };
    let certificates = Certificates::make(&scenario);
    let built = |name, more: &[&str]| build(&scenario, name, "local", more).expect("go is there");
    let programs = [
        ("plain", built("plain", &[])),
        ("stripped", built("stripped", &["-ldflags=-s -w"])),
        ("pie", built("pie", &["-buildmode=pie", "-ldflags=-s -w"])),
    ];
    let agent = Agent::run(&scenario, &["--ring-size", "64MiB"]);
    let (few, many) = (scaled(20, 100), scaled(320, 3_000));
    let clear = Server::start(&scenario, &programs[0].1, None);
    ask(&scenario, &programs[0].1, &clear.url("/clear/1"), few, 1, &[]);
    for (name, program) in &programs {
        let server = Server::start(&scenario, program, Some(&certificates));
        ask(&scenario, program, &server.url(&format!("/{name}/1")), few, 1, &[]);
        ask(&scenario, program, &server.url(&format!("/{name}/32")), many, 32, &[]);
        let shared = ["--shared", "--version", "1.2"];
        ask(&scenario, program, &server.url(&format!("/{name}/shared")), many, 32, &shared);
    }
    let status = agent.status();
    let report = agent.stop();
    let covered = status["tls"]["covered"].to_string();
    let mut found = Vec::new();
    for (name, program) in &programs {
        assert!(covered.contains(&program.display().to_string()), "{covered}");
        for (way, count) in [("1", few), ("32", many), ("shared", many)] {
            found.extend(complaints(&report, &format!("/{name}/{way}"), count));
        }
    }
    let ledger = &report.ledger;
    assert!(found.is_empty(), "{}\n{ledger:?}", found.join("\n"));
    let kinds = |path| lasting(&report.telemetry.under(path));
    assert_eq!(kinds("/clear/"), kinds("/plain/1"));
    assert_eq!(kinds("/clear/").len(), 2, "client and server");
    say(&format!("tls of go: 3 builds, {few} and twice {many} requests each, all pairs joined"));
}

/// With programs that use other libraries at the other end.
#[test]
fn go_speaks_tls_with_others() {
    let names = ["go", "openssl", "curl", "nginx"];
    let Some(scenario) = Scenario::begin("tls of go and others", &names) else { return };
    let certificates = Certificates::make(&scenario);
    let program = build(&scenario, "plain", "local", &[]).expect("go is there");
    let nginx = Other::start(&scenario, Program::Nginx, &certificates);
    let server = Server::start(&scenario, &program, Some(&certificates));
    let agent = Agent::run(&scenario, &["--ring-size", "64MiB"]);
    let (few, many) = (scaled(10, 50), scaled(96, 500));
    for (width, count) in [(1, few), (32, many)] {
        let urls = vec![server.url("/curl"); usize::try_from(count).unwrap_or(0)];
        curl_with(&scenario, &["--insecure", "--http1.1"], &urls, width as usize);
        ask(&scenario, &program, &nginx.url(), count, width, &[]);
    }
    let report = agent.stop();
    let mut found = complaints(&report, "/curl", few + many);
    found.extend(complaints(&report, &nginx.path(), few + many));
    assert!(found.is_empty(), "{}\n{:?}", found.join("\n"), report.ledger);
    say(&format!("tls of go with curl and nginx: {} requests each, all joined", few + many));
}

/// Older toolchains, where they can be had: their code is other code.
#[test]
fn go_speaks_tls_with_older_toolchains() {
    let Some(scenario) = Scenario::begin("tls of older go", &["go", "openssl"]) else { return };
    let certificates = Certificates::make(&scenario);
    let versions = ["go1.21.13", "go1.23.12", "go1.25.4"];
    let programs: Vec<_> = versions
        .iter()
        .filter_map(|version| {
            let program = build(&scenario, version, version, &["-ldflags=-s -w"]);
            if program.is_none() {
                say(&format!("{version} cannot be had here"));
            }
            program.map(|program| (*version, program))
        })
        .collect();
    let agent = Agent::run(&scenario, &["--ring-size", "64MiB"]);
    let (few, many) = (scaled(10, 50), scaled(128, 1_000));
    for (version, program) in &programs {
        let server = Server::start(&scenario, program, Some(&certificates));
        ask(&scenario, program, &server.url(&format!("/{version}/1")), few, 1, &[]);
        ask(&scenario, program, &server.url(&format!("/{version}/32")), many, 32, &[]);
    }
    let report = agent.stop();
    let mut found = Vec::new();
    for (version, _) in &programs {
        found.extend(complaints(&report, &format!("/{version}/1"), few));
        found.extend(complaints(&report, &format!("/{version}/32"), many));
    }
    assert!(found.is_empty(), "{}\n{:?}", found.join("\n"), report.ledger);
    say(&format!("tls of go: {} older toolchains", programs.len()));
}

/// Connections on which both ends wait in a read that began before the agent.
#[test]
fn go_connections_older_than_the_agent() {
    let Some(scenario) = Scenario::begin("tls of go older", &["go", "openssl"]) else { return };
    let certificates = Certificates::make(&scenario);
    let program = build(&scenario, "plain", "local", &[]).expect("go is there");
    let server = Server::start(&scenario, &program, Some(&certificates));
    let go_on = scenario.path("go-on").display().to_string();
    let pause = ["--pause-at", "4", "--pause-for", &go_on];
    let mut client = start_asking(&scenario, &program, &server.url("/older"), 40, 4, &pause);
    until("four connections have been used", LIMIT, || {
        assert!(client.is_running(), "{}", client.tail());
        (asked(&client) >= 4).then_some(())
    });
    // Those under way end.
    std::thread::sleep(Duration::from_millis(100));
    let agent = Agent::run(&scenario, &[]);
    let before = u64::try_from(asked(&client)).unwrap_or(0);
    std::fs::write(&go_on, b"").expect("the file that is waited for");
    client.succeed(LIMIT);
    let report = agent.stop();
    let spans = report.telemetry.under("/older");
    let truth = vec![Request::get("/older", SIZE as i64); 40 - before as usize];
    let found = judge(&spans, &truth);
    assert!(found.is_empty(), "{}\n{:?}", found.join("\n"), report.ledger);
    say(&format!("tls of go older: {} requests on kept connections, all joined", 40 - before));
}

/// Requests that a client reports to have made.
fn asked(client: &Process) -> usize {
    client.stdout().lines().filter(|line| *line == "asked").count()
}

/// A program that nobody had when the agent started, and that calls at once.
#[test]
fn a_go_program_that_comes_later() {
    let Some(scenario) = Scenario::begin("tls of go later", &["go", "openssl"]) else { return };
    let certificates = Certificates::make(&scenario);
    let agent = Agent::run(&scenario, &[]);
    let program = build(&scenario, "later", "local", &["-ldflags=-s -w"]).expect("go is there");
    let server = Server::start(&scenario, &program, Some(&certificates));
    ask(&scenario, &program, &server.url("/later"), 10, 1, &[]);
    let status = agent.status();
    let report = agent.stop();
    let found = complaints(&report, "/later", 10);
    assert!(found.is_empty(), "{}\n{:?}", found.join("\n"), report.ledger);
    let uncovered = status["tls"]["uncovered"].to_string();
    assert!(!uncovered.contains("crypto/tls"), "{uncovered}");
    say("tls of go later: covered within 100 ms");
}
