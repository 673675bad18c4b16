//! The outputs as the assembler uses them: several at once, from a thread without a runtime.

#![expect(clippy::unwrap_used, reason = "a test panics")]

mod export_support;

use agent::export::{
    Destination, Exporter, Fanout, JsonOutput, NoneOutput, OtlpOutput, Protocol, Writing,
};
use agent_core::id::{SpanId, TraceId};
use agent_core::ledger::{Entry, Side};
use agent_core::otlp::Signal;
use agent_core::span::{LogRecord, Output, Span, Value};
use export_support::{config, grpc, inbox, received, resource, signal_config, span};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use serde_json::Value as Json;
use std::collections::HashMap;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};
use tokio::runtime::Builder;

const SECOND: u64 = 1_000_000_000;

fn exec(resource: &agent_core::process::Resource) -> LogRecord<'_> {
    LogRecord {
        event_name: "process.exec",
        unix_ns: 1_760_000_000_000_000_001,
        observed_unix_ns: 1_760_000_000_000_000_002,
        severity: 9,
        body: "sh -c id",
        attributes: &[("process.pid", Value::Int(i64::MAX))],
        cause: Some((TraceId([0xab; 16]), SpanId([0xcd; 8]))),
        trace_flags: 1,
        resource,
    }
}

/// Every stage and unit in `entries` balances; returns what stage `stage` lost and let out.
fn assert_balanced(entries: &[Entry]) -> HashMap<(&'static str, &'static str), [u64; 3]> {
    let mut accounts: HashMap<_, [u64; 3]> = HashMap::new();
    for entry in entries {
        let [came_in, out, rest] = accounts.entry((entry.stage, entry.unit)).or_default();
        match entry.side {
            Side::In => *came_in += entry.count,
            Side::Out => *out += entry.count,
            Side::Held | Side::Lost(_) => *rest += entry.count,
            Side::Info(_) => {}
        }
    }
    for (stage, [came_in, out, rest]) in &accounts {
        assert_eq!(*came_in, out + rest, "{stage:?} in {entries:?}");
    }
    accounts
}

#[test]
fn several_outputs_get_everything_and_their_accounts_balance() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let inbox = inbox([]);
    let (address, _server) = runtime.block_on(grpc::serve(inbox.clone(), "127.0.0.1:0", None));
    let traces = signal_config(&format!("http://{address}/"), Protocol::Grpc);
    let mut config = config(traces);
    config.logs = config.traces.clone();
    let exporter = Exporter::start(config, runtime.handle()).unwrap();
    let file = tempfile::tempdir().unwrap();
    let path = file.path().join("out.jsonl");
    let mut fanout = Fanout::new(vec![
        Box::new(OtlpOutput::new(exporter.submitter())),
        Box::new(JsonOutput::file(&path, Writing::Thread).unwrap()),
        Box::new(NoneOutput::default()),
    ]);
    let spans = 5000;
    let assembler = std::thread::spawn(move || {
        let resource = resource();
        for start in 0..spans {
            fanout.span(&span(&resource, start));
            if start % 1000 == 0 {
                fanout.log(&exec(&resource));
                fanout.flush(start * SECOND / 1000);
            }
        }
        let mut entries = Vec::new();
        fanout.ledger(&mut entries);
        assert_balanced(&entries);
        fanout.finish(spans * SECOND);
        fanout
    });
    let mut fanout = assembler.join().unwrap();
    fanout.close(Instant::now() + Duration::from_secs(5));
    runtime.block_on(exporter.shutdown(Instant::now() + Duration::from_secs(5)));

    assert_eq!(received(&inbox), (0..spans).collect::<Vec<u64>>());
    assert_eq!(inbox.lock().unwrap().logs, 5);
    let mut entries = Vec::new();
    fanout.ledger(&mut entries);
    let accounts = assert_balanced(&entries);
    for stage in ["encode", "export", "json", "none"] {
        assert_eq!(accounts[&(stage, "spans")], [spans, spans, 0], "{stage}");
        assert_eq!(accounts[&(stage, "log_records")], [5, 5, 0], "{stage}");
    }
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_json_lines(&std::fs::read_to_string(&path).unwrap(), spans);
}

fn assert_json_lines(text: &str, spans: u64) {
    let mut starts = Vec::new();
    let mut records = 0;
    for line in text.lines() {
        let request: Json = serde_json::from_str(line).unwrap();
        if request.get("resourceSpans").is_some() {
            let request: ExportTraceServiceRequest = serde_json::from_str(line).unwrap();
            let spans = &request.resource_spans[0].scope_spans[0].spans;
            starts.extend(spans.iter().map(|span| span.start_time_unix_nano));
            continue;
        }
        for record in request["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array().unwrap() {
            assert_eq!(record["eventName"], "process.exec");
            assert_eq!(record["traceId"], "ab".repeat(16));
            assert_eq!(record["spanId"], "cd".repeat(8));
            assert_eq!(record["timeUnixNano"], "1760000000000000001");
            assert_eq!(record["severityNumber"], 9);
            assert_eq!(record["attributes"][0]["value"]["intValue"], i64::MAX.to_string());
            records += 1;
        }
    }
    assert_eq!(starts, (0..spans).collect::<Vec<u64>>());
    assert_eq!(records, 5);
}

/// Takes `room` bytes and then fails like a full disk.
struct Disk {
    room: usize,
}

/// Fails once in the middle of a line.
#[derive(Clone, Default)]
struct Cleaned(std::sync::Arc<std::sync::Mutex<(usize, Vec<u8>)>>);

impl Write for Cleaned {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock().unwrap();
        state.0 += 1;
        match state.0 {
            1 => {
                state.1.extend_from_slice(&bytes[..50]);
                Ok(50)
            }
            2 => Err(io::ErrorKind::StorageFull.into()),
            _ => {
                state.1.extend_from_slice(bytes);
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_line_that_was_cut_off_does_not_spoil_the_next() {
    let resource = resource();
    let disk = Cleaned::default();
    let mut output = JsonOutput::to("test".to_string(), Box::new(disk.clone()));
    for start in 0..3 {
        output.span(&span(&resource, start));
        output.finish(0);
    }
    let text = String::from_utf8(disk.0.lock().unwrap().1.clone()).unwrap();
    let whole: Vec<bool> =
        text.lines().map(|line| serde_json::from_str::<Json>(line).is_ok()).collect();
    assert_eq!(whole, [false, true, true]);
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.room == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let taken = bytes.len().min(self.room);
        self.room -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn json_lines_are_late_by_less_than_a_second_and_a_full_disk_is_counted() {
    let resource = resource();
    let mut output = JsonOutput::to("test".to_string(), Box::new(Disk { room: 1200 }));
    let written = |output: &JsonOutput| {
        let mut entries = Vec::new();
        output.ledger(&mut entries);
        assert_balanced(&entries)[&("json", "spans")]
    };
    output.flush(10 * SECOND);
    output.span(&span(&resource, 1));
    output.flush(10 * SECOND + SECOND / 10);
    assert_eq!(written(&output), [1, 0, 1], "held");
    output.flush(11 * SECOND - 1);
    assert_eq!(written(&output), [1, 1, 0]);
    for start in 2..10 {
        output.span(&Span { name: "a name that fills the disk soon", ..span(&resource, start) });
    }
    output.finish(12 * SECOND);
    assert_eq!(written(&output), [9, 1, 8], "lost");
}

#[test]
fn a_new_file_is_its_owners_and_one_that_is_there_is_appended_to() {
    let dir = tempfile::tempdir().unwrap();
    let resource = resource();
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let write = |path: &std::path::Path| {
        let mut output = JsonOutput::file(path, Writing::Thread).unwrap();
        output.span(&span(&resource, 1));
        output.finish(SECOND);
        output.close(Instant::now() + Duration::from_secs(10));
    };
    let new = dir.path().join("new.json");
    write(&new);
    assert_eq!(mode(&new), 0o600);
    let old = dir.path().join("old.json");
    std::fs::write(&old, "{}\n").unwrap();
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o640)).unwrap();
    write(&old);
    write(&old);
    assert_eq!(mode(&old), 0o640);
    let text = std::fs::read_to_string(&old).unwrap();
    assert!(text.starts_with("{}\n"), "{text}");
    assert_eq!(text.lines().count(), 3, "{text}");
}

#[test]
fn a_busy_minute_is_sent_in_requests_of_bounded_size_without_waiting_for_the_flush() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let address = "127.0.0.1:9";
    let traces = signal_config(&format!("http://{address}/"), Protocol::Grpc);
    let exporter = Exporter::start(config(traces), runtime.handle()).unwrap();
    let mut output = OtlpOutput::new(exporter.submitter());
    let resource = resource();
    for start in 0..20_000 {
        output.span(&span(&resource, start));
    }
    assert!(exporter.submitter().queued_bytes() > 1 << 20);
    let held = exporter.submitter().account(Signal::Traces).held;
    assert!(held > 10_000, "{held}");
    runtime.block_on(exporter.shutdown(Instant::now()));
    let mut entries = Vec::new();
    output.ledger(&mut entries);
    assert_balanced(&entries);
}
