//! So many traces a second of each service: the ratio falls as more of them come.
//!
//! A bucket of tokens would keep the first of each second, and nobody could tell how many each stands for.
//! Here each trace has the probability that the rate so far allows (exponentially weighted, as in
//! OpenTelemetry's consistent rate-limiting samplers), which goes out as its `th`.

use super::super::bounded::Bounded;
use super::threshold;
use crate::process::ServiceName;
use foldhash::fast::FixedState;
use std::hash::BuildHasher;

/// How far back a rate looks. A sudden load keeps some five times as many too many: for so many seconds.
const WINDOW_NS: f64 = 1e9;

/// Services with a rate of their own; beyond, the one known longest begins anew.
const MAX_SERVICES: usize = 2000;

/// Rates by service: name and namespace.
#[derive(Debug)]
pub(in crate::trace) struct Rates {
    target: f64,
    services: Bounded<u64, Rate>,
}

#[derive(Clone, Copy, Debug)]
struct Rate {
    /// Traces, those of long ago weighing less.
    count: f64,
    /// Time in which they came, weighted alike, ns.
    ns: f64,
    last_ns: u64,
}

impl Rates {
    pub(in crate::trace) fn new(target: u32) -> Rates {
        Rates { target: f64::from(target), services: Bounded::new(MAX_SERVICES) }
    }

    /// The threshold of one more trace of `service`, which came at `now_ns`.
    pub(in crate::trace) fn threshold(&mut self, service: ServiceName<'_>, now_ns: u64) -> u64 {
        let key = FixedState::default().hash_one(service);
        // As if it had come as fast as is allowed until now: a burst at the beginning is one, too.
        let usual = self.target * WINDOW_NS / 1e9;
        let new = Rate { count: usual, ns: WINDOW_NS, last_ns: now_ns };
        let mut rate = self.services.get(&key).copied().unwrap_or(new);
        let passed = now_ns.saturating_sub(rate.last_ns) as f64;
        let fades = (-passed / WINDOW_NS).exp();
        rate.count = rate.count * fades + 1.0;
        rate.ns = rate.ns * fades + passed;
        rate.last_ns = rate.last_ns.max(now_ns);
        self.services.insert(key, rate);
        threshold(self.target * rate.ns / 1e9 / rate.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected number of kept ones, out of so many a second for `seconds`.
    fn kept(rates: &mut Rates, from_ns: u64, a_second: u64, seconds: u64) -> (f64, f64) {
        let (mut kept, mut adjusted) = (0.0, 0.0);
        let mut state = 99_u64;
        for at in 0..a_second * seconds {
            let now = from_ns + at * 1_000_000_000 / a_second;
            let threshold = rates.threshold("shop".into(), now);
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if state >> 8 >= threshold {
                kept += 1.0;
                adjusted += 1.0 / (1.0 - threshold as f64 / (1_u64 << 56) as f64);
            }
        }
        (kept, adjusted)
    }

    #[test]
    fn a_service_has_its_rate_and_the_counts_add_up() {
        let mut rates = Rates::new(100);
        let (few, _) = kept(&mut rates, 0, 50, 10);
        assert!(few > 495.0, "{few} of 500 below the limit");
        let (many, adjusted) = kept(&mut rates, 10_000_000_000, 10_000, 30);
        assert!((2900.0..4300.0).contains(&many), "{many} in 30 s at 100 a second");
        assert!((adjusted / 300_000.0 - 1.0).abs() < 0.1, "{adjusted} of 300000");
    }
}
