//! How much of the room one service has. A resource is more than a service's name: one job whose environment says
//! something else with each run (`OTEL_RESOURCE_ATTRIBUTES=run.id=…`) would have all of it.

use crate::process::{KeptServiceName, ServiceName};
use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// One service may have this part of the room: as much as fifty containers of one with forty series each.
const PART: usize = 5;

/// By name and namespace. Only of those that hold anything.
#[derive(Default)]
pub(super) struct Shares {
    numbers: HashMap<KeptServiceName, u32, RandomState>,
    shares: HashMap<u32, Share, RandomState>,
    next: u32,
}

#[derive(Default)]
struct Share {
    held: usize,
    /// Where what it has no room for is counted.
    overflow: Option<u32>,
}

/// What one service may have of so much.
pub(super) fn part(of_all: usize) -> usize {
    (of_all / PART).max(1)
}

impl Shares {
    /// The number of a service that holds something.
    pub(super) fn find(&self, service: ServiceName<'_>) -> Option<u32> {
        self.numbers.get(&service).copied()
    }

    /// The same; a new one where it holds nothing yet.
    pub(super) fn enter(&mut self, service: ServiceName<'_>) -> u32 {
        if let Some(known) = self.find(service) {
            return known;
        }
        self.next = self.next.wrapping_add(1);
        self.numbers.insert(service.into(), self.next);
        self.shares.insert(self.next, Share::default());
        self.next
    }

    pub(super) fn held(&self, number: u32) -> usize {
        self.shares.get(&number).map_or(0, |share| share.held)
    }

    pub(super) fn add(&mut self, number: u32, more: usize) {
        if let Some(share) = self.shares.get_mut(&number) {
            share.held += more;
        }
    }

    pub(super) fn overflow(&self, number: u32) -> Option<u32> {
        self.shares.get(&number)?.overflow
    }

    pub(super) fn set_overflow(&mut self, number: u32, to: u32) {
        if let Some(share) = self.shares.get_mut(&number) {
            share.overflow = Some(to);
        }
    }

    /// Counts anew what is held: how much by whom.
    pub(super) fn recount(&mut self, held: impl Iterator<Item = (u32, usize)>) {
        self.shares.values_mut().for_each(|share| share.held = 0);
        for (number, more) in held {
            self.add(number, more);
        }
        self.shares.retain(|_, share| share.held > 0);
        let shares = &self.shares;
        self.numbers.retain(|_, number| shares.contains_key(number));
    }
}
