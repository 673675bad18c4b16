//! More connections over TLS, held open at once, than the table of plaintext once had room for (16,384 ends).

use kernspan_tests::agent::Agent;
use kernspan_tests::certificates::Certificates;
use kernspan_tests::counts::{Request, judge};
use kernspan_tests::golang::build_of;
use kernspan_tests::https::SIZE;
use kernspan_tests::otlp::Kind;
use kernspan_tests::process::{Process, free_port, until};
use kernspan_tests::scenario::{Scenario, say, scaled};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(300);

/// Requests on each connection: one when it is new, and one when all others have been used since.
const ROUNDS: u64 = 2;

/// Has a client hold so many connections to a server at each port, both on this machine, and ask on each of them
/// in every round.
fn hold(
    scenario: &Scenario,
    program: &Path,
    certificates: &Certificates,
    ports: &[String],
    connections: u64,
) {
    let [certificate, key] = ["server.crt", "server.key"].map(|name| certificates.file(name));
    let mut programs = Vec::new();
    for port in ports {
        let mut server = Command::new(program);
        server.args(["--port", port, "--certificate", &certificate, "--key", &key]);
        let server = Process::start(server, scenario.dir(), &format!("server-{port}"));
        until("the server is ready", LIMIT, || server.stdout().contains("ready").then_some(()));
        let mut client = Command::new(program);
        client.args(["--url", &format!("https://127.0.0.1:{port}/many"), "--wait", "300ms"]);
        client.args(["--concurrency", &connections.to_string(), "--rounds", &ROUNDS.to_string()]);
        programs.push((Process::start(client, scenario.dir(), &format!("client-{port}")), server));
    }
    for (client, _server) in programs {
        client.succeed(LIMIT);
    }
}

/// Every request on each of them is a span at both ends.
#[test]
fn many_connections_over_tls_are_read_to_their_end() {
    let Some(scenario) = Scenario::begin("tls of many connections", &["go", "openssl"]) else {
        return;
    };
    let certificates = Certificates::make(&scenario);
    let program = build_of(&scenario, "workloads/gotls", "many", "local", &[]).expect("go");
    let agent = Agent::run(&scenario, &["--ring-size", "64MiB"]);
    // A process has 20,000 descriptors at most on some machines.
    let (servers, each) = (scaled(1, 2), scaled(9_000, 10_000));
    let ports: Vec<_> = (0..servers).map(|_| free_port().to_string()).collect();
    hold(&scenario, &program, &certificates, &ports, each);
    let connections = servers * each;
    let report = agent.stop();
    let truth = vec![Request::get("/many", SIZE as i64); (ROUNDS * connections) as usize];
    let complaints = judge(&report.telemetry.under("/many"), &truth);
    assert!(complaints.is_empty(), "{}\n{:?}", complaints.join("\n"), report.ledger);
    say(&format!("tls of many connections: {connections}, {ROUNDS} requests each, all joined"));
}

/// Where there are more than there is room for (8,192 ends with 64 MiB), the rest is left out whole, and counted.
#[test]
fn connections_without_room_are_counted() {
    let Some(scenario) = Scenario::begin("tls without room", &["go", "openssl"]) else { return };
    let certificates = Certificates::make(&scenario);
    let program = build_of(&scenario, "workloads/gotls", "many", "local", &[]).expect("go");
    // Nobody else's connections, which would give room when they end.
    let port = free_port().to_string();
    let agent = Agent::run(&scenario, &["--max-memory", "64MiB", "--port", &port]);
    let connections = 5_000;
    hold(&scenario, &program, &certificates, &[port], connections);
    let report = agent.stop();
    let ledger = &report.ledger;
    let without = ledger.cause("tls_sockets_without_room");
    assert_eq!(without, 2 * connections - 8_192, "{ledger:?}");
    let spans = report.telemetry.under("/many");
    let ends = |kind| spans.iter().filter(|span| span.kind == kind).count() as u64;
    let (clients, servers) = (ends(Kind::Client), ends(Kind::Server));
    let requests = ROUNDS * connections;
    let lacking = 2 * requests - clients - servers;
    assert!(clients <= requests && servers <= requests, "{clients} {servers}: {ledger:?}");
    assert_eq!(lacking, ROUNDS * without, "{clients} {servers}: {ledger:?}");
    let right = |span: &&&kernspan_tests::otlp::Span| span.status() == Some(200);
    assert_eq!(spans.iter().filter(right).count(), spans.len(), "{ledger:?}");
    // A request that is not read is a call that takes it and one that gives the answer, or the other way round.
    assert!(ledger.cause("tls_unmatched") >= 2 * lacking, "{ledger:?}");
    say(&format!("tls without room: {without} ends of {connections} connections, counted exactly"));
}
