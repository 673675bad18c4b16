//! What the threads of a run share: a stop flag, and copies of their accounts for whoever asks.

use super::{clock::boot_ns, packets::InKernel, traffic::Traffic};
use crate::kubernetes::Knowledge;
use crate::probe::{control::Counters, load::FeatureReport, misses::Misses};
use crate::runtime::known::Known;
use crate::uprobe::knowledge;
use agent_common::counter;
use agent_common::settings::MAX_PAYLOAD_RINGS;
use agent_core::connection::{Census, KindCounts};
use agent_core::event::ProcessKey;
use agent_core::flow::metrics::Sample;
use agent_core::ledger::{Entry, Side};
use agent_core::request::Numbers;
use agent_core::trace::Window;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Who has an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thread {
    /// The thread of the process ring.
    Processes,
    /// The thread of the payload ring with this number.
    Payload(usize),
    /// The assembler.
    Assembler,
    /// The outputs.
    Outputs,
    /// Who keeps to the CPU budget.
    Budget,
    /// The thread that follows conversations.
    Flows,
    /// What is made of conversations.
    FlowMetrics,
}

/// See the module.
pub struct Shared {
    /// Threads end when this is set.
    pub stop: AtomicBool,
    /// Boot time after which what is left in the rings is counted as lost, ns. Set before `stop`.
    pub drain_until: AtomicU64,
    /// Probes are attached and everything runs.
    pub ready: AtomicBool,
    /// What each feature got.
    pub features: Vec<FeatureReport>,
    /// What is known of TLS libraries.
    pub libraries: knowledge::Shared,
    /// What is read of runtimes.
    pub runtimes: Known,
    /// Who has calls that no registers explain; unset in a replay.
    pub in_kernel: OnceLock<InKernel>,
    /// How it goes with the API server; unset in a replay.
    pub kubernetes: OnceLock<Arc<Knowledge>>,
    /// What bytes of processes have become.
    pub traffic: Traffic,
    counters: Mutex<Option<Counters>>,
    misses: Misses,
    accounts: Mutex<BTreeMap<Thread, Vec<Entry>>>,
    /// By payload ring.
    census: Mutex<BTreeMap<usize, Census>>,
    window: Mutex<Window>,
    flows: Mutex<Arc<Vec<Sample>>>,
    requests: Mutex<Arc<Numbers>>,
}

impl Shared {
    /// For a run with these features; `counters` is absent in a replay.
    pub fn new(features: Vec<FeatureReport>, counters: Option<Counters>, misses: Misses) -> Shared {
        Shared {
            stop: AtomicBool::new(false),
            drain_until: AtomicU64::new(u64::MAX),
            ready: AtomicBool::new(false),
            features,
            libraries: knowledge::Shared::default(),
            runtimes: Known::default(),
            in_kernel: OnceLock::new(),
            kubernetes: OnceLock::new(),
            traffic: Traffic::default(),
            counters: Mutex::new(counters),
            misses,
            accounts: Mutex::default(),
            census: Mutex::default(),
            window: Mutex::default(),
            flows: Mutex::default(),
            requests: Mutex::default(),
        }
    }

    /// The time to empty the rings is over.
    pub fn drain_is_over(&self) -> bool {
        let until = self.drain_until.load(Ordering::Relaxed);
        until != u64::MAX && boot_ns() >= until
    }

    /// A thread publishes its account.
    pub fn publish(&self, thread: Thread, entries: Vec<Entry>) {
        lock(&self.accounts).insert(thread, entries);
    }

    /// The thread of a payload ring publishes its connections by kind.
    pub fn publish_census(&self, ring: usize, census: Census) {
        lock(&self.census).insert(ring, census);
    }

    /// What of the run is reported.
    pub fn window(&self) -> Window {
        *lock(&self.window)
    }

    /// The same from now on.
    pub fn report(&self, window: Window) {
        *lock(&self.window) = window;
    }

    /// Numbers of conversations, as last reported.
    pub fn publish_flows(&self, samples: Vec<Sample>) {
        *lock(&self.flows) = Arc::new(samples);
    }

    /// The same, to be read.
    pub fn flows(&self) -> Arc<Vec<Sample>> {
        Arc::clone(&lock(&self.flows))
    }

    /// Numbers of requests, as last reported.
    pub fn publish_requests(&self, numbers: Numbers) {
        *lock(&self.requests) = Arc::new(numbers);
    }

    /// The same, to be read.
    pub fn requests(&self) -> Arc<Numbers> {
        Arc::clone(&lock(&self.requests))
    }

    /// Connections by process and kind, of all payload rings, as last published.
    pub fn census(&self) -> Census {
        sum_of(lock(&self.census).values())
    }

    /// The accounts of all stages, the payload rings' added up; the kernel's is read now, the others
    /// are at most a second old.
    pub fn ledger(&self) -> Vec<Entry> {
        let mut entries = self.kernel_ledger();
        entries.extend(self.misses.ledger());
        entries.extend(self.libraries.ledger());
        entries.extend(self.traffic.ledger());
        if let Some(kubernetes) = self.kubernetes.get() {
            entries.extend(kubernetes.ledger());
        }
        for account in lock(&self.accounts).values() {
            add_up(&mut entries, account);
        }
        entries
    }

    /// The accounts of the payload rings, each by itself: its number, what the kernel side tried to
    /// write to it and lost, and what its thread says of it.
    pub fn rings(&self) -> Vec<RingAccount> {
        let counters = self.kernel_counters();
        let accounts = lock(&self.accounts);
        let threads = accounts.iter().filter_map(|(thread, entries)| match thread {
            Thread::Payload(number) => Some((*number, entries)),
            _ => None,
        });
        threads.map(|(number, entries)| RingAccount::new(number, &counters, entries)).collect()
    }

    /// Numbers of records that each CPU tried to write to a ring.
    pub fn tried(&self, ring: usize) -> Vec<u64> {
        let Ok(ring) = u32::try_from(ring) else { return Vec::new() };
        let counters = lock(&self.counters);
        let read = counters.as_ref().map(|counters| counters.per_cpu(counter::tried(ring)));
        read.and_then(Result::ok).unwrap_or_default()
    }

    /// The kernel side's counters now; none in a replay.
    pub fn kernel_counters(&self) -> Vec<u64> {
        let counters = lock(&self.counters);
        let read = counters.as_ref().map(Counters::read);
        read.and_then(Result::ok).map(Vec::from).unwrap_or_default()
    }

    fn kernel_ledger(&self) -> Vec<Entry> {
        let read = self.kernel_counters();
        if read.is_empty() { Vec::new() } else { kernel_entries(&read) }
    }
}

/// One payload ring's account, from both sides of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingAccount {
    /// From 1.
    pub number: usize,
    /// Records that the kernel side tried to write.
    pub tried: u64,
    /// Of these, those that found no room.
    pub lost: u64,
    /// Records that came out.
    pub read: u64,
    /// Records that the sequence numbers miss. Once the ring is empty, as many as were lost.
    pub missing: u64,
    /// Records that were left in it at the end.
    pub left: u64,
}

impl RingAccount {
    fn new(number: usize, counters: &[u64], entries: &[Entry]) -> RingAccount {
        let counter = |of: fn(u32) -> u32| {
            let index = u32::try_from(number).map_or(usize::MAX, |number| of(number) as usize);
            counters.get(index).copied().unwrap_or(0)
        };
        let of = |side: Side| {
            let of_ring =
                entries.iter().filter(|entry| entry.stage == "ring" && entry.side == side);
            of_ring.map(|entry| entry.count).sum()
        };
        RingAccount {
            number,
            tried: counter(counter::tried),
            lost: counter(counter::lost),
            read: of(Side::Out),
            missing: of(Side::Lost("sequence_gap")),
            left: of(Side::Lost("shutdown")),
        }
    }
}

/// The kernel side's counters as accounts of its rings, the rest as information.
pub fn kernel_entries(read: &[u64]) -> Vec<Entry> {
    let get = |index: u32| read.get(index as usize).copied().unwrap_or(0);
    let entry = |stage, unit, side, count| Entry { stage, unit, side, count };
    let mut entries = Vec::new();
    for (stage, rings) in [("kernel_process", 0..=0), ("kernel_payload", 1..=MAX_PAYLOAD_RINGS)] {
        let sum = |of: fn(u32) -> u32| rings.clone().map(|ring| get(of(ring))).sum::<u64>();
        let (tried, lost) = (sum(counter::tried), sum(counter::lost));
        entries.push(entry(stage, "records", Side::In, tried));
        entries.push(entry(stage, "records", Side::Out, tried.saturating_sub(lost)));
        entries.push(entry(stage, "records", Side::Lost("ring_full"), lost));
    }
    for (name, index) in counter::CALL_NAMES.into_iter().zip(counter::FIRST_OF_CALLS..) {
        entries.push(entry("kernel_calls", "events", Side::Info(name), get(index)));
    }
    entries
}

/// Adds `more`, an account of its own, to `entries`: what both have, in one entry.
pub fn add_up(entries: &mut Vec<Entry>, more: &[Entry]) {
    for entry in more {
        let same = |known: &&mut Entry| {
            (known.stage, known.unit, known.side) == (entry.stage, entry.unit, entry.side)
        };
        match entries.iter_mut().find(same) {
            Some(known) => known.count = known.count.saturating_add(entry.count),
            None => entries.push(entry.clone()),
        }
    }
}

/// Connections by process and kind, of several payload rings.
fn sum_of<'a>(all: impl Iterator<Item = &'a Census>) -> Census {
    let mut sums: BTreeMap<ProcessKey, KindCounts> = BTreeMap::new();
    for (process, counts) in all.flatten() {
        let KindCounts { http1, tls, http2, upgraded, unknown, undecided } = *counts;
        let sum = sums.entry(*process).or_default();
        sum.http1 += http1;
        sum.tls += tls;
        sum.http2 += http2;
        sum.upgraded += upgraded;
        sum.unknown += unknown;
        sum.undecided += undecided;
    }
    sums.into_iter().collect()
}

/// One line a payload ring, where there are several.
pub fn log_rings(rings: &[RingAccount]) {
    for ring in rings.iter().filter(|_| rings.len() > 1) {
        let RingAccount { number, tried, lost, read, missing, left } = ring;
        tracing::info!(
            "payload ring {number}: tried {tried}, lost {lost}; read {read}, missing {missing}, \
             left {left}"
        );
    }
}

/// One line an account: `stage unit: in … out … held … lost … (cause)`.
pub fn log_ledger(entries: &[Entry]) {
    let mut lines: Vec<(String, String)> = Vec::new();
    for entry in entries {
        if entry.count == 0 && matches!(entry.side, Side::Lost(_) | Side::Info(_)) {
            continue;
        }
        let key = format!("{} {}", entry.stage, entry.unit);
        let text = match entry.side {
            Side::Lost(cause) => format!("lost {} ({cause})", entry.count),
            Side::Info(what) => format!("{what} {}", entry.count),
            side => format!("{} {}", side.label(), entry.count),
        };
        match lines.iter_mut().find(|(known, _)| *known == key) {
            Some((_, line)) => {
                line.push_str(", ");
                line.push_str(&text);
            }
            None => lines.push((key, text)),
        }
    }
    for (key, text) in lines {
        tracing::info!("ledger {key}: {text}");
    }
}

/// A poisoned lock still holds whole values here: each is replaced in one move.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_rings_are_one_account_and_each_its_own() {
        let ring = |side, count| Entry { stage: "ring", unit: "records", side, count };
        let first = [ring(Side::In, 10), ring(Side::Out, 8), ring(Side::Lost("sequence_gap"), 2)];
        let second = [ring(Side::In, 5), ring(Side::Out, 4), ring(Side::Lost("shutdown"), 1)];
        let mut sum = Vec::new();
        add_up(&mut sum, &first);
        add_up(&mut sum, &second);
        let counts: Vec<_> = sum.iter().map(|entry| (entry.side, entry.count)).collect();
        let lost = [(Side::Lost("sequence_gap"), 2), (Side::Lost("shutdown"), 1)];
        assert_eq!(counts, [&[(Side::In, 15), (Side::Out, 12)][..], &lost].concat());

        let mut counters = vec![0; counter::COUNT as usize];
        for (ring, tried, lost) in [(0, 7, 1), (1, 10, 2), (2, 5, 0), (4, 100, 3)] {
            counters[counter::tried(ring) as usize] = tried;
            counters[counter::lost(ring) as usize] = lost;
        }
        let account = RingAccount { number: 1, tried: 10, lost: 2, read: 8, missing: 2, left: 0 };
        assert_eq!(RingAccount::new(1, &counters, &first), account);
        let account = RingAccount { number: 2, tried: 5, lost: 0, read: 4, missing: 0, left: 1 };
        assert_eq!(RingAccount::new(2, &counters, &second), account);
        let entries = kernel_entries(&counters);
        let of = |stage, side| {
            let entry = entries.iter().find(|e| (e.stage, e.side) == (stage, side));
            entry.map(|entry| entry.count)
        };
        assert_eq!(of("kernel_process", Side::In), Some(7));
        assert_eq!(of("kernel_payload", Side::In), Some(115));
        assert_eq!(of("kernel_payload", Side::Lost("ring_full")), Some(5));
        assert_eq!(entries.len(), 6 + counter::CALL_NAMES.len());
    }

    #[test]
    fn the_census_of_several_rings_has_each_process_once() {
        let process = |tgid| ProcessKey { tgid, start_ns: 1 };
        let counts = |http1, tls| KindCounts { http1, tls, ..KindCounts::default() };
        let first = vec![(process(1), counts(2, 0)), (process(2), counts(0, 1))];
        let second = vec![(process(1), counts(3, 4))];
        let expected = vec![(process(1), counts(5, 4)), (process(2), counts(0, 1))];
        assert_eq!(sum_of([&first, &second].into_iter()), expected);
    }
}
