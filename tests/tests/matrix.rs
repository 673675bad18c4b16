//! The servers that people run, asked by the clients that people use: as many spans as requests, of both ends,
//! joined, with what was asked; and each server in namespaces of its own.

use kernspan_tests::agent::{Agent, Report};
use kernspan_tests::client::{curl_with, wrk};
use kernspan_tests::clients::{CLIENTS, Client};
use kernspan_tests::counts::{Request, judge, pairs};
use kernspan_tests::otlp::{Kind, Span};
use kernspan_tests::process::output;
use kernspan_tests::scenario::{Scenario, say, scaled, skip};
use kernspan_tests::servers::{Running, SERVERS, SIZES, Tools};
use std::process::Command;

const HYPER: &str = env!("CARGO_BIN_EXE_hyper_http");

/// Those that wrk asks as fast as it can in every run; the others at full scale.
const LOADED: [&str; 2] = ["gunicorn-sync", "tomcat"];

/// Who asked, and what for.
type Asked = Vec<(&'static str, Request)>;

/// All servers that are installed, ready.
fn start_all(scenario: &Scenario, tools: &Tools, apart: bool) -> Vec<Running> {
    let started = |server| {
        let running = Running::start(scenario, tools, server, apart);
        if running.is_none() {
            skip("matrix", &format!("not installed: {}", server.name));
        }
        running
    };
    let mut all: Vec<Running> = SERVERS.iter().filter_map(started).collect();
    all.iter_mut().for_each(Running::wait);
    all
}

fn installed(tools: &Tools) -> Vec<Client> {
    let (there, missing): (Vec<Client>, Vec<Client>) =
        CLIENTS.iter().partition(|client| client.is_there(tools));
    missing.iter().for_each(|client| {
        skip("matrix", &format!("not installed: {}", client.name));
    });
    there
}

fn page(server: &Running) -> Request {
    let [size, _] = SIZES;
    Request::get(&format!("/{}/size/{size}", server.server.name), size as i64)
}

/// Asks every server by `clients`; what each server was asked.
fn ask(
    scenario: &Scenario,
    tools: &Tools,
    servers: &[Running],
    clients: &[Client],
    apart: bool,
) -> Vec<Asked> {
    let mut asked: Vec<Asked> = servers.iter().map(|_| Vec::new()).collect();
    let [size, _] = SIZES;
    for client in clients {
        for (requests, width) in [(scaled(6, 100) as usize, 1), (scaled(24, 800) as usize, 8)] {
            let urls: Vec<String> =
                servers.iter().map(|server| server.url(size, client.name)).collect();
            let numbers = [requests, width, 0];
            if client.asks_all() && !apart {
                client.ask(scenario, tools, &[], &urls, numbers);
            } else {
                for (server, url) in servers.iter().zip(&urls) {
                    client.ask(scenario, tools, &server.wrap, std::slice::from_ref(url), numbers);
                }
            }
            for (server, asked) in servers.iter().zip(&mut asked) {
                asked.extend((0..requests).map(|_| (client.name, page(server))));
            }
        }
    }
    for (server, asked) in servers.iter().zip(&mut asked) {
        asked.extend(others(server).map(|request| ("curl-others", request)));
    }
    asked
}

/// What is not there, and a POST, with what curl says of the answer.
fn others(server: &Running) -> impl Iterator<Item = Request> {
    let told = |arguments: &[&str], method: &str, name: &str, sent: usize| {
        let path = format!("/{}/{name}", server.server.name);
        let url = format!("http://{}:{}{path}?by=curl-others", server.host, server.port);
        let mut words: Vec<&str> = server.wrap.iter().map(String::as_str).collect();
        words.extend(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{size_download}"]);
        words.extend(arguments);
        words.push(&url);
        let told = output(Command::new(words[0]).args(&words[1..]));
        let (status, size) = told.split_once(' ').expect("two numbers");
        Request {
            method: method.to_owned(),
            path,
            status: status.parse().expect("a status"),
            request_body: sent as i64,
            response_body: size.parse().expect("a size"),
        }
    };
    let body = "x".repeat(300);
    let posted = told(&["-d", &body], "POST", "posted", body.len());
    [told(&[], "GET", "missing", 0), posted].into_iter()
}

/// Who asked for what a span is about.
fn asker(span: &Span) -> &str {
    let query = match span.kind {
        Kind::Client => span.text("url.full").split_once('?').map_or("", |(_, query)| query),
        _ => span.text("url.query"),
    };
    let by = query.strip_prefix("by=").unwrap_or_default();
    by.split('&').next().unwrap_or_default()
}

/// Complaints about one server, client by client; `prefix` is that of its paths.
fn complaints(report: &Report, server: &Running, prefix: &str, asked: &Asked) -> Vec<String> {
    let spans = report.telemetry.under(prefix);
    let mut clients: Vec<&str> = asked.iter().map(|(client, _)| *client).collect();
    clients.dedup();
    clients.sort_unstable();
    clients.dedup();
    let mut found = Vec::new();
    let front = format!("/{}/", server.server.name);
    for client in &clients {
        let of = asked.iter().filter(|(name, _)| name == client);
        let truth: Vec<Request> = of
            .map(|(_, request)| Request {
                path: request.path.replacen(&front, prefix, 1),
                ..request.clone()
            })
            .collect();
        let own: Vec<&Span> = spans.iter().copied().filter(|span| asker(span) == *client).collect();
        found.extend(
            judge(&own, &truth)
                .into_iter()
                .map(|what| format!("{} asked by {client}: {what}", server.server.name)),
        );
    }
    let strange = |span: &&&Span| !clients.contains(&asker(span)) && asker(span) != "wrk";
    found.extend(spans.iter().filter(strange).map(|span| format!("not asked: {}", span.brief())));
    if prefix == front {
        let other =
            |span: &&&Span| span.kind == Kind::Server && span.service() != server.server.service;
        let services: std::collections::BTreeSet<&str> =
            spans.iter().filter(other).map(|span| span.service()).collect();
        found.extend(services.iter().map(|service| format!("{front} is `{service}`")));
    }
    found
}

fn judge_all(name: &str, report: &Report, servers: &[Running], asked: &[Asked]) {
    let mut found = Vec::new();
    for (server, asked) in servers.iter().zip(asked) {
        found.extend(complaints(report, server, &format!("/{}/", server.server.name), asked));
        if server.server.beside.contains("{hyper}") {
            found.extend(complaints(report, server, "/behind-haproxy/", asked));
        }
    }
    let shown = found.len().min(60);
    assert!(
        found.is_empty(),
        "{name}, {}:\n{}\n{}",
        found.len(),
        found[..shown].join("\n"),
        report.ledger.reasons().join("\n")
    );
    let requests: usize = asked.iter().map(Vec::len).sum();
    say(&format!("{name}: {} servers, {requests} requests, all pairs joined", servers.len()));
}

#[test]
fn every_client_asks_every_server() {
    let Some(scenario) = Scenario::begin("matrix", &["curl"]) else { return };
    let tools = Tools::make(&scenario, HYPER);
    let servers = start_all(&scenario, &tools, false);
    let clients = installed(&tools);
    let agent = Agent::run(&scenario, &["--ring-size", "64MiB"]);
    let asked = ask(&scenario, &tools, &servers, &clients, false);
    judge_all("matrix", &agent.stop(), &servers, &asked);
}

#[test]
fn servers_in_namespaces_of_their_own_are_asked() {
    let Some(scenario) = Scenario::begin("matrix in namespaces", &["curl", "ip"]) else { return };
    let tools = Tools::make(&scenario, HYPER);
    let servers = start_all(&scenario, &tools, true);
    let quick = ["curl", "ab", "hyper"];
    let clients = installed(&tools);
    let clients: Vec<Client> =
        clients.into_iter().filter(|client| quick.contains(&client.name)).collect();
    let agent = Agent::run(&scenario, &["--ring-size", "64MiB"]);
    let asked = ask(&scenario, &tools, &servers, &clients, true);
    judge_all("matrix in namespaces", &agent.stop(), &servers, &asked);
}

/// As fast as wrk can: what it counts is whole, but for what was under way when it stopped.
#[test]
fn servers_under_load() {
    const WIDTH: usize = 4;
    let Some(scenario) = Scenario::begin("matrix under load", &["curl", "wrk"]) else { return };
    let tools = Tools::make(&scenario, HYPER);
    let all = scaled(0, 1) == 1;
    let mut servers: Vec<Running> = SERVERS
        .iter()
        .filter(|server| all || LOADED.contains(&server.name))
        .filter_map(|server| Running::start(&scenario, &tools, server, false))
        .collect();
    servers.iter_mut().for_each(Running::wait);
    let agent = Agent::run(&scenario, &["--ring-size", "64MiB"]);
    let [_, size] = SIZES;
    // The first request over a connection of its own.
    let counted: Vec<u64> = servers
        .iter()
        .map(|server| {
            curl_with(&scenario, &[], &[server.url(size, "curl")], 1);
            wrk(&scenario, &server.url(size, "wrk"), WIDTH, 1)
        })
        .collect();
    let report = agent.stop();
    let reasons = report.ledger.reasons().join("; ");
    say(&format!("matrix under load: left out or lost: {reasons}"));
    let shed = report.ledger.cause("shed_requests_ring_nearly_full");
    // Where a busy machine lets nobody write the file for half a second, its queue has no room for batches of
    // both ends: counted, as ends that were shed are, and so many may be missing and no more.
    let unwritten = report.ledger.count("json", "spans", "lost");
    let mut missing = 0;
    for (server, counted) in servers.iter().zip(counted) {
        let name = server.server.name;
        let spans = report.telemetry.under(&format!("/{name}/"));
        let spans = spans.into_iter().filter(|span| asker(span) == "wrk");
        let (of_server, of_client): (Vec<&Span>, Vec<&Span>) =
            spans.partition(|span| span.kind == Kind::Server);
        let whole = of_client.iter().filter(|span| !span.error).count();
        say(&format!(
            "matrix under load: {name}: {counted} answers, {whole} whole of {} client spans, {} server \
             spans, {shed} shed, {unwritten} spans unwritten",
            of_client.len(),
            of_server.len()
        ));
        assert!(counted > 0, "{name} answered nothing");
        let counted = usize::try_from(counted).unwrap_or(0);
        missing += counted.saturating_sub(whole) + counted.saturating_sub(of_server.len());
        // Each connection may have one under way, and begin anew once more when its server closes it.
        if shed == 0 {
            let (whole_more, more) =
                (whole.saturating_sub(counted), of_server.len().saturating_sub(counted));
            assert!(whole_more <= WIDTH && more <= 2 * WIDTH, "{name}: {whole} of {counted}");
            assert!(of_client.len() - whole <= WIDTH, "{name}: cut spans");
        }
        if shed == 0 && unwritten == 0 {
            assert!(whole + WIDTH >= counted, "{name}: {whole} of {counted}: {reasons}");
            assert!(of_server.len() + 2 * WIDTH >= counted, "{name}: server spans: {reasons}");
        }
        if unwritten == 0 {
            let found = pairs(&of_server, &of_client);
            assert!(found.is_empty(), "{name}:\n{}", found[..found.len().min(20)].join("\n"));
        }
    }
    let slack = 3 * WIDTH * servers.len();
    let explained = usize::try_from(unwritten + shed).unwrap_or(usize::MAX).saturating_add(slack);
    assert!(missing <= explained, "{missing} ends of requests are missing: {reasons}");
}
