//! `kernspan doctor` on a machine with an ordinary service, an encrypted one, one of an unknown protocol, and one
//! that uses io_uring: each is named rightly, and its bytes are those that its clients have counted.

use kernspan_tests::agent::{Agent, once};
use kernspan_tests::certificates::Certificates;
use kernspan_tests::client::curl_with;
use kernspan_tests::doctor::{bytes, doctor, process};
use kernspan_tests::https::{Program, SIZE as PAGE, Server};
use kernspan_tests::jvm::Jvm;
use kernspan_tests::nginx::{Location, Nginx};
use kernspan_tests::process::{Process, free_ports, until};
use kernspan_tests::scenario::{Scenario, say, skip};
use kernspan_tests::uring;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

/// Bytes of a page, and of a value.
const SIZE: usize = 20_000;

/// A connection that counts what it moves.
struct Counted<S> {
    socket: S,
    sent: u64,
    received: u64,
}

impl<S: Read + Write> Counted<S> {
    fn new(socket: S) -> Counted<S> {
        Counted { socket, sent: 0, received: 0 }
    }

    /// Sends `bytes` and reads until the answer `is_whole`.
    fn ask(&mut self, bytes: &[u8], is_whole: impl Fn(&[u8]) -> bool) {
        self.socket.write_all(bytes).expect("sent");
        self.sent += bytes.len() as u64;
        let mut answer = Vec::new();
        let mut room = vec![0; 64 << 10];
        while !is_whole(&answer) {
            let read = self.socket.read(&mut room).expect("an answer");
            assert!(read > 0, "closed: {}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&room[..read]);
            self.received += read as u64;
        }
    }

    fn moved(&self) -> u64 {
        self.sent + self.received
    }
}

fn request(path: &str) -> Vec<u8> {
    format!("GET /{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").into_bytes()
}

/// A head, and the page behind it.
fn has_page(answer: &[u8]) -> bool {
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n");
    head.is_some_and(|at| answer.len() == at + 4 + SIZE)
}

fn start_redis(scenario: &Scenario, port: u16) -> Process {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
    let mut redis = Process::start(command, scenario.dir(), "redis");
    until("redis", LIMIT, || {
        assert!(redis.is_running(), "{}", redis.tail());
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
    redis
}

fn start_uring(scenario: &Scenario) -> (Process, UnixStream) {
    let path = scenario.path("ring.sock");
    let mut command = Command::new(env!("CARGO_BIN_EXE_uring_http"));
    command.args(["serve", "uring-unix"]).arg(&path);
    let mut server = Process::start(command, scenario.dir(), "uring");
    until("the server with a ring", LIMIT, || {
        assert!(server.is_running(), "{}", server.tail());
        server.stdout().contains("ready").then_some(())
    });
    let stream = UnixStream::connect(path).expect("connected");
    (server, stream)
}

fn redis_set(redis: &mut Counted<TcpStream>, times: usize) {
    let value = "v".repeat(SIZE);
    let set = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${SIZE}\r\n{value}\r\n");
    for _ in 0..times {
        redis.ask(set.as_bytes(), |answer| answer == b"+OK\r\n");
    }
}

/// `code` is advised for the service of this process.
fn is_advised(told: &Value, code: &str, process: &Value) -> bool {
    let all = told["advice"].as_array().expect("advice");
    let mut found = all.iter().filter(|advice| advice["code"] == code);
    found.any(|advice| {
        advice["services"].as_array().is_some_and(|them| them.contains(&process["service"]))
    })
}

#[test]
fn each_kind_of_service_is_named_rightly() {
    let needed = ["nginx", "redis-server", "java", "openssl", "curl", "python3"];
    let Some(scenario) = Scenario::begin("doctor", &needed) else { return };
    if !uring::is_allowed() {
        return skip("doctor", "io_uring is disabled on this machine");
    }
    let [web, cache] = free_ports();
    Nginx::page(&scenario, "page", SIZE);
    let nginx =
        Nginx::start(&scenario, &format!("127.0.0.1:{web}"), &[("/", Location::Static)], &[]);
    let redis = start_redis(&scenario, cache);
    let certificates = Certificates::make(&scenario);
    let Jvm { process: java, secure, .. } = Jvm::start(&scenario, &certificates);
    let read = Server::start(&scenario, Program::Python, &certificates);
    let agent = Agent::run(&scenario, &[]);
    // After the agent, which looks for rings as they are made; and what is sent by it is not shown.
    let (uring, stream) = start_uring(&scenario);

    let connect = |port| Counted::new(TcpStream::connect(("127.0.0.1", port)).expect("connected"));
    let (mut page, mut gone) = (connect(web), connect(cache));
    for _ in 0..20 {
        page.ask(&request("page"), has_page);
    }
    // One connection that has ended, and one that lives.
    redis_set(&mut gone, 3);
    let gone = gone.moved();
    let mut kept = connect(cache);
    redis_set(&mut kept, 5);
    let mut ring = Counted::new(stream);
    for number in 0..60 {
        let end = format!("you asked for /{number}\n");
        ring.ask(&request(&number.to_string()), |answer| answer.ends_with(end.as_bytes()));
    }
    let url = format!("https://127.0.0.1:{secure}/doctor/size/{SIZE}");
    for url in [url, read.url()] {
        curl_with(&scenario, &["--insecure", "--http1.1"], &vec![url; 10], 1);
    }

    let began = Instant::now();
    let told = doctor(&scenario, &["--agent", &agent.address().to_string()]);
    let took = began.elapsed();
    let text = once(&scenario, "doctor-text", &["doctor"]).stdout;
    say(&text);

    assert_eq!(told["programs"]["source"]["kind"], "agent");
    // The ordinary one.
    let workers: Vec<_> = nginx.pids().iter().map(|pid| process(&told, *pid)).collect();
    let decoded: u64 = workers.iter().map(|one| bytes(one, "decoded")).sum();
    let all: u64 = workers.iter().filter_map(|one| one["seen"]["total_bytes"].as_u64()).sum();
    assert_eq!((decoded, all), (page.moved(), page.moved()), "nginx: {workers:#?}");
    assert_eq!(workers[0]["service"], "nginx");
    // The unknown one: both connections to the byte.
    let one = process(&told, redis.pid());
    assert_eq!(bytes(one, "unknown"), gone + kept.moved(), "{one:#}");
    assert_eq!(one["seen"]["total_bytes"], gone + kept.moved(), "{one:#}");
    assert_eq!(one["seen"]["protocols"][0], "Redis");
    assert_eq!(one["service"], "redis-server");
    assert!(is_advised(&told, "protocol_not_parsed", one), "{:#}", told["advice"]);
    // The encrypted one.
    let one = process(&told, java.pid());
    let encrypted = bytes(one, "encrypted");
    let least = 10 * SIZE as u64;
    assert!((least..3 * least).contains(&encrypted), "{one:#}");
    assert_eq!(one["seen"]["total_bytes"], encrypted, "{one:#}");
    assert_eq!(one["tls"][0]["library"], "JSSE (Java)");
    assert_eq!(one["tls"][0]["read"], false);
    assert_eq!(one["resource"]["telemetry.sdk.language"], "java");
    assert!(is_advised(&told, "tls_java", one), "{:#}", told["advice"]);
    // TLS that is read: all of the socket's bytes, and they are more than those of its plaintext.
    let them: Vec<_> = read.pids().iter().map(|pid| process(&told, *pid)).collect();
    let decoded: u64 = them.iter().map(|one| bytes(one, "decoded")).sum();
    let all: u64 = them.iter().filter_map(|one| one["seen"]["total_bytes"].as_u64()).sum();
    assert!(decoded == all && decoded > 10 * PAGE as u64, "TLS that is read: {them:#?}");
    // The one with a ring: what it receives is read from packets, what it sends on a unix socket is not.
    let one = process(&told, uring.pid());
    assert_eq!(one["io_uring"], true);
    let unreachable = bytes(one, "unreachable");
    // The first receive may come before the agent has noticed that there is a ring.
    assert!((ring.received..ring.moved()).contains(&unreachable), "{one:#}");
    assert_eq!(one["seen"]["total_bytes"], ring.moved(), "{one:#}");
    assert!(is_advised(&told, "io_uring_unix", one), "{:#}", told["advice"]);
    // For people: the agent is found, and each has its line.
    for (service, part) in [
        ("nginx", "100    0"),
        ("redis-server", "100"),
        ("uring_http", "-"),
        ("Secure", "not JSSE"),
    ] {
        let row = text.lines().find(|line| line.trim_start().starts_with(service));
        assert!(row.is_some_and(|row| row.contains(part)), "{service}: {text}");
    }
    assert!(text.contains(&format!("by the agent at {}", agent.address())), "{text}");
    assert!(text.contains("What to do"), "{text}");
    drop(agent.stop());

    // Nobody watches: only /proc speaks, and says so.
    let told = doctor(&scenario, &[]);
    let kind = &told["programs"]["source"]["kind"];
    assert_eq!(kind, "none", "{:#}", told["programs"]["remarks"]);
    assert_eq!(process(&told, redis.pid())["seen"], Value::Null);
    assert!(told["advice"].as_array().is_some_and(|all| all[0]["code"] == "no_agent"));

    // By its own probes, of a connection that is older than they are.
    let stop = std::sync::atomic::AtomicBool::new(false);
    let told = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                redis_set(&mut kept, 1);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let told = doctor(&scenario, &["--for", "3s"]);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        told
    });
    assert_eq!(told["programs"]["source"]["kind"], "own");
    let one = process(&told, redis.pid());
    assert!(bytes(one, "unknown") > 0 && one["seen"]["protocols"][0] == "Redis", "{one:#}");
    drop((nginx, redis, java, uring));
    say(&format!("doctor: four kinds of services, asked in {took:?}"));
}
