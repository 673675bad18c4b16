//! The assembler of a run: puts the rings' findings in order, and feeds the outputs.
//!
//! It works on the thread of the payload ring. That ring's signals are nearly all there is, and
//! handing them to a thread of their own would move each through the caches of two processors;
//! only what the process ring's thread read comes through a channel.

use super::{
    batch::Batch,
    clock::{boot_ns, unix_offset},
    progress::Progress,
    recorder::Recorder,
    shared::Shared,
    silence::Silence,
};
use crate::export::{Destination, Fanout};
use agent_core::message::{Signal, Started};
use agent_core::trace::Assembler;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

/// How often outputs are flushed, ns.
const FLUSH_NS: u64 = 50_000_000;

/// How often the wall clock is sampled and accounts are published, ns.
const SECOND_NS: u64 = 1_000_000_000;

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
    /// Takes a signal of the payload ring `ring`.
    pub fn signal(&mut self, ring: usize, signal: Signal) {
        self.assembler.signal(ring, signal);
    }

    /// All that was written to the payload ring `ring` before `now` (boot time, ns) has been
    /// taken: settles what can be settled by that.
    pub fn tick(&mut self, ring: usize, now: u64) {
        // Asked before the channel is emptied: what it vouches for is in there.
        let processes = self.progress.read_until();
        while let Ok(batch) = self.processes.try_recv() {
            self.take(batch);
        }
        let Assembly { assembler, outputs, spare, .. } = self;
        let mut recycle = |used| spare.keep(used);
        assembler.tick(0, processes, outputs, &mut recycle);
        assembler.tick(ring, now, outputs, &mut recycle);
        if now.saturating_sub(self.flushed) >= FLUSH_NS {
            self.flushed = now;
            self.outputs.flush(now);
        }
        if now.saturating_sub(self.published) >= SECOND_NS {
            self.published = now;
            self.sample_clock();
            self.publish();
        }
    }

    /// The payload ring has ended: waits for the process ring to do so, and settles everything.
    /// Gives the outputs back, finished.
    pub fn finish(mut self) -> Fanout {
        while let Ok(batch) = self.processes.recv() {
            self.take(batch);
        }
        self.assembler.finish(&mut self.outputs, &mut drop);
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
    }

    /// Tells the assembler what time it is by the wall clock.
    pub fn sample_clock(&mut self) {
        let (boot, offset) = unix_offset();
        self.assembler.clock(boot, offset);
        if let Some(recorder) = &self.recorder {
            recorder.clock(boot, offset);
        }
    }

    fn publish(&mut self) {
        if let Some(text) = self.silence.note(&self.shared.census(), super::status::task_name) {
            self.outputs.note(&text);
        }
        self.shared.publish("assembler", self.assembler.ledger());
        let mut entries = Vec::new();
        self.outputs.ledger(&mut entries);
        self.shared.publish("outputs", entries);
        self.end_without_readers();
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
