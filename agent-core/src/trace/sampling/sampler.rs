//! Decides once a trace, and keeps its spans until then.

use super::rate::Rates;
use super::undecided::Undecided;
use super::watch::Watch;
use super::{Fate, Sampling, Why, state};
use crate::id::TraceId;
use crate::ledger::{Entry, Side};
use crate::process::{ServiceName, SharedResource};
use crate::span::{Output, Span};
use crate::trace::bounded::Bounded;
use crate::trace::settle::{Settled, Trees};

/// Traces from outside that a rule has kept, remembered for what comes of them later.
const MAX_KEPT: usize = 4096;

/// Spans that left, and those that did not.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::trace) struct Spans {
    pub(in crate::trace) out: u64,
    pub(in crate::trace) dropped: u64,
}

/// See the module.
pub(in crate::trace) struct Sampler {
    config: Sampling,
    /// Rules are asked, so that spans may have to wait.
    waits: bool,
    pub(in crate::trace) rates: Option<Rates>,
    watch: Watch,
    undecided: Undecided,
    kept: Bounded<TraceId, ()>,
    /// Tracestate of the span in work.
    state: String,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    by_rule: [u64; Why::ALL.len()],
    by_ratio: u64,
    /// Because a rule had kept what came of the trace before.
    before: u64,
    dropped: u64,
    /// Decided before their end, because they took too long.
    overdue: u64,
    /// The same, because there were too many.
    early: u64,
}

impl Sampler {
    pub(in crate::trace) fn new(config: Sampling, undecided_bytes: usize) -> Sampler {
        Sampler {
            config,
            waits: config.drops() && !config.rules.is_empty(),
            rates: config.rate.map(Rates::new),
            watch: Watch::new(config.rules),
            undecided: Undecided::new(undecided_bytes),
            kept: Bounded::new(MAX_KEPT),
            state: String::new(),
            counts: Counts::default(),
        }
    }

    /// Whether rules are asked.
    pub(in crate::trace) fn waits(&self) -> bool {
        self.waits
    }

    /// Whether errors, or security events, keep their trace.
    pub(in crate::trace) fn keeps(&self, why: Why) -> bool {
        let rules = &self.config.rules;
        self.waits && ((rules.errors && why == Why::ERROR) || (rules.events && why == Why::EVENT))
    }

    /// Notes why the trace of a request is kept, if it is.
    pub(in crate::trace) fn judge(
        &mut self,
        trees: &mut Trees,
        tree: u32,
        route: (ServiceName<'_>, &str, &str),
        (is_server, took_ns, now_ns): (bool, u64, u64),
    ) {
        let why = self.watch.judge(route, is_server, took_ns, now_ns);
        trees.mark(tree, why);
    }

    /// What becomes of a request that is about to be given out; `None` while others of its trace are open.
    /// Spans of the trace that waited leave.
    pub(in crate::trace) fn fate(
        &mut self,
        trees: &mut Trees,
        tree: u32,
        settled: &Settled,
        spans: &mut Spans,
        out: &mut dyn Output,
    ) -> Option<Fate> {
        if !self.waits {
            return Some(by_number(settled));
        }
        let open = trees.close(tree);
        match trees.fate(tree) {
            // What is seen after the decision is kept when a rule says so: half of it is better than nothing.
            // It then counts once, also where the number has kept what came before: any number would have kept it.
            Some(known) if known != Fate::Kept(0) && !trees.why(tree).is_none() => {}
            Some(known) => return Some(known),
            None if open > 0 && !self.kept.contains(&settled.trace) => return None,
            None => {}
        }
        let fate = self.decide(trees, tree, settled);
        self.leave(trees, settled.trace, fate, spans, out);
        Some(fate)
    }

    fn decide(&mut self, trees: &mut Trees, tree: u32, settled: &Settled) -> Fate {
        let why = trees.why(tree);
        let before = self.kept.contains(&settled.trace);
        for (count, (rule, _)) in self.counts.by_rule.iter_mut().zip(Why::ALL) {
            *count += u64::from(why.has(rule));
        }
        let asked = why.is_none() && !before;
        let fate = if asked { by_number(settled) } else { Fate::Kept(0) };
        if !why.is_none() && trees.is_declared(tree) {
            self.kept.insert(settled.trace, ());
        }
        self.counts.by_ratio += u64::from(asked && fate != Fate::Dropped);
        self.counts.before += u64::from(why.is_none() && before);
        self.counts.dropped += u64::from(fate == Fate::Dropped);
        trees.decide(tree, fate);
        fate
    }

    /// Keeps a span until its trace is decided; then decides those for which there is no room.
    pub(in crate::trace) fn wait(
        &mut self,
        trees: &mut Trees,
        (span, resource): (&Span<'_>, &SharedResource),
        settled: Settled,
        (tree, now): (u32, u64),
        spans: &mut Spans,
        out: &mut dyn Output,
    ) {
        let until = now.saturating_add(self.config.wait_ns);
        let top = trees.acquire(tree);
        if !self.undecided.push(span, resource, settled, (top, until)) {
            trees.release(top);
        }
        while let Some(trace) = self.undecided.surplus() {
            self.counts.early += 1;
            self.force(trees, trace, spans, out);
        }
    }

    /// The time is `now`: decides the traces whose wait is over.
    pub(in crate::trace) fn advance(
        &mut self,
        trees: &mut Trees,
        now: u64,
        spans: &mut Spans,
        out: &mut dyn Output,
    ) {
        while let Some(trace) = self.undecided.overdue(now) {
            self.counts.overdue += 1;
            self.force(trees, trace, spans, out);
        }
    }

    /// Decides a trace with what is known of it so far.
    fn force(
        &mut self,
        trees: &mut Trees,
        trace: TraceId,
        spans: &mut Spans,
        out: &mut dyn Output,
    ) {
        let Some((tree, settled)) = self.undecided.first(trace) else { return };
        let fate = self.decide(trees, tree, &settled);
        self.leave(trees, trace, fate, spans, out);
    }

    /// The spans of a trace leave, one way or the other.
    fn leave(
        &mut self,
        trees: &mut Trees,
        trace: TraceId,
        fate: Fate,
        spans: &mut Spans,
        out: &mut dyn Output,
    ) {
        let Some(waiting) = self.undecided.take(trace) else { return };
        let count = waiting.spans.len() as u64;
        match fate {
            Fate::Kept(_) => spans.out += count,
            Fate::Dropped => spans.dropped += count,
        }
        for kept in waiting.spans {
            if let Fate::Kept(threshold) = fate {
                state::with_threshold(kept.state(), threshold, &mut self.state);
                kept.lend(&self.state, out);
            }
            self.undecided.reuse(kept);
        }
        trees.release(waiting.tree);
    }

    /// The tracestate of a span that came with `state`, when its trace is kept at `threshold`. Where all are
    /// kept nobody needs to be told, unless somebody said something else.
    pub(in crate::trace) fn state<'s>(&'s mut self, state: &'s str, threshold: u64) -> &'s str {
        if !self.config.drops() && !state::has_threshold(state) {
            return state;
        }
        state::with_threshold(state, threshold, &mut self.state);
        &self.state
    }

    /// Spans that wait.
    pub(in crate::trace) fn held(&self) -> u64 {
        self.undecided.len() as u64
    }

    /// What became of traces, where that is a question.
    pub(in crate::trace) fn ledger(&self) -> Vec<Entry> {
        let entry = |unit, side, count| Entry { stage: "sampling", unit, side, count };
        let info = |name, count| entry("traces", Side::Info(name), count);
        if !self.waits {
            return Vec::new();
        }
        let Counts { by_ratio, before, dropped, overdue, early, .. } = self.counts;
        let mut entries = vec![
            info("kept_by_ratio", by_ratio),
            info("kept_as_before", before),
            info("dropped", dropped),
            info("decided_overdue", overdue),
            info("decided_early", early),
            entry("bytes", Side::Info("undecided"), self.undecided.bytes() as u64),
            entry("routes", Side::Info("watched"), self.watch.len() as u64),
            entry("requests", Side::Info("route_unwatched"), self.watch.unwatched),
        ];
        let rules = Why::ALL.iter().zip(self.counts.by_rule);
        entries.extend(rules.map(|((_, name), count)| info(name, count)));
        entries
    }
}

fn by_number(settled: &Settled) -> Fate {
    if settled.sampled { Fate::Kept(settled.threshold) } else { Fate::Dropped }
}
