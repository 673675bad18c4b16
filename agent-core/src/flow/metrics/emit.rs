//! Series as metrics: for OTLP, and for whoever asks.

use super::histogram::{BOUNDS, Histogram};
use super::{FlowMetrics, IDLE_REPORTS, Key, Series};
use crate::flow::log::error_name;
use crate::metric::{Data, Distribution, Metric, Point};
use crate::process::Resource;
use crate::span::{Attribute, Output, Value};

/// One number of one series, for a text format.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name of the metric, as for OTLP.
    pub metric: &'static str,
    /// It only grows.
    pub is_counter: bool,
    /// Names and values that tell it apart.
    pub labels: Vec<(&'static str, String)>,
    /// Number.
    pub value: f64,
}

/// Which way bytes go.
const TRANSMIT: Attribute<'static> = ("network.io.direction", Value::Str("transmit"));
const RECEIVE: Attribute<'static> = ("network.io.direction", Value::Str("receive"));

/// Name, description, unit and the number of a counter, with the attribute that is its own.
type Counter = (&'static str, &'static str, &'static str, u64, Option<Attribute<'static>>);

impl FlowMetrics {
    /// Gives all series out, and begins a new interval.
    pub fn report(&mut self, unix_ns: u64, out: &mut dyn Output) {
        for (key, (resource, series)) in &mut self.series {
            emit(Some(key), resource, series, unix_ns, out);
            series.active = 0;
            series.idle_reports += 1;
        }
        if let Some((resource, series)) = &mut self.overflow {
            emit(None, resource, series, unix_ns, out);
            series.active = 0;
        }
        self.series.retain(|_, (_, series)| series.idle_reports < IDLE_REPORTS);
    }

    /// All numbers by service, for a text format. Histograms as their sum and count.
    pub fn samples(&self) -> Vec<Sample> {
        let mut samples = Vec::new();
        let overflow = self.overflow.iter().map(|(resource, series)| (None, resource, series));
        let known =
            self.series.iter().map(|(key, (resource, series))| (Some(key), resource, series));
        for (key, resource, series) in known.chain(overflow) {
            let mut labels = vec![("service_name", resource.service.clone())];
            labels.extend(base(key).into_iter().map(|(name, value)| (name, text(value))));
            let mut push = |metric, is_counter, own: Option<Attribute<'_>>, value| {
                let mut labels = labels.clone();
                labels.extend(own.map(|(name, value)| (name, text(value))));
                samples.push(Sample { metric, is_counter, labels, value });
            };
            for (name, _, _, value, own) in counters(series) {
                push(name, true, own, value as f64);
            }
            for (errno, count) in &series.failures {
                let own = ("error.type", Value::Str(error_name(*errno)));
                push(FAILED, true, Some(own), *count as f64);
            }
            for (name, histogram) in [(RTT, &series.rtt), (CONNECT, &series.connect)] {
                let count: u64 = histogram.counts.iter().sum();
                let (sums, counts) = match name {
                    RTT => ("kernspan.tcp.rtt.sum", "kernspan.tcp.rtt.count"),
                    _ => {
                        ("kernspan.tcp.connect.duration.sum", "kernspan.tcp.connect.duration.count")
                    }
                };
                push(sums, true, None, histogram.sum);
                push(counts, true, None, count as f64);
            }
        }
        samples
    }
}

const RTT: &str = "kernspan.tcp.rtt";
const CONNECT: &str = "kernspan.tcp.connect.duration";
const FAILED: &str = "kernspan.tcp.failed.connections";

fn text(value: Value<'_>) -> String {
    match value {
        Value::Str(text) => text.to_owned(),
        Value::Int(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Double(number) => number.to_string(),
        Value::List(texts) => texts.join(","),
    }
}

/// The attributes of a series; of the overflow series, that it is one.
fn base(key: Option<&Key>) -> Vec<Attribute<'_>> {
    let Some(key) = key else { return vec![("otel.metric.overflow", Value::Bool(true))] };
    let mut attributes = vec![
        ("network.transport", Value::Str(key.transport.name())),
        ("network.type", Value::Str(if key.is_ipv4 { "ipv4" } else { "ipv6" })),
        ("kernspan.flow.role", Value::Str(key.role.name())),
    ];
    attributes.extend(key.name.as_deref().map(|name| ("server.address", Value::Str(name))));
    let address = key.address.as_deref();
    attributes.extend(address.map(|address| ("network.peer.address", Value::Str(address))));
    attributes.extend(key.port.map(|port| ("server.port", Value::Int(port.into()))));
    attributes
}

fn counters(series: &Series) -> [Counter; 8] {
    let totals = &series.totals;
    const BYTES: &str = "Payload bytes between two ends";
    const PACKETS: &str = "TCP segments or UDP messages between two ends";
    const RESETS: &str = "TCP resets";
    let bytes = "kernspan.network.flow.bytes";
    let packets = "kernspan.network.flow.packets";
    let resets = "kernspan.tcp.resets";
    let retransmits = "kernspan.tcp.retransmits";
    [
        (bytes, BYTES, "By", totals.bytes_sent, Some(TRANSMIT)),
        (bytes, BYTES, "By", totals.bytes_received, Some(RECEIVE)),
        (packets, PACKETS, "{packet}", totals.packets_sent, Some(TRANSMIT)),
        (packets, PACKETS, "{packet}", totals.packets_received, Some(RECEIVE)),
        ("kernspan.network.flow.count", "Conversations seen", "{flow}", series.count, None),
        (retransmits, "TCP segments sent again", "{packet}", totals.retransmits, None),
        (resets, RESETS, "{reset}", series.resets_sent, Some(TRANSMIT)),
        (resets, RESETS, "{reset}", series.resets_received, Some(RECEIVE)),
    ]
}

fn emit(
    key: Option<&Key>,
    resource: &Resource,
    series: &Series,
    unix_ns: u64,
    out: &mut dyn Output,
) {
    let base = base(key);
    let is_tcp = key.is_none_or(|key| key.transport.name() == "tcp");
    let start_unix_ns = series.start_unix_ns;
    for (name, description, unit, value, own) in counters(series) {
        if value == 0 && name.starts_with("kernspan.tcp.") {
            continue;
        }
        let attributes: Vec<Attribute<'_>> = base.iter().copied().chain(own).collect();
        let points = [Point { attributes: &attributes, start_unix_ns, unix_ns, value }];
        out.metric(&Metric { name, description, unit, data: Data::Counter(&points), resource });
    }
    let points = [Point { attributes: &base, start_unix_ns, unix_ns, value: series.active }];
    out.metric(&Metric {
        name: "kernspan.network.flow.active",
        description: "Conversations that live",
        unit: "{flow}",
        data: Data::Gauge(&points),
        resource,
    });
    if !is_tcp {
        return;
    }
    for (errno, value) in &series.failures {
        let own = ("error.type", Value::Str(error_name(*errno)));
        let attributes: Vec<Attribute<'_>> = base.iter().copied().chain([own]).collect();
        let points = [Point { attributes: &attributes, start_unix_ns, unix_ns, value: *value }];
        let description = "TCP connections that were not established";
        let data = Data::Counter(&points);
        out.metric(&Metric { name: FAILED, description, unit: "{connection}", data, resource });
    }
    let rtt = "Smoothed round-trip times, of each conversation that received, once an interval";
    let connect = "Times from connect to established";
    for (name, description, histogram) in
        [(RTT, rtt, &series.rtt), (CONNECT, connect, &series.connect)]
    {
        if !histogram.is_empty() {
            let points = [distribution(histogram, &base, start_unix_ns, unix_ns)];
            let data = Data::Histogram(&points);
            out.metric(&Metric { name, description, unit: "s", data, resource });
        }
    }
}

fn distribution<'a>(
    histogram: &'a Histogram,
    attributes: &'a [Attribute<'a>],
    start_unix_ns: u64,
    unix_ns: u64,
) -> Distribution<'a> {
    Distribution {
        attributes,
        start_unix_ns,
        unix_ns,
        sum: histogram.sum,
        bounds: &BOUNDS,
        counts: &histogram.counts,
    }
}
