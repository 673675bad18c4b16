//! The resource of a process at a time: facts come with the time from which on they hold, because
//! an exec makes another program of the same process.

use super::bounded::Bounded;
use crate::event::ProcessKey;
use crate::process::{HostFacts, ProcessFacts, Resource, ResourceValue, SharedResource};
use std::sync::Arc;

/// How long an ended process is remembered: longer than anything of it may wait.
const AFTERLIFE_NS: u64 = 10_000_000_000;

/// Versions kept of one process: programs that exec again and again keep the newest.
const MAX_VERSIONS: usize = 8;

#[derive(Debug)]
struct Version {
    since: u64,
    facts: Option<ProcessFacts>,
    resource: Option<SharedResource>,
}

/// Processes and their resources.
#[derive(Debug)]
pub(super) struct Resources {
    host: HostFacts,
    map: Bounded<ProcessKey, Vec<Version>>,
    /// Ended processes by the time of their end.
    ended: std::collections::VecDeque<(u64, ProcessKey)>,
    next_id: u32,
    pub(super) evicted: u64,
}

impl Resources {
    pub(super) fn new(host: HostFacts, limit: usize) -> Self {
        let map = Bounded::new(limit);
        Resources { host, map, ended: std::collections::VecDeque::new(), next_id: 0, evicted: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    /// Facts that hold from `facts.since_ns` on.
    pub(super) fn facts(&mut self, facts: ProcessFacts) {
        let (key, since) = (facts.key, facts.since_ns);
        self.add(key, since, Some(facts));
    }

    /// A child is what its parent is, until facts of its own arrive.
    pub(super) fn fork(&mut self, parent: ProcessKey, child: ProcessKey, at: u64) {
        let Some(facts) = self.facts_at(parent, at) else { return };
        let facts = ProcessFacts {
            key: child,
            parent_tgid: parent.tgid,
            since_ns: child.start_ns,
            ..facts.clone()
        };
        if self.facts_at(child, at).is_none() {
            self.facts(facts);
        }
    }

    /// The process ended.
    pub(super) fn exit(&mut self, process: ProcessKey, at: u64) {
        if self.map.get(&process).is_some() {
            self.ended.push_back((at, process));
        }
        while let Some((ended, key)) = self.ended.front().copied() {
            if ended.saturating_add(AFTERLIFE_NS) > at {
                break;
            }
            self.map.remove(&key);
            self.ended.pop_front();
        }
    }

    /// What is known of `process` at `at`.
    pub(super) fn facts_at(&self, process: ProcessKey, at: u64) -> Option<&ProcessFacts> {
        let versions = self.map.get(&process)?;
        versions.get(version_at(versions, at)?)?.facts.as_ref()
    }

    /// The resource of `process` at `at`. One that nothing is known of has its number only.
    pub(super) fn at(&mut self, process: ProcessKey, at: u64) -> SharedResource {
        if self.map.get(&process).is_none() {
            self.add(process, 0, None);
        }
        let (host, next_id) = (&self.host, &mut self.next_id);
        let versions = self.map.get_mut(&process);
        let found = versions.and_then(|versions| {
            let at = version_at(versions, at)?;
            versions.get_mut(at)
        });
        let make = |version: Option<&ProcessFacts>, next_id: &mut u32| {
            *next_id += 1;
            Arc::new(build(*next_id, process, version, host))
        };
        match found {
            Some(Version { resource: Some(resource), .. }) => resource.clone(),
            Some(version) => {
                let made = make(version.facts.as_ref(), next_id);
                version.resource.insert(made).clone()
            }
            None => make(None, next_id),
        }
    }

    fn add(&mut self, key: ProcessKey, since: u64, facts: Option<ProcessFacts>) {
        if self.map.get(&key).is_none() {
            let (_, evicted) = self.map.insert(key, Vec::new());
            self.evicted += u64::from(evicted.is_some());
        }
        let Some(versions) = self.map.get_mut(&key) else { return };
        // Facts replace the stand-in of a process of which nothing was known.
        versions.retain(|version| version.facts.is_some() && version.since != since);
        let at = versions.partition_point(|version| version.since < since);
        versions.insert(at, Version { since, facts, resource: None });
        if versions.len() > MAX_VERSIONS {
            versions.remove(0);
        }
    }
}

/// The latest version that holds at `at`, else the first: a process is not unknown because its
/// facts were read a moment after its request began.
fn version_at(versions: &[Version], at: u64) -> Option<usize> {
    let after = versions.partition_point(|version| version.since <= at);
    if versions.is_empty() { None } else { Some(after.saturating_sub(1)) }
}

fn build(id: u32, key: ProcessKey, facts: Option<&ProcessFacts>, host: &HostFacts) -> Resource {
    let service = facts.map_or("unknown_service", |facts| &facts.comm).to_owned();
    let attributes = vec![
        ("host.name".to_owned(), ResourceValue::Str(host.name.clone())),
        ("process.pid".to_owned(), ResourceValue::Int(i64::from(key.tgid))),
        ("service.name".to_owned(), ResourceValue::Str(service.clone())),
    ];
    Resource { id, service, attributes }
}
