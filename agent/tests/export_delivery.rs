//! The exporter against real servers: what arrives, what is tried again, what is counted.

#![expect(clippy::unwrap_used, reason = "a test panics")]

mod export_support;

use agent::export::{Connection, Exporter, Protocol, SignalConfig};
use agent_core::otlp::Signal;
use export_support::{
    Answer, SharedInbox, assert_balanced, body, config, grpc, http, inbox, received, settled,
    signal_config,
};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

const PROTOCOLS: [Protocol; 3] = [Protocol::Grpc, Protocol::HttpProtobuf, Protocol::HttpJson];

async fn receiver(
    protocol: Protocol,
    inbox: &SharedInbox,
) -> (SignalConfig, Option<grpc::Running>) {
    match protocol {
        Protocol::Grpc => {
            let (address, running) = grpc::serve(inbox.clone(), "127.0.0.1:0", None).await;
            (signal_config(&format!("http://{address}/"), protocol), Some(running))
        }
        Protocol::HttpProtobuf | Protocol::HttpJson => {
            let address = http::serve(inbox.clone(), None).await;
            (signal_config(&format!("http://{address}/v1/traces"), protocol), None)
        }
    }
}

fn start(config: SignalConfig) -> Exporter {
    Exporter::start(export_support::config(config), &Handle::current()).unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(2)
}

#[tokio::test]
async fn spans_arrive_whole_over_each_transport_with_and_without_gzip() {
    for protocol in PROTOCOLS {
        for gzip in [false, true] {
            let inbox = inbox([]);
            let (config, _server) = receiver(protocol, &inbox).await;
            let config = SignalConfig { gzip, ..config };
            let exporter = start(config);
            let (body, items) = body(0..500);
            exporter.submit(Signal::Traces, body, items);
            exporter.submit(Signal::Logs, bytes::Bytes::from_static(b"x"), 3);
            let account = settled(&exporter.submitter()).await;
            let case = format!("{protocol:?} gzip {gzip}");
            assert_eq!((account.came_in, account.out), (500, 500), "{case}");
            assert_eq!(received(&inbox), (0..500).collect::<Vec<u64>>(), "{case}");
            let submitter = exporter.shutdown(soon()).await;
            assert_eq!(submitter.account(Signal::Logs).switched_off, 3);
            assert_eq!(submitter.status()[0].connection, Connection::Up);

            let inbox = inbox.lock().unwrap();
            let header = |name| http::header(&inbox.headers, name);
            assert_eq!(header("x-tenant"), "blue", "{case}");
            assert!(header("user-agent").starts_with("kernspan/"), "{case}: {:?}", inbox.headers);
            let encoding =
                if protocol == Protocol::Grpc { "grpc-encoding" } else { "content-encoding" };
            assert_eq!(header(encoding), if gzip { "gzip" } else { "" }, "{case}");
        }
    }
}

#[tokio::test]
async fn what_may_succeed_later_is_tried_again_and_arrives_once() {
    let unavailable = || Answer::Status(Status::unavailable("restarting"));
    let table = [
        (Protocol::Grpc, vec![unavailable(), unavailable()]),
        (Protocol::Grpc, vec![Answer::Status(Status::new(Code::DataLoss, ""))]),
        (Protocol::HttpProtobuf, vec![Answer::Http(503, ""), Answer::Http(502, "")]),
        (Protocol::HttpProtobuf, vec![Answer::Drop, Answer::Http(504, "")]),
        (Protocol::HttpJson, vec![Answer::Http(429, "")]),
    ];
    for (protocol, script) in table {
        let failures = script.len();
        let inbox = inbox(script.clone());
        let (config, _server) = receiver(protocol, &inbox).await;
        let exporter = start(config);
        let (body, items) = body(0..10);
        exporter.submit(Signal::Traces, body, items);
        let account = settled(&exporter.submitter()).await;
        assert_eq!((account.out, account.refused), (10, 0), "{protocol:?} {script:?}");
        assert_eq!(inbox.lock().unwrap().attempts.len(), failures + 1);
        assert_eq!(received(&inbox), (0..10).collect::<Vec<u64>>());
        assert_eq!(exporter.submitter().status()[0].failed_attempts, failures as u64);
        assert!(exporter.submitter().status()[0].last_error.is_some());
        exporter.shutdown(soon()).await;
    }
}

#[tokio::test]
async fn what_will_not_succeed_is_not_tried_again() {
    let exhausted = Status::resource_exhausted("too large");
    let table = [
        (Protocol::Grpc, Answer::Status(Status::invalid_argument("no"))),
        (Protocol::Grpc, Answer::Status(Status::unauthenticated("who?"))),
        (Protocol::Grpc, Answer::Status(exhausted)),
        (Protocol::HttpProtobuf, Answer::Http(400, "")),
        (Protocol::HttpProtobuf, Answer::Http(500, "")),
        (Protocol::HttpProtobuf, Answer::Http(307, "location: http://127.0.0.1:1/\r\n")),
        (Protocol::HttpJson, Answer::Http(413, "")),
    ];
    for (protocol, answer) in table {
        let inbox = inbox([answer.clone()]);
        let (config, _server) = receiver(protocol, &inbox).await;
        let exporter = start(config);
        let (body, items) = body(0..10);
        exporter.submit(Signal::Traces, body, items);
        let account = settled(&exporter.submitter()).await;
        assert_eq!((account.out, account.refused), (0, 10), "{protocol:?} {answer:?}");
        assert_balanced(&account);
        assert_eq!(inbox.lock().unwrap().attempts.len(), 1);
        exporter.shutdown(soon()).await;
    }
}

#[tokio::test]
async fn a_delay_that_the_receiver_asks_for_is_kept() {
    let second = Duration::from_secs(1);
    let busy = |code| {
        let details = ErrorDetails::with_retry_info(Some(second));
        Answer::Status(Status::with_error_details(code, "busy", details))
    };
    let table = [
        (Protocol::Grpc, busy(Code::ResourceExhausted)),
        (Protocol::Grpc, busy(Code::Unavailable)),
        (Protocol::HttpProtobuf, Answer::Http(429, "retry-after: 1\r\n")),
        (Protocol::HttpJson, Answer::Http(503, "Retry-After: 1\r\n")),
    ];
    for (protocol, answer) in table {
        let inbox = inbox([answer.clone()]);
        let (config, _server) = receiver(protocol, &inbox).await;
        let exporter = start(config);
        let (body, items) = body(0..10);
        exporter.submit(Signal::Traces, body, items);
        tokio::time::sleep(second / 5).await;
        // It holds for every request, not only for the one that was refused.
        let (body, items) = export_support::body(10..20);
        exporter.submit(Signal::Traces, body, items);
        let account = settled(&exporter.submitter()).await;
        assert_eq!(account.out, 20, "{protocol:?} {answer:?}");
        {
            let attempts = &inbox.lock().unwrap().attempts;
            assert_eq!(attempts.len(), 3, "{protocol:?} {answer:?}");
            for attempt in &attempts[1..] {
                let waited = *attempt - attempts[0];
                assert!(waited >= second && waited < 2 * second, "{protocol:?}: {waited:?}");
            }
        }
        exporter.shutdown(soon()).await;
    }
}

#[tokio::test]
async fn a_partial_success_is_counted_and_never_sent_again() {
    for protocol in PROTOCOLS {
        let inbox = inbox([
            Answer::Partial(3, "too old"),
            Answer::Partial(99, "x"),
            Answer::Partial(0, "y"),
        ]);
        let (config, _server) = receiver(protocol, &inbox).await;
        let exporter = start(config);
        for index in 0..3 {
            let (body, items) = body(index * 10..index * 10 + 10);
            exporter.submit(Signal::Traces, body, items);
            settled(&exporter.submitter()).await;
        }
        let account = settled(&exporter.submitter()).await;
        assert_eq!((account.out, account.rejected), (17, 13), "{protocol:?}");
        assert_balanced(&account);
        assert_eq!(inbox.lock().unwrap().attempts.len(), 3, "{protocol:?}");
        let status = exporter.submitter().status();
        assert!(status[0].last_error.as_ref().unwrap().ends_with('y'), "{status:?}");
        exporter.shutdown(soon()).await;
    }
}

#[tokio::test]
async fn an_attempt_without_an_answer_ends_in_time_and_is_repeated() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let inbox = inbox([Answer::Late(Duration::from_secs(60))]);
        // Enough for the second attempt, on a busy machine too.
        let timeout = Duration::from_secs(1);
        let (config, _server) = receiver(protocol, &inbox).await;
        let exporter = start(SignalConfig { timeout, ..config });
        let (body, items) = body(0..10);
        let begin = Instant::now();
        exporter.submit(Signal::Traces, body, items);
        let account = settled(&exporter.submitter()).await;
        assert_eq!(account.out, 10);
        assert!(begin.elapsed() < Duration::from_secs(30), "{protocol:?} {:?}", begin.elapsed());
        exporter.shutdown(soon()).await;
    }
}

#[tokio::test]
async fn nothing_is_lost_while_the_receiver_is_away_and_back() {
    let before = inbox([]);
    let (address, server) = grpc::serve(before.clone(), "127.0.0.1:0", None).await;
    let exporter = start(signal_config(&format!("http://{address}/"), Protocol::Grpc));
    let submit = |from: u64| {
        let (body, items) = body(from..from + 10);
        exporter.submit(Signal::Traces, body, items);
    };
    submit(0);
    settled(&exporter.submitter()).await;
    server.stop();
    for round in 1..=30 {
        submit(round * 10);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(exporter.submitter().status()[0].connection, Connection::Down);
    assert_eq!(exporter.submitter().account(Signal::Traces).held, 300);
    let after = inbox([]);
    let _server = grpc::serve(after.clone(), &address.to_string(), None).await;
    let account = settled(&exporter.submitter()).await;
    assert_eq!((account.came_in, account.out), (310, 310));
    assert_eq!(received(&before), (0..10).collect::<Vec<u64>>());
    assert_eq!(received(&after), (10..310).collect::<Vec<u64>>());
    exporter.shutdown(soon()).await;
}

#[tokio::test]
async fn what_exceeds_the_queue_is_counted_and_what_fits_arrives() {
    let (body_, items) = body(0..10);
    let fits = 7;
    let bytes = body_.len() * fits + body_.len() / 2;
    let address = closed_port().await;
    let traces = signal_config(&format!("http://{address}/"), Protocol::Grpc);
    let config = agent::export::OtlpConfig { queue_bytes: bytes, ..config(traces) };
    let exporter = Exporter::start(config, &Handle::current()).unwrap();
    for _ in 0..20 {
        exporter.submit(Signal::Traces, body_.clone(), items);
    }
    let account = exporter.submitter().account(Signal::Traces);
    assert_eq!((account.came_in, account.held, account.queue_full), (200, 70, 130));
    let inbox = inbox([]);
    let _server = grpc::serve(inbox.clone(), &address.to_string(), None).await;
    let account = settled(&exporter.submitter()).await;
    assert_eq!((account.out, account.queue_full), (70, 130));
    assert_balanced(&account);
    assert_eq!(received(&inbox).len(), 70);
    assert_eq!(exporter.submitter().queued_bytes(), 0);
    exporter.shutdown(soon()).await;
}

#[tokio::test]
async fn shutdown_sends_what_waits() {
    for protocol in PROTOCOLS {
        let inbox = inbox([Answer::Late(Duration::from_millis(300))]);
        let (config, _server) = receiver(protocol, &inbox).await;
        let exporter = start(config);
        for index in 0..20 {
            let (body, items) = body(index * 10..index * 10 + 10);
            exporter.submit(Signal::Traces, body, items);
        }
        let submitter = exporter.shutdown(Instant::now() + Duration::from_secs(30)).await;
        let account = submitter.account(Signal::Traces);
        assert_eq!((account.out, account.shutdown), (200, 0), "{protocol:?}");
        assert_eq!(received(&inbox), (0..200).collect::<Vec<u64>>());
        submitter.submit(Signal::Traces, body(0..1).0, 1);
        assert_eq!(submitter.account(Signal::Traces).shutdown, 1, "after the end");
    }
}

#[tokio::test]
async fn shutdown_ends_in_time_when_the_receiver_is_away_or_silent() {
    let silent = inbox(vec![Answer::Late(Duration::from_secs(60)); 10]);
    let (silent, _server) = grpc::serve(silent, "127.0.0.1:0", None).await;
    let away = closed_port().await;
    for address in [silent, away] {
        let exporter = start(signal_config(&format!("http://{address}/"), Protocol::Grpc));
        for index in 0..20 {
            let (body, items) = body(index * 10..index * 10 + 10);
            exporter.submit(Signal::Traces, body, items);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        let begin = Instant::now();
        let submitter = exporter.shutdown(begin + Duration::from_secs(1)).await;
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        let account = submitter.account(Signal::Traces);
        assert_eq!((account.came_in, account.held, account.shutdown), (200, 0, 200));
        assert_balanced(&account);
    }
}

/// An address at which nothing listens.
async fn closed_port() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}
