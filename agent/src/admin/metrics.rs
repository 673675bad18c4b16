//! The agent's own numbers as Prometheus text (exposition format 0.0.4).
//!
//! Series of a family stand together and each appears once, as the format asks: entries of
//! several shards for the same stage, unit and side are added up.

use agent_core::ledger::{Entry, Side};
use agent_core::request::Bucketed;
use std::collections::BTreeMap;
use std::fmt::Write;

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

/// Histograms of one family, which stand together.
fn render_histograms(text: &mut String, histograms: &[Bucketed]) {
    let mut families: BTreeMap<String, Vec<&Bucketed>> = BTreeMap::new();
    for histogram in histograms {
        families.entry(prometheus(histogram.name)).or_default().push(histogram);
    }
    for (name, histograms) in &families {
        let _ = writeln!(
            text,
            "# HELP {name} Durations of requests, seconds; all, whatever is sampled."
        );
        let _ = writeln!(text, "# TYPE {name} histogram");
        for histogram in histograms {
            render_histogram(text, name, histogram);
        }
    }
}

/// With its unit, as OpenTelemetry's compatibility with Prometheus wants it.
fn prometheus(metric: &str) -> String {
    let name = name(metric);
    if name.ends_with("_seconds") { name } else { name + "_seconds" }
}

fn render_histogram(text: &mut String, name: &str, histogram: &Bucketed) {
    let mut sum = 0;
    let bounds = histogram.bounds.iter().copied().chain([f64::INFINITY]);
    for (bound, count) in bounds.zip(&histogram.counts) {
        sum += count;
        let mut labels = histogram.labels.clone();
        labels.push(("le", real(bound)));
        let _ = writeln!(text, "{name}_bucket{} {sum}", label_text(&labels));
    }
    let labels = label_text(&histogram.labels);
    let _ = writeln!(text, "{name}_sum{labels} {}", real(histogram.sum));
    let _ = writeln!(text, "{name}_count{labels} {sum}");
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
/// for what is inside now, then the gauges.
pub fn render(entries: &[Entry], gauges: &[Gauge], histograms: &[Bucketed]) -> String {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for entry in entries {
        add_entry(&mut families, entry);
    }
    for gauge in gauges {
        let kind = if gauge.name.ends_with("_total") { "counter" } else { "gauge" };
        let samples = family(&mut families, name(gauge.name), kind, gauge.help.to_owned());
        samples.insert(label_text(&gauge.labels), Number::Real(gauge.value));
    }
    let mut text = String::new();
    for (name, family) in &families {
        let _ = writeln!(text, "# HELP {name} {}", escape(&family.help, false));
        let _ = writeln!(text, "# TYPE {name} {}", family.kind);
        for (labels, number) in &family.samples {
            let _ = match number {
                Number::Count(count) => writeln!(text, "{name}{labels} {count}"),
                Number::Real(value) => writeln!(text, "{name}{labels} {}", real(*value)),
            };
        }
    }
    render_histograms(&mut text, histograms);
    text
}

fn add_entry(families: &mut BTreeMap<String, Family>, entry: &Entry) {
    let Entry { stage, unit, side, count } = *entry;
    let base = name(&format!("kernspan_{stage}_{unit}"));
    let samples = if side == Side::Held {
        let help = format!("{unit} inside the stage {stage} now");
        family(families, format!("{base}_held"), "gauge", help)
    } else {
        let help =
            format!("{unit} of the stage {stage}: came in, went out, lost or seen, by cause");
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
    help: String,
) -> &'a mut BTreeMap<String, Number> {
    let family = families.entry(name);
    &mut family.or_insert_with(|| Family { kind, help, samples: BTreeMap::new() }).samples
}

/// Only `[a-zA-Z0-9_]`, not beginning with a digit.
fn name(text: &str) -> String {
    let mut name: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

/// `{a="b",c="d"}`, nothing without labels.
fn label_text(labels: &[(&str, String)]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let pairs: Vec<String> = labels
        .iter()
        .map(|(label, value)| format!("{}=\"{}\"", name(label), escape(value, true)))
        .collect();
    format!("{{{}}}", pairs.join(","))
}

/// Backslash and line feed; in a label's value the quote too.
fn escape(text: &str, label: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '"' if label => escaped.push_str("\\\""),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Prometheus spells infinity otherwise than Rust.
fn real(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    value.to_string()
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
        assert_eq!(render(&entries, &gauges, &[]), expected);
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
        let text = render(&[], &[], &[histogram.clone(), histogram]);
        let expected = r#"# TYPE http_server_request_duration_seconds histogram
http_server_request_duration_seconds_bucket{service_name="shop",le="0.005"} 2
http_server_request_duration_seconds_bucket{service_name="shop",le="1"} 5
http_server_request_duration_seconds_bucket{service_name="shop",le="+Inf"} 6
http_server_request_duration_seconds_sum{service_name="shop"} 4.5
http_server_request_duration_seconds_count{service_name="shop"} 6
"#;
        assert!(text.contains(expected), "{text}");
        assert_eq!(text.matches("# TYPE").count(), 1, "a family stands together");
    }

    #[test]
    fn names_are_what_prometheus_takes() {
        assert_eq!(name("kernspan_a-b.c"), "kernspan_a_b_c");
        assert_eq!(name("9lives"), "_9lives");
    }
}
