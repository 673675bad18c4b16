//! Sums over conversations, by service and a few attributes: bounded.
//!
//! | metric | instrument | unit | attributes beside the base |
//! |---|---|---|---|
//! | `kernspan.network.flow.bytes` | counter | By | `network.io.direction` |
//! | `kernspan.network.flow.packets` | counter | {packet} | `network.io.direction` |
//! | `kernspan.network.flow.count` | counter | {flow} | |
//! | `kernspan.network.flow.active` | gauge | {flow} | |
//! | `kernspan.tcp.rtt` | histogram | s | |
//! | `kernspan.tcp.connect.duration` | histogram | s | |
//! | `kernspan.tcp.retransmits` | counter | {packet} | |
//! | `kernspan.tcp.resets` | counter | {reset} | `network.io.direction` |
//! | `kernspan.tcp.failed.connections` | counter | {connection} | `error.type` |
//!
//! Base: `network.transport`, `network.type`, `kernspan.flow.role`; with `--flow-labels` also
//! `server.address`, `network.peer.address`, `server.port`. There is no semantic convention for flows
//! yet; names follow those of the OpenTelemetry eBPF instrumentation, under a prefix of their own.
//! Series above the bound fold into one with only `otel.metric.overflow=true` (OpenTelemetry
//! specification, metrics SDK, cardinality limits).

mod emit;

pub use emit::Sample;

use super::conversation::{Conversation, Role, TcpFacts, Totals, Transport};
use super::table::{Change, FlowChange};
use crate::histogram::Histogram;
use crate::ledger::{Entry, Side};
use crate::process::{KeptServiceName, SharedResource};
use crate::retired::Retired;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::collections::BTreeMap;

/// Buckets of every histogram here.
const BUCKETS: usize = 19;

/// Upper bounds of the buckets, seconds: from a loopback's round trip to a connect that retries.
const BOUNDS: [f64; BUCKETS - 1] = [
    0.000_01, 0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05,
    0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
];

/// Series that are kept: the specification's default limit.
pub const MAX_SERIES: usize = 2000;

/// Reports after which a series that has not changed is dropped: its service is gone, or silent.
const IDLE_REPORTS: u32 = 30;

/// What of the other end tells series apart. Nothing by default: addresses are many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerLabels {
    /// `server.address`: the name that a client asked for.
    pub name: bool,
    /// `network.peer.address`.
    pub address: bool,
    /// `server.port`: the port of the end that was connected to.
    pub port: bool,
}

/// What tells series apart. `None`: those for which there was no room.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    service: u32,
    transport: Transport,
    is_ipv4: bool,
    role: Role,
    name: Option<Box<str>>,
    address: Option<Box<str>>,
    port: Option<u16>,
}

#[derive(Debug, Default)]
struct Series {
    /// Of its interval: conversations that live.
    active: u64,
    count: u64,
    totals: Totals,
    resets_sent: u64,
    resets_received: u64,
    rtt: Histogram<BUCKETS>,
    connect: Histogram<BUCKETS>,
    /// By errno; a dozen of them at most end a connection.
    failures: BTreeMap<u32, u64>,
    start_unix_ns: u64,
    idle_reports: u32,
}

/// See the module.
pub struct FlowMetrics {
    labels: PeerLabels,
    capacity: usize,
    series: HashMap<Key, (SharedResource, Series), RandomState>,
    overflow: Option<(SharedResource, Series)>,
    /// By name and namespace of the service, which is 0 in the key.
    retired: Retired<(KeptServiceName, Key), Series>,
    overflowed: u64,
    changes: u64,
}

impl FlowMetrics {
    /// Without series.
    pub fn new(labels: PeerLabels, capacity: usize) -> FlowMetrics {
        FlowMetrics {
            labels,
            capacity,
            series: HashMap::default(),
            overflow: None,
            retired: Retired::new(capacity),
            overflowed: 0,
            changes: 0,
        }
    }

    /// Adds what is new of a conversation of a process with this resource.
    pub fn add(&mut self, change: &FlowChange, process: &SharedResource, unix_ns: u64) {
        self.changes += 1;
        let service = process.of_service();
        let key = self.key(&change.conversation, service.id);
        let is_known = self.series.contains_key(&key);
        let series = if is_known || self.series.len() < self.capacity {
            let fresh = || (SharedResource::clone(service), Series::begun(unix_ns));
            &mut self.series.entry(key).or_insert_with(fresh).1
        } else {
            self.overflowed += 1;
            let fresh = || (SharedResource::clone(service), Series::begun(unix_ns));
            &mut self.overflow.get_or_insert_with(fresh).1
        };
        series.add(change);
    }

    fn key(&self, conversation: &Conversation, service: u32) -> Key {
        let (role, _) = conversation.guessed_role();
        let PeerLabels { name, address, port } = self.labels;
        let client = role == Role::Client;
        let remote = conversation.remote;
        Key {
            service,
            transport: conversation.transport,
            is_ipv4: conversation.network_type() == "ipv4",
            role,
            name: conversation.remote_name.clone().filter(|_| name && client),
            address: (address && !remote.is_unknown()).then(|| remote.ip().to_string().into()),
            port: match role {
                Role::Client if port => Some(remote.port),
                Role::Server if port => Some(conversation.local.port),
                _ => None,
            },
        }
    }

    /// The account: changes that came, and those that went into the overflow series.
    pub fn ledger(&self) -> Vec<Entry> {
        let entry = |unit, side, count| Entry { stage: "flow_metrics", unit, side, count };
        vec![
            entry("changes", Side::In, self.changes),
            entry("changes", Side::Out, self.changes),
            entry("changes", Side::Info("overflowed"), self.overflowed),
            entry("series", Side::Held, self.series.len() as u64),
            entry("retired", Side::Held, self.retired.len() as u64),
        ]
    }
}

impl Series {
    fn begun(unix_ns: u64) -> Series {
        Series { start_unix_ns: unix_ns, ..Series::default() }
    }

    fn add(&mut self, change: &FlowChange) {
        self.idle_reports = 0;
        let FlowChange { change, conversation, delta, is_new } = change;
        self.count += u64::from(*is_new);
        self.active += u64::from(*change == Change::Interval);
        self.totals.merge(delta);
        let Some(tcp) = conversation.tcp else { return };
        let moved = delta.packets_received > 0;
        if tcp.rtt_us > 0 && moved {
            self.rtt.add(&BOUNDS, f64::from(tcp.rtt_us) / 1e6);
        }
        if *is_new && let Some(connect) = conversation.connect_ns() {
            self.connect.add(&BOUNDS, connect as f64 / 1e9);
        }
        if *change == Change::End {
            self.ended(&tcp);
        }
    }

    /// Adds the sums of `other`. What lives of it is in no sum.
    fn merge(&mut self, other: &Series) {
        self.count += other.count;
        self.totals.merge(&other.totals);
        self.resets_sent += other.resets_sent;
        self.resets_received += other.resets_received;
        self.rtt.merge(&other.rtt);
        self.connect.merge(&other.connect);
        for (errno, count) in &other.failures {
            *self.failures.entry(*errno).or_default() += count;
        }
    }

    fn ended(&mut self, tcp: &TcpFacts) {
        self.resets_sent += u64::from(tcp.reset_sent);
        self.resets_received += u64::from(tcp.reset_received);
        if tcp.failed {
            *self.failures.entry(tcp.error).or_default() += 1;
        }
    }
}
