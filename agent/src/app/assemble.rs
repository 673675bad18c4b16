//! The assembler of a run: puts the rings' findings in order, and feeds the outputs.
//!
//! With one payload ring it works on that ring's thread. Its signals are nearly all there is, and
//! handing them to a thread of their own would move each through the caches of two processors; only
//! what the process ring's thread read comes through a channel. With several payload rings it has a
//! thread of its own, and each ring's signals come through a [`super::queue`].

use super::{
    batch::Batch,
    clock::{boot_ns, unix_offset},
    flows::{FlowPart, Surroundings},
    payload::{Downstream, FIRST_RING, Pause},
    progress::Progress,
    queue::Inbox,
    recorder::Recorder,
    requests::RequestReport,
    shared::{Shared, Thread},
    silence::Silence,
};
use crate::export::{Destination, Fanout};
use agent_core::ledger::Entry;
use agent_core::message::{Signal, Started};
use agent_core::process::kubernetes::PodChange;
use agent_core::trace::Assembler;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// How often outputs are flushed, ns.
const FLUSH_NS: u64 = 50_000_000;

/// How often the wall clock is sampled and accounts are published, ns.
const SECOND_NS: u64 = 1_000_000_000;

/// Longest time between two looks at the queues while something comes: they are made for it,
/// whatever the rings are made for.
const LOOK: Duration = Duration::from_millis(5);

/// The same when nothing does. Nobody wakes this thread, and what a ring's thread can hand on without
/// an answer lasts 20 ms at the highest rate measured.
const CALM: Duration = Duration::from_millis(10);

/// Changes of pods between two looks at the rings.
const PODS: usize = 32;

/// Used messages that are kept: those under way at full load, and then some.
const MAX_SPARE: usize = 4096;

/// What it works with.
pub struct Assembly {
    /// The stage.
    pub assembler: Assembler,
    /// Where its results go.
    pub outputs: Fanout,
    /// From the process ring; closed when its thread has ended.
    pub processes: Receiver<Batch>,
    /// How far the process ring has been read.
    pub progress: Progress,
    /// The recording, if one is made.
    pub recorder: Option<Arc<Recorder>>,
    /// What was said of connections without spans.
    pub silence: Silence,
    /// See [`Shared`].
    pub shared: Arc<Shared>,
    /// Used messages. The last one is the first to be used again: it is still in the cache.
    pub spare: Spare,
    /// Boot time of the latest flush, ns.
    pub flushed: u64,
    /// Boot time of the latest publication, ns.
    pub published: u64,
    /// Conversations, when they are followed.
    pub flows: Option<FlowPart>,
    /// Metrics of requests, when they are made.
    pub requests: Option<RequestReport>,
    /// What changes of this node's pods.
    pub pods: Receiver<PodChange>,
}

/// Used messages, a bounded number.
#[derive(Default)]
pub struct Spare(
    #[expect(clippy::vec_box, reason = "the stages pass the boxes on")] Vec<Box<Started>>,
);

impl Spare {
    /// One to fill again.
    pub fn take(&mut self) -> Option<Box<Started>> {
        self.0.pop()
    }

    fn keep(&mut self, used: Box<Started>) {
        if self.0.len() < MAX_SPARE {
            self.0.push(used);
        }
    }
}

impl Assembly {
    /// All that was written to each of these rings before a boot time (ns) has been taken: settles
    /// what can be settled by that, at `now`.
    fn tick(&mut self, rings: impl IntoIterator<Item = (usize, u64)>, now: u64) {
        self.assembler.reports(self.shared.window());
        // Asked before the channel is emptied: what it vouches for is in there.
        let processes = self.progress.read_until();
        while let Ok(batch) = self.processes.try_recv() {
            self.take(batch);
        }
        self.take_pods();
        let Assembly { assembler, outputs, spare, .. } = self;
        let mut recycle = |used| spare.keep(used);
        assembler.tick(0, processes, outputs, &mut recycle);
        for (ring, until) in rings {
            assembler.tick(ring, until, outputs, &mut recycle);
        }
        let Assembly { assembler, outputs, shared, flows, requests, .. } = self;
        if let Some(requests) = requests {
            requests.tick(now, assembler, outputs, shared);
        }
        if let Some(flows) = flows {
            flows.work(&mut Surroundings { assembler, outputs, shared });
        }
        if now.saturating_sub(self.flushed) >= FLUSH_NS {
            self.flushed = now;
            self.outputs.flush(now);
        }
        if now.saturating_sub(self.published) >= SECOND_NS {
            self.published = now;
            self.sample_clock();
            if self.outputs.wants_in_flight() {
                let services = self.assembler.in_flight();
                self.outputs.in_flight(&services);
            }
            self.publish();
        }
    }

    /// Works on a thread of its own, until all payload rings' threads have ended. Gives the
    /// outputs back, finished.
    pub fn run(mut self, inboxes: &[Inbox], poll_interval: Duration) -> Fanout {
        let mut pause = Pause::new(poll_interval.min(LOOK));
        let mut looked = Vec::with_capacity(inboxes.len());
        let mut last: Vec<Vec<Signal>> = inboxes.iter().map(|_| Vec::new()).collect();
        loop {
            looked.clear();
            let now = boot_ns();
            for ((inbox, last), ring) in inboxes.iter().zip(&mut last).zip(FIRST_RING..) {
                let Assembly { assembler, spare, .. } = &mut self;
                let take = |signal, is_last| match is_last {
                    // Behind what all rings have to say, as in a replay.
                    true => last.push(signal),
                    false => assembler.signal(ring, signal),
                };
                let found = inbox.empty(take, || spare.take());
                self.assembler.shed_until(found.shed_until);
                looked.push(found);
            }
            self.tick((FIRST_RING..).zip(looked.iter().map(|looked| looked.until)), now);
            if looked.iter().all(|looked| looked.ended) {
                for (last, ring) in last.into_iter().zip(FIRST_RING..) {
                    last.into_iter().for_each(|signal| self.assembler.signal(ring, signal));
                }
                return self.end();
            }
            if looked.iter().any(|looked| looked.ended) {
                // At the end they follow each other; else one panicked, and the rest is no run.
                self.shared.stop.store(true, Ordering::Release);
            }
            let wait = pause.after(looked.iter().any(|looked| looked.signals > 0)).most();
            std::thread::sleep(wait.min(CALM));
        }
    }

    /// The payload rings have ended: waits for the process ring to do so, and settles everything.
    fn end(mut self) -> Fanout {
        self.assembler.reports(self.shared.window());
        while let Ok(batch) = self.processes.recv() {
            self.take(batch);
        }
        let Assembly { assembler, outputs, shared, flows, .. } = &mut self;
        if let Some(flows) = flows {
            flows.finish(&mut Surroundings { assembler, outputs, shared });
        }
        self.assembler.finish(&mut self.outputs, &mut drop);
        let Assembly { assembler, outputs, shared, requests, .. } = &mut self;
        if let Some(requests) = requests {
            // Not within the time of a run that has taken over.
            let now = boot_ns().min(shared.window().until_ns);
            requests.report(now, assembler, outputs, shared);
        }
        self.outputs.finish(boot_ns());
        self.publish();
        self.outputs
    }

    fn take(&mut self, batch: Batch) {
        for facts in batch.facts {
            self.assembler.facts(facts);
        }
        for event in batch.records.events() {
            self.assembler.process_event(&event);
        }
        for usage in batch.usages {
            // One that nothing is known of has ended, or only just begun.
            if let Some(resource) = self.assembler.known_resource(usage.key, usage.at_ns) {
                let offset = self.assembler.unix_offset(usage.at_ns);
                usage.report(&resource, offset, &mut self.outputs);
            }
        }
    }

    /// A few at a time: each costs no more than a process's facts.
    fn take_pods(&mut self) {
        for change in self.pods.try_iter().take(PODS) {
            if let Some(recorder) = &self.recorder {
                recorder.pod(&change);
            }
            self.assembler.pod(change);
        }
    }

    /// Tells the assembler what time it is by the wall clock.
    pub fn sample_clock(&mut self) {
        let (boot, offset) = match &self.recorder {
            Some(recorder) => recorder.clock(unix_offset),
            None => unix_offset(),
        };
        self.assembler.clock(boot, offset);
    }

    fn publish(&mut self) {
        if let Some(text) = self.silence.note(&self.shared.census(), super::status::task_name) {
            self.outputs.note(&text);
        }
        self.name_processes();
        self.shared.publish(Thread::Assembler, self.assembler.ledger());
        let mut entries = Vec::new();
        self.outputs.ledger(&mut entries);
        self.shared.publish(Thread::Outputs, entries);
        self.end_without_readers();
    }

    /// Names of the processes of which something can be said, where somebody asks.
    fn name_processes(&mut self) {
        let now = boot_ns();
        if !self.shared.traffic.wants_names(now) {
            return;
        }
        let processes = self.shared.traffic.processes(&self.shared.census());
        let names = processes
            .into_iter()
            .filter_map(|process| Some((process, self.assembler.known_resource(process, now)?)));
        let names = names.collect();
        self.shared.traffic.name(now, names);
    }

    /// `kernspan run | head`: when the last reader of the last output is gone, so is the purpose.
    fn end_without_readers(&self) {
        if self.recorder.is_none()
            && self.outputs.is_gone()
            && !self.shared.stop.swap(true, Ordering::AcqRel)
        {
            tracing::info!("nobody reads the output any more: stopping");
        }
    }
}

/// On the thread of the only payload ring.
impl Downstream for Assembly {
    type End = Fanout;

    fn signal(&mut self, signal: Signal) {
        self.assembler.signal(FIRST_RING, signal);
    }

    fn reuse(&mut self) -> Option<Box<Started>> {
        self.spare.take()
    }

    fn tick(&mut self, now: u64) {
        Assembly::tick(self, [(FIRST_RING, now)], now);
    }

    fn ends(&mut self) {}

    fn ledger(&self, _entries: &mut Vec<Entry>) {}

    fn finish(self) -> Fanout {
        self.end()
    }
}
