//! What can be set, and the bounds of every table.

use super::sampling::Sampling;
use crate::histogram::Buckets;
use crate::id::IdKey;
use crate::metric::Temporality;
use crate::process::NameRules;
use crate::request::RequestLimits;
use crate::route::RouteConfig;

/// Settings of an [`super::Assembler`].
#[derive(Clone, Debug)]
pub struct AssemblerConfig {
    /// Key of span and trace ids.
    pub id_key: IdKey,
    /// Number of rings: ring 0 for processes, then one per payload shard. At least 1.
    pub rings: usize,
    /// How far the watermark stays behind the slowest ring, ns: small reordering between CPUs.
    pub slack_ns: u64,
    /// How long a trace whose root is a server span with a peer on this host waits for that
    /// peer's client span before anything of it is given out, ns of record time. The client's
    /// record is written when its call returns; on a busy machine its thread waits for a processor
    /// in between, often for tens of milliseconds, while the server answers.
    pub hold_ns: u64,
    /// Which traces are given out.
    pub sampling: Sampling,
    /// Where routes of server requests come from; none by default.
    pub routes: RouteConfig,
    /// Kinds of evidence in use.
    pub linker: LinkerSwitches,
    /// Metrics of requests, when they are wanted: their bounds, and since when they count.
    pub request_metrics: Option<(RequestLimits, Temporality)>,
    /// Which buckets their durations have in reports.
    pub buckets: Buckets,
    /// Names that the operator gives to processes.
    pub names: NameRules,
    /// Bounds.
    pub limits: Limits,
    /// Methods that keep their name; every other becomes `_OTHER`.
    pub known_methods: Vec<String>,
}

impl Default for AssemblerConfig {
    fn default() -> Self {
        AssemblerConfig {
            id_key: IdKey::default(),
            rings: 2,
            slack_ns: 500_000,
            hold_ns: 100_000_000,
            sampling: Sampling::default(),
            routes: RouteConfig::default(),
            linker: LinkerSwitches::default(),
            request_metrics: None,
            buckets: Buckets::default(),
            names: NameRules::default(),
            limits: Limits::default(),
            known_methods: KNOWN_METHODS.iter().map(|method| (*method).to_owned()).collect(),
        }
    }
}

/// RFC 9110 section 9, PATCH (RFC 5789) and QUERY: the default of the HTTP semantic conventions.
pub const KNOWN_METHODS: [&str; 10] =
    ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY"];

/// Which evidence may link. All on outside tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkerSwitches {
    /// Both ends of one connection on this host.
    pub connections: bool,
    /// `traceparent`, `b3`, `X-Request-Id`.
    pub headers: bool,
    /// The thread (or goroutine) that serves exactly one request.
    pub threads: bool,
}

impl Default for LinkerSwitches {
    fn default() -> Self {
        LinkerSwitches { connections: true, headers: true, threads: true }
    }
}

/// Most that is kept of each kind. Above it the oldest leaves, and is counted.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests that started and are not given out. The oldest ends as unobserved.
    pub open_requests: usize,
    /// Bytes of their heads: a head is up to 4 KiB, so that many slow requests weigh.
    pub held_bytes: usize,
    /// Requests open on one connection; more on it are not observed. Clients that pipeline send
    /// tens; an attacker may send any number.
    pub requests_per_connection: usize,
    /// Connections.
    pub connections: usize,
    /// Threads and goroutines with a state.
    pub threads: usize,
    /// Processes with facts or a cause.
    pub processes: usize,
    /// Bytes of spans whose trace is not decided; above it the trace that waits longest is decided.
    pub undecided_bytes: usize,
    /// Signals and process events that wait for the watermark; above it they are processed early.
    pub queued: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            open_requests: 65_536,
            held_bytes: 24 << 20,
            requests_per_connection: 512,
            connections: 65_536,
            threads: 65_536,
            processes: 32_768,
            undecided_bytes: 16 << 20,
            queued: 65_536,
        }
    }
}
