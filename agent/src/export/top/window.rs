//! What happened in the last seconds: numbers, failures, and how long they took.

use std::time::Duration;

/// Seconds that are kept, in slots of one.
const SECONDS: u64 = 10;

/// Buckets of times: each is a tenth wider than the one before, from 10 µs to beyond a minute.
const BUCKETS: usize = 180;
const FIRST_NS: f64 = 10_000.0;
const GROWTH: f64 = 1.1;

/// The time that figures are of at `now` (ns), when there have been any for so long: whole seconds, and what has
/// gone by of this one.
pub(super) fn shown(since: Duration, now: u64) -> Duration {
    let most = Duration::from_secs(SECONDS - 1) + Duration::from_nanos(now % 1_000_000_000);
    since.clamp(Duration::from_secs(1), most)
}

/// One second.
#[derive(Clone)]
struct Slot {
    second: u64,
    errors: u64,
    times: Vec<u32>,
}

/// The last [`SECONDS`].
#[derive(Default)]
pub(super) struct Window(Vec<Slot>);

/// Its sums.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) count: u64,
    errors: u64,
    times: Vec<u64>,
}

impl Window {
    /// Something that took so long ended at `now` (ns).
    pub(super) fn add(&mut self, now: u64, took_ns: u64, error: bool) {
        let second = now / 1_000_000_000;
        let slot = match self.0.iter_mut().position(|slot| slot.second == second) {
            Some(at) => at,
            None => {
                self.0.retain(|slot| slot.second + SECONDS > second);
                self.0.push(Slot { second, errors: 0, times: vec![0; BUCKETS] });
                self.0.len() - 1
            }
        };
        let Some(slot) = self.0.get_mut(slot) else { return };
        slot.errors += u64::from(error);
        if let Some(count) = slot.times.get_mut(bucket(took_ns)) {
            *count = count.saturating_add(1);
        }
    }

    /// Nothing of it counts any more.
    pub(super) fn is_over(&self, now: u64) -> bool {
        let second = now / 1_000_000_000;
        self.0.iter().all(|slot| slot.second + SECONDS <= second)
    }

    /// What came in the last seconds.
    pub(super) fn seen(&self, now: u64) -> Seen {
        let second = now / 1_000_000_000;
        let mut seen = Seen { count: 0, errors: 0, times: vec![0; BUCKETS] };
        for slot in self.0.iter().filter(|slot| slot.second + SECONDS > second) {
            seen.errors += slot.errors;
            for (sum, count) in seen.times.iter_mut().zip(&slot.times) {
                *sum += u64::from(*count);
            }
        }
        seen.count = seen.times.iter().sum();
        seen
    }
}

impl Seen {
    /// Per second.
    pub(super) fn rate(&self, over: Duration) -> String {
        if self.count == 0 {
            return "-".to_owned();
        }
        let rate = self.count as f64 / over.as_secs_f64();
        if rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
    }

    /// In a hundred.
    pub(super) fn errors(&self) -> String {
        match self.count {
            0 => "-".to_owned(),
            count => format!("{:.1}", self.errors as f64 * 100.0 / count as f64),
        }
    }

    /// The time that this part of all kept below, as a text; within a tenth.
    pub(super) fn time(&self, part: f64) -> String {
        if self.count == 0 {
            return "-".to_owned();
        }
        let wanted = (self.count as f64 * part).ceil().max(1.0) as u64;
        let mut sum = 0;
        let at = self.times.iter().position(|count| {
            sum += count;
            sum >= wanted
        });
        // The middle of the bucket.
        let ns = FIRST_NS * GROWTH.powf(at.unwrap_or(BUCKETS - 1) as f64 - 0.5);
        match ns {
            ns if ns < 1e6 => format!("{:.0}us", ns / 1e3),
            ns if ns < 1e9 => format!("{:.1}ms", ns / 1e6),
            ns => format!("{:.1}s", ns / 1e9),
        }
    }
}

fn bucket(took_ns: u64) -> usize {
    let steps = (took_ns as f64 / FIRST_NS).max(1.0).log(GROWTH).ceil();
    (steps as usize).min(BUCKETS - 1)
}
