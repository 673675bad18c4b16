//! One resource for equal attributes.

use super::facts::{HostFacts, ProcessFacts};
use super::kubernetes::Workload;
use super::resource::{
    Resource, ResourceValue, SharedResource, resource_attributes, service_attributes,
};
use super::{Identity, NameRules};
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Resources by their attributes.
#[derive(Default)]
pub(super) struct Interner {
    hasher: FixedState,
    pub(super) resources: HashTable<SharedResource>,
    next_id: u32,
    /// Size at which resources that nobody holds are dropped.
    sweep_at: usize,
}

impl Interner {
    /// The resource of a process.
    pub(super) fn process(
        &mut self,
        facts: &ProcessFacts,
        named: &Identity,
        host: &HostFacts,
        rules: &NameRules,
        workload: Option<&Workload>,
    ) -> SharedResource {
        let attributes = resource_attributes(facts, named, host, rules, workload);
        let service = self.intern(service_attributes(&attributes, facts, host), None);
        self.intern(attributes, Some(service))
    }

    fn intern(
        &mut self,
        attributes: Vec<(String, ResourceValue)>,
        part_of: Option<SharedResource>,
    ) -> SharedResource {
        self.sweep();
        let hash = self.hasher.hash_one(&attributes);
        if let Some(found) = self.resources.find(hash, |known| known.attributes == attributes) {
            return Arc::clone(found);
        }
        let service = attributes.iter().find_map(|(key, value)| match value {
            ResourceValue::Str(text) if key == "service.name" => Some(text.clone()),
            _ => None,
        });
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        let service = service.unwrap_or_default();
        let resource = Arc::new(Resource { id, service, attributes, part_of });
        let hasher = &self.hasher;
        let rehash = |known: &SharedResource| hasher.hash_one(&known.attributes);
        self.resources.insert_unique(hash, Arc::clone(&resource), rehash);
        resource
    }

    fn sweep(&mut self) {
        if self.resources.len() < self.sweep_at.max(256) {
            return;
        }
        self.resources.retain(|resource| Arc::strong_count(resource) > 1);
        self.sweep_at = 2 * self.resources.len();
    }
}
