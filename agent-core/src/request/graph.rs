//! Which service asks which: pairs of services.

use super::BUCKETS;
use super::emit::BOUNDS;
use super::share::{self, Shares};
use crate::histogram::Histogram;
use crate::message::Role;
use crate::process::{KeptServiceName, ServiceName, SharedResource};
use crate::retired::Retired;
use foldhash::fast::RandomState;
use hashbrown::hash_map::EntryRef;
use hashbrown::{Equivalent, HashMap, HashSet};

/// The edge for all pairs for which there is no room.
const OVERFLOW: u32 = 0;

/// One pair.
#[derive(Debug)]
pub(super) struct Edge {
    /// The client's service; of an overflow edge, that of the first that came there.
    pub(super) client: SharedResource,
    names: KeptNames,
    /// Whose part of the room it takes.
    share: Option<u32>,
    pub(super) start_unix_ns: u64,
    pub(super) totals: Totals,
    /// What of them was reported, where reports are deltas.
    pub(super) reported: Option<Box<Totals>>,
    pub(super) idle_reports: u32,
}

impl Edge {
    /// What tells it apart in the text.
    pub(super) fn names(&self) -> Names<'_> {
        borrowed(&self.names)
    }
}

/// The services, client's and server's; no server's where the client's has no room left, none of both where there
/// is no room at all.
pub(super) type Names<'a> = Option<(ServiceName<'a>, Option<ServiceName<'a>>)>;

/// The same, kept.
type KeptNames = Option<(KeptServiceName, Option<KeptServiceName>)>;

/// What a point says of a pair: its resource is the client's, and of the server it has name and
/// namespace. Several resources with the same of both (containers) are one server.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Pair {
    client: u32,
    server: KeptServiceName,
}

/// The same, borrowed. Hashed like [`Pair`], field by field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Asked<'a> {
    client: u32,
    server: ServiceName<'a>,
}

impl Equivalent<Pair> for Asked<'_> {
    fn equivalent(&self, pair: &Pair) -> bool {
        *self == Asked { client: pair.client, server: pair.server.borrowed() }
    }
}

impl From<&Asked<'_>> for Pair {
    fn from(asked: &Asked<'_>) -> Pair {
        Pair { client: asked.client, server: asked.server.into() }
    }
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
    numbers: HashMap<Pair, u32, RandomState>,
    pub(super) edges: HashMap<u32, Edge, RandomState>,
    retired: Retired<KeptNames, Totals>,
    shares: Shares,
    next: u32,
    pub(super) overflowed: u64,
}

impl Graph {
    pub(super) fn new(most: usize) -> Graph {
        let (numbers, edges) = (HashMap::default(), HashMap::default());
        let retired = Retired::new(most);
        let shares = Shares::default();
        Graph { most, numbers, edges, retired, shares, next: OVERFLOW, overflowed: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.edges.len()
    }

    pub(super) fn retired(&self) -> usize {
        self.retired.len()
    }

    /// All that the text adds up, by name.
    pub(super) fn totals(&self) -> impl Iterator<Item = (Names<'_>, &Totals)> {
        let retired = self.retired.iter().map(|(names, totals)| (borrowed(names), totals));
        self.edges.values().map(|edge| (edge.names(), &edge.totals)).chain(retired)
    }

    pub(super) fn request(
        &mut self,
        client: &SharedResource,
        server: &SharedResource,
        now: u64,
    ) -> u32 {
        let (number, has_room) = self.number(client, server);
        let edge = self.edges.entry(number).or_insert_with(|| {
            let share = (number != OVERFLOW).then(|| self.shares.enter(client.service_name()));
            if let Some(share) = share {
                self.shares.add(share, 1);
                if !has_room {
                    self.shares.set_overflow(share, number);
                }
            }
            let server = has_room.then(|| server.service_name().into());
            Edge {
                client: SharedResource::clone(client),
                names: share.map(|_| (client.service_name().into(), server)),
                share,
                start_unix_ns: now,
                totals: Totals::default(),
                reported: None,
                idle_reports: 0,
            }
        });
        edge.totals.requests += 1;
        edge.idle_reports = 0;
        number
    }

    /// The number of the edge, and whether it is that of these two: else there was no room for it.
    fn number(&mut self, client: &SharedResource, server: &SharedResource) -> (u32, bool) {
        let is_full = self.numbers.len() >= self.most;
        let asked = Asked { client: client.id, server: server.service_name() };
        match self.numbers.entry_ref(&asked) {
            EntryRef::Occupied(known) => (*known.get(), true),
            EntryRef::Vacant(room) => {
                let share = self.shares.find(client.service_name());
                let is_mine_full = |share: &u32| self.shares.held(*share) >= share::part(self.most);
                if let Some(share) = share.filter(is_mine_full) {
                    self.overflowed += 1;
                    let known = self.shares.overflow(share);
                    let known = known.filter(|number| self.edges.contains_key(number));
                    return (known.unwrap_or_else(|| next(&mut self.next)), false);
                }
                if is_full {
                    self.overflowed += 1;
                    return (OVERFLOW, false);
                }
                (*room.insert_with_key(Pair::from(&asked), next(&mut self.next)), true)
            }
        }
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

    /// Drops edges that were quiet for so many reports; the text keeps their totals.
    pub(super) fn forget(&mut self, reports: u32) {
        for (_, edge) in self.edges.extract_if(|_, edge| edge.idle_reports >= reports) {
            self.retired.of(edge.names).merge(&edge.totals);
        }
        let edges = &self.edges;
        self.numbers.retain(|_, number| edges.contains_key(number));
        self.shares.recount(edges.values().filter_map(|edge| Some((edge.share?, 1))));
        if !self.retired.is_empty() {
            let live: HashSet<Names<'_>, RandomState> = edges.values().map(Edge::names).collect();
            self.retired.age(|names| live.contains(&borrowed(names)));
        }
    }
}

/// 0 is the overflow's, also after the numbers have gone round.
fn next(number: &mut u32) -> u32 {
    *number = number.checked_add(1).unwrap_or(OVERFLOW + 1);
    *number
}

fn borrowed(names: &KeptNames) -> Names<'_> {
    let (client, server) = names.as_ref()?;
    Some((client.borrowed(), server.as_ref().map(KeptServiceName::borrowed)))
}
