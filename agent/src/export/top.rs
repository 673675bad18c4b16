//! Services, one a line, drawn anew at an interval: `kernspan top`.

mod window;

use super::Destination;
use super::console::printable;
use super::writer::{self, Chunk, Items, Writer, Writing};
use agent_core::ledger::{Entry, Side};
use agent_core::span::{Kind, LogRecord, Output, Span};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};
use window::{Seen, Window};

/// Services with a row; what comes beyond has one together.
const MOST_SERVICES: usize = 1000;

/// The name of that row.
const OTHERS: &str = "(others)";

/// Rows of a screen where no terminal says how many it has.
const MOST_ROWS: usize = 40;

/// Lines of a terminal beside rows: three above, "and so many more" and two empty ones below.
const OTHER_LINES: usize = 6;

/// Longest name shown.
const MOST_NAME: usize = 28;

/// Goes to the upper left corner of a terminal and clears it (ECMA-48 CUP, ED).
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// Says how many columns and lines a terminal has, if that is known.
type Size = fn() -> Option<(usize, usize)>;

/// What both directions of a service have done lately.
#[derive(Default)]
struct Row {
    answers: Window,
    asks: Window,
    in_flight: u64,
}

/// See the module.
pub struct TopOutput {
    writer: Writer,
    /// Of the terminal, asked anew for each screen; where there is one, each takes the place of the one before.
    terminal: Option<Size>,
    every_ns: u64,
    began_ns: u64,
    drawn_ns: u64,
    rows: BTreeMap<String, Row>,
    spans: u64,
}

impl TopOutput {
    /// To standard output; on a terminal each screen takes the place of the one before.
    ///
    /// # Errors
    /// Standard output is closed, or there can be no more threads.
    pub fn stdout(writing: Writing, every: Duration) -> io::Result<TopOutput> {
        let terminal = io::stdout().is_terminal().then_some(size as Size);
        let place = "standard output".to_owned();
        let writer = Writer::open(writing, place, writer::stdout()?, |_, text| Ok(text))?;
        Ok(TopOutput::new(writer, terminal, every))
    }

    /// To `out`, in the caller.
    pub fn to(out: Box<dyn Write + Send>, every: Duration) -> TopOutput {
        let writer = Writer::inline("the screen".to_owned(), out, |_, text| Ok(text));
        TopOutput::new(writer, None, every)
    }

    fn new(writer: Writer, terminal: Option<Size>, every: Duration) -> TopOutput {
        TopOutput {
            writer,
            terminal,
            every_ns: u64::try_from(every.as_nanos()).unwrap_or(u64::MAX),
            began_ns: 0,
            drawn_ns: 0,
            rows: BTreeMap::new(),
            spans: 0,
        }
    }

    fn row(&mut self, service: &str) -> &mut Row {
        let is_known = self.rows.contains_key(service);
        let name = if is_known || self.rows.len() < MOST_SERVICES { service } else { OTHERS };
        self.rows.entry(name.to_owned()).or_default()
    }

    fn draw(&mut self, now: u64) {
        let size = self.terminal.and_then(|size| size());
        let mut text = String::new();
        let most = size.map_or(MOST_ROWS, |(_, lines)| lines.saturating_sub(OTHER_LINES).max(1));
        self.screen(now, most, &mut text);
        if let Some((columns, _)) = size {
            text = narrowed(&text, columns);
        }
        if self.terminal.is_some() {
            text.insert_str(0, CLEAR);
        }
        self.writer.write(Chunk { body: text.into_bytes(), items: Items::default() });
        self.rows.retain(|_, row| {
            row.in_flight > 0 || !row.answers.is_over(now) || !row.asks.is_over(now)
        });
    }

    /// With at most so many services, the busiest.
    fn screen(&self, now: u64, most: usize, text: &mut String) {
        let open: u64 = self.rows.values().map(|row| row.in_flight).sum();
        let since = Duration::from_nanos(now.saturating_sub(self.began_ns));
        let shown = window::shown(since, now);
        // Writing to a text cannot fail.
        let _ = writeln!(
            text,
            "kernspan top: {} services, {open} requests in flight; rates and times of the last {} s\n",
            self.rows.len(),
            shown.as_secs_f64().round()
        );
        let _ = writeln!(
            text,
            "{:<MOST_NAME$} {:>9} {:>6} {:>9} {:>9} {:>6} | {:>9} {:>6} {:>9}",
            "SERVICE", "ANSWERS/s", "ERR %", "P50", "P99", "OPEN", "ASKS/s", "ERR %", "P99"
        );
        let mut rows: Vec<(&str, &Row, Seen, Seen)> = Vec::with_capacity(self.rows.len());
        rows.extend(
            self.rows
                .iter()
                .map(|(name, row)| (name.as_str(), row, row.answers.seen(now), row.asks.seen(now))),
        );
        rows.sort_by_key(|(name, _, answers, asks)| (Reverse(answers.count + asks.count), *name));
        for (name, row, answers, asks) in rows.iter().take(most) {
            let name = printable(name, MOST_NAME);
            let _ = writeln!(
                text,
                "{name:<MOST_NAME$} {:>9} {:>6} {:>9} {:>9} {:>6} | {:>9} {:>6} {:>9}",
                answers.rate(shown),
                answers.errors(),
                answers.time(0.5),
                answers.time(0.99),
                row.in_flight,
                asks.rate(shown),
                asks.errors(),
                asks.time(0.99),
            );
        }
        if rows.len() > most {
            let _ = writeln!(text, "and {} more", rows.len() - most);
        }
        text.push('\n');
    }
}

/// Columns and lines of the terminal at standard output.
fn size() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    // One that was never told its size says 0.
    let known = size.ws_col > 0 && size.ws_row > 0;
    known.then(|| (size.ws_col.into(), size.ws_row.into()))
}

/// No line of more than so many characters: the terminal would make two of it.
fn narrowed(text: &str, columns: usize) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        out.extend(line.chars().take(columns));
        out.push('\n');
    }
    out
}

impl Output for TopOutput {
    fn span(&mut self, span: &Span<'_>) {
        self.spans += 1;
        let took = span.end_unix_ns.saturating_sub(span.start_unix_ns);
        let row = self.row(&span.resource.service);
        let window = match span.kind {
            Kind::Server => &mut row.answers,
            Kind::Client => &mut row.asks,
        };
        window.add(span.end_boot_ns, took, span.error);
    }

    fn log(&mut self, _record: &LogRecord<'_>) {}
}

impl Destination for TopOutput {
    fn flush(&mut self, now_boot_ns: u64) {
        if self.began_ns == 0 {
            (self.began_ns, self.drawn_ns) = (now_boot_ns, now_boot_ns);
        }
        if now_boot_ns.saturating_sub(self.drawn_ns) >= self.every_ns {
            self.drawn_ns = now_boot_ns;
            self.draw(now_boot_ns);
        }
    }

    fn finish(&mut self, now_boot_ns: u64) {
        self.draw(now_boot_ns);
    }

    fn close(&mut self, deadline: Instant) {
        self.writer.close(deadline);
    }

    fn is_gone(&self) -> bool {
        self.writer.is_gone()
    }

    fn wants_in_flight(&self) -> bool {
        true
    }

    fn in_flight(&mut self, services: &BTreeMap<String, u64>) {
        self.rows.values_mut().for_each(|row| row.in_flight = 0);
        for (service, count) in services {
            self.row(service).in_flight += count;
        }
    }

    fn ledger(&self, entries: &mut Vec<Entry>) {
        let sides = [(Side::In, self.spans), (Side::Out, self.spans)];
        entries.extend(sides.map(|(side, count)| Entry {
            stage: "top",
            unit: "spans",
            side,
            count,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_core::id::{SpanId, TraceId};
    use agent_core::process::Resource;
    use std::sync::{Arc, Mutex};

    const SECOND: u64 = 1_000_000_000;

    #[derive(Clone, Default)]
    struct Shown(Arc<Mutex<Vec<u8>>>);

    impl Write for Shown {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn answer(top: &mut TopOutput, resource: &Resource, end_ns: u64, took_ns: u64, error: bool) {
        top.span(&Span {
            trace: TraceId::default(),
            id: SpanId::default(),
            parent: None,
            parent_remote: false,
            trace_flags: 3,
            tracestate: "",
            name: "GET",
            kind: Kind::Server,
            start_unix_ns: end_ns - took_ns,
            end_unix_ns: end_ns,
            end_boot_ns: end_ns,
            error,
            attributes: &[],
            links: &[],
            resource,
        });
    }

    fn resource(service: &str) -> Resource {
        Resource { id: 1, service: service.to_owned(), attributes: Vec::new(), part_of: None }
    }

    #[test]
    fn a_screen_has_rates_errors_times_and_what_is_open_busiest_first() {
        let shown = Shown::default();
        let mut top = TopOutput::to(Box::new(shown.clone()), Duration::from_secs(2));
        top.flush(100 * SECOND);
        let (shop, cart) = (resource("shop"), resource("cart\u{1b}[2J"));
        for n in 0..1000 {
            let took = if n < 980 { 2_000_000 } else { 300_000_000 };
            answer(&mut top, &shop, 100 * SECOND + n * 9_000_000, took, n % 10 == 0);
        }
        answer(&mut top, &cart, 101 * SECOND, 1_000_000, false);
        top.in_flight(&[("shop".to_owned(), 7)].into());
        top.flush(110 * SECOND - 1);
        let text = String::from_utf8(shown.0.lock().unwrap().clone()).unwrap();
        let rows: Vec<&str> = text.lines().collect();
        assert!(
            rows[0].contains("2 services, 7 requests in flight; rates and times of the last 10 s")
        );
        let row: Vec<&str> = rows[3].split_whitespace().collect();
        assert_eq!((row[0], row[1], row[2], row[5]), ("shop", "100", "10.0", "7"), "{text}");
        let near = |text: &str, ms: f64| {
            let value: f64 = text.trim_end_matches("ms").parse().unwrap();
            assert!((value / ms - 1.0).abs() < 0.1, "{text} is not {ms} ms");
        };
        near(row[3], 2.0);
        near(row[4], 300.0);
        assert!(rows[4].starts_with("cart·[2J "), "no control characters: {:?}", rows[4]);
    }

    #[test]
    fn a_screen_fits_its_terminal_and_has_its_heading() {
        let shown = Shown::default();
        let mut top = TopOutput::to(Box::new(shown.clone()), Duration::from_secs(2));
        top.terminal = Some(|| Some((60, 24)));
        top.flush(SECOND);
        for n in 0..50 {
            answer(&mut top, &resource(&format!("\u{202e}{n}")), 2 * SECOND, 1000, false);
        }
        top.flush(4 * SECOND);
        let text = String::from_utf8(shown.0.lock().unwrap().clone()).unwrap();
        let text = text.strip_prefix(CLEAR).expect("in place of the one before");
        // A line feed in the last line would move the first one out.
        assert!(text.lines().count() < 24, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
        assert!(text.lines().nth(2).is_some_and(|line| line.starts_with("SERVICE")), "{text}");
        assert!(text.contains("\nand 32 more\n"), "{text}");
        assert!(!text.contains('\u{202e}'), "the direction of writing stays");
    }

    #[test]
    fn services_are_bounded_and_silent_ones_leave() {
        let shown = Shown::default();
        let mut top = TopOutput::to(Box::new(shown.clone()), Duration::from_secs(2));
        top.flush(SECOND);
        for n in 0..3000 {
            answer(&mut top, &resource(&format!("service-{n}")), 2 * SECOND, 1000, false);
        }
        assert_eq!(top.rows.len(), MOST_SERVICES + 1);
        assert_eq!(top.rows[OTHERS].answers.seen(2 * SECOND).count, 2000);
        top.flush(100 * SECOND);
        assert_eq!(top.rows.len(), 0);
    }
}
