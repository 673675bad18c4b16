//! Trees of spans, and when their trace id, sampling and wall clock are fixed.
//!
//! Every span without a local parent opens a tree. A server span's tree may still move under the
//! client span of its peer, until the first span of it has been given out: from then on nothing of
//! it changes. So the id is computed when it is first needed, from the root that the tree then has.

use super::context::{Declared, RANDOM, SAMPLED};
use super::sampling::{Fate, Why, threshold};
use crate::event::ProcessKey;
use crate::id::{IdKey, SpanId, TraceId};
use crate::slab::{NONE, Slab};
use hashbrown::HashMap;
use std::collections::VecDeque;

/// Clock samples kept: more than an hour at one a second, far longer than anything waits.
const CLOCK_SAMPLES: usize = 4096;

/// A tree of spans.
#[derive(Debug)]
struct Tree {
    /// The tree that this one moved into, or `NONE`.
    moved_to: u32,
    refs: u32,
    root: SpanId,
    declared: Option<Declared>,
    id: Option<TraceId>,
    offset: i64,
    hold_until: u64,
    exported: bool,
    /// The process of its root, and when it was that: see `Started::owner`.
    home: (ProcessKey, u64),
    common: Common,
}

/// What is decided by trace: one tree, or all those of a trace from outside.
#[derive(Clone, Copy, Debug, Default)]
struct Common {
    /// Requests that are not given out.
    open: u32,
    /// Rules that keep it.
    why: Why,
    fate: Option<Fate>,
    threshold: Option<u64>,
}

/// What trees share whose trace came from outside.
#[derive(Debug)]
struct Shared {
    offset: i64,
    trees: u32,
    common: Common,
}

/// What is the same for all spans of a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Settled {
    pub(super) trace: TraceId,
    pub(super) flags: u8,
    /// Unix minus boot time, ns.
    pub(super) offset: i64,
    /// Its number reaches this.
    pub(super) threshold: u64,
    pub(super) sampled: bool,
}

/// All trees with open spans, or named by something that outlives its spans.
#[derive(Debug)]
pub(super) struct Trees {
    slab: Slab<Tree>,
    key: IdKey,
    /// Spans are given out when the low 56 bits of their trace id reach this.
    threshold: u64,
    /// Traces that came from outside: several trees here may belong to one.
    declared: HashMap<TraceId, Shared>,
    pub(super) clock: Clock,
}

impl Trees {
    pub(super) fn new(key: IdKey, sample_ratio: f64) -> Self {
        Trees {
            slab: Slab::default(),
            key,
            threshold: threshold(sample_ratio),
            declared: HashMap::new(),
            clock: Clock::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// A new tree with one reference and one open request, under `root`, which `home` began at
    /// `start_ns`.
    pub(super) fn plant(
        &mut self,
        root: SpanId,
        declared: Option<Declared>,
        (home, start_ns): ((ProcessKey, u64), u64),
        hold_until: u64,
    ) -> u32 {
        let mut offset = self.clock.offset(start_ns);
        if let Some(declared) = declared {
            let new = Shared { offset, trees: 0, common: Common::default() };
            let shared = self.declared.entry(declared.trace).or_insert(new);
            shared.trees += 1;
            shared.common.open += 1;
            offset = shared.offset;
        }
        self.slab.insert(Tree {
            moved_to: NONE,
            refs: 1,
            root,
            declared,
            id: None,
            offset,
            hold_until,
            exported: false,
            home,
            common: Common { open: 1, ..Common::default() },
        })
    }

    /// One more reference to the tree that `tree` is part of, and one more open request in it.
    pub(super) fn open(&mut self, tree: u32) -> u32 {
        let top = self.acquire(tree);
        self.change(top, |common| common.open += 1);
        top
    }

    /// One of its requests is given out. So many of its trace are still open.
    pub(super) fn close(&mut self, tree: u32) -> u32 {
        let top = self.find(tree);
        self.change(top, |common| common.open = common.open.saturating_sub(1));
        self.common(top).open
    }

    /// Notes why its trace is kept.
    pub(super) fn mark(&mut self, tree: u32, why: Why) {
        if !why.is_none() {
            let top = self.find(tree);
            self.change(top, |common| common.why.add(why));
        }
    }

    /// Why its trace is kept, as far as is known.
    pub(super) fn why(&self, tree: u32) -> Why {
        self.common(self.find(tree)).why
    }

    /// What was decided of its trace.
    pub(super) fn fate(&self, tree: u32) -> Option<Fate> {
        self.common(self.find(tree)).fate
    }

    pub(super) fn decide(&mut self, tree: u32, fate: Fate) {
        let top = self.find(tree);
        self.change(top, |common| common.fate = Some(fate));
    }

    /// Its trace came from outside.
    pub(super) fn is_declared(&self, tree: u32) -> bool {
        self.slab.get(self.find(tree)).is_some_and(|tree| tree.declared.is_some())
    }

    /// Who began the tree, as long as its trace has no threshold.
    pub(super) fn unlimited(&self, tree: u32) -> Option<(ProcessKey, u64)> {
        let top = self.find(tree);
        let home = self.slab.get(top)?.home;
        self.common(top).threshold.is_none().then_some(home)
    }

    /// Its trace needs this, or what the ratio asks.
    pub(super) fn limit(&mut self, tree: u32, threshold: u64) {
        let (top, threshold) = (self.find(tree), threshold.max(self.threshold));
        self.change(top, |common| common.threshold = Some(threshold));
    }

    fn common(&self, top: u32) -> Common {
        let Some(tree) = self.slab.get(top) else { return Common::default() };
        let shared = tree.declared.and_then(|declared| self.declared.get(&declared.trace));
        shared.map_or(tree.common, |shared| shared.common)
    }

    fn change(&mut self, top: u32, change: impl Fn(&mut Common)) {
        let Some(tree) = self.slab.get_mut(top) else { return };
        change(&mut tree.common);
        let declared = tree.declared;
        if let Some(shared) = declared.and_then(|it| self.declared.get_mut(&it.trace)) {
            change(&mut shared.common);
        }
    }

    /// One more reference to the tree that `tree` is part of.
    pub(super) fn acquire(&mut self, tree: u32) -> u32 {
        let top = self.find(tree);
        if let Some(tree) = self.slab.get_mut(top) {
            tree.refs += 1;
        }
        top
    }

    /// One reference less.
    pub(super) fn release(&mut self, mut tree: u32) {
        while let Some(entry) = self.slab.get_mut(tree) {
            entry.refs = entry.refs.saturating_sub(1);
            if entry.refs > 0 {
                return;
            }
            let Some(gone) = self.slab.remove(tree) else { return };
            self.forget_declared(&gone);
            tree = gone.moved_to;
        }
    }

    fn forget_declared(&mut self, tree: &Tree) {
        let Some(declared) = tree.declared else { return };
        if let Some(shared) = self.declared.get_mut(&declared.trace) {
            shared.trees -= 1;
            if shared.trees == 0 {
                self.declared.remove(&declared.trace);
            }
        }
    }

    /// Moves `tree` under `into`. False when it is too late for that, or it would become its own
    /// parent.
    pub(super) fn graft(&mut self, tree: u32, into: u32) -> bool {
        let (tree, into) = (self.find(tree), self.find(into));
        let movable = self.slab.get(tree).is_some_and(|tree| !tree.exported);
        if tree == into || !movable {
            return false;
        }
        if let Some(into) = self.slab.get_mut(into) {
            into.refs += 1;
        }
        let Some(moved) = self.slab.get_mut(tree) else { return false };
        let Common { open, why, .. } = moved.common;
        self.change(tree, |common| common.open = common.open.saturating_sub(open));
        self.change(into, |common| {
            common.open += open;
            common.why.add(why);
        });
        if let Some(tree) = self.slab.get_mut(tree) {
            tree.moved_to = into;
        }
        true
    }

    /// When something of the tree may be given out: 0 at once, else the key to wait for.
    pub(super) fn hold_until(&self, tree: u32) -> u64 {
        match self.slab.get(self.find(tree)) {
            Some(tree) if !tree.exported => tree.hold_until,
            _ => 0,
        }
    }

    /// Fixes the tree for good.
    pub(super) fn settle(&mut self, tree: u32) -> Settled {
        let (top, key) = (self.find(tree), self.key);
        let threshold = self.common(top).threshold.unwrap_or(self.threshold);
        let Some(tree) = self.slab.get_mut(top) else { return Settled::default() };
        tree.exported = true;
        let root = tree.root;
        let declared = tree.declared;
        let trace =
            *tree.id.get_or_insert_with(|| declared.map_or_else(|| key.trace(root), |d| d.trace));
        let number = || declared.and_then(|it| it.randomness).unwrap_or_else(|| randomness(trace));
        let sampled = threshold == 0 || number() >= threshold;
        let flags = declared.map_or(SAMPLED | RANDOM, |declared| declared.flags);
        Settled { trace, flags, offset: tree.offset, threshold, sampled }
    }

    /// The tree at the end of the moves. As long as the chain of services that a request passed.
    fn find(&self, mut tree: u32) -> u32 {
        while let Some(entry) = self.slab.get(tree) {
            if entry.moved_to == NONE {
                break;
            }
            tree = entry.moved_to;
        }
        tree
    }
}

/// The low 56 bits: random in every trace id that this agent makes and in those of W3C level 2.
fn randomness(trace: TraceId) -> u64 {
    let [_, _, _, _, _, _, _, _, low @ ..] = trace.0;
    u64::from_be_bytes(low) & ((1 << 56) - 1)
}

/// Unix minus boot time, as sampled each second.
#[derive(Debug, Default)]
pub(super) struct Clock {
    samples: VecDeque<(u64, i64)>,
}

impl Clock {
    pub(super) fn sample(&mut self, boot_ns: u64, offset: i64) {
        if self.samples.back().is_some_and(|last| last.0 > boot_ns) {
            return;
        }
        if self.samples.len() == CLOCK_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((boot_ns, offset));
    }

    /// The latest sample taken before `boot_ns`, else the first one.
    pub(super) fn offset(&self, boot_ns: u64) -> i64 {
        let taken_before = self.samples.iter().rev().find(|sample| sample.0 <= boot_ns);
        taken_before.or(self.samples.front()).map_or(0, |sample| sample.1)
    }
}

/// Unix time of `boot_ns` under `offset`.
pub(super) fn unix_ns(boot_ns: u64, offset: i64) -> u64 {
    boot_ns.saturating_add_signed(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trees() -> Trees {
        Trees::new(IdKey([7; 16]), 1.0)
    }

    fn span(id: u8) -> SpanId {
        SpanId([id; 8])
    }

    fn at(start_ns: u64) -> ((ProcessKey, u64), u64) {
        ((ProcessKey::default(), start_ns), start_ns)
    }

    #[test]
    fn a_moved_tree_has_the_id_of_the_one_above_and_memory_is_given_back() {
        let mut trees = trees();
        let (client, server) =
            (trees.plant(span(1), None, at(0), 0), trees.plant(span(2), None, at(0), 9));
        let child = trees.acquire(server);
        assert!(trees.graft(server, client));
        assert_eq!(trees.settle(child), trees.settle(client));
        assert_eq!(trees.settle(child).trace, IdKey([7; 16]).trace(span(1)));
        for tree in [client, child, server] {
            trees.release(tree);
        }
        assert_eq!(trees.len(), 0);
    }

    #[test]
    fn what_was_given_out_never_moves_and_nothing_moves_below_itself() {
        let mut trees = trees();
        let (a, b) = (trees.plant(span(1), None, at(0), 0), trees.plant(span(2), None, at(0), 0));
        assert!(!trees.graft(a, a));
        trees.settle(b);
        assert!(!trees.graft(b, a));
        assert!(trees.graft(a, b));
        assert!(!trees.graft(b, a), "a circle");
    }

    #[test]
    fn the_share_of_kept_traces_is_the_ratio() {
        for ratio in [0.0, 0.1, 0.5, 1.0] {
            let mut trees = Trees::new(IdKey([3; 16]), ratio);
            let kept = (0..4000_u64)
                .filter(|id| {
                    let tree = trees.plant(SpanId(id.to_be_bytes()), None, at(0), 0);
                    trees.settle(tree).sampled
                })
                .count();
            let expected = 4000.0 * ratio;
            assert!((kept as f64 - expected).abs() < 150.0, "{kept} of 4000 at {ratio}");
        }
    }

    #[test]
    fn open_requests_and_marks_are_those_of_the_trace() {
        let mut trees = trees();
        let (client, server) =
            (trees.plant(span(1), None, at(0), 0), trees.plant(span(2), None, at(0), 9));
        trees.mark(server, Why::ERROR);
        assert!(trees.why(client).is_none());
        assert!(trees.graft(server, client));
        assert!(trees.why(client).has(Why::ERROR));
        assert_eq!((trees.close(server), trees.close(client)), (1, 0));
        let header = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let declared = super::super::context::traceparent(header);
        let one = trees.plant(span(3), declared, at(0), 0);
        let two = trees.plant(span(4), declared, at(0), 0);
        trees.mark(one, Why::SLOW);
        assert!(trees.why(two).has(Why::SLOW), "trees of one trace");
        let other = trees.plant(span(5), None, at(0), 0);
        assert!(trees.graft(two, other));
        assert_eq!((trees.close(one), trees.close(two), trees.close(other)), (0, 1, 0));
        assert!(trees.why(other).is_none(), "what another tree has stays with it");
    }

    #[test]
    fn a_declared_trace_has_one_clock_as_long_as_it_is_open() {
        let mut trees = trees();
        let declared = super::super::context::traceparent(
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        );
        trees.clock.sample(0, 100);
        let first = trees.plant(span(1), declared, at(5), 0);
        trees.clock.sample(10, 200);
        let second = trees.plant(span(2), declared, at(15), 0);
        assert_eq!(trees.settle(second).offset, 100);
        trees.release(first);
        trees.release(second);
        let third = trees.plant(span(3), declared, at(15), 0);
        assert_eq!(trees.settle(third).offset, 200);
    }
}
