//! A readable tree per trace, for people at a terminal.
//!
//! Spans arrive when they end, children mostly before parents. A trace is held until it is
//! complete and quiet, or until it was held long enough, and then printed in one piece. What
//! arrives afterwards is printed as a trace of its own under the same id.

mod filter;
mod row;
mod text;
mod tree;

pub use text::{Style, is_unsafe, printable};

use super::Destination;
use super::writer::{self, Chunk, Items, Of, Writer, Writing};
use crate::config::TraceFilter;
use agent_core::id::TraceId;
use agent_core::ledger::{Entry, Side};
use agent_core::span::{LogRecord, Output, Span};
use filter::Filter;
use hashbrown::HashMap;
use row::{EventRow, SpanRow};
use std::io::{self, IsTerminal, Write};
use std::time::Instant;
use tree::Trace;

/// A trace with its root and all parents is printed after this long without a new span.
const QUIET_NS: u64 = 300_000_000;
/// Any other trace after this long without a new span.
const INCOMPLETE_NS: u64 = 2_000_000_000;
/// Any trace after this long.
const MAX_HOLD_NS: u64 = 10_000_000_000;
/// Traces held; more print the oldest early.
const MAX_TRACES: usize = 512;
/// Spans and log records held, all traces together; one takes up to about 1 KiB.
const MAX_HELD: u64 = 16_384;

/// Prints traces and what belongs to none.
pub struct ConsoleOutput {
    writer: Writer,
    style: Style,
    filter: Option<Filter>,
    traces: HashMap<TraceId, Trace>,
    now_ns: u64,
    spans: Count,
    events: Count,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    came_in: u64,
    /// In traces that are not printed yet.
    held: u64,
    too_large: u64,
    /// In traces that nobody has asked for.
    filtered: u64,
}

impl ConsoleOutput {
    /// To standard output, with colours when it is a terminal and `NO_COLOR` is not set.
    ///
    /// # Errors
    /// Standard output is closed, or there can be no more threads.
    pub fn stdout(writing: Writing) -> io::Result<ConsoleOutput> {
        let colours = io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let style = if colours { Style::Colour } else { Style::Plain };
        let place = "standard output".to_owned();
        let writer = Writer::open(writing, place, writer::stdout()?, as_it_is)?;
        Ok(ConsoleOutput::new(writer, style))
    }

    /// To `out`, in the caller. Each trace is given to it in one write.
    pub fn to(out: Box<dyn Write + Send>, style: Style) -> ConsoleOutput {
        ConsoleOutput::new(Writer::inline("the console".to_owned(), out, as_it_is), style)
    }

    fn new(writer: Writer, style: Style) -> ConsoleOutput {
        ConsoleOutput {
            writer,
            style,
            filter: None,
            traces: HashMap::new(),
            now_ns: 0,
            spans: Count::default(),
            events: Count::default(),
        }
    }

    /// Only traces that are asked for, and nothing that belongs to none.
    #[must_use]
    pub fn only(self, filter: &TraceFilter) -> ConsoleOutput {
        ConsoleOutput { filter: Some(Filter::new(filter)), ..self }
    }

    fn trace(&mut self, id: TraceId, now_ns: u64) -> &mut Trace {
        let crowded = self.traces.len() >= MAX_TRACES && !self.traces.contains_key(&id);
        if crowded || self.spans.held + self.events.held >= MAX_HELD {
            let oldest = self.traces.iter().min_by_key(|(id, trace)| (trace.first_ns, **id));
            if let Some(id) = oldest.map(|(id, _)| *id) {
                self.print(id);
            }
        }
        let trace = self.traces.entry(id).or_insert_with(|| Trace::new(id, now_ns));
        trace.last_ns = now_ns;
        trace
    }

    fn print(&mut self, id: TraceId) {
        let Some(trace) = self.traces.remove(&id) else { return };
        let items = Items {
            spans: trace.spans.len() as u64,
            log_records: trace.events.len() as u64,
            data_points: 0,
        };
        self.spans.held = self.spans.held.saturating_sub(items.spans);
        self.events.held = self.events.held.saturating_sub(items.log_records);
        if self.filter.is_some() && !trace.asked_for {
            self.spans.filtered += items.spans;
            self.events.filtered += items.log_records;
            return;
        }
        self.writer.write(Chunk { body: trace.render(self.style).into_bytes(), items });
    }

    fn print_due(&mut self, due: impl Fn(&Trace) -> bool) {
        let mut ids: Vec<(u64, TraceId)> = self
            .traces
            .iter()
            .filter(|(_, trace)| due(trace))
            .map(|(id, trace)| (trace.start_unix_ns(), *id))
            .collect();
        ids.sort_unstable();
        ids.into_iter().for_each(|(_, id)| self.print(id));
    }
}

#[expect(clippy::unnecessary_wraps, reason = "other formats fail")]
fn as_it_is(_items: Items, text: Vec<u8>) -> io::Result<Vec<u8>> {
    Ok(text)
}

impl Output for ConsoleOutput {
    fn span(&mut self, span: &Span<'_>) {
        self.spans.came_in += 1;
        let now_ns = self.now_ns.max(span.end_boot_ns);
        let asked_for = self.filter.as_ref().is_some_and(|filter| filter.takes(span));
        let trace = self.trace(span.trace, now_ns);
        trace.asked_for |= asked_for;
        if trace.add_span(|| SpanRow::of(span)) {
            self.spans.held += 1;
        } else {
            self.spans.too_large += 1;
        }
    }

    fn log(&mut self, record: &LogRecord<'_>) {
        self.events.came_in += 1;
        let row = EventRow::of(record);
        let Some((id, _)) = record.cause else {
            if self.filter.is_some() {
                self.events.filtered += 1;
                return;
            }
            let body = tree::render_event(&row, self.style).into_bytes();
            self.writer.write(Chunk { body, items: Items { log_records: 1, ..Items::default() } });
            return;
        };
        let now_ns = self.now_ns;
        if self.trace(id, now_ns).add_event(row) {
            self.events.held += 1;
        } else {
            self.events.too_large += 1;
        }
    }
}

impl Destination for ConsoleOutput {
    fn flush(&mut self, now_boot_ns: u64) {
        self.now_ns = self.now_ns.max(now_boot_ns);
        let now_ns = self.now_ns;
        self.print_due(|trace| {
            let quiet = now_ns.saturating_sub(trace.last_ns);
            let held = now_ns.saturating_sub(trace.first_ns);
            let over = quiet >= INCOMPLETE_NS || quiet >= QUIET_NS && trace.is_complete();
            over || held >= MAX_HOLD_NS
        });
    }

    fn finish(&mut self, _now_boot_ns: u64) {
        self.print_due(|_| true);
    }

    fn close(&mut self, deadline: Instant) {
        self.writer.close(deadline);
    }

    fn is_gone(&self) -> bool {
        self.writer.is_gone()
    }

    fn note(&mut self, text: &str) {
        let body = text::note(text, self.style).into_bytes();
        self.writer.write(Chunk { body, items: Items::default() });
    }

    fn ledger(&self, entries: &mut Vec<Entry>) {
        let settled = self.writer.settled();
        let kinds: [(_, _, Of); 2] = [
            ("spans", self.spans, |items| items.spans),
            ("log_records", self.events, |items| items.log_records),
        ];
        for (unit, count, of) in kinds {
            let sides = [
                (Side::In, count.came_in),
                (Side::Held, count.held + of(settled.held())),
                (Side::Lost("trace_too_large"), count.too_large),
                (Side::Lost("not_asked_for"), count.filtered),
            ];
            entries.extend(sides.map(|(side, count)| Entry {
                stage: "console",
                unit,
                side,
                count,
            }));
            settled.entries("console", unit, of, entries);
        }
    }
}

#[cfg(test)]
mod tests;
