//! Where conversations lie: in a row, found by their id and by their two ends.
//!
//! The row is dense; the two tables hold places in it and nothing else, because a hash table that has
//! grown is half empty.

use super::conversation::{Conversation, Endpoint, FlowId, Transport};
use super::table::Known;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// See the module.
#[derive(Default)]
pub(super) struct Places {
    row: Vec<Option<Known>>,
    free: Vec<u32>,
    by_id: HashTable<u32>,
    /// To find the other end of a conversation on this host.
    by_ends: HashTable<u32>,
    hasher: RandomState,
}

/// Both ends, as one of them sees them.
type Ends = (Transport, Endpoint, Endpoint);

impl Places {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Places, in use or free: the range of [`Places::at`].
    pub(super) fn places(&self) -> usize {
        self.row.len()
    }

    pub(super) fn at(&self, place: usize) -> Option<&Known> {
        self.row.get(place)?.as_ref()
    }

    pub(super) fn at_mut(&mut self, place: usize) -> Option<&mut Known> {
        self.row.get_mut(place)?.as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Known> {
        self.row.iter().flatten()
    }

    /// Takes what is newly known of a conversation through `renew`, and gives it back in vain when there
    /// is none with its id. Its ends may change: a socket that failed to connect is connected elsewhere.
    pub(super) fn renew(
        &mut self,
        conversation: Conversation,
        renew: impl FnOnce(&mut Known, Conversation),
    ) -> Option<Conversation> {
        let Places { row, by_id, hasher, .. } = self;
        let id = conversation.id;
        let place = by_id.find(hasher.hash_one(id), |place| is(row, *place, id)).copied();
        let known = place.and_then(|place| row.get_mut(place as usize)?.as_mut());
        let Some(known) = known else { return Some(conversation) };
        if ends(&known.conversation) == ends(&conversation) {
            renew(known, conversation);
        } else if let Some(mut known) = self.remove(id) {
            renew(&mut known, conversation);
            self.insert(known);
        }
        None
    }

    /// Enters one that is not there yet.
    pub(super) fn insert(&mut self, known: Known) {
        let Places { row, free, by_id, by_ends, hasher } = self;
        let (id, ends) = (known.conversation.id, ends(&known.conversation));
        let place = free.pop().unwrap_or(row.len() as u32);
        match row.get_mut(place as usize) {
            Some(free) => *free = Some(known),
            None => row.push(Some(known)),
        }
        let hash_of = |place: &u32, hash: &dyn Fn(&Conversation) -> u64| {
            let known = row.get(*place as usize).and_then(Option::as_ref);
            known.map_or(0, |known| hash(&known.conversation))
        };
        by_id.insert_unique(hasher.hash_one(id), place, |place| {
            hash_of(place, &|one| hasher.hash_one(one.id))
        });
        by_ends.insert_unique(hasher.hash_one(ends), place, |place| {
            hash_of(place, &|one| hasher.hash_one(self::ends(one)))
        });
    }

    pub(super) fn remove(&mut self, id: FlowId) -> Option<Known> {
        let Places { row, free, by_id, by_ends, hasher } = self;
        let found = by_id.find_entry(hasher.hash_one(id), |place| is(row, *place, id));
        let (place, _) = found.ok()?.remove();
        let known = row.get_mut(place as usize)?.take()?;
        free.push(place);
        let hash = hasher.hash_one(ends(&known.conversation));
        if let Ok(entry) = by_ends.find_entry(hash, |other| *other == place) {
            entry.remove();
        }
        Some(known)
    }

    /// Those whose ends are the conversation's, seen from the other side.
    pub(super) fn reversed(&self, of: &Conversation) -> impl Iterator<Item = &Known> {
        let (transport, local, remote) = ends(of);
        let wanted = (transport, remote, local);
        let places = self.by_ends.iter_hash(self.hasher.hash_one(wanted));
        let all = places.filter_map(|place| self.at(*place as usize));
        all.filter(move |known| ends(&known.conversation) == wanted)
    }
}

fn is(row: &[Option<Known>], place: u32, id: FlowId) -> bool {
    let known = row.get(place as usize).and_then(Option::as_ref);
    known.is_some_and(|known| known.conversation.id == id)
}

fn ends(conversation: &Conversation) -> Ends {
    (conversation.transport, conversation.local, conversation.remote)
}
