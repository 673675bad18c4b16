//! The agent's own numbers as Prometheus text (exposition format 0.0.4).
//!
//! Series of a family stand together and each appears once, as the format asks: entries of
//! several shards for the same stage, unit and side are added up.

use agent_core::flow::metrics::Sample;
use agent_core::ledger::{Entry, Side};
use agent_core::request::{Bucketed, Number as RequestNumber};
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter, Write};

/// Content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A number that is not in the ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct Gauge {
    /// Whole metric name, for example `kernspan_connections`. One that ends in `_total` is a
    /// counter.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Names and values that tell the series of one name apart.
    pub labels: Vec<(&'static str, String)>,
    /// Number.
    pub value: f64,
}

/// What comes before the histograms of a family.
pub fn family_head(text: &mut String, metric: &str) {
    let name = prometheus(metric);
    let _ =
        writeln!(text, "# HELP {name} Durations of requests, seconds; all, whatever is sampled.");
    let _ = writeln!(text, "# TYPE {name} histogram");
}

/// With its unit, as OpenTelemetry's compatibility with Prometheus wants it.
fn prometheus(metric: &str) -> String {
    let name = name(metric);
    if name.ends_with("_seconds") { name } else { name + "_seconds" }
}

/// The lines of one histogram. Its labels are written once, into `room`, and copied.
pub fn write_histogram(text: &mut String, histogram: &Bucketed, room: &mut String) {
    let name = prometheus(histogram.name);
    room.clear();
    write_labels(room, &histogram.labels);
    let comma = if room.is_empty() { "" } else { "," };
    let mut sum = 0;
    let bounds = histogram.bounds.iter().copied().chain([f64::INFINITY]);
    for (bound, count) in bounds.zip(&histogram.counts) {
        sum += count;
        let _ = writeln!(text, "{name}_bucket{{{room}{comma}le=\"{}\"}} {sum}", Real(bound));
    }
    let (open, close) = if room.is_empty() { ("", "") } else { ("{", "}") };
    let _ = writeln!(text, "{name}_sum{open}{room}{close} {}", Real(histogram.sum));
    let _ = writeln!(text, "{name}_count{open}{room}{close} {sum}");
}

/// One family: samples by their label text.
struct Family {
    kind: &'static str,
    help: String,
    samples: BTreeMap<String, Number>,
}

#[derive(Clone, Copy)]
enum Number {
    Count(u64),
    Real(f64),
}

/// `kernspan_<stage>_<unit>_total{side,cause}` for what is counted, `kernspan_<stage>_<unit>_held`
/// for what is inside now, then the rest.
pub fn render(
    entries: &[Entry],
    gauges: &[Gauge],
    flows: &[Sample],
    edges: &[RequestNumber],
) -> String {
    const OF_FLOWS: &str = "Conversations over TCP and UDP, by service; see kernspan run --help.";
    const OF_EDGES: &str = "Requests between two services, all, whatever is sampled.";
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for entry in entries {
        add_entry(&mut families, entry);
    }
    let mut add = |metric: &str, help: &str, labels: &[(&str, String)], value| {
        let kind = if metric.ends_with("_total") { "counter" } else { "gauge" };
        let samples = family(&mut families, name(metric), kind, || help.to_owned());
        samples.insert(label_text(labels), Number::Real(value));
    };
    for gauge in gauges {
        add(gauge.name, gauge.help, &gauge.labels, gauge.value);
    }
    for sample in flows {
        add(sample.prometheus, OF_FLOWS, &sample.labels, sample.value);
    }
    for edge in edges {
        add(edge.name, OF_EDGES, &edge.labels, edge.value as f64);
    }
    let mut text = String::new();
    for (name, family) in &families {
        let _ = writeln!(text, "# HELP {name} {}", Escaped(&family.help, false));
        let _ = writeln!(text, "# TYPE {name} {}", family.kind);
        for (labels, number) in &family.samples {
            let _ = match number {
                Number::Count(count) => writeln!(text, "{name}{labels} {count}"),
                Number::Real(value) => writeln!(text, "{name}{labels} {}", Real(*value)),
            };
        }
    }
    text
}

fn add_entry(families: &mut BTreeMap<String, Family>, entry: &Entry) {
    let Entry { stage, unit, side, count } = *entry;
    let base = name(&format!("kernspan_{stage}_{unit}"));
    let samples = if side == Side::Held {
        let help = || format!("{unit} inside the stage {stage} now");
        family(families, format!("{base}_held"), "gauge", help)
    } else {
        let help =
            || format!("{unit} of the stage {stage}: came in, went out, lost or seen, by cause");
        family(families, format!("{base}_total"), "counter", help)
    };
    let labels = match side {
        Side::Held => Vec::new(),
        Side::In | Side::Out => vec![("side", side.label().to_owned())],
        Side::Lost(cause) => vec![("side", "lost".to_owned()), ("cause", cause.to_owned())],
        Side::Info(cause) => vec![("side", "info".to_owned()), ("cause", cause.to_owned())],
    };
    let sum = samples.entry(label_text(&labels)).or_insert(Number::Count(0));
    if let Number::Count(sum) = sum {
        *sum = sum.saturating_add(count);
    }
}

fn family<'a>(
    families: &'a mut BTreeMap<String, Family>,
    name: String,
    kind: &'static str,
    help: impl FnOnce() -> String,
) -> &'a mut BTreeMap<String, Number> {
    let family = families.entry(name);
    let fresh = || Family { kind, help: help(), samples: BTreeMap::new() };
    &mut family.or_insert_with(fresh).samples
}

/// Only `[a-zA-Z0-9_]`, not beginning with a digit.
fn name(text: &str) -> String {
    let mut name = String::with_capacity(text.len() + "_seconds".len());
    write_name(&mut name, text);
    name
}

fn write_name(into: &mut String, text: &str) {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        into.push('_');
    }
    into.extend(text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }));
}

/// `{a="b",c="d"}`, nothing without labels.
fn label_text(labels: &[(&str, String)]) -> String {
    let mut text = String::new();
    if !labels.is_empty() {
        text.push('{');
        write_labels(&mut text, labels);
        text.push('}');
    }
    text
}

/// `a="b",c="d"`.
fn write_labels(into: &mut String, labels: &[(&str, String)]) {
    for (at, (label, value)) in labels.iter().enumerate() {
        if at > 0 {
            into.push(',');
        }
        write_name(into, label);
        let _ = write!(into, "=\"{}\"", Escaped(value, true));
    }
}

/// Backslash and line feed; in a label's value the quote too.
struct Escaped<'a>(&'a str, bool);

impl Display for Escaped<'_> {
    fn fmt(&self, into: &mut Formatter<'_>) -> fmt::Result {
        let Escaped(text, is_label) = self;
        for piece in text.split_inclusive(['\\', '\n', '"']) {
            let plain = piece.strip_suffix(['\\', '\n', '"']).unwrap_or(piece);
            into.write_str(plain)?;
            into.write_str(match &piece[plain.len()..] {
                "\\" => "\\\\",
                "\n" => "\\n",
                "\"" if *is_label => "\\\"",
                as_it_is => as_it_is,
            })?;
        }
        Ok(())
    }
}

/// Prometheus spells infinity otherwise than Rust.
struct Real(f64);

impl Display for Real {
    fn fmt(&self, into: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            f64::INFINITY => into.write_str("+Inf"),
            f64::NEG_INFINITY => into.write_str("-Inf"),
            value => value.fmt(into),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_whole_and_series_are_single() {
        let entry = |stage, unit, side, count| Entry { stage, unit, side, count };
        let entries = [
            entry("ring", "records", Side::In, 10),
            entry("connection", "chunks", Side::Held, 3),
            entry("ring", "records", Side::Lost("ring_full"), 2),
            entry("ring", "records", Side::In, 5),
            entry("connection", "chunks", Side::Info("tls"), 7),
        ];
        let labels = vec![("service", "a\\b\"c\nd".to_owned())];
        let gauges = [
            Gauge { name: "kernspan_x", help: "An \\ x\nof it.", labels, value: 1.5 },
            Gauge { name: "kernspan_x", help: "", labels: Vec::new(), value: f64::INFINITY },
        ];
        let expected = r#"# HELP kernspan_connection_chunks_held chunks inside the stage connection now
# TYPE kernspan_connection_chunks_held gauge
kernspan_connection_chunks_held 3
# HELP kernspan_connection_chunks_total chunks of the stage connection: came in, went out, lost or seen, by cause
# TYPE kernspan_connection_chunks_total counter
kernspan_connection_chunks_total{side="info",cause="tls"} 7
# HELP kernspan_ring_records_total records of the stage ring: came in, went out, lost or seen, by cause
# TYPE kernspan_ring_records_total counter
kernspan_ring_records_total{side="in"} 15
kernspan_ring_records_total{side="lost",cause="ring_full"} 2
# HELP kernspan_x An \\ x\nof it.
# TYPE kernspan_x gauge
kernspan_x +Inf
kernspan_x{service="a\\b\"c\nd"} 1.5
"#;
        assert_eq!(render(&entries, &gauges, &[], &[]), expected);
    }

    #[test]
    fn buckets_add_up_to_the_count() {
        let histogram = Bucketed {
            name: "http.server.request.duration",
            labels: vec![("service_name", "shop".to_owned())],
            bounds: &[0.005, 1.0],
            counts: vec![2, 3, 1],
            sum: 4.5,
        };
        let mut text = String::new();
        write_histogram(&mut text, &histogram, &mut "left over".to_owned());
        let expected = r#"http_server_request_duration_seconds_bucket{service_name="shop",le="0.005"} 2
http_server_request_duration_seconds_bucket{service_name="shop",le="1"} 5
http_server_request_duration_seconds_bucket{service_name="shop",le="+Inf"} 6
http_server_request_duration_seconds_sum{service_name="shop"} 4.5
http_server_request_duration_seconds_count{service_name="shop"} 6
"#;
        assert_eq!(text, expected);
        text.clear();
        let unlabelled = Bucketed { labels: Vec::new(), ..histogram };
        write_histogram(&mut text, &unlabelled, &mut String::new());
        assert!(text.contains("_bucket{le=\"+Inf\"} 6\n"), "{text}");
        assert!(text.ends_with("_seconds_sum 4.5\nhttp_server_request_duration_seconds_count 6\n"));
    }

    #[test]
    fn names_are_what_prometheus_takes() {
        assert_eq!(name("kernspan_a-b.c"), "kernspan_a_b_c");
        assert_eq!(name("9lives"), "_9lives");
    }
}
