//! TLS without keys: what travels encrypted is reported as if it did not.

use kernspan_tests::agent::Agent;
use kernspan_tests::certificates::Certificates;
use kernspan_tests::counts::{Request, judge};
use kernspan_tests::https::{self, Program, SIZE, Server, copy_libraries, modules};
use kernspan_tests::otlp::Span;
use kernspan_tests::process::{Process, until};
use kernspan_tests::scenario::{Scenario, say, scaled, skip};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

const PROGRAMS: [&str; 6] = ["nginx", "lighttpd", "node", "curl", "wget", "ab"];
const LIMIT: Duration = Duration::from_secs(60);

/// Servers and clients of every library that is covered: each request is a client span and a server span,
/// joined, as in the clear.
fn spans_of(name: &str, programs: &[Program]) {
    let Some(scenario) = Scenario::begin(name, &PROGRAMS) else { return };
    let certificates = Certificates::make(&scenario);
    let servers: Vec<Server> =
        programs.iter().map(|program| Server::start(&scenario, *program, &certificates)).collect();
    let agent = Agent::run(&scenario, &["--ring-size", "64MiB"]);
    let mut complaints = Vec::new();
    let mut asked = Vec::new();
    for server in &servers {
        let count =
            server.ask(&scenario, scaled(10, 50), 1) + server.ask(&scenario, scaled(96, 500), 32);
        asked.push(count);
    }
    let report = agent.stop();
    for (server, count) in servers.iter().zip(&asked) {
        let prefix = format!("/{}/", server.program.name());
        let spans = report.telemetry.under(&prefix);
        let request = Request::get(&server.path(), SIZE as i64);
        let truth = vec![request; usize::try_from(*count).unwrap_or(0)];
        let found = judge(&spans, &truth);
        complaints.extend(found.into_iter().map(|c| format!("{}: {c}", server.program.name())));
        complaints.extend(spans.iter().filter_map(|span| unlike_tls(span, server.port)));
    }
    complaints.truncate(40);
    assert!(complaints.is_empty(), "{}\n{:?}", complaints.join("\n"), report.ledger);
    say(&format!("{name}: {asked:?} requests, all pairs joined"));
}

/// What is wrong with a span of a connection to this port, if anything.
fn unlike_tls(span: &Span, port: u16) -> Option<String> {
    let elsewhere = span.int("server.port") != Some(port.into());
    https::unlike_tls(span).or_else(|| elsewhere.then(|| format!("another port: {}", span.brief())))
}

#[test]
fn openssl() {
    spans_of("tls openssl", &[Program::Nginx, Program::Lighttpd("openssl")]);
}

#[test]
fn openssl_through_buffers() {
    spans_of("tls buffers", &[Program::Node, Program::Python]);
}

#[test]
fn gnutls_and_nss() {
    if !modules(&["gnutls", "nss"]) {
        return skip("tls_modules", "lighttpd without its modules");
    }
    spans_of("tls modules", &[Program::Lighttpd("gnutls"), Program::Lighttpd("nss")]);
}

/// rustls at both ends, and at one with OpenSSL and GnuTLS at the other: TLS 1.2 and 1.3, with and without
/// tokio.
#[test]
fn rustls() {
    const OWN: &str = env!("CARGO_BIN_EXE_rustls_http");
    let Some(scenario) = Scenario::begin("tls rustls", &PROGRAMS) else { return };
    let certificates = Certificates::make(&scenario);
    let servers = [Program::Rustls(OWN), Program::Nginx]
        .map(|program| Server::start(&scenario, program, &certificates));
    let agent = Agent::run(&scenario, &["--ring-size", "64MiB"]);
    let mut asked = [0, 0];
    asked[0] += servers[0].ask(&scenario, scaled(10, 50), 1);
    asked[0] += servers[0].ask(&scenario, scaled(96, 500), 32);
    for (server, asked) in servers.iter().zip(&mut asked) {
        for (verb, version) in [("ask", "1.3"), ("ask", "1.2"), ("ask-blocking", "1.3")] {
            for (count, width) in [(scaled(10, 50), 1), (scaled(96, 500), 32)] {
                let mut client = Command::new(OWN);
                let (port, count_text) = (server.port.to_string(), count.to_string());
                client.args([verb, &port, &server.path(), &count_text, &width.to_string()]);
                client.env("TLS_VERSION", version);
                Process::start(client, scenario.dir(), "rustls-client").succeed(LIMIT);
                *asked += count;
            }
        }
    }
    let covered = agent.status()["tls"]["covered"].to_string();
    let report = agent.stop();
    assert!(covered.contains(OWN), "{covered}");
    let mut complaints = Vec::new();
    for (server, count) in servers.iter().zip(&asked) {
        let spans = report.telemetry.under(&format!("/{}/", server.program.name()));
        let request = Request::get(&server.path(), SIZE as i64);
        let found = judge(&spans, &vec![request; usize::try_from(*count).unwrap_or(0)]);
        complaints.extend(found.into_iter().map(|c| format!("{}: {c}", server.program.name())));
        complaints.extend(spans.iter().filter_map(|span| unlike_tls(span, server.port)));
    }
    complaints.truncate(40);
    assert!(complaints.is_empty(), "{}\n{:?}", complaints.join("\n"), report.ledger);
    say(&format!("tls rustls: {asked:?} requests, all pairs joined"));
}

/// Connections that are older than the agent: from their first turn on they are as any other.
#[test]
fn connections_older_than_the_agent() {
    let Some(scenario) = Scenario::begin("tls older", &PROGRAMS) else { return };
    let certificates = Certificates::make(&scenario);
    let server = Server::start(&scenario, Program::Nginx, &certificates);
    let go = scenario.path("go");
    let (port, path) = (server.port.to_string(), server.path());
    let go_text = go.display().to_string();
    let mut arguments = vec!["--port", &port, "--requests", "40", "--concurrency", "4", "--tls"];
    arguments.extend(["--path", &path, "--pause-at", "4", "--pause-for", &go_text]);
    let client =
        kernspan_tests::python::Python::start(&scenario, "older", "client.py", &arguments, &[]);
    until("four connections have been used", LIMIT, || (client.log().len() >= 4).then_some(()));
    let agent = Agent::run(&scenario, &[]);
    std::fs::write(&go, b"").expect("the file that is waited for");
    client.finish(LIMIT);
    let report = agent.stop();
    let truth = vec![Request::get(&server.path(), SIZE as i64); 36];
    let complaints = judge(&report.telemetry.under("/nginx/"), &truth);
    assert!(complaints.is_empty(), "{}\n{:?}", complaints.join("\n"), report.ledger);
    say("tls older: 36 requests on 4 connections, all pairs joined");
}

/// A library that nobody had when the agent started, as another file, and deleted before it is used.
#[test]
fn a_library_that_comes_later() {
    let Some(scenario) = Scenario::begin("tls later", &PROGRAMS) else { return };
    let certificates = Certificates::make(&scenario);
    let server = Server::start(&scenario, Program::Nginx, &certificates);
    let agent = Agent::run(&scenario, &[]);
    let own = scenario.path("own");
    copy_libraries("/usr/bin/curl", &["libssl", "libcrypto"], &own);
    // Python's module loads them; 100 ms later they have to be covered.
    let script = format!(
        "import ssl, time, shutil, urllib.request\n\
         context = ssl._create_unverified_context()\n\
         shutil.rmtree({own:?})\n\
         time.sleep(0.1)\n\
         for _ in range(5): urllib.request.urlopen({url:?}, context=context).read()\n",
        own = own.display().to_string(),
        url = server.url(),
    );
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", &script]).env("LD_LIBRARY_PATH", &own);
    Process::start(python, scenario.dir(), "later").succeed(LIMIT);
    let covered = agent.status()["tls"]["covered"].to_string();
    let report = agent.stop();
    assert!(covered.contains(&own.display().to_string()), "{covered}");
    let truth = vec![Request::get(&server.path(), SIZE as i64); 5];
    let complaints = judge(&report.telemetry.under("/nginx/"), &truth);
    assert!(complaints.is_empty(), "{}\n{:?}", complaints.join("\n"), report.ledger);
    say("tls later: a deleted copy of the library, covered within 100 ms");
}

/// What is not covered is named with its process.
#[test]
fn a_library_that_is_not_covered_is_named() {
    if !modules(&["mbedtls"]) {
        return skip("tls_uncovered", "lighttpd without its modules");
    }
    let Some(scenario) = Scenario::begin("tls uncovered", &PROGRAMS) else { return };
    let certificates = Certificates::make(&scenario);
    let server = Server::start(&scenario, Program::Lighttpd("mbedtls"), &certificates);
    let agent = Agent::run(&scenario, &[]);
    let named = |status: &Value| {
        let uncovered = status["tls"]["uncovered"].as_array().cloned().unwrap_or_default();
        uncovered.iter().any(|one| {
            one["library"] == "mbedTLS"
                && server.pids().iter().any(|pid| one["pid"].as_u64() == Some((*pid).into()))
        })
    };
    let status = agent.status();
    assert!(named(&status), "{}", status["tls"]);
    let told = kernspan_tests::agent::once(&scenario, "doctor", &["doctor", "--json"]).stdout;
    let told: Value = serde_json::from_str(&told).expect("what doctor says");
    let facts = told["facts"].as_array().cloned().unwrap_or_default();
    let fact = facts.iter().find(|fact| fact["name"] == "TLS of all programs in clear");
    assert!(fact.is_some_and(|fact| fact["detail"].to_string().contains("mbedTLS")), "{facts:?}");
    let report = agent.stop();
    assert!(
        format!("{:?}", report.ledger).contains("with_uncovered_library"),
        "{:?}",
        report.ledger
    );
    say("tls uncovered: mbedTLS is named with its process");
}

/// Programs with TLS that come and go: no probe, no memory of the kernel, no file stays; the end is quick.
#[test]
fn short_lives_leave_nothing() {
    let Some(scenario) = Scenario::begin("tls short lives", &PROGRAMS) else { return };
    let certificates = Certificates::make(&scenario);
    let server = Server::start(&scenario, Program::Nginx, &certificates);
    let agent = Agent::run(&scenario, &[]);
    let before = descriptors(agent.pid());
    // Other programs of the machine come and go as well: what is counted is this scenario's.
    let mine = scenario.dir().display().to_string();
    let mut most = 0;
    let (count, pause) = (scaled(60, 300), scaled(10, 900));
    for number in 0..count {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--insecure", "--http1.1", "-o", "/dev/null", &server.url()]);
        if number % 5 == 0 {
            // With libraries of its own, which go with it.
            let own = scenario.path("own");
            copy_libraries("/usr/bin/curl", &["libssl", "libcrypto"], &own);
            curl.env("LD_LIBRARY_PATH", &own);
            Process::start(curl, scenario.dir(), "curl").succeed(LIMIT);
            std::fs::remove_dir_all(&own).expect("the copies go");
        } else {
            Process::start(curl, scenario.dir(), "curl").succeed(LIMIT);
        }
        std::thread::sleep(Duration::from_millis(pause));
        most = most.max(probes_on(agent.pid(), &mine));
    }
    assert!(most > 0, "the copies were never probed");
    until("the probes of files that are gone have ended", LIMIT, || {
        (probes_on(agent.pid(), &mine) == 0).then_some(())
    });
    let after = descriptors(agent.pid());
    assert!(after <= before, "{before} descriptors before, {after} after");
    let report = agent.stop();
    let spans = report.telemetry.under("/nginx/");
    let servers = spans.iter().filter(|span| span.kind == kernspan_tests::otlp::Kind::Server);
    assert_eq!(servers.count() as u64, count, "{:?}", report.ledger);
    let traces: BTreeSet<&str> = spans.iter().map(|span| span.trace.as_str()).collect();
    assert_eq!(traces.len() as u64, count, "each request is a trace of its own");
    say(&format!(
        "tls short lives: {count} programs, at most {most} links to their files and none after; {before} \
         descriptors before, {after} after; stopped in {:?}",
        report.ended.took
    ));
}

/// Clients that say goodbye when the server has gone already: the connection is reset by that very send, and
/// nothing closes it once more.
#[test]
fn goodbyes_to_nobody_leave_no_connection() {
    let Some(scenario) = Scenario::begin("tls goodbyes", &PROGRAMS) else { return };
    let certificates = Certificates::make(&scenario);
    let server = Server::start(&scenario, Program::Nginx, &certificates);
    let agent = Agent::run(&scenario, &[]);
    // One that stays open shows that the list has what is held.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its port");
    let mut kept = TcpStream::connect(address).expect("a connection");
    kept.write_all(b"GET /kept HTTP/1.1\r\nHost: a\r\n\r\n").expect("a request");
    let count = scaled(400, 4000);
    let mut ab = Command::new("ab");
    ab.args(["-q", "-n", &count.to_string(), "-c", "4", &server.url()]);
    let ab = Process::start(ab, scenario.dir(), "ab");
    let mut own = server.pids();
    own.push(ab.pid());
    ab.succeed(LIMIT);
    until("its connections have left the table", LIMIT, || {
        // Told once a second.
        let status = agent.status();
        let is_listed = held(&status, &[std::process::id()]) > 0;
        (is_listed && held(&status, &own) == 0).then_some(())
    });
    drop(kept);
    let report = agent.stop();
    let spans = report.telemetry.under("/nginx/");
    let traces: BTreeSet<&str> = spans.iter().map(|span| span.trace.as_str()).collect();
    assert_eq!(traces.len() as u64, count, "{:?}", report.ledger);
    say(&format!("tls goodbyes: {count} connections, none of them held"));
}

/// Connections of these processes that the agent holds, whatever they speak.
fn held(status: &Value, pids: &[u32]) -> u64 {
    let rows = status["connections"].as_array().expect("the list of connections");
    let own =
        rows.iter().filter(|row| pids.iter().any(|pid| row["pid"].as_u64() == Some((*pid).into())));
    let kinds = own.flat_map(|row| row.as_object().into_iter().flatten());
    kinds.filter(|(kind, _)| *kind != "pid").filter_map(|(_, count)| count.as_u64()).sum()
}

/// Open files of a process, without its probes.
fn descriptors(pid: u32) -> usize {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the agent's descriptors");
    let names = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    let probes = ["bpf_link", "[perf_event]"];
    let others =
        names.filter(|name| !probes.iter().any(|probe| name.to_string_lossy().contains(probe)));
    others.count()
}

/// Links of a process to files below a directory.
fn probes_on(pid: u32, directory: &str) -> usize {
    let open = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("the agent's descriptors");
    let texts = open.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok());
    let below = |text: &String| {
        text.lines().any(|line| line.starts_with("path:") && line.contains(directory))
    };
    texts.filter(below).count()
}
