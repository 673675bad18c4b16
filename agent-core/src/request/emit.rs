//! Series and edges as metrics.

use super::graph::{Edge, Names};
use super::series::{Key, Series};
use super::{BUCKETS, RequestMetrics, Service};
use crate::histogram::Histogram;
use crate::histogram::exponential::Exponential;
use crate::message::Role;
use crate::metric::{Data, Distribution, Exemplar, Growing, Metric, Point, Temporality};
use crate::process::{Resource, ServiceName};
use crate::span::{Attribute, Output, Value};
use foldhash::fast::RandomState;
use hashbrown::HashSet;

/// Upper bounds of the buckets, seconds (semantic conventions, `http.server.request.duration`).
pub const BOUNDS: [f64; BUCKETS - 1] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// Reports after which what has not changed is no longer reported: its service is gone, or silent.
const IDLE_REPORTS: u32 = 30;

/// The two ends of an edge, as Beyla, OBI and Grafana's service graph have them.
const AT_CLIENT: [&str; 2] = ["client", "client_service_namespace"];
const AT_SERVER: [&str; 2] = ["server", "server_service_namespace"];

const OVERFLOW: Attribute<'static> = ("otel.metric.overflow", Value::Bool(true));

pub(super) const SERVER: &str = "http.server.request.duration";
pub(super) const CLIENT: &str = "http.client.request.duration";
pub(super) const REQUESTS: &str = "traces_service_graph_request_total";
pub(super) const FAILED: &str = "traces_service_graph_request_failed_total";
pub(super) const AS_SERVER: &str = "traces_service_graph_request_server_seconds";
pub(super) const AS_CLIENT: &str = "traces_service_graph_request_client_seconds";

impl RequestMetrics {
    /// Gives all series and edges out, at `unix_ns`. Deltas begin again.
    pub fn report(&mut self, unix_ns: u64, out: &mut dyn Output) {
        let temporality = self.temporality;
        for service in self.services.values_mut().chain(&mut self.overflow) {
            let resource = &service.resource;
            for (key, series) in &mut service.series {
                series.report(key, resource, temporality, unix_ns, out);
            }
        }
        self.forget();
        self.report_edges(unix_ns, out);
    }

    /// Drops what is idle; the text keeps its sums.
    fn forget(&mut self) {
        for service in self.services.values_mut().chain(&mut self.overflow) {
            let is_idle = |_: &Key, series: &mut Series| series.idle_reports >= IDLE_REPORTS;
            for (key, series) in service.series.extract_if(is_idle) {
                let name = service.resource.service_name().into();
                self.retired.of((name, key)).merge(&series.histogram);
            }
        }
        self.services.retain(|_, service| !service.series.is_empty());
        self.overflow.take_if(|all| all.series.is_empty());
        let services = self.services.values().chain(&self.overflow);
        self.in_all = services.clone().map(|service| service.series.len()).sum();
        let held = self.services.values();
        let held = held.filter_map(|service| Some((service.share?, service.series.len())));
        self.shares.recount(held);
        if !self.retired.is_empty() {
            let live = services.flat_map(Service::named).map(|(named, _)| named);
            let live: HashSet<(ServiceName<'_>, &Key), RandomState> = live.collect();
            self.retired.age(|(service, key)| live.contains(&(service.borrowed(), key)));
        }
    }

    fn report_edges(&mut self, unix_ns: u64, out: &mut dyn Output) {
        for edge in self.graph.edges.values_mut() {
            edge.idle_reports += 1;
            edge.report(self.temporality, unix_ns, out);
        }
        self.graph.forget(IDLE_REPORTS);
    }
}

impl Edge {
    fn report(&mut self, temporality: Temporality, unix_ns: u64, out: &mut dyn Output) {
        let new = self.reported.as_deref().map(|reported| self.totals.since(reported));
        let totals = new.as_ref().unwrap_or(&self.totals);
        if totals.requests == 0 && totals.as_client.is_empty() {
            return;
        }
        let (resource, start_unix_ns) = (&self.client, self.start_unix_ns);
        let attributes = ends(self.names());
        for (name, description, value) in [
            (REQUESTS, "Requests between two services", totals.requests),
            (FAILED, "Requests between two services that failed", totals.failed),
        ] {
            let points = [Point { attributes: &attributes, start_unix_ns, unix_ns, value }];
            let (unit, data) = ("{request}", Data::Counter(&points));
            out.metric(&Metric { name, description, unit, data, temporality, resource });
        }
        for (name, description, histogram) in [
            (AS_SERVER, "Duration between two services, as the server saw it", &totals.as_server),
            (AS_CLIENT, "Duration between two services, as the client saw it", &totals.as_client),
        ] {
            if histogram.is_empty() {
                continue;
            }
            let points = [distribution(histogram, &attributes, &[], (start_unix_ns, unix_ns))];
            let (unit, data) = ("s", Data::Histogram(&points));
            out.metric(&Metric { name, description, unit, data, temporality, resource });
        }
        if temporality == Temporality::Delta {
            self.reported = Some(Box::new(self.totals.clone()));
            self.start_unix_ns = unix_ns;
        }
    }
}

/// Of an edge.
pub(super) fn ends(names: Names<'_>) -> Vec<Attribute<'_>> {
    match names {
        None => vec![OVERFLOW],
        Some((client, None)) => client.attributes(AT_CLIENT).chain([OVERFLOW]).collect(),
        Some((client, Some(server))) => {
            client.attributes(AT_CLIENT).chain(server.attributes(AT_SERVER)).collect()
        }
    }
}

impl Series {
    fn report(
        &mut self,
        key: &Key,
        resource: &Resource,
        temporality: Temporality,
        unix_ns: u64,
        out: &mut dyn Output,
    ) {
        self.idle_reports += 1;
        let (name, description) = match key.role {
            Role::Server => (SERVER, "Duration of HTTP server requests."),
            Role::Client => (CLIENT, "Duration of HTTP client requests."),
        };
        let attributes = attributes(key);
        let exemplars: Vec<Exemplar> = self.exemplars.drain(..).map(|(_, one)| one).collect();
        let times = (self.start_unix_ns, unix_ns);
        let mut send = |data| {
            out.metric(&Metric { name, description, unit: "s", data, temporality, resource });
        };
        if let Some(exponential) = &mut self.exponential {
            if !exponential.is_empty() {
                send(Data::Exponential(&[growing(exponential, &attributes, &exemplars, times)]));
            }
            if temporality == Temporality::Delta {
                exponential.clear();
                self.start_unix_ns = unix_ns;
            }
            return;
        }
        let new = self.reported.as_deref().map(|reported| self.histogram.since(reported));
        let histogram = new.as_ref().unwrap_or(&self.histogram);
        if histogram.is_empty() {
            return;
        }
        send(Data::Histogram(&[distribution(histogram, &attributes, &exemplars, times)]));
        if temporality == Temporality::Delta {
            self.reported = Some(Box::new(self.histogram.clone()));
            self.start_unix_ns = unix_ns;
        }
    }
}

/// By the semantic conventions' tables of attributes.
pub(super) fn attributes(key: &Key) -> Vec<Attribute<'_>> {
    if key.is_overflow() {
        return vec![OVERFLOW];
    }
    let mut attributes = vec![("http.request.method", Value::Str(&key.method))];
    let status = key.status.map(|status| ("http.response.status_code", Value::Int(status.into())));
    attributes.extend(status);
    attributes.extend(key.error.as_deref().map(|error| ("error.type", Value::Str(error))));
    if !key.route.is_empty() {
        attributes.push(("http.route", Value::Str(&key.route)));
    }
    match key.role {
        Role::Server => attributes.push(("url.scheme", Value::Str(key.scheme))),
        Role::Client => {
            // The conventions ask for it; what nobody knows is better missing than empty.
            if !key.server.is_empty() {
                attributes.push(("server.address", Value::Str(&key.server)));
            }
            attributes.extend(key.server_port.map(|port| ("server.port", Value::Int(port.into()))));
        }
    }
    if !key.version.is_empty() {
        attributes.push(("network.protocol.version", Value::Str(key.version)));
    }
    attributes
}

fn growing<'a>(
    histogram: &'a Exponential,
    attributes: &'a [Attribute<'a>],
    exemplars: &'a [Exemplar],
    (start_unix_ns, unix_ns): (u64, u64),
) -> Growing<'a> {
    Growing { attributes, start_unix_ns, unix_ns, histogram, exemplars }
}

fn distribution<'a>(
    histogram: &'a Histogram<BUCKETS>,
    attributes: &'a [Attribute<'a>],
    exemplars: &'a [Exemplar],
    (start_unix_ns, unix_ns): (u64, u64),
) -> Distribution<'a> {
    let (bounds, counts, sum) = (&BOUNDS, &histogram.counts, histogram.sum);
    Distribution { attributes, start_unix_ns, unix_ns, sum, bounds, counts, exemplars }
}
