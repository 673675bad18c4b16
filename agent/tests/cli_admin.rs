//! The admin endpoint over real sockets, with clients that behave and clients that do not.

#![expect(clippy::unwrap_used, reason = "a test helper that fails fails its test")]

use agent::admin::{self, Gauge, StatusSource};
use agent_core::ledger::{Entry, Side};
use agent_core::request::{BOUNDS, Bucketed, Number, Numbers};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

#[derive(Default)]
struct Source {
    ready: AtomicBool,
    looks: AtomicU64,
}

impl StatusSource for Source {
    fn ready(&self) -> Result<(), String> {
        let ready = self.ready.load(Ordering::Relaxed);
        if ready { Ok(()) } else { Err("probes are being attached".to_owned()) }
    }

    fn ledger(&self) -> Vec<Entry> {
        let lost = Side::Lost("ring_full");
        vec![Entry { stage: "ring", unit: "records", side: lost, count: 7 }]
    }

    fn status(&self) -> serde_json::Value {
        serde_json::json!({"ledger": admin::ledger_json(&self.ledger())})
    }

    fn ask(&self) -> u64 {
        5
    }

    /// At the third look.
    fn processes(&self, asked: u64) -> Option<serde_json::Value> {
        let looks = self.looks.fetch_add(1, Ordering::Relaxed);
        (looks >= 2).then(|| serde_json::json!({"asked": asked}))
    }

    fn gauges(&self) -> Vec<Gauge> {
        let labels = vec![("protocol", "tls".to_owned())];
        vec![Gauge { name: "kernspan_connections", help: "By kind.", labels, value: 2.0 }]
    }

    /// More than one piece of text.
    fn requests(&self) -> Arc<Numbers> {
        let one = |at: usize| Bucketed {
            name: "http.server.request.duration",
            labels: vec![("service_name", format!("service{at}"))],
            bounds: &BOUNDS,
            counts: vec![1; BOUNDS.len() + 1],
            sum: 1.5,
        };
        let labels = vec![("client", "a".to_owned()), ("server", "b".to_owned())];
        let edge = Number { name: "traces_service_graph_request_total", labels, value: 3 };
        Arc::new(((0..500).map(one).collect(), vec![edge]))
    }
}

struct Running {
    address: SocketAddr,
    source: Arc<Source>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

fn start() -> Running {
    let server = admin::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let (address, source) = (server.address, Arc::new(Source::default()));
    let shared: Arc<dyn StatusSource> = source.clone();
    let task = tokio::spawn(server.serve(shared, async {
        let _ = stopped.await;
    }));
    Running { address, source, stop, task }
}

/// Sends bytes and reads until the server closes.
async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    talk(TcpStream::connect(address).await.unwrap(), request).await
}

async fn talk(mut stream: TcpStream, request: &[u8]) -> String {
    // The server may refuse before it has read all: then the rest of the send fails.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer));
    let _ = read.await.expect("the server neither answers nor closes");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn ask(address: SocketAddr, method: &str, path: &str) -> String {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    exchange(address, request.as_bytes()).await
}

#[tokio::test]
async fn who_is_elsewhere_gets_what_probes_and_scrapers_need() {
    // Loopback has more addresses than the one that is here: another is a stranger's, as behind a proxy.
    let elsewhere = |address: SocketAddr| async move {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.6:0".parse().unwrap()).unwrap();
        socket.connect(address).await.unwrap()
    };
    for (exposed, status) in [(false, "403 Forbidden"), (true, "200 OK")] {
        let server = admin::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let server = server.exposing_status(exposed);
        let (address, source) = (server.address, Arc::new(Source::default()));
        tokio::spawn(server.serve(source, std::future::pending()));
        for (path, expected) in [
            ("/livez", "200 OK"),
            ("/readyz", "503 Service"),
            ("/metrics", "200 OK"),
            ("/", "200 OK"),
            ("/status", status),
            ("/processes", status),
            ("/status?x=1", status),
        ] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let answer = talk(elsewhere(address).await, request.as_bytes()).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{path}: {answer}");
            let told = answer.contains("--expose-status") && !answer.contains("ring_full");
            assert_eq!(told, expected == "403 Forbidden", "{path}: {answer}");
        }
        assert!(ask(address, "GET", "/status").await.contains("ring_full"), "this host");
    }
}

#[tokio::test]
async fn every_page_answers() {
    let server = start();
    for (why, method, path, status, part) in [
        ("live", "GET", "/livez", "200 OK", "live\n"),
        ("not ready", "GET", "/readyz", "503 Service", "not ready: probes are being attached\n"),
        (
            "ledger",
            "GET",
            "/metrics",
            "200 OK",
            "kernspan_ring_records_total{side=\"lost\",cause=\"ring_full\"} 7\n",
        ),
        ("gauge", "GET", "/metrics", "200 OK", "kernspan_connections{protocol=\"tls\"} 2\n"),
        ("memory", "GET", "/metrics", "200 OK", "# TYPE process_resident_memory_bytes gauge\n"),
        ("type", "GET", "/metrics", "200 OK", "text/plain; version=0.0.4"),
        ("not ready metric", "GET", "/metrics", "200 OK", "kernspan_ready 0\n"),
        ("status", "GET", "/status", "200 OK", "\"cause\": \"ring_full\""),
        ("processes, once they are known", "GET", "/processes", "200 OK", "\"asked\": 5"),
        ("query is ignored", "GET", "/livez?verbose", "200 OK", "live\n"),
        ("list", "GET", "/", "200 OK", "/status\n/processes\n"),
        ("unknown", "GET", "/livez/", "404 Not Found", ""),
        ("unknown post", "POST", "/x", "404 Not Found", ""),
        ("post", "POST", "/metrics", "405 Method", "allow: GET, HEAD\r\n"),
        ("connect", "OPTIONS", "/livez", "405 Method", ""),
    ] {
        let answer = ask(server.address, method, path).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{why}: {answer}");
        assert!(answer.contains(part), "{why}: {answer}");
    }
    server.source.ready.store(true, Ordering::Relaxed);
    assert!(ask(server.address, "GET", "/readyz").await.ends_with("\r\n\r\nready\n"));
    let head = ask(server.address, "HEAD", "/livez").await;
    assert!(head.contains("content-length: 5") && head.ends_with("\r\n\r\n"), "{head}");
}

#[tokio::test]
async fn a_page_of_many_pieces_comes_whole() {
    let server = start();
    let edge = "traces_service_graph_request_total{client=\"a\",server=\"b\"} 3\n";
    // HTTP/1.0 knows no pieces: its clients read to the end.
    for (request, framed) in [
        ("GET /metrics HTTP/1.0\r\n\r\n", false),
        ("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", true),
    ] {
        let answer = exchange(server.address, request.as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert_eq!(head.contains("transfer-encoding: chunked"), framed, "{head}");
        assert!(body.contains(edge), "{head}");
        let counts = |at: usize| {
            let line = format!(
                "http_server_request_duration_seconds_count{{service_name=\"service{at}\"}} 15\n"
            );
            body.matches(&line).count()
        };
        assert!(framed || (0..500).all(|at| counts(at) == 1));
        assert!(body.len() > 500 * 17 * 60);
        assert_eq!(body.ends_with("\r\n0\r\n\r\n"), framed);
    }
    let head = ask(server.address, "HEAD", "/metrics").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = start();
    let mut request = String::new();
    for path in ["/livez", "/readyz", "/nothing", "/livez"] {
        request.push_str(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    }
    request.push_str("GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answers = exchange(server.address, request.as_bytes()).await;
    let codes: Vec<&str> =
        answers.split("HTTP/1.1 ").skip(1).filter_map(|answer| answer.get(..3)).collect();
    assert_eq!(codes, ["200", "503", "404", "200", "200"], "{answers}");
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let server = start();
    let long = format!("GET /livez HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(64 << 10));
    let many = format!("GET /livez HTTP/1.1\r\n{}\r\n", "X: a\r\n".repeat(500));
    let endless = vec![b'a'; 1 << 20];
    for (why, request, status) in [
        ("oversized header", long.as_bytes(), "HTTP/1.1 431"),
        ("many headers", many.as_bytes(), "HTTP/1.1 431"),
        ("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", "HTTP/1.1 400"),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""),
    ] {
        let answer = exchange(server.address, request).await;
        assert!(answer.starts_with(status), "{why}: {answer}");
        assert!(!answer.contains("200 OK"), "{why}: {answer}");
    }
    let answer = exchange(server.address, &endless).await;
    assert!(!answer.contains("200 OK"), "a line without end: {answer}");
    assert!(ask(server.address, "GET", "/livez").await.ends_with("live\n"));
}

#[tokio::test]
async fn a_slow_client_is_left_and_a_half_closed_one_answered() {
    let server = start();
    let slow = async {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let start = Instant::now();
        // A byte each half second never is a whole header.
        for byte in b"GET /livez HTTP/1.1\r\nX-Slow: aaaaaaaaaaaaaaaaaaaa" {
            if stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            let mut answer = [0; 1];
            let read = timeout(Duration::from_millis(500), stream.read(&mut answer)).await;
            if matches!(read, Ok(Ok(0) | Err(_))) {
                break;
            }
        }
        start.elapsed()
    };
    let half = async {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        let read = timeout(Duration::from_secs(10), stream.read_to_string(&mut answer));
        read.await.unwrap().unwrap();
        answer
    };
    let (slow, half) = tokio::join!(slow, half);
    assert!((4..20).contains(&slow.as_secs()), "left after {slow:?}");
    assert!(half.ends_with("live\n"), "{half}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_are_all_answered() {
    let server = start();
    let clients: Vec<JoinHandle<String>> = (0..1000)
        .map(|_| {
            let address = server.address;
            tokio::spawn(async move {
                // Kept open by the client: the server has to end it to get at the others.
                let request = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(request).await.unwrap();
                let mut answer = vec![0; 4096];
                let mut len = 0;
                while !answer.get(..len).unwrap().ends_with(b"live\n") {
                    let rest = answer.get_mut(len..).unwrap();
                    let read = timeout(Duration::from_secs(60), stream.read(rest)).await;
                    match read.expect("no answer") {
                        Ok(0) | Err(_) => break,
                        Ok(more) => len += more,
                    }
                }
                answer.truncate(len);
                String::from_utf8(answer).unwrap()
            })
        })
        .collect();
    let mut answered = 0;
    for client in clients {
        let answer = client.await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        answered += 1;
    }
    assert_eq!(answered, 1000);
    assert!(ask(server.address, "GET", "/livez").await.ends_with("live\n"));
}

#[tokio::test]
async fn idle_connections_do_not_keep_others_out_for_long() {
    let server = start();
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(TcpStream::connect(server.address).await.unwrap());
    }
    let start = Instant::now();
    assert!(ask(server.address, "GET", "/livez").await.ends_with("live\n"));
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[tokio::test]
async fn it_stops_in_time_with_clients_connected() {
    let server = start();
    let mut kept = TcpStream::connect(server.address).await.unwrap();
    kept.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut first = [0; 15];
    kept.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    let start = Instant::now();
    server.stop.send(()).unwrap();
    server.task.await.unwrap();
    // The client would stay for ever.
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let mut rest = Vec::new();
    timeout(Duration::from_secs(10), kept.read_to_end(&mut rest)).await.unwrap().unwrap();
    TcpStream::connect(server.address).await.expect_err("still listening");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let server = start();
    let error = admin::bind(server.address).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    let text = error.to_string();
    assert!(text.starts_with(&format!("cannot listen on {}: ", server.address)), "{text}");
}
