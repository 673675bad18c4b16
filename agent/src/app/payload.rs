//! The thread of a payload ring: drains it, parses in place, owns its connections.

use super::{batch::Batch, clock::boot_ns, recorder::Recorder, shared::Shared};
use crate::probe::control::Verdicts;
use agent_common::settings::socket_verdict;
use agent_core::connection::{Shard, ShardOutput};
use agent_core::event::{DecodeError, decode};
use agent_core::ledger::{Entry, Side};
use agent_core::message::{Signal, Started};
use agent_core::recording::Scrubber;
use aya::maps::{MapData, RingBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Number of the only payload ring: ring 0 is that of processes.
pub const RING: usize = 1;

/// How often accounts are published and idle connections looked for, ns.
const HOUSEKEEPING_NS: u64 = 500_000_000;

/// Signals handed on at once; then the assembler gets to work while the ring is drained on.
const BATCH: usize = 4096;

/// What the thread needs.
pub struct PayloadThread {
    /// Its ring.
    pub ring: RingBuf<MapData>,
    /// Its connections.
    pub shard: Shard,
    /// Way back to the kernel side.
    pub verdicts: Verdicts,
    /// Connections of other protocols are not muted (`--capture full`).
    pub never_mute: bool,
    /// To the assembler. When it is full the thread waits, and the kernel's ring takes the load.
    pub out: SyncSender<Batch>,
    /// Used messages come back here.
    pub spare: Receiver<Box<Started>>,
    /// The recording, if one is made.
    pub recorder: Option<Arc<Recorder>>,
    /// Pause between two looks at the ring.
    pub poll_interval: Duration,
    /// See [`Shared`].
    pub shared: Arc<Shared>,
}

struct Outlet {
    signals: Vec<Signal>,
    verdicts: Verdicts,
    never_mute: bool,
    spare: Receiver<Box<Started>>,
    refused_verdicts: u64,
}

impl ShardOutput for Outlet {
    fn signal(&mut self, signal: Signal) {
        self.signals.push(signal);
    }

    fn verdict(&mut self, cookie: u64, verdict: u32) {
        if self.never_mute && verdict == socket_verdict::MUTE {
            return;
        }
        if self.verdicts.set(cookie, verdict).is_err() {
            self.refused_verdicts += 1;
        }
    }

    fn reuse(&mut self) -> Option<Box<Started>> {
        self.spare.try_recv().ok()
    }
}

struct State {
    shard: Shard,
    outlet: Outlet,
    out: SyncSender<Batch>,
    scrubber: Option<Scrubber>,
    recorder: Option<Arc<Recorder>>,
    shared: Arc<Shared>,
    undecoded: u64,
    housekept: u64,
}

impl PayloadThread {
    /// Runs until the stop flag is set, then drains what is left.
    pub fn run(self) {
        let scrubs = self.recorder.as_ref().is_some_and(|recorder| !recorder.is_raw());
        let mut ring = self.ring;
        let mut state = State {
            shard: self.shard,
            outlet: Outlet {
                signals: Vec::with_capacity(BATCH),
                verdicts: self.verdicts,
                never_mute: self.never_mute,
                spare: self.spare,
                refused_verdicts: 0,
            },
            out: self.out,
            scrubber: scrubs.then(Scrubber::new),
            recorder: self.recorder,
            shared: self.shared,
            undecoded: 0,
            housekept: 0,
        };
        loop {
            let last = state.shared.stop.load(Ordering::Acquire);
            let began = boot_ns();
            while let Some(item) = ring.next() {
                state.record(&item);
                if state.outlet.signals.len() >= BATCH {
                    // Not a tick: the ring is not empty.
                    state.hand_on(0);
                }
            }
            state.idle(began);
            if last {
                break;
            }
            std::thread::sleep(self.poll_interval);
        }
        state.finish();
    }
}

impl State {
    fn record(&mut self, slot: &[u8]) {
        let event = match decode(slot) {
            Ok(event) => event,
            Err(error) => return self.undecoded(error),
        };
        match (&self.recorder, &mut self.scrubber) {
            (Some(recorder), Some(scrubber)) => {
                let recorder = Arc::clone(recorder);
                let release = &mut |released: agent_core::recording::Released<'_>| {
                    recorder.released(RING as u8, &released);
                };
                scrubber.ingest(&mut self.shard, &event, &mut self.outlet, release);
            }
            (Some(recorder), None) => {
                recorder.record(RING as u8, slot, &event);
                self.shard.ingest(&event, &mut self.outlet);
            }
            (None, _) => self.shard.ingest(&event, &mut self.outlet),
        }
    }

    fn undecoded(&mut self, error: DecodeError) {
        if self.undecoded == 0 {
            tracing::error!("kernel side and agent disagree, records are dropped: {error}");
        }
        self.undecoded += 1;
    }

    /// The ring was found empty at `now`.
    fn idle(&mut self, now: u64) {
        match (&self.recorder, &mut self.scrubber) {
            (Some(recorder), Some(scrubber)) => {
                let recorder = Arc::clone(recorder);
                let release = &mut |released: agent_core::recording::Released<'_>| {
                    recorder.released(RING as u8, &released);
                };
                scrubber.idle(&mut self.shard, now, &mut self.outlet, release);
            }
            (Some(recorder), None) => {
                recorder.tick(RING as u8, now);
                self.shard.idle(now, &mut self.outlet);
            }
            (None, _) => self.shard.idle(now, &mut self.outlet),
        }
        self.hand_on(now);
        if now.saturating_sub(self.housekept) >= HOUSEKEEPING_NS {
            self.housekept = now;
            self.publish();
        }
    }

    fn hand_on(&mut self, tick: u64) {
        let signals = std::mem::take(&mut self.outlet.signals);
        // The assembler ends only after this thread: a closed channel means that it panicked, and
        // there is nobody left to work for.
        if self.out.send(Batch::Signals { ring: RING, signals, tick }).is_err() {
            self.shared.stop.store(true, Ordering::Release);
        }
    }

    fn publish(&self) {
        let mut entries = self.shard.ledger();
        entries.push(Entry {
            stage: "ring",
            unit: "records",
            side: Side::Info("undecoded"),
            count: self.undecoded,
        });
        entries.push(Entry {
            stage: "connection",
            unit: "verdicts",
            side: Side::Lost("refused_by_kernel"),
            count: self.outlet.refused_verdicts,
        });
        self.shared.publish("payload", entries);
        self.shared.publish_census(self.shard.census());
    }

    fn finish(mut self) {
        for (cpu, next) in self.shared.payload_tried().into_iter().enumerate() {
            let cpu = u16::try_from(cpu).unwrap_or(u16::MAX);
            self.shard.settle(cpu, next);
            if let Some(recorder) = &self.recorder {
                recorder.settle(RING as u8, cpu, next);
            }
        }
        match (&self.recorder, &mut self.scrubber) {
            (Some(recorder), Some(scrubber)) => {
                let recorder = Arc::clone(recorder);
                scrubber.finish(&mut self.shard, &mut self.outlet, &mut |released| {
                    recorder.released(RING as u8, &released);
                });
            }
            _ => self.shard.finish(&mut self.outlet),
        }
        self.hand_on(boot_ns());
        self.publish();
        let _ = self.out.send(Batch::Ended);
    }
}

/// Locks without caring for poison: the value is only ever replaced whole.
pub fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
