//! OTLP's JSON file format: each line is one request (OpenTelemetry specification,
//! protocol/file-exporter.md).

use super::Destination;
use crate::export::json;
use agent_core::ledger::{Entry, Side};
use agent_core::otlp::{Batch, Request, Signal};
use agent_core::span::{LogRecord, Output, Span};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use tracing::{error, warn};

/// How late a line may be.
const MAX_DELAY_NS: u64 = 500_000_000;
/// Mode bits that let group or everybody read.
const OTHERS_READ: u32 = 0o044;
/// A batch this large is written without waiting for the next flush.
const FLUSH_BYTES: usize = 512 * 1024;

/// Writes spans and log records as JSON lines.
pub struct JsonOutput {
    batch: Batch,
    out: Box<dyn Write + Send>,
    place: String,
    last_flush_ns: u64,
    /// Items that could not be written: spans, log records.
    failed: [u64; 2],
    reported: bool,
    /// The latest line may be there in part.
    torn: bool,
}

impl JsonOutput {
    /// To standard output.
    pub fn stdout() -> JsonOutput {
        JsonOutput::to("standard output".to_string(), Box::new(io::stdout()))
    }

    /// To the file at `path`, made with mode 0600 where it is new, appended to where it is not.
    /// A file that is there keeps its mode, which is its owner's choice; an open one is warned of.
    ///
    /// # Errors
    /// Those of opening it.
    pub fn file(path: &Path) -> io::Result<JsonOutput> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let facts = file.metadata()?;
        let mode = facts.mode() & 0o777;
        if facts.is_file() && mode & OTHERS_READ != 0 {
            warn!("{} has mode {mode:03o}: others can read what is traced", path.display());
        }
        Ok(JsonOutput::to(path.display().to_string(), Box::new(file)))
    }

    /// To `out`, called `place` in errors. Each line is given to it in one write.
    pub fn to(place: String, out: Box<dyn Write + Send>) -> JsonOutput {
        JsonOutput {
            batch: Batch::new(env!("CARGO_PKG_VERSION")),
            out,
            place,
            last_flush_ns: 0,
            failed: [0; 2],
            reported: false,
            torn: false,
        }
    }

    fn write(&mut self) {
        let mut requests = Vec::new();
        self.batch.flush(|request| requests.push(request));
        for request in requests {
            if let Err(why) = self.write_line(&request) {
                self.failed[usize::from(request.signal == Signal::Logs)] += request.items;
                self.report(&why);
            }
        }
    }

    fn write_line(&mut self, request: &Request) -> io::Result<()> {
        let mut line = json::of(request.signal, &request.body)?;
        line.push(b'\n');
        if self.torn {
            // What a full disk cut off must not swallow the next line.
            line.insert(0, b'\n');
        }
        self.torn = true;
        self.out.write_all(&line)?;
        self.out.flush()?;
        self.torn = false;
        Ok(())
    }

    /// The first failure in words; the others in numbers.
    fn report(&mut self, why: &io::Error) {
        if !self.reported {
            self.reported = true;
            error!("cannot write JSON to {}: {why}; what is lost is counted", self.place);
        }
    }
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

    fn ledger(&self, entries: &mut Vec<Entry>) {
        for (signal, failed) in [Signal::Traces, Signal::Logs].into_iter().zip(self.failed) {
            let account = self.batch.account(signal);
            let sides = [
                (Side::In, account.came_in),
                (Side::Held, account.held),
                (Side::Out, account.out() - failed),
                (Side::Lost("write_failed"), failed),
                (Side::Lost("oversized"), account.oversized),
            ];
            let unit = signal.unit();
            entries.extend(sides.map(|(side, count)| Entry { stage: "json", unit, side, count }));
        }
    }
}
