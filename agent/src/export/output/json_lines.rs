//! OTLP's JSON file format: each line is one request (OpenTelemetry specification,
//! protocol/file-exporter.md).

use super::Destination;
use crate::export::json;
use crate::export::writer::{self, Chunk, Items, Of, Writer, Writing};
use agent_core::ledger::{Entry, Side};
use agent_core::metric::Metric;
use agent_core::otlp::{Batch, Signal};
use agent_core::span::{LogRecord, Output, Span};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Instant;
use tracing::warn;

/// How late a line may be.
const MAX_DELAY_NS: u64 = 500_000_000;
/// Mode bits that let group or everybody read.
const OTHERS_READ: u32 = 0o044;
/// A batch this large is written without waiting for the next flush.
const FLUSH_BYTES: usize = 512 * 1024;

/// Writes spans and log records as JSON lines.
pub struct JsonOutput {
    batch: Batch,
    writer: Writer,
    last_flush_ns: u64,
}

impl JsonOutput {
    /// To standard output.
    ///
    /// # Errors
    /// Standard output is closed, or there can be no more threads.
    pub fn stdout(writing: Writing) -> io::Result<JsonOutput> {
        let place = "standard output".to_owned();
        Ok(JsonOutput::new(Writer::open(writing, place, writer::stdout()?, line)?))
    }

    /// To the file at `path`, made with mode 0600 where it is new, appended to where it is not.
    /// A file that is there keeps its mode, which is its owner's choice; an open one is warned of.
    ///
    /// # Errors
    /// Those of opening it; there can be no more threads.
    pub fn file(path: &Path, writing: Writing) -> io::Result<JsonOutput> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let facts = file.metadata()?;
        let mode = facts.mode() & 0o777;
        if facts.is_file() && mode & OTHERS_READ != 0 {
            warn!("{} has mode {mode:03o}: others can read what is traced", path.display());
        }
        let place = path.display().to_string();
        Ok(JsonOutput::new(Writer::open(writing, place, Box::new(file), line)?))
    }

    /// To `out`, in the caller. Each line is given to it in one write.
    pub fn to(place: String, out: Box<dyn Write + Send>) -> JsonOutput {
        JsonOutput::new(Writer::inline(place, out, line))
    }

    fn new(writer: Writer) -> JsonOutput {
        JsonOutput { batch: Batch::new(env!("CARGO_PKG_VERSION")), writer, last_flush_ns: 0 }
    }

    fn write(&mut self) {
        let writer = &mut self.writer;
        self.batch.flush(|request| {
            let none = Items::default();
            let items = match request.signal {
                Signal::Logs => Items { log_records: request.items, ..none },
                Signal::Traces => Items { spans: request.items, ..none },
                Signal::Metrics => Items { data_points: request.items, ..none },
            };
            writer.write(Chunk { body: request.body, items });
        });
    }
}

/// The line of a request. It has items of one signal.
fn line(items: Items, body: Vec<u8>) -> io::Result<Vec<u8>> {
    let signal = match items {
        Items { log_records: 1.., .. } => Signal::Logs,
        Items { data_points: 1.., .. } => Signal::Metrics,
        _ => Signal::Traces,
    };
    let mut line = json::of(signal, &body)?;
    line.push(b'\n');
    Ok(line)
}

impl Output for JsonOutput {
    fn span(&mut self, span: &Span<'_>) {
        self.batch.span(span);
        if self.batch.bytes() >= FLUSH_BYTES {
            self.write();
        }
    }

    fn log(&mut self, record: &LogRecord<'_>) {
        self.batch.log(record);
        if self.batch.bytes() >= FLUSH_BYTES {
            self.write();
        }
    }

    fn metric(&mut self, metric: &Metric<'_>) {
        self.batch.metric(metric);
        if self.batch.bytes() >= FLUSH_BYTES {
            self.write();
        }
    }
}

impl Destination for JsonOutput {
    fn flush(&mut self, now_boot_ns: u64) {
        if now_boot_ns.saturating_sub(self.last_flush_ns) >= MAX_DELAY_NS {
            self.last_flush_ns = now_boot_ns;
            self.write();
        }
    }

    fn finish(&mut self, _now_boot_ns: u64) {
        self.write();
    }

    fn close(&mut self, deadline: Instant) {
        self.writer.close(deadline);
    }

    fn is_gone(&self) -> bool {
        self.writer.is_gone()
    }

    fn ledger(&self, entries: &mut Vec<Entry>) {
        let settled = self.writer.settled();
        let kinds: [(_, Of); 3] = [
            (Signal::Traces, |items| items.spans),
            (Signal::Logs, |items| items.log_records),
            (Signal::Metrics, |items| items.data_points),
        ];
        for (signal, of) in kinds {
            let account = self.batch.account(signal);
            let sides = [
                (Side::In, account.came_in),
                (Side::Held, account.held + of(settled.held())),
                (Side::Lost("oversized"), account.oversized),
            ];
            let unit = signal.unit();
            entries.extend(sides.map(|(side, count)| Entry { stage: "json", unit, side, count }));
            settled.entries("json", unit, of, entries);
        }
    }
}
