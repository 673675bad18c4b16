//! Totals of what is no longer reported, for a text that must not count backwards.
//!
//! Prometheus takes a counter that falls for one that began again, and what is left for new: with a thousand
//! requests of a container that is gone and one of its successor, a thousand too many. So what the text adds up
//! under one set of labels keeps the part of each container (process, service) that is gone. The other way, a
//! label that tells containers apart, would give each a series of its own: a new one with each restart, whose
//! first value no rate contains.
//!
//! Kept as long as anything else has the same labels. Without, for [`QUIET_REPORTS`], so that an error every ten
//! minutes is one more and not again the first; then the whole series goes, and what comes begins at 0, as
//! Prometheus expects it.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::hash::Hash;

/// An hour at an interval of 10 s: windows of dashboards are seldom longer.
pub(crate) const QUIET_REPORTS: u32 = 360;

/// Totals by what tells them apart in the text.
pub(crate) struct Retired<K, T> {
    most: usize,
    totals: HashMap<K, (T, u32), RandomState>,
}

impl<K: Eq + Hash, T: Default> Retired<K, T> {
    /// For as many, beside those whose labels still occur.
    pub(crate) fn new(most: usize) -> Retired<K, T> {
        Retired { most, totals: HashMap::default() }
    }

    /// Where to add what is no longer reported.
    pub(crate) fn of(&mut self, key: K) -> &mut T {
        &mut self.totals.entry(key).or_default().0
    }

    /// A report is over; `lives` says which labels still occur.
    pub(crate) fn age(&mut self, lives: impl Fn(&K) -> bool) {
        self.totals.retain(|key, (_, quiet)| {
            *quiet = if lives(key) { 0 } else { *quiet + 1 };
            *quiet < QUIET_REPORTS
        });
        let excess = self.totals.len().saturating_sub(self.most);
        if excess == 0 {
            return;
        }
        // The longest quiet go first, with all that fell quiet with them.
        let quiet = self.totals.values().map(|(_, quiet)| *quiet).filter(|quiet| *quiet > 0);
        let mut quiet: Vec<u32> = quiet.collect();
        quiet.sort_unstable_by(|a, b| b.cmp(a));
        if let Some(least) = quiet.get(excess - 1).or(quiet.last()).copied() {
            self.totals.retain(|_, (_, quiet)| *quiet == 0 || *quiet < least);
        }
    }

    /// All.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &T)> {
        self.totals.iter().map(|(key, (total, _))| (key, total))
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.totals.len()
    }

    /// None.
    pub(crate) fn is_empty(&self) -> bool {
        self.totals.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_stay_while_their_labels_occur_and_an_hour_beyond() {
        let mut retired: Retired<u32, u64> = Retired::new(10);
        *retired.of(1) += 5;
        *retired.of(2) += 7;
        for _ in 0..QUIET_REPORTS {
            assert_eq!(retired.len(), 2);
            retired.age(|key| *key == 1);
        }
        assert_eq!(retired.iter().collect::<Vec<_>>(), [(&1, &5)]);
    }

    #[test]
    fn those_that_are_quiet_longest_make_room() {
        let mut retired: Retired<u32, u64> = Retired::new(10);
        for key in 0..1000 {
            *retired.of(key) += 1;
            retired.age(|key| *key < 3);
            assert!(retired.len() <= 10, "{}", retired.len());
        }
        let mut left: Vec<u32> = retired.iter().map(|(key, _)| *key).collect();
        left.sort_unstable();
        assert_eq!(left, [0, 1, 2, 993, 994, 995, 996, 997, 998, 999]);
    }
}
