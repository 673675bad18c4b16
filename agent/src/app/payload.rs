//! The thread of a payload ring: drains it, parses in place, owns its connections, and hands on what
//! they say.

use super::{
    clock::boot_ns,
    queue::Outbox,
    recorder::Recorder,
    shared::{Shared, Thread},
};
use crate::probe::control::{Alarm, Verdicts};
use agent_common::settings::socket_verdict;
use agent_core::connection::{Shard, ShardOutput};
use agent_core::event::{DecodeError, Event, decode};
use agent_core::ledger::{Entry, Side};
use agent_core::message::{Signal, Started};
use agent_core::recording::Scrubber;
use aya::maps::{MapData, RingBuf};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Number of the first payload ring: ring 0 is that of processes.
pub const FIRST_RING: usize = 1;

/// How often accounts are published and idle connections looked for, ns.
const HOUSEKEEPING_NS: u64 = 500_000_000;

/// Records after which a ring that does not run empty counts as delivered so far. Bounds what waits
/// in memory: under load the kernel's ring is to be the buffer.
const ROUND: u32 = 128;

/// Records between two looks at the clock while the end of the run is near.
const CHECK: u32 = 64;

/// Empty looks at the ring after which the thread looks less often.
const CALM: u32 = 100;

/// Longest pause between two looks when nothing happens. A wakeup out of the blue costs 50 µs where
/// it was measured (a virtual machine with idle processors): 25 a second are 0.12 % of one.
const CALM_PAUSE: Duration = Duration::from_millis(40);

/// Where a payload ring's signals go.
pub trait Downstream {
    /// What is left of it.
    type End;
    /// Takes a signal, in the order of the ring.
    fn signal(&mut self, signal: Signal);
    /// A used message to fill again, where there is one.
    fn reuse(&mut self) -> Option<Box<Started>>;
    /// All that was written to the ring before `now` (boot time, ns) has been taken.
    fn tick(&mut self, now: u64);
    /// What comes from now on is the last.
    fn ends(&mut self);
    /// Its account.
    fn ledger(&self, entries: &mut Vec<Entry>);
    /// Nothing follows.
    fn finish(self) -> Self::End;
}

/// What the thread needs.
pub struct PayloadThread<D> {
    /// Number of its ring.
    pub number: usize,
    /// Its ring.
    pub ring: RingBuf<MapData>,
    /// Its connections.
    pub shard: Shard,
    /// Way back to the kernel side.
    pub verdicts: Verdicts,
    /// Connections of other protocols are not muted (`--capture full`).
    pub never_mute: bool,
    /// Where what they say goes.
    pub downstream: D,
    /// The recording, if one is made.
    pub recorder: Option<Arc<Recorder>>,
    /// Pause between two looks at the ring while something comes.
    pub poll_interval: Duration,
    /// Wakes this thread when it sleeps for longer.
    pub alarm: Alarm,
    /// See [`Shared`].
    pub shared: Arc<Shared>,
}

/// To the assembler's own thread.
pub struct Remote {
    /// The way there.
    pub outbox: Outbox,
    /// See [`Shared`].
    pub shared: Arc<Shared>,
}

impl Downstream for Remote {
    type End = ();

    fn signal(&mut self, signal: Signal) {
        self.outbox.signal(signal);
    }

    fn reuse(&mut self) -> Option<Box<Started>> {
        self.outbox.reuse()
    }

    fn tick(&mut self, now: u64) {
        self.outbox.tick(now);
        if self.outbox.is_closed() {
            // The assembler ends only after this thread: it panicked, and there is nobody left to
            // work for.
            self.shared.stop.store(true, Ordering::Release);
        }
    }

    fn ends(&mut self) {
        self.outbox.last();
    }

    fn ledger(&self, entries: &mut Vec<Entry>) {
        self.outbox.ledger(entries);
    }

    fn finish(mut self) {
        self.outbox.flush();
    }
}

struct Outlet<D> {
    downstream: D,
    verdicts: Verdicts,
    never_mute: bool,
    refused_verdicts: u64,
}

impl<D: Downstream> ShardOutput for Outlet<D> {
    fn signal(&mut self, signal: Signal) {
        self.downstream.signal(signal);
    }

    fn verdict(&mut self, cookie: u64, verdict: u32) {
        // What they say of its role comes by itself as well.
        use socket_verdict::{MUTE, TLS, TLS_ANSWERS, TLS_ASKS};
        if self.never_mute && matches!(verdict, MUTE | TLS | TLS_ANSWERS | TLS_ASKS) {
            return;
        }
        if self.verdicts.set(cookie, verdict).is_err() {
            self.refused_verdicts += 1;
        }
    }

    fn reuse(&mut self) -> Option<Box<Started>> {
        self.downstream.reuse()
    }
}

struct State<D> {
    number: usize,
    shard: Shard,
    outlet: Outlet<D>,
    scrubber: Option<Scrubber>,
    recorder: Option<Arc<Recorder>>,
    shared: Arc<Shared>,
    undecoded: u64,
    housekept: u64,
    /// Boot time (ns) of the latest record.
    latest: u64,
    /// What was written before this boot time (ns) has been taken.
    taken_until: u64,
}

impl<D: Downstream> PayloadThread<D> {
    /// Runs until the stop flag is set, then drains what is left. Gives back what is left of where
    /// it all went.
    pub fn run(self) -> D::End {
        let scrubs = self.recorder.as_ref().is_some_and(|recorder| !recorder.is_raw());
        let mut ring = self.ring;
        let mut state = State {
            number: self.number,
            shard: self.shard,
            outlet: Outlet {
                downstream: self.downstream,
                verdicts: self.verdicts,
                never_mute: self.never_mute,
                refused_verdicts: 0,
            },
            scrubber: scrubs.then(Scrubber::new),
            recorder: self.recorder,
            shared: self.shared,
            undecoded: 0,
            housekept: 0,
            latest: 0,
            taken_until: 0,
        };
        let number = self.number;
        let mut pause = Pause::new(self.poll_interval);
        loop {
            let last = state.shared.stop.load(Ordering::Acquire);
            let began = boot_ns();
            let taken = state.drain(&mut ring);
            let left = is_readable(&ring, Duration::ZERO);
            state.look_ended(began, left);
            if last {
                break;
            }
            match pause.after(taken > 0 || left) {
                Wait::Short(pause) => std::thread::sleep(pause),
                Wait::Long(pause) => sleep_until_woken(&ring, number, &self.alarm, pause),
            }
        }
        state.finish()
    }
}

/// Something is in the ring, or comes within `pause`.
pub fn is_readable(ring: &RingBuf<MapData>, pause: Duration) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(ring.as_fd(), PollFlags::IN)];
    let timeout =
        Timespec { tv_sec: pause.as_secs() as i64, tv_nsec: i64::from(pause.subsec_nanos()) };
    // Interrupted or refused: the next look tells.
    poll(&mut fds, Some(&timeout)) != Ok(0)
}

/// Load that sets in while the thread sleeps must not fill the ring: its first record wakes it.
fn sleep_until_woken(ring: &RingBuf<MapData>, number: usize, alarm: &Alarm, pause: Duration) {
    let number = u32::try_from(number).unwrap_or(0);
    // A refusal costs wakeups: the pause ends by itself.
    let _ = alarm.set(number, true);
    is_readable(ring, pause);
    let _ = alarm.set(number, false);
}

/// How long to wait until the next look at a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It is looked at again, whatever comes.
    Short(Duration),
    /// Nothing has come for a while, and the first record ends the wait.
    Long(Duration),
}

impl Wait {
    /// How long at most.
    pub fn most(self) -> Duration {
        match self {
            Wait::Short(pause) | Wait::Long(pause) => pause,
        }
    }
}

/// How long to wait between two looks at a ring: longer when nothing has come for a while.
pub struct Pause {
    interval: Duration,
    empty: u32,
}

impl Pause {
    /// `interval` while something comes.
    pub fn new(interval: Duration) -> Pause {
        Pause { interval, empty: 0 }
    }

    /// The pause after a look that found something, or nothing.
    pub fn after(&mut self, found: bool) -> Wait {
        self.empty = if found { 0 } else { self.empty.saturating_add(1) };
        if self.empty < CALM {
            Wait::Short(self.interval)
        } else {
            Wait::Long(self.interval.max(CALM_PAUSE))
        }
    }
}

impl<D: Downstream> State<D> {
    /// Empties the ring. What is left when the run has to end is counted and not looked into.
    /// Gives the number of records.
    fn drain(&mut self, ring: &mut RingBuf<MapData>) -> u32 {
        let (mut taken, mut discards) = (0_u32, false);
        while let Some(item) = ring.next() {
            taken = taken.wrapping_add(1);
            let event = match decode(&item) {
                Ok(event) => {
                    self.latest = self.latest.max(event.header().boot_ns);
                    event
                }
                Err(error) => {
                    self.undecoded(error);
                    continue;
                }
            };
            if taken.is_multiple_of(CHECK) {
                discards = discards || self.shared.drain_is_over();
            }
            if discards {
                self.shard.discard(&event);
                continue;
            }
            self.record(&item, &event);
            if taken.is_multiple_of(ROUND) {
                // Under load it never runs empty, and what is known must not pile up.
                self.idle(event.header().boot_ns);
            }
        }
        taken
    }

    fn record(&mut self, slot: &[u8], event: &Event<'_>) {
        let ring = self.number as u8;
        match (&self.recorder, &mut self.scrubber) {
            (Some(recorder), Some(scrubber)) => {
                let recorder = Arc::clone(recorder);
                let release = &mut |released: agent_core::recording::Released<'_>| {
                    recorder.released(ring, &released);
                };
                scrubber.ingest(&mut self.shard, event, &mut self.outlet, release);
            }
            (Some(recorder), None) => {
                recorder.record(ring, slot, event);
                self.shard.ingest(event, &mut self.outlet);
            }
            (None, _) => self.shard.ingest(event, &mut self.outlet),
        }
    }

    fn undecoded(&mut self, error: DecodeError) {
        if self.undecoded == 0 {
            tracing::error!("kernel side and agent disagree, records are dropped: {error}");
        }
        self.undecoded += 1;
    }

    /// A look that `began` then (boot time, ns) is over. Where something is left, it came since; or
    /// it lies behind a slot that is reserved and not yet written, and is older than the look.
    fn look_ended(&mut self, began: u64, something_is_left: bool) {
        let until = if something_is_left { self.latest } else { began };
        self.idle(until);
    }

    /// What was written before `now` has been taken.
    fn idle(&mut self, now: u64) {
        // A record may have been written after one of a later time.
        let now = now.max(self.taken_until);
        self.taken_until = now;
        let ring = self.number as u8;
        match (&self.recorder, &mut self.scrubber) {
            (Some(recorder), Some(scrubber)) => {
                let recorder = Arc::clone(recorder);
                let release = &mut |released: agent_core::recording::Released<'_>| {
                    recorder.released(ring, &released);
                };
                scrubber.idle(&mut self.shard, now, &mut self.outlet, release);
            }
            (Some(recorder), None) => {
                recorder.tick(ring, now);
                self.shard.idle(now, &mut self.outlet);
            }
            (None, _) => self.shard.idle(now, &mut self.outlet),
        }
        self.outlet.downstream.tick(now);
        if now.saturating_sub(self.housekept) >= HOUSEKEEPING_NS {
            self.housekept = now;
            self.shared.traffic.take(self.shard.findings(now), now);
            self.publish();
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
        self.outlet.downstream.ledger(&mut entries);
        self.shared.publish(Thread::Payload(self.number), entries);
        self.shared.publish_census(self.number, self.shard.census());
    }

    fn finish(mut self) -> D::End {
        let ring = self.number as u8;
        self.outlet.downstream.ends();
        for (cpu, next) in self.shared.tried(self.number).into_iter().enumerate() {
            let cpu = u16::try_from(cpu).unwrap_or(u16::MAX);
            self.shard.settle(cpu, next);
            if let Some(recorder) = &self.recorder {
                recorder.settle(ring, cpu, next);
            }
        }
        match (&self.recorder, &mut self.scrubber) {
            (Some(recorder), Some(scrubber)) => {
                let recorder = Arc::clone(recorder);
                scrubber.finish(&mut self.shard, &mut self.outlet, &mut |released| {
                    recorder.released(ring, &released);
                });
            }
            _ => self.shard.finish(&mut self.outlet),
        }
        self.publish();
        self.outlet.downstream.finish()
    }
}

/// Locks without caring for poison: the value is only ever replaced whole.
pub fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
