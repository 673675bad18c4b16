//! What is usual for a route: its slowest hundredth, and how many of its traces this minute has kept.
//! Beyond the room for routes the same by service and method.

use super::{Rules, Slow, Why};
use crate::process::ServiceName;
use foldhash::fast::{FixedState, RandomState};
use hashbrown::HashMap;
use std::hash::BuildHasher;

/// How long one look at a route lasts.
const WINDOW_NS: u64 = 60_000_000_000;

/// Windows after which a route that nobody asks for is forgotten.
const IDLE_WINDOWS: u64 = 5;

/// Routes that are watched; each takes 1 KB. Others are judged by their service and method together.
const MAX_ROUTES: usize = 4096;

/// The same and such services with a method. To what has no room there neither rule applies, which is counted.
const MAX_WATCHED: usize = MAX_ROUTES + 1024;

/// Requests that a window has to have for its hundredth to mean something.
const ENOUGH: u32 = 100;

/// Requests after which a window says what is usual by itself, and again after each doubling: a load that
/// changes makes everything slow only for so many.
const ENOUGH_BY_ITSELF: u32 = 500;

/// Buckets of a doubling: 9 % wide.
const BUCKETS_OF_DOUBLING: f64 = 8.0;

/// From 1 µs on; the last one is of all above 1 h.
const BUCKETS: usize = 256;

/// See the module.
#[derive(Debug)]
pub(in crate::trace) struct Watch {
    rules: Rules,
    routes: HashMap<u64, Route, RandomState>,
    /// Of the last search for what can be forgotten.
    swept: u64,
    /// Requests to routes for which there was no room.
    pub(in crate::trace) unwatched: u64,
}

#[derive(Debug, Default)]
struct Route {
    window: u64,
    /// Traces kept in this window.
    kept: u32,
    /// Requests of this window.
    count: u32,
    /// At how many of them the limit is found anew.
    next: u32,
    /// By duration; there only when slow ones are looked for.
    buckets: Box<[u32]>,
    /// What is longer is slow, ns.
    limit_ns: Option<u64>,
}

impl Watch {
    pub(in crate::trace) fn new(rules: Rules) -> Watch {
        Watch { rules, routes: HashMap::default(), swept: 0, unwatched: 0 }
    }

    pub(in crate::trace) fn len(&self) -> usize {
        self.routes.len()
    }

    /// Why the trace of a request is kept, that took `took_ns` and ended at `now_ns`.
    pub(in crate::trace) fn judge(
        &mut self,
        (service, method, route): (ServiceName<'_>, &str, &str),
        is_server: bool,
        took_ns: u64,
        now_ns: u64,
    ) -> Why {
        let mut why = Why::default();
        if let Some(Slow::Above(limit)) = self.rules.slow
            && took_ns > limit
        {
            why.add(Why::SLOW);
        }
        let learns = self.rules.slow == Some(Slow::Usual);
        if !learns && self.rules.floor == 0 {
            return why;
        }
        let window = now_ns / WINDOW_NS;
        let key = |route: &str| FixedState::default().hash_one((service, method, route, is_server));
        let place = self.place(key(route), MAX_ROUTES, window);
        let Some(key) = place.or_else(|| self.place(key(""), MAX_WATCHED, window)) else {
            self.unwatched += 1;
            return why;
        };
        let floor = self.rules.floor;
        let route = self.routes.entry(key).or_default();
        route.turn(window);
        if learns && route.is_slow(took_ns) {
            why.add(Why::SLOW);
        }
        if route.kept < floor {
            route.kept += 1;
            why.add(Why::FLOOR);
        }
        why
    }

    /// The key, when it is there or has room among so many.
    fn place(&mut self, key: u64, most: usize, window: u64) -> Option<u64> {
        if self.routes.len() >= most && !self.routes.contains_key(&key) {
            self.sweep(window);
            return (self.routes.len() < most).then_some(key);
        }
        Some(key)
    }

    /// Forgets routes that nobody asks for, once a window.
    fn sweep(&mut self, window: u64) {
        if self.swept != window {
            self.swept = window;
            self.routes.retain(|_, route| route.window + IDLE_WINDOWS > window);
        }
    }
}

impl Route {
    /// It is this window now.
    fn turn(&mut self, window: u64) {
        if window > self.window {
            self.window = window;
            self.kept = 0;
            if self.count >= ENOUGH {
                self.find_limit();
                self.buckets.fill(0);
                (self.count, self.next) = (0, ENOUGH_BY_ITSELF);
            }
        }
    }

    /// Whether a request that took so long is slow; it counts from now on.
    fn is_slow(&mut self, took_ns: u64) -> bool {
        if self.buckets.is_empty() {
            self.buckets = vec![0; BUCKETS].into();
        }
        if let Some(count) = self.buckets.get_mut(bucket(took_ns)) {
            *count = count.saturating_add(1);
        }
        self.count = self.count.saturating_add(1);
        let slow = self.limit_ns.is_some_and(|limit| took_ns > limit);
        if self.count >= self.next.max(ENOUGH_BY_ITSELF) {
            self.find_limit();
            self.next = self.count.saturating_mul(2);
        }
        slow
    }

    /// The upper bound of the bucket below which 99 of 100 lie.
    fn find_limit(&mut self) {
        let most = u64::from(self.count) * 99 / 100;
        let mut below = 0;
        let at = self.buckets.iter().position(|count| {
            below += u64::from(*count);
            below >= most
        });
        self.limit_ns = at.map(upper_ns);
    }
}

fn bucket(took_ns: u64) -> usize {
    let doublings = (took_ns as f64 / 1000.0).max(1.0).log2();
    ((doublings * BUCKETS_OF_DOUBLING) as usize).min(BUCKETS - 1)
}

fn upper_ns(bucket: usize) -> u64 {
    if bucket + 1 >= BUCKETS {
        return u64::MAX;
    }
    (((bucket + 1) as f64 / BUCKETS_OF_DOUBLING).exp2() * 1000.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn judge(watch: &mut Watch, route: &str, took: u64, now: u64) -> Why {
        watch.judge(("shop".into(), "GET", route), true, took, now)
    }

    #[test]
    fn slow_is_what_is_slow_for_its_own_route() {
        let mut watch = Watch::new(Rules { slow: Some(Slow::Usual), ..Rules::default() });
        let mut slow = 0;
        for at in 0..20_000_u64 {
            // 10 to 20 ms, one in 200 takes 100 ms; the other route 1 to 2 ms.
            let took = if at % 200 == 7 { 100 } else { 10 + at % 11 };
            slow += u64::from(judge(&mut watch, "/a", took * MS, at * 10 * MS).has(Why::SLOW));
            judge(&mut watch, "/b", MS + at % MS, at * 10 * MS);
        }
        assert!((90..=200).contains(&slow), "{slow} of the 100 slow ones and few others");
        assert!(judge(&mut watch, "/b", 10 * MS, 200_000 * MS).has(Why::SLOW));
        assert!(!judge(&mut watch, "/a", 10 * MS, 200_000 * MS).has(Why::SLOW));
    }

    #[test]
    fn a_load_that_makes_everything_slow_is_soon_what_is_usual() {
        let mut watch = Watch::new(Rules { slow: Some(Slow::Usual), ..Rules::default() });
        let mut slow = 0;
        for at in 0..50_000_u64 {
            let took = if at < 2000 { 1 } else { 20 };
            slow += u64::from(judge(&mut watch, "/a", took * MS + at % MS, at * MS).has(Why::SLOW));
        }
        assert!(slow < 50_000 / 20, "{slow}");
    }

    #[test]
    fn a_given_time_needs_no_history() {
        let mut watch = Watch::new(Rules { slow: Some(Slow::Above(5 * MS)), ..Rules::default() });
        assert!(judge(&mut watch, "/a", 6 * MS, 0).has(Why::SLOW));
        assert!(judge(&mut watch, "/a", 5 * MS, 0).is_none());
        assert_eq!(watch.len(), 0);
    }

    #[test]
    fn each_route_has_its_floor_each_minute() {
        let mut watch = Watch::new(Rules { floor: 3, ..Rules::default() });
        let mut kept = 0;
        for second in 0..180 {
            for route in ["/a", "/b"] {
                let why = judge(&mut watch, route, MS, second * 1000 * MS);
                kept += u64::from(why.has(Why::FLOOR));
            }
        }
        assert_eq!(kept, 2 * 3 * 3);
    }

    #[test]
    fn routes_are_bounded_and_idle_ones_make_room() {
        let mut watch = Watch::new(Rules { floor: 1, ..Rules::default() });
        for at in 0..10_000 {
            judge(&mut watch, &format!("/{at}"), MS, 0);
        }
        assert_eq!((watch.len(), watch.unwatched), (MAX_ROUTES + 1, 0), "the others are one");
        for at in 0..1024 {
            let service = format!("service {at}");
            let why = watch.judge((service.as_str().into(), "GET", "/x"), true, MS, 0);
            assert_eq!(why.has(Why::FLOOR), at < 1023, "{service}");
        }
        assert_eq!((watch.len(), watch.unwatched), (MAX_WATCHED, 1));
        let later = (IDLE_WINDOWS + 1) * WINDOW_NS;
        assert!(judge(&mut watch, "/new", MS, later).has(Why::FLOOR));
        assert_eq!(watch.len(), 1);
    }

    #[test]
    fn every_duration_has_a_bucket_below_its_bound() {
        for took in [0, 1, 999, 1000, 1001, MS, 17 * MS, 3_600_000 * MS, u64::MAX] {
            assert!(took <= upper_ns(bucket(took)), "{took}");
        }
    }
}
