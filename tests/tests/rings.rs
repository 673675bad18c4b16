//! Several payload rings: each has its own thread and its own connections, and what comes out is
//! what one ring gives.

use kernspan_tests::agent::{Agent, Report};
use kernspan_tests::client::{ab, curl};
use kernspan_tests::counts::{Request, judge};
use kernspan_tests::nginx::{Location, Nginx};
use kernspan_tests::otlp::{Span, Telemetry};
use kernspan_tests::process::{Process, free_port, until};
use kernspan_tests::python::Python;
use kernspan_tests::recording::Recording;
use kernspan_tests::scenario::{Scenario, binary, say};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

const RINGS: &str = "4";
const SIZE: usize = 700;
/// Connections that stay open.
const KEPT: usize = 40;

/// nginx before a Python server, asked by several clients one by one and at once.
struct Load {
    nginx: Nginx,
    server: Python,
    listen: String,
}

impl Load {
    fn start(scenario: &Scenario) -> Load {
        let (port, behind) = (free_port(), free_port());
        let number = behind.to_string();
        let server = Python::serve(scenario, "server", "server.py", &["--port", &number], &[]);
        let listen = format!("127.0.0.1:{port}");
        let proxied = [("/tcp/", Location::Tcp(behind))];
        let nginx = Nginx::start(scenario, &listen, &proxied, &[]);
        Load { nginx, server, listen }
    }

    fn ask(&self, scenario: &Scenario) -> Vec<Request> {
        let path = format!("/tcp/size/{SIZE}");
        let url = format!("http://{}{path}", self.listen);
        let urls = |count: usize| vec![url.clone(); count];
        curl(scenario, &[], &urls(20), 1);
        curl(scenario, &[], &urls(100), 16);
        ab(scenario, &[], &url, 1000, 32);
        vec![Request::get(&path, SIZE as i64); 1120]
    }

    /// Connections that stay open, with a request on each.
    fn keep(&self, asked: &mut Vec<Request>) -> Vec<TcpStream> {
        let path = format!("/tcp/size/{SIZE}");
        let kept = (0..KEPT).map(|_| {
            let mut stream = TcpStream::connect(&self.listen).expect("nginx listens");
            write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("it takes requests");
            let mut response = Vec::new();
            while !is_whole(&response) {
                let mut part = [0; 4096];
                let len = stream.read(&mut part).expect("a response");
                assert!(len > 0, "nginx closed: {}", String::from_utf8_lossy(&response));
                response.extend_from_slice(&part[..len]);
            }
            asked.push(Request::get(&path, SIZE as i64));
            stream
        });
        kept.collect()
    }

    fn stop(self) {
        drop(self.nginx.stop());
        drop(self.server.stop());
    }
}

#[test]
fn several_rings_give_what_one_gives() {
    let needed = ["nginx", "curl", "ab"];
    let Some(scenario) = Scenario::begin("several rings", &needed) else { return };
    let load = Load::start(&scenario);
    let agent = Agent::record(&scenario, "rings.rec", &["--payload-rings", RINGS]);
    let mut asked = load.ask(&scenario);
    let kept = load.keep(&mut asked);
    // What the rings' threads publish is late by half a second, and more on a busy machine.
    let status = until("the census has them all", Duration::from_secs(30), || {
        let status = agent.status();
        has_them_all(&status, std::process::id()).then_some(status)
    });
    drop(kept);
    let report = agent.stop();
    load.stop();

    let fronts: Vec<&Span> = report.telemetry.under("/tcp/");
    let behind: Vec<Request> = asked
        .iter()
        .map(|request| Request {
            path: request.path.replace("/tcp/", "/behind-tcp/"),
            ..request.clone()
        })
        .collect();
    let mut complaints = judge(&fronts, &asked);
    complaints.extend(judge(&report.telemetry.under("/behind-tcp/"), &behind));
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert_eq!(report.ledger.imbalances(), Vec::<String>::new());
    for stage in [("kernel_payload", "records"), ("ring", "records"), ("queue", "requests")] {
        let [came, lost] = ["in", "lost"].map(|side| report.ledger.count(stage.0, stage.1, side));
        assert!(came > 0 && lost == 0, "{stage:?}: {came} came, {lost} lost");
    }

    each_ring_did_its_part(&scenario, &status);
    let spans = report.telemetry.spans.len();
    replays_to_the_same(&scenario, &report);
    say(&format!("{RINGS} rings: {} requests, {spans} spans, replayed to the same", asked.len()));
}

/// There is a head, and the body behind it.
fn is_whole(response: &[u8]) -> bool {
    let head = response.windows(4).position(|end| end == b"\r\n\r\n");
    head.is_some_and(|head| response.len() >= head + 4 + SIZE)
}

/// What each shard has of a process is added up.
fn has_them_all(status: &serde_json::Value, pid: u32) -> bool {
    let rows = status["connections"].as_array().expect("a list of processes");
    let of: Vec<_> = rows.iter().filter(|row| row["pid"] == pid).collect();
    assert!(of.len() <= 1, "one row a process: {of:?} of {rows:?}");
    of.iter().any(|row| row["http1"] == KEPT)
}

fn each_ring_did_its_part(scenario: &Scenario, status: &serde_json::Value) {
    let recording = Recording::load(&scenario.path("rings.rec"));
    let rings = recording.payload_rings();
    assert_eq!(rings.len().to_string(), RINGS, "{rings:?}");
    let all: u64 = rings.iter().map(|ring| ring.decoded).sum();
    for ring in &rings {
        assert!(ring.decoded * 20 > all, "a ring that hardly anything went to: {rings:?}");
        assert_eq!((ring.tried, ring.lost, ring.missing), (ring.decoded, 0, 0), "{ring:?}");
        let shown = &status["payload_rings"][usize::from(ring.ring) - 1];
        assert_eq!(shown["ring"], ring.ring, "{status:#}");
        assert!(shown["read"].as_u64().is_some_and(|read| read > 0), "{shown}");
        assert_eq!(shown["lost"], 0, "{shown}");
    }
    let sockets = recording.rings_of_sockets();
    let mut cookies: Vec<u64> = sockets.iter().map(|(cookie, _)| *cookie).collect();
    cookies.dedup();
    assert_eq!(cookies.len(), sockets.len(), "a socket in several rings");
}

fn replays_to_the_same(scenario: &Scenario, live: &Report) {
    let mut command = Command::new(binary());
    command
        .args(["replay", "rings.rec", "--output", "json:replayed.json"])
        .current_dir(scenario.dir());
    Process::start(command, scenario.dir(), "replay").succeed(Duration::from_secs(60));
    let replayed = Telemetry::load(&scenario.path("replayed.json"));
    let ordered = |telemetry: &Telemetry| {
        let spans = telemetry.spans.iter().map(|span| format!("{span:?}"));
        let logs = telemetry.logs.iter().map(|log| format!("{log:?}"));
        let mut texts: Vec<String> = spans.chain(logs).collect();
        texts.sort_unstable();
        texts
    };
    let (live, replayed) = (ordered(&live.telemetry), ordered(&replayed));
    let differing = live.iter().zip(&replayed).find(|(one, other)| one != other);
    assert!(live == replayed, "{} and {}: {differing:#?}", live.len(), replayed.len());
}
