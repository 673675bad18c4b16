//! Metrics of requests, taken before traces are sampled: exact whatever is kept of the spans.
//!
//! | metric | instrument | unit | of |
//! |---|---|---|---|
//! | `http.server.request.duration` | histogram | s | each request that a process answered |
//! | `http.client.request.duration` | histogram | s | each request that a process sent |
//! | `traces_service_graph_request_total` | counter | {request} | client and server, both on this host |
//! | `traces_service_graph_request_failed_total` | counter | {request} | those of them that failed |
//! | `traces_service_graph_request_server_seconds` | histogram | s | as the server saw them |
//! | `traces_service_graph_request_client_seconds` | histogram | s | as the client saw them |
//!
//! The first two are those of the semantic conventions 1.44 (`docs/http/http-metrics.md`, stable), with their
//! buckets. The others have the names that the Collector's `servicegraph` connector gives, so that screens
//! made for it show them.
//!
//! A request whose end nobody saw has no duration: it is counted, and in no histogram.
//!
//! Bounded: series by resource, by service (a fifth) and in all, edges by service and in all, the server's name;
//! what is beyond folds into one with only `otel.metric.overflow=true` (OpenTelemetry specification, metrics SDK,
//! cardinality limits), of edges beside the client's name. Within a report each point is the only one with its name, resource and attributes.

mod emit;
mod graph;
mod series;
mod share;
mod text;

pub use emit::BOUNDS;
pub(crate) use text::SERVICE;
pub use text::{Bucketed, Number, Numbers};

use crate::histogram::{Buckets, Histogram};
use crate::id::{SpanId, TraceId};
use crate::ledger::{Entry, Side};
use crate::message::Role;
use crate::metric::Temporality;
use crate::process::{KeptServiceName, ServiceName, SharedResource};
use crate::retired::Retired;
use foldhash::fast::RandomState;
use graph::Graph;
use hashbrown::HashMap;
use hashbrown::hash_map::EntryRef;
use series::{Key, Series, Wanted};
use share::Shares;

/// Bounds of a [`RequestMetrics`].
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// Series of one resource: of a service in one container.
    pub by_service: usize,
    /// Series in all.
    pub in_all: usize,
    /// Pairs of services.
    pub edges: usize,
}

impl Default for RequestLimits {
    /// 300 B a series and its texts, of which the server's name has 253 B at most: 3 to 6 MB, with exponential
    /// buckets at most 16 MB more, and as much as without for totals that only the text keeps. A service has some
    /// ten methods and statuses that really occur, and a client as many for each server that it asks.
    fn default() -> Self {
        RequestLimits { by_service: 200, in_all: 10_000, edges: 4000 }
    }
}

/// What is counted of one request.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// Which end.
    pub role: Role,
    /// One of the known methods, or `_OTHER`.
    pub method: &'a str,
    /// `http.route` of a server's request, empty when none is known.
    pub route: &'a str,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// `network.protocol.version`.
    pub version: &'static str,
    /// Status code.
    pub status: Option<u16>,
    /// `error.type`, when it failed.
    pub error: Option<&'a str>,
    /// Whom a client asked; empty for a server.
    pub server: &'a str,
    /// Its port.
    pub server_port: Option<u16>,
    /// How long it took, seconds.
    pub seconds: f64,
    /// The span, when it is given out, and the unix time of its end, ns.
    pub exemplar: Option<(TraceId, SpanId, u64)>,
}

/// Buckets of every histogram here.
const BUCKETS: usize = 15;

/// Series of one resource.
struct Service {
    resource: SharedResource,
    /// Whose part of the room it takes; the overflow of all takes nobody's.
    share: Option<u32>,
    series: HashMap<Key, Series, RandomState>,
}

impl Service {
    fn of(resource: &SharedResource, share: Option<u32>) -> Service {
        Service { resource: SharedResource::clone(resource), share, series: HashMap::default() }
    }

    /// Its series by what tells them apart in the text.
    fn named(&self) -> impl Iterator<Item = ((ServiceName<'_>, &Key), &Series)> {
        let name = self.resource.service_name();
        self.series.iter().map(move |(key, series)| ((name, key), series))
    }
}

/// Where a request counts that has no series of its own.
enum Place {
    /// With its own resource.
    Own,
    /// With another one of its service.
    With(u32),
    /// With those of all services.
    All,
}

/// See the module.
pub struct RequestMetrics {
    limits: RequestLimits,
    temporality: Temporality,
    services: HashMap<u32, Service, RandomState>,
    /// Of all for which there was no room at all, under the resource of the first, whose own overflow is here
    /// as well.
    overflow: Option<Service>,
    shares: Shares,
    /// By name and namespace of the service.
    retired: Retired<(KeptServiceName, Key), Histogram<BUCKETS>>,
    graph: Graph,
    in_all: usize,
    seen: u64,
    overflowed: u64,
    share_full: u64,
    too_long: u64,
    unobserved: u64,
    buckets: Buckets,
}

impl RequestMetrics {
    /// Without series.
    pub fn new(limits: RequestLimits, temporality: Temporality) -> RequestMetrics {
        RequestMetrics {
            limits,
            temporality,
            services: HashMap::default(),
            overflow: None,
            shares: Shares::default(),
            retired: Retired::new(limits.in_all),
            graph: Graph::new(limits.edges),
            in_all: 0,
            seen: 0,
            overflowed: 0,
            share_full: 0,
            too_long: 0,
            unobserved: 0,
            buckets: Buckets::default(),
        }
    }

    /// The same with these buckets for the durations of requests in reports. The text, and the service graph,
    /// keep those of the conventions.
    #[must_use]
    pub fn with_buckets(self, buckets: Buckets) -> RequestMetrics {
        RequestMetrics { buckets, ..self }
    }

    /// A request whose end nobody saw.
    pub fn unobserved(&mut self) {
        self.unobserved += 1;
    }

    /// Adds a request of the process with this resource.
    pub fn add(&mut self, request: &Observed<'_>, resource: &SharedResource, unix_ns: u64) {
        self.seen += 1;
        self.series(request, resource, unix_ns).add(request);
    }

    fn series(
        &mut self,
        request: &Observed<'_>,
        resource: &SharedResource,
        now: u64,
    ) -> &mut Series {
        let wanted = Wanted::of(request);
        let known = self.services.get(&resource.id);
        let is_mine_full = self.is_share_full(known, resource);
        let is_full = is_mine_full
            || self.in_all >= self.limits.in_all
            || known.is_some_and(|known| known.series.len() >= self.limits.by_service);
        let is_known = || known.is_some_and(|known| known.series.contains_key(&wanted));
        self.too_long += u64::from(wanted.is_too_long());
        let folds = wanted.is_too_long() || (is_full && !is_known());
        let wanted = if folds { Wanted::overflow(request.role) } else { wanted };
        self.overflowed += u64::from(folds);
        self.share_full += u64::from(folds && is_mine_full);
        let place = if folds { self.overflow_of(resource, is_mine_full) } else { Place::Own };
        let shares = &mut self.shares;
        let service = match place {
            Place::All => self.overflow.get_or_insert_with(|| Service::of(resource, None)),
            Place::Own | Place::With(_) => {
                let id = if let Place::With(id) = place { id } else { resource.id };
                self.services.entry(id).or_insert_with(|| {
                    let share = shares.enter(resource.service_name());
                    if folds && is_mine_full {
                        shares.set_overflow(share, id);
                    }
                    Service::of(resource, Some(share))
                })
            }
        };
        match service.series.entry_ref(&wanted) {
            EntryRef::Occupied(known) => known.into_mut(),
            EntryRef::Vacant(room) => {
                self.in_all += 1;
                if let Some(share) = service.share {
                    shares.add(share, 1);
                }
                room.insert_with_key(Key::from(&wanted), Series::begun(now, self.buckets))
            }
        }
    }

    /// Whether the service of `resource`, which is `known` if it has series, has its part of the room.
    fn is_share_full(&self, known: Option<&Service>, resource: &SharedResource) -> bool {
        let share = match known {
            Some(known) => known.share,
            None => self.shares.find(resource.service_name()),
        };
        let most = share::part(self.limits.in_all).max(self.limits.by_service);
        share.is_some_and(|share| self.shares.held(share) >= most)
    }

    /// A resource that there is no room for has no overflow series of its own, nor the one that all of those go
    /// under: two points would say the same of themselves. Where it is its own service that has no room left, the
    /// first of those has one for all that follow.
    fn overflow_of(&self, resource: &SharedResource, is_share_full: bool) -> Place {
        if self.overflow.as_ref().is_some_and(|all| all.resource.id == resource.id) {
            return Place::All;
        }
        if self.services.contains_key(&resource.id) {
            return Place::Own;
        }
        if is_share_full {
            let share = self.shares.find(resource.service_name());
            let first = share.and_then(|share| self.shares.overflow(share));
            let first = first.filter(|first| self.services.contains_key(first));
            return first.map_or(Place::Own, Place::With);
        }
        if self.in_all < self.limits.in_all { Place::Own } else { Place::All }
    }

    /// The edge between two services, by number; counts a request on it.
    pub fn edge(&mut self, client: &SharedResource, server: &SharedResource, unix_ns: u64) -> u32 {
        self.graph.request(client, server, unix_ns)
    }

    /// A request on this edge failed.
    pub fn edge_failed(&mut self, edge: u32) {
        self.graph.failed(edge);
    }

    /// How long a request on this edge took, as one of its ends saw it.
    pub fn edge_took(&mut self, edge: u32, role: Role, seconds: f64) {
        self.graph.took(edge, role, seconds);
    }

    /// The account. Requests that came = those in series + those without a duration.
    pub fn ledger(&self) -> Vec<Entry> {
        let entry = |unit, side, count| Entry { stage: "request_metrics", unit, side, count };
        vec![
            entry("requests", Side::In, self.seen + self.unobserved),
            entry("requests", Side::Out, self.seen),
            entry("requests", Side::Lost("end_unobserved"), self.unobserved),
            entry("requests", Side::Info("overflowed"), self.overflowed),
            entry("requests", Side::Info("service_without_room"), self.share_full),
            entry("requests", Side::Info("server_too_long"), self.too_long),
            entry("series", Side::Held, self.in_all as u64),
            entry("edges", Side::Held, self.graph.len() as u64),
            entry("retired", Side::Held, (self.retired.len() + self.graph.retired()) as u64),
            entry("edges", Side::Info("overflowed"), self.graph.overflowed),
        ]
    }
}

#[cfg(test)]
mod tests;
