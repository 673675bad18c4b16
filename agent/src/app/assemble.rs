//! The assembler's thread: puts the rings' findings in order, and feeds the outputs.

use super::{
    batch::Batch,
    clock::{boot_ns, unix_offset},
    recorder::Recorder,
    shared::Shared,
    silence::Silence,
};
use crate::export::{Destination, Fanout};
use agent_core::message::Started;
use agent_core::trace::Assembler;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

/// How often outputs are flushed, ns.
const FLUSH_NS: u64 = 50_000_000;

/// How often the wall clock is sampled and accounts are published, ns.
const SECOND_NS: u64 = 1_000_000_000;

/// What the thread needs.
pub struct AssemblerThread {
    /// The stage.
    pub assembler: Assembler,
    /// Where its results go.
    pub outputs: Fanout,
    /// From all rings.
    pub batches: Receiver<Batch>,
    /// Used messages go back to the payload thread; dropped when it has enough.
    pub spare: SyncSender<Box<Started>>,
    /// Rings that still run.
    pub rings: usize,
    /// The recording, if one is made.
    pub recorder: Option<Arc<Recorder>>,
    /// What was said of connections without spans.
    pub silence: Silence,
    /// See [`Shared`].
    pub shared: Arc<Shared>,
}

impl AssemblerThread {
    /// Runs until every ring has ended. Gives the outputs back, finished.
    pub fn run(mut self) -> Fanout {
        self.sample_clock();
        let (mut flushed, mut second) = (0, boot_ns());
        while self.rings > 0 {
            match self.batches.recv_timeout(Duration::from_nanos(FLUSH_NS)) {
                Ok(batch) => self.take(batch),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let now = boot_ns();
            if now.saturating_sub(flushed) >= FLUSH_NS {
                flushed = now;
                self.outputs.flush(now);
            }
            if now.saturating_sub(second) >= SECOND_NS {
                second = now;
                self.sample_clock();
                self.publish();
            }
        }
        let spare = &self.spare;
        self.assembler.finish(&mut self.outputs, &mut |started| drop(spare.try_send(started)));
        self.outputs.finish(boot_ns());
        self.publish();
        self.outputs
    }

    fn take(&mut self, batch: Batch) {
        let spare = &self.spare;
        // A full channel means that the payload thread has plenty: the box is freed.
        let mut recycle = |started| drop(spare.try_send(started));
        match batch {
            Batch::Signals { ring, signals, tick } => {
                for signal in signals {
                    self.assembler.signal(ring, signal);
                }
                if tick != 0 {
                    self.assembler.tick(ring, tick, &mut self.outputs, &mut recycle);
                }
            }
            Batch::Processes { records, facts, tick } => {
                for fact in facts {
                    self.assembler.facts(fact);
                }
                for event in records.events() {
                    self.assembler.process_event(&event);
                }
                if tick != 0 {
                    self.assembler.tick(0, tick, &mut self.outputs, &mut recycle);
                }
            }
            Batch::Ended => self.rings -= 1,
        }
    }

    fn sample_clock(&mut self) {
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
