//! Traces as they are printed.

use super::*;
use agent_core::id::SpanId;
use agent_core::process::Resource;
use agent_core::span::{Attribute, Kind, Value};
use std::sync::{Arc, Mutex};

const START: u64 = 1_700_000_000_123_000_000;
const MS: u64 = 1_000_000;

#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Screen {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

fn console(style: Style) -> (ConsoleOutput, Screen) {
    let screen = Screen::default();
    (ConsoleOutput::to(Box::new(screen.clone()), style), screen)
}

fn resource(service: &str) -> Resource {
    Resource { id: 1, service: service.to_string(), attributes: Vec::new(), part_of: None }
}

/// A span of the trace `[0x4b; 16]`, from and to in µs after its start.
fn span<'a>(
    resource: &'a Resource,
    (id, parent): (u8, u8),
    (from, to): (u64, u64),
    kind: Kind,
    attributes: &'a [Attribute<'a>],
) -> Span<'a> {
    Span {
        trace: TraceId([0x4b; 16]),
        id: SpanId([id; 8]),
        parent: (parent != 0).then_some(SpanId([parent; 8])),
        parent_remote: false,
        trace_flags: 1,
        tracestate: "",
        name: "GET",
        kind,
        start_unix_ns: START + from * 1000,
        end_unix_ns: START + to * 1000,
        end_boot_ns: to * 1000,
        error: false,
        attributes,
        links: &[],
        resource,
    }
}

fn event<'a>(resource: &'a Resource, cause: u8, at: u64, body: &'a str) -> LogRecord<'a> {
    LogRecord {
        event_name: "process.exec",
        unix_ns: START + at * 1000,
        observed_unix_ns: START,
        severity: 9,
        body,
        attributes: &[],
        cause: (cause != 0).then_some((TraceId([0x4b; 16]), SpanId([cause; 8]))),
        trace_flags: 1,
        resource,
    }
}

fn client<'a>(url: &'a str, status: i64, method: &'a str) -> Vec<Attribute<'a>> {
    vec![
        ("http.request.method", Value::Str("GET")),
        ("url.full", Value::Str(url)),
        ("server.address", Value::Str("127.0.0.1")),
        ("server.port", Value::Int(8080)),
        ("http.response.status_code", Value::Int(status)),
        ("kernspan.link.method", Value::Str(method)),
        ("kernspan.link.confidence", Value::Double(1.0)),
    ]
}

fn server<'a>(path: &'a str, status: i64, method: &'a str) -> Vec<Attribute<'a>> {
    vec![
        ("http.request.method", Value::Str("GET")),
        ("url.path", Value::Str(path)),
        ("client.address", Value::Str("127.0.0.1")),
        ("http.response.status_code", Value::Int(status)),
        ("kernspan.link.method", Value::Str(method)),
        ("kernspan.link.confidence", Value::Double(0.93)),
    ]
}

/// The demo: curl, nginx, two services, a shell command, and a failure.
fn demo(console: &mut ConsoleOutput) {
    let [curl, nginx, shop, stock, sh] = ["curl", "nginx", "shop", "stock", "sh"].map(resource);
    let mut failed = server("/stock/42", 500, "tcp");
    failed.push(("error.type", Value::Str("500")));
    let mut reset = client("http://10.0.0.7:6000/", 200, "thread");
    reset.retain(|(key, _)| *key != "http.response.status_code");
    reset.push(("error.type", Value::Str("connection_reset")));
    console
        .span(&Span { error: true, ..span(&stock, (6, 5), (3100, 9200), Kind::Server, &failed) });
    console.span(&Span {
        error: true,
        ..span(
            &shop,
            (5, 4),
            (2900, 9400),
            Kind::Client,
            &client("http://127.0.0.1:8082/stock/42?token=REDACTED", 500, "thread"),
        )
    });
    console.log(&event(&sh, 4, 9500, "sh -c convert /tmp/in.png /tmp/out.png"));
    console.span(&Span { error: true, ..span(&shop, (7, 4), (9800, 9900), Kind::Client, &reset) });
    console.span(&span(&shop, (4, 3), (1200, 10_700), Kind::Server, &server("/cart", 200, "tcp")));
    console.span(&span(
        &nginx,
        (3, 2),
        (700, 11_800),
        Kind::Client,
        &client("http://127.0.0.1:8081/cart", 200, "thread"),
    ));
    console.span(&span(&nginx, (2, 1), (300, 12_600), Kind::Server, &server("/cart", 200, "tcp")));
    console.span(&span(
        &curl,
        (1, 0),
        (0, 12_840),
        Kind::Client,
        &client("http://127.0.0.1:8080/cart", 200, ""),
    ));
}

const DEMO: &str = "\
trace 4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b  7 spans  12.8 ms  22:13:20.123
curl → GET 127.0.0.1:8080/cart                            200  12.8 ms     +0 µs
└─ nginx  GET /cart ← 127.0.0.1                           200  12.3 ms   +300 µs  tcp 0.93
   └─ nginx → GET 127.0.0.1:8081/cart                     200  11.1 ms   +700 µs  thread
      └─ shop  GET /cart ← 127.0.0.1                      200  9.50 ms  +1.20 ms  tcp 0.93
         ├─ shop → GET 127.0.0.1:8082/stock/42            500  6.50 ms  +2.90 ms  thread
         │  └─ stock  GET /stock/42 ← 127.0.0.1           500  6.10 ms  +3.10 ms  tcp 0.93
         ├─ ! process.exec  sh: sh -c convert /tmp/in.png /tmp/out.png
         └─ shop → GET 10.0.0.7:6000/ ✗ connection_reset    -   100 µs  +9.80 ms  thread

";

#[test]
fn a_trace_is_one_tree_with_times_status_and_evidence() {
    let (mut console, screen) = console(Style::Plain);
    demo(&mut console);
    console.flush(13 * MS);
    assert_eq!(screen.take(), "", "not before it is quiet");
    console.flush(400 * MS);
    let text = screen.take();
    assert_eq!(text, DEMO);
    assert!(text.lines().all(|line| line.chars().count() <= 100));
    console.finish(500 * MS);
    assert_eq!(screen.take(), "");
}

#[test]
fn colours_add_escape_sequences_and_nothing_else() {
    let (mut console, screen) = console(Style::Colour);
    demo(&mut console);
    console.finish(0);
    let text = screen.take();
    if std::env::var_os("SHOW").is_some() {
        println!("{text}");
    }
    let mut plain = String::new();
    for part in text.split("\x1b[") {
        let cut = part.find('m').filter(|end| part[..*end].bytes().all(|b| b.is_ascii_digit()));
        plain.push_str(cut.map_or(part, |end| &part[end + 1..]));
    }
    assert_eq!(
        plain.lines().map(str::trim_end).collect::<Vec<_>>(),
        DEMO.lines().collect::<Vec<_>>()
    );
}

#[test]
fn a_trace_whose_root_never_comes_is_printed_after_a_while() {
    let (mut console, screen) = console(Style::Plain);
    let shop = resource("shop");
    console.span(&span(&shop, (2, 1), (0, 1000), Kind::Server, &server("/a", 200, "traceparent")));
    console.flush(1000 * MS);
    assert_eq!(screen.take(), "");
    console.flush(2100 * MS);
    let text = screen.take();
    assert!(text.contains("\nshop  GET /a ← 127.0.0.1"), "{text}");
    assert!(text.contains("traceparent 0.93\n"), "{text}");
}

#[test]
fn an_event_without_a_trace_is_printed_at_once() {
    let (mut console, screen) = console(Style::Plain);
    console.log(&event(&resource("bash"), 0, 0, "ls -l"));
    assert_eq!(screen.take(), "22:13:20.123  ! process.exec  bash: ls -l\n");
    console.note("python3[812]: 3 connections are TLS\x1b[2J, not decoded");
    assert_eq!(screen.take(), "· python3[812]: 3 connections are TLS·[2J, not decoded\n");
}

#[test]
fn hostile_names_stay_within_their_line() {
    let (mut console, screen) = console(Style::Plain);
    let evil = resource("\x1b]0;owned\x07");
    let path = format!("/{}\r\n\x1b[31m", "x".repeat(5000));
    console.span(&span(&evil, (1, 0), (0, 1), Kind::Server, &server(&path, 200, "tcp")));
    console.finish(0);
    let text = screen.take();
    assert_eq!(text.lines().count(), 3);
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}

#[test]
fn every_span_is_printed_once_even_if_parents_form_a_circle_or_a_long_chain() {
    let (mut console, screen) = console(Style::Plain);
    let shop = resource("shop");
    for (id, parent) in [(1, 2), (2, 1), (3, 3)] {
        console.span(&span(&shop, (id, parent), (0, 1), Kind::Server, &[]));
    }
    console.finish(0);
    assert_eq!(screen.take().matches("shop").count(), 3);
    for id in 1..=200 {
        console.span(&span(&shop, (id, id - 1), (0, 1), Kind::Client, &[]));
    }
    console.finish(0);
    let text = screen.take();
    assert_eq!(text.matches("shop").count(), 200);
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}

#[test]
fn memory_is_bounded_and_the_account_balances() {
    let (mut console, screen) = console(Style::Plain);
    let shop = resource("shop");
    for index in 0..1000u64 {
        let mut trace = [0; 16];
        trace[..8].copy_from_slice(&index.to_be_bytes());
        let base = span(&shop, (1, 0), (0, 1), Kind::Server, &[]);
        console.span(&Span { trace: TraceId(trace), end_boot_ns: index, ..base });
    }
    assert_eq!(console.traces.len(), MAX_TRACES);
    for _ in 0..300 {
        console.span(&span(&shop, (1, 9), (0, 1), Kind::Server, &[]));
    }
    let side = |console: &ConsoleOutput, side| {
        let mut entries = Vec::new();
        console.ledger(&mut entries);
        entries.iter().find(|e| e.unit == "spans" && e.side == side).map(|e| e.count)
    };
    assert_eq!(side(&console, Side::In), Some(1300));
    assert_eq!(side(&console, Side::Held), Some(MAX_TRACES as u64 - 1 + 256));
    assert_eq!(side(&console, Side::Lost("trace_too_large")), Some(44));
    console.finish(0);
    assert_eq!(side(&console, Side::Held), Some(0));
    assert_eq!(side(&console, Side::Out), Some(1300 - 44));
    let text = screen.take();
    assert!(text.contains("… 44 more, not kept"), "{text}");
}

#[test]
fn large_traces_together_stay_within_the_bound() {
    let (mut console, screen) = console(Style::Plain);
    let shop = resource("shop");
    for index in 0..100u8 {
        for _ in 0..256 {
            let cause = Some((TraceId([index + 1; 16]), SpanId([9; 8])));
            console.log(&LogRecord { cause, ..event(&shop, 1, 0, "ls") });
            let base = span(&shop, (1, 9), (0, 1), Kind::Server, &[]);
            console.span(&Span { trace: TraceId([index + 1; 16]), ..base });
            assert!(console.spans.held + console.events.held <= MAX_HELD);
        }
    }
    console.finish(0);
    let mut entries = Vec::new();
    console.ledger(&mut entries);
    let shown =
        |unit| entries.iter().find(|e| e.unit == unit && e.side == Side::Out).unwrap().count;
    assert_eq!((shown("spans"), shown("log_records")), (25_600, 25_600));
    assert_eq!(screen.take().matches("process.exec").count(), 25_600);
}

#[test]
fn traces_are_asked_for_by_what_their_spans_have_not_by_what_is_shown() {
    let long = "s".repeat(60);
    let path = format!("/{}/end-of-it", "x".repeat(150));
    let mut attributes = server(&path, 200, "tcp");
    attributes.push(("url.query", Value::Str("id=77&b=2")));
    let url = format!("http://shop:8080{path}?id=78#top");
    let asked_of = client(&url, 200, "tcp");
    let shown = |kind: Kind, attributes: &[Attribute<'_>], service: &str, request: &str| {
        let (console, screen) = console(Style::Plain);
        let mut console = console.only(&TraceFilter {
            services: vec![service.to_owned()],
            requests: vec![request.to_owned()],
            ..TraceFilter::default()
        });
        console.span(&span(&resource(&long), (1, 0), (0, 1), kind, attributes));
        console.finish(0);
        !screen.take().is_empty()
    };
    for (service, request, at_server, at_client) in [
        (long.as_str(), "", true, true),
        (&long[1..], "", false, false),
        ("*sss", "?id=77", true, false),
        ("*", "id=77&b=2", true, false),
        ("*", "end-of-it?id=78", false, true),
        ("*", "end-of-it", true, true),
        ("*", "GET /xxx", true, false),
        ("*", "GET shop:8080/xxx", false, true),
        ("*", "id=79", false, false),
        ("*", "…", false, false),
    ] {
        let found = [(Kind::Server, &attributes), (Kind::Client, &asked_of)]
            .map(|(kind, attributes)| shown(kind, attributes, service, request));
        assert_eq!(found, [at_server, at_client], "{service} {request}");
    }
}

#[test]
fn a_span_that_a_large_trace_has_no_room_for_can_still_be_the_one_that_is_asked_for() {
    let (console, screen) = console(Style::Plain);
    let errors = TraceFilter { errors: true, ..TraceFilter::default() };
    let mut console = console.only(&errors);
    let shop = resource("shop");
    for index in 0..=tree::MAX_ROWS {
        let error = index == tree::MAX_ROWS;
        console.span(&Span { error, ..span(&shop, (1, 9), (0, 1), Kind::Server, &[]) });
    }
    console.finish(0);
    assert!(screen.take().contains("… 1 more, not kept"));
}

#[test]
fn a_closed_pipe_is_counted() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut console = ConsoleOutput::to(Box::new(Closed), Style::Plain);
    demo(&mut console);
    console.finish(0);
    let mut entries = Vec::new();
    console.ledger(&mut entries);
    let failed = |unit| {
        entries
            .iter()
            .find(|e| e.unit == unit && e.side == Side::Lost("reader_gone"))
            .unwrap()
            .count
    };
    assert_eq!((failed("spans"), failed("log_records")), (7, 1));
    assert!(console.is_gone());
}
