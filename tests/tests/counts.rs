//! Every request is one client span and one server span, joined, with what the logs say.

use kernspan_tests::agent::Agent;
use kernspan_tests::client::{ab, curl, wrk};
use kernspan_tests::counts::{Request, judge, pairs};
use kernspan_tests::netns::Netns;
use kernspan_tests::nginx::{Access, Location, Nginx};
use kernspan_tests::otlp::{Kind, Span};
use kernspan_tests::process::{family, free_port};
use kernspan_tests::python::Python;
use kernspan_tests::scenario::{Scenario, say, scaled};
use serde_json::Value;
use std::time::Duration;

const PAGE: usize = 20_000;
const FRONT: [&str; 3] = ["/static/", "/tcp/", "/unix/"];

/// nginx before two Python servers (TCP and unix), the second also asked directly.
struct Servers {
    nginx: Nginx,
    tcp: Python,
    unix: Python,
    host: String,
    port: u16,
    direct: u16,
    pids: Vec<u32>,
}

impl Servers {
    fn start(scenario: &Scenario, host: &str, wrap: &[String]) -> Servers {
        let (port, direct) = (free_port(), free_port());
        let socket = scenario.path("upstream.socket");
        let behind = direct.to_string();
        // Reached by nginx on the loopback address, and directly on the outer one.
        let tcp = Python::serve(
            scenario,
            "tcp-server",
            "server.py",
            &["--host", "0.0.0.0", "--port", &behind],
            wrap,
        );
        let unix = Python::serve(
            scenario,
            "unix-server",
            "server.py",
            &["--unix", &socket.to_string_lossy()],
            wrap,
        );
        std::fs::create_dir_all(scenario.path("www/static")).expect("a directory for files");
        Nginx::page(scenario, "static/page", PAGE);
        let locations = [
            (FRONT[0], Location::Static),
            (FRONT[1], Location::Tcp(direct)),
            (FRONT[2], Location::Unix(socket)),
        ];
        let nginx = Nginx::start(scenario, &format!("{host}:{port}"), &locations, wrap);
        let mut pids = nginx.pids();
        pids.extend(family(tcp.pid()));
        pids.extend(family(unix.pid()));
        Servers { nginx, tcp, unix, host: host.to_owned(), port, direct, pids }
    }

    /// Asks by every client at `concurrency`; what was asked of nginx and of the server directly.
    fn ask(&self, scenario: &Scenario, wrap: &[String], concurrency: usize) -> Vec<Request> {
        let mut asked = Vec::new();
        let rounds = if concurrency == 1 { scaled(15, 100) } else { scaled(64, 1000) };
        let plain = |path: &str, size: usize| (path.to_owned(), size);
        let targets = [
            (self.port, plain("/static/page", PAGE)),
            (self.port, plain("/tcp/size/700", 700)),
            (self.port, plain("/unix/size/700", 700)),
            (self.direct, plain("/direct/size/500", 500)),
        ];
        for (port, (path, size)) in targets {
            let url = format!("http://{}:{port}{path}", self.host);
            let urls: Vec<String> = (0..rounds).map(|_| url.clone()).collect();
            curl(scenario, wrap, &urls, concurrency);
            ab(scenario, wrap, &url, rounds, concurrency);
            let request = Request::get(&path, i64::try_from(size).unwrap_or(0));
            asked.extend((0..2 * rounds).map(|_| request.clone()));
            asked.extend(self.keep_alive(scenario, wrap, port, &path, rounds, concurrency));
        }
        asked
    }

    fn keep_alive(
        &self,
        scenario: &Scenario,
        wrap: &[String],
        port: u16,
        path: &str,
        rounds: u64,
        concurrency: usize,
    ) -> Vec<Request> {
        let prefix = &path[..path[1..].find('/').map_or(path.len(), |at| at + 2)];
        let (missing, post) = (format!("{prefix}missing"), format!("POST:{prefix}echo"));
        let second = if prefix == "/static/" { path } else { &post };
        let name = format!("client-{}-{concurrency}", prefix.trim_matches('/'));
        let (rounds, width) = (rounds.to_string(), concurrency.to_string());
        let port = port.to_string();
        let arguments = [
            ["--host", &self.host, "--port", &port, "--requests", &rounds],
            ["--concurrency", &width, "--path", path, "--path", second],
        ]
        .concat();
        let arguments = [&arguments[..], &["--path", &missing]].concat();
        let client = Python::start(scenario, &name, "client.py", &arguments, wrap);
        let (_, log) = client.finish(Duration::from_secs(120));
        log.iter().filter_map(|line| Request::of_log(line, "", "")).collect()
    }

    fn stop(self) -> (Vec<Access>, Vec<Value>) {
        // The agent has looked by now: nothing more is asked.
        let access = self.nginx.stop();
        let mut log = self.tcp.stop();
        log.extend(self.unix.stop());
        (access, log)
    }
}

fn under<'a>(spans: &[&'a Span], prefixes: &[&str]) -> Vec<&'a Span> {
    let of = |span: &&&Span| prefixes.iter().any(|prefix| span.path().starts_with(prefix));
    spans.iter().filter(of).copied().collect()
}

fn sorted<'a, T, K: Ord>(items: &'a [T], key: impl Fn(&'a T) -> K) -> Vec<K> {
    let mut keys: Vec<K> = items.iter().map(key).collect();
    keys.sort();
    keys
}

fn exact_counts(name: &str, scenario: &Scenario, host: &str, wraps: [Vec<String>; 2]) {
    let [near, far] = wraps;
    let servers = Servers::start(scenario, host, &far);
    let agent = Agent::run(scenario, &[]);
    let mut asked = servers.ask(scenario, &near, 1);
    asked.extend(servers.ask(scenario, &near, 32));
    let report = agent.stop();
    let (ports, pids) = ([servers.port, servers.direct], servers.pids.clone());
    let (access, log) = servers.stop();

    let spans: Vec<&Span> = report
        .telemetry
        .spans
        .iter()
        .filter(|span| {
            let own = ["/behind-tcp/", "/behind-unix/", "/direct/"];
            pids.iter().any(|pid| i64::from(*pid) == span.pid())
                || ports.iter().any(|port| span.touches(*port))
                || FRONT.iter().chain(&own).any(|prefix| span.path().starts_with(prefix))
        })
        .collect();
    let front: Vec<Request> =
        asked.iter().filter(|r| FRONT.iter().any(|p| r.path.starts_with(p))).cloned().collect();
    let logged = |prefix: &str| -> Vec<Request> {
        let own = log.iter().filter_map(|line| Request::of_log(line, "", ""));
        own.filter(|request| request.path.starts_with(prefix)).collect()
    };
    // The programs agree among themselves before the agent is judged.
    assert_eq!(
        sorted(&access, |line| (&line.method, &line.path, line.status, line.body)),
        sorted(&front, |r| (&r.method, &r.path, r.status, r.response_body)),
        "access log and clients"
    );
    let direct = logged("/direct/");
    assert_eq!(direct.len(), asked.len() - front.len(), "server log and clients");
    let behind = [logged("/behind-tcp/"), logged("/behind-unix/")].concat();

    let mut complaints = judge(&under(&spans, &FRONT), &front);
    complaints.extend(judge(&under(&spans, &["/behind-"]), &behind));
    complaints.extend(judge(&under(&spans, &["/direct/"]), &direct));
    let known = ["/static/", "/tcp/", "/unix/", "/behind-", "/direct/"];
    let strange = spans.iter().filter(|s| !known.iter().any(|p| s.path().starts_with(p)));
    complaints.extend(strange.map(|span| format!("no such request: {}", span.brief())));
    assert!(complaints.is_empty(), "{name}:\n{}", complaints.join("\n"));
    say(&format!(
        "{name}: {} requests, {} spans, all pairs joined",
        front.len() + behind.len() + direct.len(),
        spans.len()
    ));
}

#[test]
fn on_one_host() {
    let Some(scenario) = Scenario::begin("counts", &["nginx", "curl", "ab"]) else { return };
    exact_counts("counts", &scenario, "127.0.0.1", [vec![], vec![]]);
}

#[test]
fn in_namespaces_of_their_own() {
    let Some(scenario) = Scenario::begin("counts in namespaces", &["nginx", "curl", "ab", "ip"])
    else {
        return;
    };
    let pair = Netns::pair();
    let wraps = [pair.wrap(0), pair.wrap(1)];
    exact_counts("counts in namespaces", &scenario, pair.addresses[1], wraps);
}

#[test]
fn under_full_load() {
    const CONNECTIONS: usize = 32;
    let Some(scenario) = Scenario::begin("counts under load", &["nginx", "wrk"]) else { return };
    Nginx::page(&scenario, "load", 500);
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let nginx = Nginx::start(&scenario, &listen, &[("/", Location::Static)], &[]);
    let agent = Agent::run(&scenario, &["--ring-size", "64MiB"]);
    let asked = wrk(&scenario, &format!("http://{listen}/load"), CONNECTIONS, 2);
    let report = agent.stop();
    let access = nginx.stop();

    let spans = report.telemetry.on_ports(&[port]);
    let of = |kind: Kind| spans.iter().copied().filter(move |span| span.kind == kind);
    let (servers, clients): (Vec<_>, Vec<_>) =
        (of(Kind::Server).collect(), of(Kind::Client).collect());
    let whole = clients.iter().filter(|span| !span.error && span.status() == Some(200)).count();
    let cut = clients.iter().filter(|span| span.error).count();
    let asked = usize::try_from(asked).unwrap_or(0);
    say(&format!(
        "wrk: {asked} responses, {} log lines, {whole} whole and {cut} cut client spans, {} server",
        access.len(),
        servers.len()
    ));
    assert_eq!(whole + cut, clients.len(), "a client span is whole or an error");
    // A ring that waits for a processor too long takes no new requests: whole ends of them, counted.
    let shed = report.ledger.cause("shed_requests_ring_nearly_full");
    if shed > 0 {
        let (ends, seen) = (asked + access.len(), whole + servers.len());
        let known = seen + usize::try_from(shed).unwrap_or(0);
        assert!(known.abs_diff(ends) <= 4 * CONNECTIONS, "{seen} seen and {shed} shed of {ends}");
        return say(&format!("counts under load: {shed} ends of requests shed, all counted"));
    }
    assert!(whole.abs_diff(asked) <= CONNECTIONS, "{whole} whole client spans of {asked}");
    assert!(cut <= CONNECTIONS, "{cut} cut spans on {CONNECTIONS} connections");
    assert!(servers.len().abs_diff(access.len()) <= CONNECTIONS, "server spans and log lines");
    let complaints = pairs(&servers, &clients);
    assert!(complaints.is_empty(), "{}", complaints[..complaints.len().min(20)].join("\n"));
}
