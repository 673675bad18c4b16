//! Items of one signal, grouped by resource.
//!
//! `ExportTraceServiceRequest`, `ResourceSpans` and `ScopeSpans` have the same field numbers as
//! their counterparts for logs, so one writer serves both signals.

use super::{Request, Signal, encode, wire};
use crate::process::Resource;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::sync::Arc;

/// Version of the semantic conventions that attributes and resources follow.
const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

/// Encoded resources kept between flushes. A resource is about 1 KiB: 4 MiB at most.
const MAX_RESOURCES: usize = 4096;

/// Capacity of idle buffers kept for the next flush, all together.
const MAX_IDLE_BYTES: usize = 2 * 1024 * 1024;

/// Used bodies kept for the next flush, and the largest that is.
const MAX_SPARE: usize = 2;
const MAX_SPARE_BYTES: usize = 1024 * 1024;

/// Bodies of about the same size are to have the same capacity, so that one can follow another.
const BODY_STEP: usize = 128 * 1024;

/// Encoded fields that are the same for every group.
#[derive(Clone, Debug)]
pub struct Scope {
    /// `scope`, field 1 of ScopeSpans.
    scope: Arc<[u8]>,
    /// `schema_url`, field 3 of ScopeSpans and of ResourceSpans.
    schema: Arc<[u8]>,
}

impl Scope {
    /// Scope `kernspan` of this version.
    pub fn new(version: &str) -> Scope {
        let (mut scope, mut schema) = (Vec::new(), Vec::new());
        wire::nested(&mut scope, 1, 20, |out| {
            wire::text(out, 1, "kernspan");
            wire::text(out, 2, version);
        });
        wire::text(&mut schema, 3, SCHEMA_URL);
        Scope { scope: scope.into(), schema: schema.into() }
    }
}

/// What went through, in items.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    /// Given to [`Groups::add`].
    pub came_in: u64,
    /// Refused because one item alone would not fit into a request.
    pub oversized: u64,
}

/// Items of one signal that wait for a flush.
#[derive(Debug)]
pub struct Groups {
    signal: Signal,
    scope: Scope,
    max_bytes: usize,
    /// By resource id; also remembers encoded resources that have no items now.
    resources: HashMap<u32, Known, RandomState>,
    /// Those with items, in the order in which each came first.
    active: Vec<Group>,
    idle: Vec<Vec<u8>>,
    /// Used bodies.
    spare: Vec<Vec<u8>>,
    bytes: usize,
    items: u64,
    count: Count,
}

#[derive(Debug)]
struct Known {
    /// `resource`, field 1 of ResourceSpans.
    encoded: Arc<[u8]>,
    /// Index in `active`, [`usize::MAX`] when it has no items now.
    active: usize,
}

#[derive(Debug)]
struct Group {
    resource: u32,
    encoded: Arc<[u8]>,
    items: Vec<u8>,
}

impl Groups {
    /// Without items. A request has at most `max_bytes`.
    pub fn new(signal: Signal, scope: Scope, max_bytes: usize) -> Groups {
        Groups {
            signal,
            scope,
            max_bytes,
            resources: HashMap::default(),
            active: Vec::new(),
            idle: Vec::new(),
            spare: Vec::new(),
            bytes: 0,
            items: 0,
            count: Count::default(),
        }
    }

    /// Upper bound of the request that [`Groups::take`] would hand out now.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Items waiting.
    pub fn items(&self) -> u64 {
        self.items
    }

    /// Totals.
    pub fn count(&self) -> Count {
        self.count
    }

    /// Encoded resources that are kept.
    #[cfg(test)]
    pub fn known_resources(&self) -> usize {
        self.resources.len()
    }

    /// Adds what `write` appends as one item of `resource`. When the item does not fit beside
    /// those before it, they are returned as a request of their own.
    #[must_use]
    pub fn add(
        &mut self,
        resource: &Resource,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Option<Request> {
        self.count.came_in += 1;
        let index = self.activate(resource);
        let group = self.active.get_mut(index)?;
        let before = group.items.len();
        write(&mut group.items);
        let len = group.items.len() - before;
        let alone = len + group.overhead(&self.scope);
        if alone > self.max_bytes {
            group.items.truncate(before);
            self.count.oversized += 1;
            return None;
        }
        if self.bytes + len > self.max_bytes {
            let item = group.items.split_off(before);
            let full = self.take();
            let index = self.activate(resource);
            self.append(index, &item);
            return full;
        }
        self.bytes += len;
        self.items += 1;
        None
    }

    fn append(&mut self, index: usize, item: &[u8]) {
        if let Some(group) = self.active.get_mut(index) {
            group.items.extend_from_slice(item);
            self.bytes += item.len();
            self.items += 1;
        }
    }

    /// Index of the group of `resource`, made when there is none.
    fn activate(&mut self, resource: &Resource) -> usize {
        let known = self.resources.entry(resource.id).or_insert_with(|| {
            let mut encoded = Vec::new();
            encode::resource(&mut encoded, 1, resource);
            Known { encoded: encoded.into(), active: usize::MAX }
        });
        if known.active == usize::MAX {
            known.active = self.active.len();
            let group = Group {
                resource: resource.id,
                encoded: Arc::clone(&known.encoded),
                items: self.idle.pop().unwrap_or_default(),
            };
            self.bytes += group.overhead(&self.scope);
            self.active.push(group);
        }
        known.active
    }

    /// The request body of everything that waits; nothing when nothing does.
    pub fn take(&mut self) -> Option<Request> {
        let mut body = self.body();
        for group in self.active.iter().filter(|group| !group.items.is_empty()) {
            group.write(&mut body, &self.scope);
        }
        let items = std::mem::take(&mut self.items);
        self.bytes = 0;
        self.release();
        (items > 0).then_some(Request { signal: self.signal, body, items })
    }

    /// Takes back a body that was sent, for a later one: fresh memory would have to be cleared by
    /// the kernel first.
    pub fn reuse(&mut self, mut body: Vec<u8>) {
        if self.spare.len() < MAX_SPARE && body.capacity() <= MAX_SPARE_BYTES {
            body.clear();
            self.spare.push(body);
        }
    }

    /// An empty body with room for everything that waits.
    fn body(&mut self) -> Vec<u8> {
        if self.items == 0 {
            return Vec::new();
        }
        match self.spare.pop_if(|spare| spare.capacity() >= self.bytes) {
            Some(spare) => spare,
            None => Vec::with_capacity(self.bytes.next_multiple_of(BODY_STEP)),
        }
    }

    /// Empties all groups and keeps their buffers, and the encoded resources, within bounds.
    fn release(&mut self) {
        let crowded = self.resources.len() > MAX_RESOURCES;
        let mut kept: usize = self.idle.iter().map(Vec::capacity).sum();
        for mut group in self.active.drain(..) {
            if let Some(known) = self.resources.get_mut(&group.resource) {
                known.active = usize::MAX;
            }
            kept += group.items.capacity();
            if kept <= MAX_IDLE_BYTES {
                group.items.clear();
                self.idle.push(group.items);
            } else {
                kept -= group.items.capacity();
            }
        }
        if crowded {
            // Encoding a resource again costs about a microsecond; keeping an order would cost more.
            self.resources.clear();
        }
    }
}

impl Group {
    /// `ResourceSpans{resource 1, scope_spans 2 {scope 1, spans 2, schema_url 3}, schema_url 3}`
    /// as field 1 of the request.
    fn write(&self, out: &mut Vec<u8>, scope: &Scope) {
        let scoped = scope.scope.len() + self.items.len() + scope.schema.len();
        wire::length(out, 1, self.encoded.len() + wire::field_len(scoped) + scope.schema.len());
        out.extend_from_slice(&self.encoded);
        wire::length(out, 2, scoped);
        out.extend_from_slice(&scope.scope);
        out.extend_from_slice(&self.items);
        out.extend_from_slice(&scope.schema);
        out.extend_from_slice(&scope.schema);
    }

    /// Bytes that the group takes beside its items, at most.
    fn overhead(&self, scope: &Scope) -> usize {
        const TWO_HEADS: usize = 2 * (1 + 5);
        self.encoded.len() + scope.scope.len() + 2 * scope.schema.len() + TWO_HEADS
    }
}
