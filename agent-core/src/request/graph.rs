//! Which service asks which: pairs of services.

use super::BUCKETS;
use super::emit::BOUNDS;
use crate::histogram::Histogram;
use crate::message::Role;
use crate::process::SharedResource;
use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// The edge for all pairs for which there is no room.
const OVERFLOW: u32 = 0;

/// One pair.
#[derive(Debug)]
pub(super) struct Edge {
    /// The client's service; of the overflow edge, that of the first that came there.
    pub(super) client: SharedResource,
    /// The server's service; empty for the overflow edge.
    pub(super) server: String,
    pub(super) start_unix_ns: u64,
    pub(super) totals: Totals,
    /// What of them was reported, where reports are deltas.
    pub(super) reported: Option<Box<Totals>>,
    pub(super) idle_reports: u32,
}

/// What is counted of a pair.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    pub(super) requests: u64,
    pub(super) failed: u64,
    pub(super) as_server: Histogram<BUCKETS>,
    pub(super) as_client: Histogram<BUCKETS>,
}

impl Totals {
    /// What came since `earlier`.
    pub(super) fn since(&self, earlier: &Totals) -> Totals {
        Totals {
            requests: self.requests - earlier.requests,
            failed: self.failed - earlier.failed,
            as_server: self.as_server.since(&earlier.as_server),
            as_client: self.as_client.since(&earlier.as_client),
        }
    }

    /// Adds all of `other`.
    pub(super) fn merge(&mut self, other: &Totals) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.as_server.merge(&other.as_server);
        self.as_client.merge(&other.as_client);
    }
}

/// All pairs. Edges are known by number: what is open on one that was dropped counts on it again.
pub(super) struct Graph {
    most: usize,
    numbers: HashMap<(u32, u32), u32, RandomState>,
    pub(super) edges: HashMap<u32, Edge, RandomState>,
    next: u32,
    pub(super) overflowed: u64,
}

impl Graph {
    pub(super) fn new(most: usize) -> Graph {
        let (numbers, edges) = (HashMap::default(), HashMap::default());
        Graph { most, numbers, edges, next: OVERFLOW, overflowed: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.edges.len()
    }

    pub(super) fn request(
        &mut self,
        client: &SharedResource,
        server: &SharedResource,
        now: u64,
    ) -> u32 {
        let number = self.number(client, server);
        let edge = self.edges.entry(number).or_insert_with(|| Edge {
            client: SharedResource::clone(client),
            server: if number == OVERFLOW { String::new() } else { server.service.clone() },
            start_unix_ns: now,
            totals: Totals::default(),
            reported: None,
            idle_reports: 0,
        });
        edge.totals.requests += 1;
        edge.idle_reports = 0;
        number
    }

    fn number(&mut self, client: &SharedResource, server: &SharedResource) -> u32 {
        let pair = (client.id, server.id);
        if let Some(known) = self.numbers.get(&pair) {
            return *known;
        }
        if self.numbers.len() >= self.most {
            self.overflowed += 1;
            return OVERFLOW;
        }
        // 0 is the overflow's, also after the numbers have gone round.
        self.next = self.next.checked_add(1).unwrap_or(OVERFLOW + 1);
        self.numbers.insert(pair, self.next);
        self.next
    }

    pub(super) fn failed(&mut self, number: u32) {
        if let Some(edge) = self.edges.get_mut(&number) {
            edge.totals.failed += 1;
        }
    }

    pub(super) fn took(&mut self, number: u32, role: Role, seconds: f64) {
        let Some(edge) = self.edges.get_mut(&number) else { return };
        let of = match role {
            Role::Server => &mut edge.totals.as_server,
            Role::Client => &mut edge.totals.as_client,
        };
        of.add(&BOUNDS, seconds);
    }

    /// Drops edges that were quiet for so many reports.
    pub(super) fn forget(&mut self, reports: u32) {
        self.edges.retain(|_, edge| edge.idle_reports < reports);
        let edges = &self.edges;
        self.numbers.retain(|_, number| edges.contains_key(number));
    }
}
