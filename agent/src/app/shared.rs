//! What the threads of a run share: a stop flag, and copies of their accounts for whoever asks.

use super::clock::boot_ns;
use crate::probe::{control::Counters, load::FeatureReport, misses::Misses};
use agent_common::counter;
use agent_core::connection::Census;
use agent_core::ledger::{Entry, Side};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// See the module.
pub struct Shared {
    /// Threads end when this is set.
    pub stop: AtomicBool,
    /// Boot time after which what is left in the rings is counted as lost, ns. Set before `stop`.
    pub drain_until: AtomicU64,
    /// Probes are attached and everything runs.
    pub ready: AtomicBool,
    /// Start of the run.
    pub started: Instant,
    /// What each feature got.
    pub features: Vec<FeatureReport>,
    counters: Mutex<Option<Counters>>,
    misses: Misses,
    accounts: Mutex<BTreeMap<&'static str, Vec<Entry>>>,
    census: Mutex<Census>,
}

impl Shared {
    /// For a run with these features; `counters` is absent in a replay.
    pub fn new(features: Vec<FeatureReport>, counters: Option<Counters>, misses: Misses) -> Shared {
        Shared {
            stop: AtomicBool::new(false),
            drain_until: AtomicU64::new(u64::MAX),
            ready: AtomicBool::new(false),
            started: Instant::now(),
            features,
            counters: Mutex::new(counters),
            misses,
            accounts: Mutex::default(),
            census: Mutex::default(),
        }
    }

    /// The time to empty the rings is over.
    pub fn drain_is_over(&self) -> bool {
        let until = self.drain_until.load(Ordering::Relaxed);
        until != u64::MAX && boot_ns() >= until
    }

    /// A thread publishes its account.
    pub fn publish(&self, thread: &'static str, entries: Vec<Entry>) {
        lock(&self.accounts).insert(thread, entries);
    }

    /// The payload thread publishes its connections by kind.
    pub fn publish_census(&self, census: Census) {
        *lock(&self.census) = census;
    }

    /// Connections by process and kind, as last published.
    pub fn census(&self) -> Census {
        lock(&self.census).clone()
    }

    /// The accounts of all stages; the kernel's is read now, the others are at most a second old.
    pub fn ledger(&self) -> Vec<Entry> {
        let mut entries = self.kernel_ledger();
        entries.extend(self.misses.ledger());
        entries.extend(lock(&self.accounts).values().flatten().cloned());
        entries
    }

    /// Numbers of records that each CPU tried to write to the payload ring.
    pub fn payload_tried(&self) -> Vec<u64> {
        let counters = lock(&self.counters);
        let read = counters.as_ref().map(|counters| counters.per_cpu(counter::PAYLOAD_TRIED));
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

/// The kernel side's counters as accounts of its rings, the rest as information.
pub fn kernel_entries(read: &[u64]) -> Vec<Entry> {
    let get = |index: u32| read.get(index as usize).copied().unwrap_or(0);
    let entry = |stage, unit, side, count| Entry { stage, unit, side, count };
    let mut entries = Vec::new();
    for (stage, tried, lost) in [
        ("kernel_process", counter::PROCESS_TRIED, counter::PROCESS_LOST),
        ("kernel_payload", counter::PAYLOAD_TRIED, counter::PAYLOAD_LOST),
    ] {
        let (tried, lost) = (get(tried), get(lost));
        entries.push(entry(stage, "records", Side::In, tried));
        entries.push(entry(stage, "records", Side::Out, tried.saturating_sub(lost)));
        entries.push(entry(stage, "records", Side::Lost("ring_full"), lost));
    }
    for index in counter::UNREACHABLE_CALLS..counter::COUNT {
        let name = counter::NAMES[index as usize];
        entries.push(entry("kernel_calls", "events", Side::Info(name), get(index)));
    }
    entries
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
