//! Series as metrics: for OTLP, and for whoever asks.

use super::{BOUNDS, BUCKETS, FlowMetrics, IDLE_REPORTS, Key, Series};
use crate::flow::log::error_name;
use crate::histogram::Histogram;
use crate::metric::{Data, Distribution, Metric, Point, Temporality};
use crate::process::{KeptServiceName, Resource, SharedResource};
use crate::request::SERVICE;
use crate::span::{Attribute, Output, Value};
use foldhash::fast::RandomState;
use hashbrown::HashSet;
use std::collections::BTreeMap;

/// One number of one series, for a text format.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name of the metric in Prometheus's words, with unit and kind.
    pub prometheus: &'static str,
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
        self.forget();
    }

    /// Drops what is idle; the text keeps its sums.
    fn forget(&mut self) {
        let is_idle = |_: &Key, (_, series): &mut (_, Series)| series.idle_reports >= IDLE_REPORTS;
        for (key, (resource, series)) in self.series.extract_if(is_idle) {
            let labels = (resource.service_name().into(), Key { service: 0, ..key });
            self.retired.of(labels).merge(&series);
        }
        if !self.retired.is_empty() {
            let labels = |(key, (resource, _)): (&Key, &(SharedResource, Series))| {
                (resource.service_name().into(), Key { service: 0, ..key.clone() })
            };
            let live: HashSet<(KeptServiceName, Key), RandomState> =
                self.series.iter().map(labels).collect();
            self.retired.age(|labels| live.contains(labels));
        }
    }

    /// All numbers by service, for a text format: those of a service's processes added up, also of those that
    /// are gone ([`Retired`](crate::retired)), histograms as their sum and count.
    pub fn samples(&self) -> Vec<Sample> {
        let mut sums: BTreeMap<(&'static str, Labels), f64> = BTreeMap::new();
        let live =
            self.series.iter().map(|(key, (resource, series))| (Some(key), resource, series));
        let overflow = self.overflow.iter().map(|(resource, series)| (None, resource, series));
        let live = live.chain(overflow).map(|(key, of, series)| (key, of.service_name(), series));
        let retired = self.retired.iter();
        let retired =
            retired.map(|((service, key), series)| (Some(key), service.borrowed(), series));
        for (key, service, series) in live.chain(retired) {
            let all = service.attributes(SERVICE).chain(base(key));
            let labels: Labels = all.map(|(name, value)| (name, value.to_text())).collect();
            let mut add = |metric, own: Option<Attribute<'_>>, value: f64| {
                let mut labels = labels.clone();
                labels.extend(own.map(|(name, value)| (name, value.to_text())));
                *sums.entry((metric, labels)).or_default() += value;
            };
            for (name, _, _, value, own) in counters(series) {
                add(name, own, value as f64);
            }
            for (errno, count) in &series.failures {
                add(FAILED, Some(("error.type", Value::Str(error_name(*errno)))), *count as f64);
            }
            for (sum, count, histogram) in
                [(RTT_SUM, RTT_COUNT, &series.rtt), (CONNECT_SUM, CONNECT_COUNT, &series.connect)]
            {
                add(sum, None, histogram.sum);
                add(count, None, histogram.count() as f64);
            }
        }
        let sample =
            |((metric, labels), value)| Sample { prometheus: prometheus(metric), labels, value };
        sums.into_iter().map(sample).collect()
    }
}

/// Names and values.
type Labels = Vec<(&'static str, String)>;

/// Prometheus's name of a metric: with its unit, and `_total` where it only grows.
fn prometheus(metric: &'static str) -> &'static str {
    match metric {
        BYTES => "kernspan_network_flow_bytes_total",
        PACKETS => "kernspan_network_flow_packets_total",
        COUNT => "kernspan_network_flow_count_total",
        RETRANSMITS => "kernspan_tcp_retransmits_total",
        RESETS => "kernspan_tcp_resets_total",
        FAILED => "kernspan_tcp_failed_connections_total",
        RTT_SUM => "kernspan_tcp_rtt_seconds_sum_total",
        RTT_COUNT => "kernspan_tcp_rtt_seconds_count_total",
        CONNECT_SUM => "kernspan_tcp_connect_duration_seconds_sum_total",
        CONNECT_COUNT => "kernspan_tcp_connect_duration_seconds_count_total",
        other => other,
    }
}

const BYTES: &str = "kernspan.network.flow.bytes";
const PACKETS: &str = "kernspan.network.flow.packets";
const COUNT: &str = "kernspan.network.flow.count";
const RETRANSMITS: &str = "kernspan.tcp.retransmits";
const RESETS: &str = "kernspan.tcp.resets";
const RTT_SUM: &str = "kernspan.tcp.rtt.sum";
const RTT_COUNT: &str = "kernspan.tcp.rtt.count";
const CONNECT_SUM: &str = "kernspan.tcp.connect.duration.sum";
const CONNECT_COUNT: &str = "kernspan.tcp.connect.duration.count";
const RTT: &str = "kernspan.tcp.rtt";
const CONNECT: &str = "kernspan.tcp.connect.duration";
const FAILED: &str = "kernspan.tcp.failed.connections";

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
    const OF_BYTES: &str = "Payload bytes between two ends";
    const OF_PACKETS: &str = "TCP segments or UDP messages between two ends";
    const OF_RESETS: &str = "TCP resets";
    let totals = &series.totals;
    [
        (BYTES, OF_BYTES, "By", totals.bytes_sent, Some(TRANSMIT)),
        (BYTES, OF_BYTES, "By", totals.bytes_received, Some(RECEIVE)),
        (PACKETS, OF_PACKETS, "{packet}", totals.packets_sent, Some(TRANSMIT)),
        (PACKETS, OF_PACKETS, "{packet}", totals.packets_received, Some(RECEIVE)),
        (COUNT, "Conversations seen", "{flow}", series.count, None),
        (RETRANSMITS, "TCP segments sent again", "{packet}", totals.retransmits, None),
        (RESETS, OF_RESETS, "{reset}", series.resets_sent, Some(TRANSMIT)),
        (RESETS, OF_RESETS, "{reset}", series.resets_received, Some(RECEIVE)),
    ]
}

fn emit(
    key: Option<&Key>,
    resource: &Resource,
    series: &Series,
    unix_ns: u64,
    out: &mut dyn Output,
) {
    let temporality = Temporality::Cumulative;
    let base = base(key);
    let is_tcp = key.is_none_or(|key| key.transport.name() == "tcp");
    let start_unix_ns = series.start_unix_ns;
    for (name, description, unit, value, own) in counters(series) {
        if value == 0 && name.starts_with("kernspan.tcp.") {
            continue;
        }
        let attributes: Vec<Attribute<'_>> = base.iter().copied().chain(own).collect();
        let points = [Point { attributes: &attributes, start_unix_ns, unix_ns, value }];
        out.metric(&Metric {
            name,
            description,
            unit,
            data: Data::Counter(&points),
            temporality,
            resource,
        });
    }
    let points = [Point { attributes: &base, start_unix_ns, unix_ns, value: series.active }];
    out.metric(&Metric {
        name: "kernspan.network.flow.active",
        description: "Conversations that live",
        unit: "{flow}",
        data: Data::Gauge(&points),
        temporality,
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
        out.metric(&Metric {
            name: FAILED,
            description,
            unit: "{connection}",
            data,
            temporality,
            resource,
        });
    }
    let rtt = "Smoothed round-trip times, of each conversation that received, once an interval";
    let connect = "Times from connect to established";
    for (name, description, histogram) in
        [(RTT, rtt, &series.rtt), (CONNECT, connect, &series.connect)]
    {
        if !histogram.is_empty() {
            let points = [distribution(histogram, &base, start_unix_ns, unix_ns)];
            let data = Data::Histogram(&points);
            out.metric(&Metric { name, description, unit: "s", data, temporality, resource });
        }
    }
}

fn distribution<'a>(
    histogram: &'a Histogram<BUCKETS>,
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
        exemplars: &[],
    }
}
