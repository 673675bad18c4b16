//! The queue from a payload ring's thread to an assembler on a thread of its own.
//!
//! Signals travel in parcels, and a fixed number of them goes round: full ones to the assembler,
//! empty ones back, with used messages to fill again. So the queue is bounded, and nothing is
//! allocated once all are made.
//!
//! ```text
//! ring's thread: signals ─ parcel ─► assembler
//!                empty parcel, used messages ◄─
//!                until = began            (nothing that was written before is kept back)
//! assembler:     until ─ empty the queue ─ watermark = until
//! ```
//!
//! When the assembler does not keep up there is no empty parcel. The thread then waits, and the
//! kernel's ring takes the load; but not for longer than [`PATIENCE`]. From then on it sheds whole
//! requests: those that begin stay behind, with their ends, and are counted. Those that the
//! assembler knows go on, and so does what it must know of connections. It is patient again when
//! half of the parcels are back.

use agent_core::id::SpanId;
use agent_core::ledger::{Entry, Side};
use agent_core::message::{Signal, Started};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

/// Signals in a parcel: enough that passing one on costs little for each.
const PARCEL: usize = 256;

/// Parcels that go round. Full they hold 4096 signals, 40 ms of 50,000 requests a second; handed on
/// after each round of 128 records, as under load, about half. With heads of 4 KiB, the longest, they
/// are 16 MiB.
const PARCELS: usize = 16;

/// How long a thread waits for an empty parcel before it sheds. The kernel's ring takes the load meanwhile,
/// and from three quarters on takes no new requests; so what is waited for costs nothing that would not be
/// shed here. Longer than an assembler with little to do waits for a processor on a busy machine: with 10 ms
/// (from before the ring shed by itself) 674 of 12,700 ends of requests were shed of 16 clients of Python
/// services, while twelve other threads wanted two processors.
const PATIENCE: Duration = Duration::from_millis(100);

/// Between two looks for an empty parcel.
const LOOK: Duration = Duration::from_millis(1);

/// Signals that are kept back while requests are shed. Beyond, the thread waits on: these may not
/// be lost.
const MAX_KEPT: usize = 4096;

/// Requests that were shed and have not ended. Beyond, their ends reach the assembler, which
/// counts them as ends without a start.
const MAX_SHED: usize = 65_536;

type Spans = hashbrown::HashSet<SpanId>;

#[derive(Default)]
struct Parcel {
    signals: Vec<Signal>,
    #[expect(clippy::vec_box, reason = "the stages pass the boxes on")]
    spare: Vec<Box<Started>>,
    /// See [`Outbox::last`].
    last: bool,
}

/// The two ends of a new queue.
pub fn queue() -> (Outbox, Inbox) {
    let (full, parcels) = sync_channel(PARCELS);
    let (empty, back) = sync_channel(PARCELS);
    let [until, shed_until] = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
    let outbox = Outbox {
        parcel: Some(Parcel::default()),
        made: 1,
        free: Vec::new(),
        spare: Vec::new(),
        full,
        back,
        until: Arc::clone(&until),
        shed_until: Arc::clone(&shed_until),
        kept: VecDeque::new(),
        shed: Spans::default(),
        patience: Some(PATIENCE),
        patient: true,
        last: false,
        closed: false,
        account: Account::default(),
    };
    (outbox, Inbox { parcels, empty, until, shed_until })
}

#[derive(Clone, Copy, Default)]
struct Account {
    begun: u64,
    handed_on: u64,
    shed: u64,
}

/// The end of the ring's thread.
pub struct Outbox {
    /// Being filled.
    parcel: Option<Parcel>,
    made: usize,
    free: Vec<Parcel>,
    #[expect(clippy::vec_box, reason = "the stages pass the boxes on")]
    spare: Vec<Box<Started>>,
    full: SyncSender<Parcel>,
    back: Receiver<Parcel>,
    until: Arc<AtomicU64>,
    /// Boot time (ns) until which requests that were shed were open.
    shed_until: Arc<AtomicU64>,
    /// What must not be lost, while there is no parcel.
    kept: VecDeque<Signal>,
    /// Requests that were shed and have not ended.
    shed: Spans,
    /// How long to wait for a parcel; for as long as it takes when there is none.
    patience: Option<Duration>,
    patient: bool,
    last: bool,
    /// Nobody is at the other end.
    closed: bool,
    account: Account,
}

impl Outbox {
    /// Takes a signal, in the order of the ring.
    pub fn signal(&mut self, signal: Signal) {
        self.account.begun += u64::from(matches!(signal, Signal::Started(_)));
        match signal {
            Signal::Finished(finished) if self.was_shed(finished.span) => {
                self.shed_until.fetch_max(finished.end_ns, Ordering::Release);
            }
            signal if self.has_room() => self.put(signal),
            Signal::Started(started) => self.shed(started),
            signal => self.keep(signal),
        }
    }

    /// A used message to fill again.
    pub fn reuse(&mut self) -> Option<Box<Started>> {
        self.spare.pop()
    }

    /// All that was written to the ring before `now` (boot time, ns) has been taken.
    pub fn tick(&mut self, now: u64) {
        self.collect();
        self.flush();
        if !self.shed.is_empty() {
            // They are open still: what begins beside them is as doubtful.
            self.shed_until.fetch_max(now, Ordering::Release);
        }
        if self.kept.is_empty() {
            self.until.store(now, Ordering::Release);
        }
    }

    /// What comes from now on does not stand in the ring: it is said because the run ends. Nothing
    /// of it is shed, and the thread waits for as long as it takes.
    pub fn last(&mut self) {
        self.patience = None;
        self.patient = true;
        self.flush();
        self.last = true;
    }

    /// Hands on what there is.
    pub fn flush(&mut self) {
        if self.kept.is_empty() || self.has_room() {
            self.send();
        }
    }

    /// Nobody is at the other end any more.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Requests that came, went on, are inside, and were shed.
    pub fn ledger(&self, entries: &mut Vec<Entry>) {
        let Account { begun, handed_on, shed } = self.account;
        let held = begun - handed_on - shed;
        let mut entry =
            |side, count| entries.push(Entry { stage: "queue", unit: "requests", side, count });
        entry(Side::In, begun);
        entry(Side::Out, handed_on);
        entry(Side::Held, held);
        entry(Side::Lost("assembler_busy"), shed);
    }

    fn was_shed(&mut self, span: SpanId) -> bool {
        !self.shed.is_empty() && self.shed.remove(&span)
    }

    /// Makes sure that there is a parcel with everything kept back in it.
    fn has_room(&mut self) -> bool {
        if self.parcel.is_none() {
            self.parcel = self.next();
        }
        let Some(parcel) = &mut self.parcel else { return false };
        parcel.signals.extend(self.kept.drain(..));
        true
    }

    fn put(&mut self, signal: Signal) {
        let Some(parcel) = &mut self.parcel else { return };
        parcel.signals.push(signal);
        if parcel.signals.len() >= PARCEL {
            self.send();
        }
    }

    fn send(&mut self) {
        let Some(mut parcel) = self.parcel.take_if(|parcel| !parcel.signals.is_empty()) else {
            return;
        };
        parcel.last = self.last;
        let starts = parcel.signals.iter().filter(|signal| matches!(signal, Signal::Started(_)));
        self.account.handed_on += starts.count() as u64;
        // There is room for every parcel that there is.
        self.closed |= self.full.try_send(parcel).is_err();
    }

    /// An empty parcel: one that came back, a new one, or one that comes back soon enough.
    fn next(&mut self) -> Option<Parcel> {
        self.collect();
        if let Some(parcel) = self.free.pop() {
            self.patient |= self.free.len() >= PARCELS / 2;
            return Some(parcel);
        }
        if self.made < PARCELS {
            self.made += 1;
            return Some(Parcel::default());
        }
        if !self.patient && self.kept.len() < MAX_KEPT {
            return None;
        }
        let since = Instant::now();
        while !self.closed {
            std::thread::sleep(LOOK);
            self.collect();
            if let Some(parcel) = self.free.pop() {
                return Some(parcel);
            }
            let waited = self.patience.is_some_and(|patience| since.elapsed() >= patience);
            if waited && self.kept.len() < MAX_KEPT {
                self.patient = false;
                return None;
            }
        }
        None
    }

    /// Takes in what came back.
    fn collect(&mut self) {
        loop {
            match self.back.try_recv() {
                Ok(mut parcel) => {
                    self.spare.append(&mut parcel.spare);
                    self.spare.truncate(PARCELS * PARCEL);
                    self.free.push(parcel);
                }
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => return self.closed = true,
            }
        }
    }

    fn shed(&mut self, started: Box<Started>) {
        self.account.shed += 1;
        let known = started.taken_ns.max(started.start_ns);
        self.shed_until.fetch_max(known, Ordering::Release);
        if self.shed.len() < MAX_SHED {
            self.shed.insert(started.span);
        }
        self.spare.push(started);
    }

    fn keep(&mut self, signal: Signal) {
        if !self.closed {
            self.kept.push_back(signal);
        }
    }
}

/// The end of the assembler.
pub struct Inbox {
    parcels: Receiver<Parcel>,
    empty: SyncSender<Parcel>,
    until: Arc<AtomicU64>,
    shed_until: Arc<AtomicU64>,
}

/// What an [`Inbox`] was found to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looked {
    /// Signals that were in it.
    pub signals: usize,
    /// Everything written to the ring before this boot time (ns) has come out of it.
    pub until: u64,
    /// The ring's thread has ended, and everything has come out.
    pub ended: bool,
    /// Requests that were shed were open until this boot time (ns): all before what came out.
    pub shed_until: u64,
}

impl Inbox {
    /// Takes out what is in it; `take` is told whether it is said because the run ends. Used
    /// messages for the ring's thread come from `spare`.
    pub fn empty(
        &self,
        mut take: impl FnMut(Signal, bool),
        mut spare: impl FnMut() -> Option<Box<Started>>,
    ) -> Looked {
        // Asked before the queue is emptied: what it vouches for is in there.
        let until = self.until.load(Ordering::Acquire);
        let mut looked = Looked { signals: 0, until, ended: false, shed_until: 0 };
        // Not for longer than a round of all parcels: the other rings wait.
        for _ in 0..PARCELS {
            match self.parcels.try_recv() {
                Ok(mut parcel) => {
                    looked.signals += parcel.signals.len();
                    let used = parcel.signals.len() / 2;
                    let last = parcel.last;
                    parcel.signals.drain(..).for_each(|signal| take(signal, last));
                    parcel.spare.extend((0..used).map_while(|_| spare()));
                    // There is room for every parcel; when the thread has ended nobody needs it.
                    let _ = self.empty.try_send(parcel);
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    looked =
                        Looked { until: self.until.load(Ordering::Acquire), ended: true, ..looked };
                    break;
                }
            }
        }
        // Asked after: what was shed before something that came out has been noted.
        Looked { shed_until: self.shed_until.load(Ordering::Acquire), ..looked }
    }
}

#[cfg(test)]
mod tests;
