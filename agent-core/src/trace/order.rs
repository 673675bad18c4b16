//! Puts what several rings deliver into one order.
//!
//! Each ring is a queue: what it delivered first is processed first. Across rings the order is
//! (key, ring, place in the ring), where the key is the time at which the agent could know, raised
//! to that of everything before it in its ring. So a key is never above the time at which its
//! record was written, causes come before effects, and the order depends on the contents of the
//! rings only, not on how their deliveries interleave. That is why a replay gives the same spans.
//!
//! The start and end of a request may lie well before the time at which they became known (a
//! response that ends with the connection, bytes that waited for the program); they keep their own
//! times, and only the order uses the key.

use crate::message::{Role, Signal, Started};
use agent_common::record::{Exec, Exit, Fork};
use std::collections::VecDeque;

/// What waits for the watermark.
#[derive(Debug)]
pub(super) enum Item {
    Signal(Signal),
    Fork(Fork),
    Exec(Box<ExecCopy>),
    Exit(Exit),
}

/// An exec record with the captured part of its arguments.
#[derive(Debug)]
pub(super) struct ExecCopy {
    pub(super) exec: Exec,
    pub(super) args: Vec<u8>,
}

#[derive(Debug, Default)]
struct Ring {
    queue: VecDeque<(u64, Item)>,
    /// Key of the last item.
    latest: u64,
    /// Everything written before this has been delivered.
    delivered: u64,
}

/// The queues of all rings.
#[derive(Debug)]
pub(super) struct Order {
    rings: Vec<Ring>,
    slack: u64,
    watermark: u64,
    queued: usize,
    /// Items that came after the watermark had passed their key.
    pub(super) late: u64,
}

impl Order {
    pub(super) fn new(rings: usize, slack: u64) -> Self {
        let rings = (0..rings.max(1)).map(|_| Ring::default()).collect();
        Order { rings, slack, watermark: 0, queued: 0, late: 0 }
    }

    pub(super) fn push(&mut self, ring: usize, at: u64, item: Item) {
        let last = self.rings.len() - 1;
        let Some(ring) = self.rings.get_mut(ring.min(last)) else { return };
        ring.latest = ring.latest.max(at);
        self.late += u64::from(ring.latest < self.watermark);
        ring.queue.push_back((ring.latest, item));
        self.queued += 1;
    }

    /// Notes that `ring` delivered everything written before `boot_ns`.
    pub(super) fn delivered(&mut self, ring: usize, boot_ns: u64) {
        if let Some(ring) = self.rings.get_mut(ring) {
            ring.delivered = ring.delivered.max(boot_ns);
        }
        let slowest = self.rings.iter().map(|ring| ring.delivered).min().unwrap_or(0);
        self.watermark = self.watermark.max(slowest.saturating_sub(self.slack));
    }

    pub(super) fn watermark(&self) -> u64 {
        self.watermark
    }

    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// The next item whose key is below `until`; any item when that is the maximum.
    ///
    /// Below and not at: another ring may still deliver one with that very key, whose turn comes
    /// first.
    pub(super) fn pop(&mut self, until: u64) -> Option<(u64, Item)> {
        let first = |ring: &Ring| ring.queue.front().map(|(key, _)| *key);
        let next = self
            .rings
            .iter_mut()
            .filter(|ring| first(ring).is_some())
            .min_by_key(|ring| first(ring))?;
        if first(next)? >= until && until != u64::MAX {
            return None;
        }
        self.queued -= 1;
        next.queue.pop_front()
    }
}

/// When the agent could know of `signal` at the earliest.
pub(super) fn known_at(signal: &Signal) -> u64 {
    match signal {
        Signal::Started(started) => started_known_at(started),
        other => other.at(),
    }
}

/// The program had to take the bytes (server), or its call had to return (client).
pub(super) fn started_known_at(started: &Started) -> u64 {
    match started.role {
        Some(Role::Server | Role::Client) => started.taken_ns.max(started.start_ns),
        None => started.start_ns,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(at: u64) -> Item {
        Item::Signal(Signal::Gone { at, cookie: at })
    }

    fn drain(order: &mut Order, until: u64) -> Vec<u64> {
        std::iter::from_fn(|| order.pop(until)).map(|(key, _)| key).collect()
    }

    #[test]
    fn rings_are_merged_by_time_and_nothing_passes_the_slowest() {
        let mut order = Order::new(2, 10);
        for at in [100, 300] {
            order.push(0, at, gone(at));
        }
        order.push(1, 200, gone(200));
        order.delivered(0, 1000);
        assert_eq!(order.watermark(), 0);
        order.delivered(1, 260);
        let until = order.watermark();
        assert_eq!(drain(&mut order, until), [100, 200]);
        assert_eq!(drain(&mut order, u64::MAX), [300]);
    }

    #[test]
    fn within_a_ring_the_delivered_order_stays() {
        let mut order = Order::new(1, 0);
        for at in [100, 50, 120] {
            order.push(0, at, gone(at));
        }
        assert_eq!(drain(&mut order, u64::MAX), [100, 100, 120]);
    }

    #[test]
    fn what_comes_behind_the_watermark_is_counted_and_still_processed() {
        let mut order = Order::new(1, 0);
        order.delivered(0, 500);
        order.push(0, 400, gone(400));
        assert_eq!(order.late, 1);
        let until = order.watermark();
        assert_eq!(drain(&mut order, until), [400]);
    }
}
