//! Processes that live or lived a moment ago, and what they were when.

use super::facts::{HostFacts, ProcessFacts, start_tick};
use super::interner::Interner;
use super::kubernetes::{PodChange, PodTable, Workload};
use super::resource::SharedResource;
use super::{Identity, NameRules, identify, is_named_after, needs_parent, place};
use crate::event::ProcessKey;
use crate::ledger::{Entry, Side};
use agent_common::record::Exec;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::Arc;

/// How long facts outlive their process, record time: its last spans end and are settled later,
/// by milliseconds. More is for rings that are behind.
const GRACE_NS: u64 = 5_000_000_000;

/// Processes that ended and are kept at most: with their names about 6 MB. A build or a test run
/// starts and ends thousands in the grace period.
const MAX_ENDED: usize = 1024;

/// Execs of one process that are told apart; a process that calls exec more often within the
/// life of a span loses its oldest.
const MAX_VERSIONS: usize = 8;

/// Steps of the search for a process to evict.
const MAX_SEARCH: usize = 32;

/// A process number and its start in ticks: see [`start_tick`].
type Id = (u32, u64);

/// Facts by process, in versions by time: right across reuse of process numbers and exec.
pub struct ProcessTable {
    host: HostFacts,
    rules: NameRules,
    capacity: usize,
    processes: HashMap<Id, Process, RandomState>,
    /// Every process once, in the order in which they are considered for eviction.
    turn: VecDeque<Id>,
    /// Processes that ended, by end.
    ended: VecDeque<(u64, Id)>,
    pods: PodTable,
    interner: Interner,
    counts: Counts,
}

struct Process {
    /// By `since_ns`.
    versions: SmallVec<[Version; 1]>,
    exited: bool,
    /// Asked for since its last turn.
    used: bool,
}

struct Version {
    facts: ProcessFacts,
    /// When /proc last said the same: the latest such time.
    confirmed_ns: u64,
    /// Nothing was known but the key.
    unknown: bool,
    /// /proc was too late for it: what no record says is its maker's.
    inherited: bool,
    /// Made when first asked for.
    resource: Option<SharedResource>,
    /// Its pod, and the generation of pods among which it was last looked for.
    workload: Option<Workload>,
    looked: u64,
}

impl Version {
    fn new(facts: ProcessFacts) -> Version {
        Version {
            confirmed_ns: facts.since_ns,
            facts,
            unknown: false,
            inherited: false,
            resource: None,
            workload: None,
            looked: 0,
        }
    }

    /// Looks for the pod again when pods have changed. One that is no more stays the process's: it
    /// is told of when its last spans are still to come.
    fn look(&mut self, pods: &PodTable) {
        if self.looked == pods.generation() {
            return;
        }
        self.looked = pods.generation();
        let found = pods.find(&place(&self.facts.cgroup), &self.facts.comm);
        if found.is_some() && found != self.workload {
            self.workload = found;
            self.resource = None;
        }
    }
}

#[derive(Default)]
struct Counts {
    inserted: u64,
    removed: u64,
    evicted: u64,
    unknown: u64,
    unread: u64,
    inherited: u64,
    dropped_versions: u64,
}

impl ProcessTable {
    /// An empty table of at most `capacity` processes (each about 2 KiB).
    pub fn new(host: HostFacts, capacity: usize) -> Self {
        ProcessTable {
            host,
            rules: NameRules::default(),
            capacity: capacity.max(1),
            processes: HashMap::default(),
            turn: VecDeque::new(),
            ended: VecDeque::new(),
            pods: PodTable::default(),
            interner: Interner::default(),
            counts: Counts::default(),
        }
    }

    /// A pod has come, gone or changed: processes are named by it from now on.
    pub fn pod(&mut self, change: PodChange) {
        self.pods.apply(change);
    }

    /// The same with names that the operator gives.
    #[must_use]
    pub fn with_rules(self, rules: NameRules) -> Self {
        ProcessTable { rules, ..self }
    }

    /// Takes facts as they are from `facts.since_ns` on. Facts of the same time are replaced: what
    /// /proc says is better than what an exec record says. What /proc did not say in time is what it
    /// was before the exec, whichever of the two comes first.
    pub fn insert(&mut self, facts: ProcessFacts) {
        let process = self.process(facts.key);
        process.versions.retain(|version| !version.unknown);
        // Who was looked at again and has not changed is no other version.
        let at = process.at(facts.since_ns);
        if let Some(known) = process.versions.get_mut(at).filter(|known| known.says(&facts)) {
            known.confirmed_ns = facts.since_ns;
            return;
        }
        let after = |version: &Version| version.facts.since_ns <= facts.since_ns;
        let mut at = process.versions.partition_point(after);
        let before = at.checked_sub(1).and_then(|before| process.versions.get(before));
        if before.is_some_and(|version| version.facts.since_ns == facts.since_ns) {
            at -= 1;
            process.versions.remove(at);
        }
        process.versions.insert(at, Version::new(facts));
        process.complete(at);
        if process.versions.len() > MAX_VERSIONS {
            process.versions.remove(0);
            self.counts.dropped_versions += 1;
        }
    }

    /// A process forked another: the child is what its parent is, under its own number. Without
    /// facts about the parent nothing is known of the child either.
    pub fn fork(&mut self, parent: ProcessKey, child: ProcessKey, at_ns: u64) {
        self.forget_ended(at_ns);
        if let Some(facts) = self.facts(parent, at_ns).map(|facts| facts.forked(child, at_ns)) {
            self.insert(facts);
        }
    }

    /// A process called exec: what the record says holds from now on, until facts of the same
    /// `since_ns` (the record's `boot_ns`) are inserted.
    pub fn exec(&mut self, exec: &Exec, args: &[u8]) {
        let key = ProcessKey { tgid: exec.header.tgid, start_ns: exec.header.start_ns };
        let at_ns = exec.header.boot_ns;
        self.forget_ended(at_ns);
        if self.version(key, at_ns).is_some_and(|known| known.confirmed_ns == at_ns) {
            return; // facts of this very exec came first
        }
        let before = self.facts(key, at_ns);
        let inherited = before.is_some();
        self.insert(ProcessFacts::from_exec(exec, args, before));
        let process = self.processes.get_mut(&id(key));
        if let Some(version) = process.and_then(|process| process.version_mut(at_ns)) {
            version.inherited = inherited;
        }
    }

    /// A process ended. It is forgotten after a grace period.
    pub fn exit(&mut self, key: ProcessKey, at_ns: u64) {
        self.forget_ended(at_ns);
        let id = id(key);
        if let Some(process) = self.processes.get_mut(&id)
            && !process.exited
        {
            process.exited = true;
            self.ended.push_back((at_ns, id));
            if self.ended.len() > MAX_ENDED {
                self.forget_first();
            }
        }
    }

    /// The time is `now_ns`: forgets processes whose grace period is over.
    pub fn forget_ended(&mut self, now_ns: u64) {
        while let Some(&(at_ns, _)) = self.ended.front()
            && at_ns.saturating_add(GRACE_NS) < now_ns
        {
            self.forget_first();
        }
        self.compact();
    }

    /// What was known of a process at a time: the latest version then, or the first one.
    pub fn facts(&self, key: ProcessKey, at_ns: u64) -> Option<&ProcessFacts> {
        self.version(key, at_ns).map(|version| &version.facts)
    }

    fn version(&self, key: ProcessKey, at_ns: u64) -> Option<&Version> {
        let process = self.processes.get(&id(key))?;
        process.versions.get(process.at(at_ns)).filter(|version| !version.unknown)
    }

    /// The resource of a process at a time; `unknown_service` with its number for one that was
    /// never heard of. Identical attributes give the same resource.
    pub fn resource(&mut self, key: ProcessKey, at_ns: u64) -> SharedResource {
        let pods = &self.pods;
        let process = self.processes.get_mut(&id(key)).and_then(|process| {
            process.used = true;
            process.version_mut(at_ns)
        });
        let Some(version) = process else { return self.unknown(key, at_ns) };
        version.look(pods);
        match &version.resource {
            Some(made) => Arc::clone(made),
            None => self.make(key, at_ns),
        }
    }

    /// Makes the resource of a version that is there.
    #[cold]
    fn make(&mut self, key: ProcessKey, at_ns: u64) -> SharedResource {
        let named = self.facts(key, at_ns).map(|facts| self.identity(facts, at_ns));
        let (interner, host, rules) = (&mut self.interner, &self.host, &self.rules);
        let process = self.processes.get_mut(&id(key));
        let version = process.and_then(|process| process.version_mut(at_ns));
        let Some(version) = version else { return self.unknown(key, at_ns) };
        let named = named.unwrap_or_default();
        let Version { facts, workload, .. } = &*version;
        self.counts.unread += u64::from(facts.is_unread());
        self.counts.inherited += u64::from(version.inherited);
        let made = interner.process(facts, &named, host, rules, workload.as_ref());
        version.resource = Some(Arc::clone(&made));
        made
    }

    /// What a process is called: by what it tells itself, or by its parent.
    fn identity(&self, facts: &ProcessFacts, at_ns: u64) -> Identity {
        let parent = || {
            let numbered =
                self.processes.iter().filter(|((tgid, _), _)| *tgid == facts.parent_tgid);
            let mut then = numbered
                .filter_map(|(_, process)| Some(&process.versions.get(process.at(at_ns))?.facts));
            then.find(|parent| is_named_after(facts, parent))
        };
        // A look at all processes, for those few that need it, and once for each.
        identify(needs_parent(facts).then(parent).flatten().unwrap_or(facts))
    }

    /// Number of processes held.
    pub fn len(&self) -> usize {
        self.processes.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    /// The account of this stage.
    pub fn ledger(&self) -> Vec<Entry> {
        let counts = &self.counts;
        let held = u64::try_from(self.len()).unwrap_or(u64::MAX);
        [
            (Side::In, counts.inserted),
            (Side::Out, counts.removed),
            (Side::Held, held),
            (Side::Lost("evicted"), counts.evicted),
            (Side::Info("unknown"), counts.unknown),
            (Side::Info("unread"), counts.unread),
            (Side::Info("inherited"), counts.inherited),
            (Side::Info("dropped_versions"), counts.dropped_versions),
        ]
        .map(|(side, count)| Entry { stage: "process", unit: "processes", side, count })
        .into_iter()
        .chain(self.pods.ledger())
        .collect()
    }

    #[cold]
    fn unknown(&mut self, key: ProcessKey, at_ns: u64) -> SharedResource {
        self.counts.unknown += 1;
        let facts = ProcessFacts { key, since_ns: at_ns, ..ProcessFacts::default() };
        let named = identify(&facts);
        let resource = self.interner.process(&facts, &named, &self.host, &self.rules, None);
        let resource_made = Some(Arc::clone(&resource));
        let version = Version { unknown: true, resource: resource_made, ..Version::new(facts) };
        let process = self.process(key);
        process.used = true;
        process.versions.push(version);
        resource
    }

    /// The entry of a process, made if need be.
    fn process(&mut self, key: ProcessKey) -> &mut Process {
        let id = id(key);
        if !self.processes.contains_key(&id) {
            while self.processes.len() >= self.capacity {
                self.evict();
            }
            self.turn.push_back(id);
            self.counts.inserted += 1;
        }
        let new = || Process { versions: SmallVec::new(), exited: false, used: false };
        self.processes.entry(id).or_insert_with(new)
    }

    /// Evicts a process that ended, else one that nobody asked for since its last turn, else the
    /// one whose turn it is.
    fn evict(&mut self) {
        self.counts.evicted += 1;
        while let Some((_, id)) = self.ended.pop_front() {
            if self.processes.get(&id).is_some_and(|process| process.exited) {
                self.processes.remove(&id);
                return;
            }
        }
        for step in 0.. {
            let Some(id) = self.turn.pop_front() else { return };
            let Some(process) = self.processes.get_mut(&id) else { continue };
            if !process.used || step >= MAX_SEARCH {
                self.processes.remove(&id);
                return;
            }
            process.used = false;
            self.turn.push_back(id);
        }
    }

    /// Forgets the process that ended first.
    fn forget_first(&mut self) {
        let Some((_, id)) = self.ended.pop_front() else { return };
        if self.processes.get(&id).is_some_and(|process| process.exited) {
            self.processes.remove(&id);
            self.counts.removed += 1;
        }
    }

    /// Keeps `turn` from filling with processes that are gone: amortised, once per doubling.
    fn compact(&mut self) {
        if self.turn.len() > 2 * self.processes.len() + MAX_SEARCH {
            self.turn.retain(|id| self.processes.contains_key(id));
        }
    }
}

impl Version {
    /// Whether this is what `facts` say, and from no later time on.
    fn says(&self, facts: &ProcessFacts) -> bool {
        let since_ns = self.facts.since_ns;
        // A start that is known to a tick only is another one than that of a record.
        since_ns < facts.since_ns
            && self.facts == ProcessFacts { since_ns, key: self.facts.key, ..facts.clone() }
    }
}

impl Process {
    /// Versions of which /proc said nothing, from this one on, have what the one before has: a program
    /// that ended at once runs where its parent does.
    fn complete(&mut self, from: usize) {
        for at in from.max(1)..self.versions.len() {
            let (before, rest) = self.versions.split_at_mut(at);
            if let (Some(before), Some(version)) = (before.last(), rest.first_mut())
                && version.facts.is_unread()
                && !before.facts.is_unread()
            {
                version.facts.take_over(&before.facts);
                version.inherited = true;
                version.resource = None;
                version.looked = 0;
            }
        }
    }

    /// The version that held at a time.
    fn version_mut(&mut self, at_ns: u64) -> Option<&mut Version> {
        let at = self.at(at_ns);
        self.versions.get_mut(at)
    }

    /// Index of the version that held at a time.
    fn at(&self, at_ns: u64) -> usize {
        let later = self.versions.iter().rposition(|version| version.facts.since_ns <= at_ns);
        later.unwrap_or(0)
    }
}

fn id(key: ProcessKey) -> Id {
    (key.tgid, start_tick(key))
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
