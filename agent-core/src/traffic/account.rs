//! The last minute of each process, and the connections that are followed.

use super::{Class, Findings, Followed, MAX_PROCESSES, Moved, Protocols};
use crate::event::ProcessKey;
use crate::ledger::{Entry, Side};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::collections::VecDeque;

/// Grain of the last minute, ns.
const SLICE_NS: u64 = 10_000_000_000;

/// Slices of it: the newest is not over yet, so that a minute is between 50 and 60 s.
const SLICES: usize = 6;

/// Connections that are followed at once: each takes some 60 bytes.
const MAX_FOLLOWED: usize = 65_536;

/// Conversations that have ended and that a shard may still ask to follow, and for how long: shards are asked twice
/// a second.
const MAX_ENDED: usize = 16_384;
const WAIT_NS: u64 = 3_000_000_000;

/// How often room is looked for where there is none, ns.
const FULL_NS: u64 = 1_000_000_000;

/// Connections that are older than the agent, and what they had moved when they were first listed: as many as can be
/// followed, some 30 bytes each. A listing shows no more.
const MAX_OLDER: usize = MAX_FOLLOWED;

/// A connection that no listing has shown for so long has ended unseen.
const UNSEEN_NS: u64 = 600_000_000_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Account {
    processes: HashMap<ProcessKey, Minute, RandomState>,
    followed: HashMap<u64, Place, RandomState>,
    /// What conversations had moved as the account began.
    older: HashMap<u64, u64, RandomState>,
    /// The first listing is over: what is not among [`Account::older`] is younger, or had no room.
    first_listed: bool,
    /// Conversations that ended.
    ended: HashMap<u64, Ended, RandomState>,
    /// The same in order, by when.
    ends: VecDeque<(u64, u64)>,
    /// When the account began, boot-time ns.
    began_ns: Option<u64>,
    swept_ns: u64,
    left_out: u64,
    unseen: u64,
}

#[derive(Debug, Default)]
struct Minute {
    slices: [Moved; SLICES],
    /// Number of the newest slice, since boot.
    newest: u64,
}

#[derive(Debug)]
struct Place {
    what: Followed,
    /// The conversation's bytes that are accounted for.
    last: Option<u64>,
    seen_ns: u64,
}

#[derive(Debug)]
struct Ended {
    /// What it had moved.
    bytes: u64,
    /// Of these, before the account began, as far as that is known.
    before: Option<u64>,
}

impl Account {
    /// What a shard has found until `now`.
    pub fn take(&mut self, findings: Findings, now: u64) {
        self.began_ns.get_or_insert(now);
        self.left_out += findings.left_out;
        for (process, moved) in findings.moved {
            self.moved(process, &moved, now);
        }
        for (cookie, what) in findings.followed {
            self.follow(cookie, what, now);
        }
        if now.saturating_sub(self.swept_ns) >= SLICE_NS {
            self.sweep(now);
        }
    }

    /// UDP messages of a process.
    pub fn datagrams(&mut self, process: ProcessKey, bytes: u64, now: u64) {
        self.add(process, Class::Datagrams, Protocols::default(), bytes, now);
    }

    /// A conversation that lives has moved so many bytes in all.
    pub fn listed(&mut self, cookie: u64, bytes: u64, now: u64) {
        let Some(place) = self.followed.get_mut(&cookie) else {
            if !self.first_listed && self.older.len() < MAX_OLDER {
                self.older.insert(cookie, bytes);
            }
            return;
        };
        let more = place.last.map_or(0, |last| bytes.saturating_sub(last));
        place.last = Some(bytes);
        place.seen_ns = now;
        let what = place.what;
        self.add(what.process, what.class, what.protocols, more, now);
    }

    /// All that live have been listed.
    pub fn listing_is_over(&mut self) {
        if !std::mem::replace(&mut self.first_listed, true) {
            self.older.shrink_to_fit();
        }
    }

    /// A conversation has ended, and moved so many bytes in all. The shard may not have seen it yet.
    pub fn ended(&mut self, cookie: u64, bytes: u64, now: u64) {
        while self.ends.front().is_some_and(|(at, _)| at.saturating_add(WAIT_NS) < now)
            || self.ends.len() >= MAX_ENDED
        {
            if let Some((_, cookie)) = self.ends.pop_front() {
                self.ended.remove(&cookie);
            }
        }
        if self.followed.contains_key(&cookie) {
            self.listed(cookie, bytes, now);
            self.followed.remove(&cookie);
        } else {
            let before = self.older.remove(&cookie);
            self.ended.insert(cookie, Ended { bytes, before });
            self.ends.push_back((now, cookie));
        }
    }

    fn follow(&mut self, cookie: u64, what: Followed, now: u64) {
        if let Some(place) = self.followed.get_mut(&cookie) {
            place.what = what;
            return;
        }
        if let Some(Ended { bytes, before }) = self.ended.remove(&cookie) {
            let more = what.from(before).map_or(0, |counted| bytes.saturating_sub(counted));
            return self.add(what.process, what.class, what.protocols, more, now);
        }
        let before = self.older.remove(&cookie);
        if self.followed.len() >= MAX_FOLLOWED {
            self.left_out += 1;
            return;
        }
        self.followed.insert(cookie, Place { what, last: what.from(before), seen_ns: now });
    }

    fn add(
        &mut self,
        process: ProcessKey,
        class: Class,
        protocols: Protocols,
        bytes: u64,
        now: u64,
    ) {
        if bytes == 0 {
            return;
        }
        let mut moved = Moved { protocols, ..Moved::default() };
        moved.bytes.add(class, bytes);
        self.moved(process, &moved, now);
    }

    fn moved(&mut self, process: ProcessKey, moved: &Moved, now: u64) {
        if self.processes.len() >= MAX_PROCESSES && !self.processes.contains_key(&process) {
            // Not for each of those that find no room: it looks at all that have.
            if now.saturating_sub(self.swept_ns) >= FULL_NS {
                self.sweep(now);
            }
            if self.processes.len() >= MAX_PROCESSES {
                self.left_out += 1;
                return;
            }
        }
        self.processes.entry(process).or_default().add(moved, now);
    }

    /// Forgets what is older than a minute, and who has moved nothing since.
    fn sweep(&mut self, now: u64) {
        self.swept_ns = now;
        self.processes.retain(|_, minute| minute.sum(now).bytes.total() > 0);
        let before = self.followed.len();
        self.followed.retain(|_, place| now.saturating_sub(place.seen_ns) < UNSEEN_NS);
        self.unseen += (before - self.followed.len()) as u64;
    }

    /// What each process has moved in the last minute, by process.
    pub fn last_minute(&self, now: u64) -> Vec<(ProcessKey, Moved)> {
        let sums = self.processes.iter().map(|(process, minute)| (*process, minute.sum(now)));
        let mut sums: Vec<_> = sums.filter(|(_, moved)| moved.bytes.total() > 0).collect();
        sums.sort_unstable_by_key(|(process, _)| *process);
        sums
    }

    /// How much of the last minute the account has seen, ns.
    pub fn covers_ns(&self, now: u64) -> u64 {
        let minute = SLICE_NS * (SLICES as u64 - 1) + now % SLICE_NS;
        self.began_ns.map_or(0, |began| now.saturating_sub(began).min(minute))
    }

    /// The account of the account.
    pub fn ledger(&self) -> Vec<Entry> {
        let entry = |unit, side, count| Entry { stage: "traffic", unit, side, count };
        vec![
            entry("processes", Side::Held, self.processes.len() as u64),
            entry("connections", Side::Held, self.followed.len() as u64),
            entry("connections", Side::Info("unseen"), self.unseen),
            entry("entries", Side::Info("without_room"), self.left_out),
        ]
    }
}

impl Followed {
    /// How many of the conversation's own bytes are accounted for, where it had moved so many before the account
    /// began. `None`: that is not known, and it counts from when it is next listed.
    fn from(&self, before: Option<u64>) -> Option<u64> {
        match (self.whole, before) {
            (true, _) => Some(self.counted),
            (false, Some(before)) => Some(before.saturating_add(self.counted)),
            (false, None) => None,
        }
    }
}

impl Minute {
    fn add(&mut self, moved: &Moved, now: u64) {
        let slice = now / SLICE_NS;
        // Slices that nobody has written to since are those of a minute ago.
        let passed = slice.saturating_sub(self.newest).min(SLICES as u64);
        for step in 1..=passed {
            let at = (slice - passed + step) % SLICES as u64;
            if let Some(slice) = self.slices.get_mut(at as usize) {
                *slice = Moved::default();
            }
        }
        self.newest = self.newest.max(slice);
        if let Some(slice) = self.slices.get_mut((self.newest % SLICES as u64) as usize) {
            slice.merge(moved);
        }
    }

    fn sum(&self, now: u64) -> Moved {
        let mut sum = Moved::default();
        let oldest = (now / SLICE_NS).saturating_sub(SLICES as u64 - 1);
        for back in 0..SLICES as u64 {
            let Some(slice) = self.newest.checked_sub(back) else { break };
            if slice >= oldest
                && let Some(moved) = self.slices.get((slice % SLICES as u64) as usize)
            {
                sum.merge(moved);
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::super::Protocol;
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn process(tgid: u32) -> ProcessKey {
        ProcessKey { tgid, start_ns: 1 }
    }

    fn found(what: impl FnOnce(&mut Findings)) -> Findings {
        let mut findings = Findings::default();
        what(&mut findings);
        findings
    }

    fn followed(class: Class, counted: Option<u64>) -> Followed {
        let protocols = Some(Protocol::Redis).into();
        let (counted, whole) = (counted.unwrap_or(0), counted.is_some());
        Followed { process: process(7), class, protocols, counted, whole }
    }

    fn bytes(account: &Account, tgid: u32, now: u64) -> [u64; 3] {
        let minute = account.last_minute(now);
        let moved = minute.iter().find(|(process, _)| process.tgid == tgid);
        let bytes = moved.map(|(_, moved)| moved.bytes).unwrap_or_default();
        [Class::Decoded, Class::Encrypted, Class::Unknown].map(|class| bytes.of(class))
    }

    #[test]
    fn a_minute_is_a_minute() {
        let mut account = Account::default();
        let decoded = |bytes| {
            found(|found| {
                found.moved(process(7), Class::Decoded, bytes, Some(Protocol::Http1).into());
            })
        };
        account.take(decoded(100), 105 * SECOND);
        assert_eq!(account.covers_ns(105 * SECOND), 0);
        account.take(decoded(10), 125 * SECOND);
        account.take(decoded(1), 127 * SECOND);
        assert_eq!(bytes(&account, 7, 128 * SECOND)[0], 111);
        assert_eq!(account.covers_ns(128 * SECOND), 23 * SECOND);
        assert_eq!(bytes(&account, 7, 159 * SECOND)[0], 111);
        assert_eq!(bytes(&account, 7, 161 * SECOND)[0], 11, "the first is over a minute old");
        assert_eq!(bytes(&account, 7, 181 * SECOND)[0], 0);
        assert_eq!(account.covers_ns(300 * SECOND), 50 * SECOND);
        // A slice that is written to again after a whole minute has nothing of before.
        account.take(decoded(5), 225 * SECOND);
        assert_eq!(bytes(&account, 7, 226 * SECOND)[0], 5);
        account.take(Findings::default(), 400 * SECOND);
        assert!(account.processes.is_empty(), "nobody is kept for nothing");
    }

    #[test]
    fn what_is_followed_counts_from_where_its_shard_has_left_it() {
        let mut account = Account::default();
        account.listed(1, 50, SECOND);
        account.take(found(|found| found.follow(1, followed(Class::Unknown, Some(40)))), SECOND);
        account.listed(1, 100, 2 * SECOND);
        assert_eq!(bytes(&account, 7, 2 * SECOND), [0, 0, 60]);
        account.take(found(|found| found.follow(1, followed(Class::Encrypted, None))), 3 * SECOND);
        account.ended(1, 130, 4 * SECOND);
        assert_eq!(bytes(&account, 7, 4 * SECOND), [0, 30, 60], "it has gone over to TLS");
        account.ended(1, 1000, 5 * SECOND);
        assert_eq!(bytes(&account, 7, 5 * SECOND), [0, 30, 60], "nobody follows it");
        let protocols = account.last_minute(5 * SECOND)[0].1.protocols;
        assert!(protocols.iter().eq([Protocol::Redis]));
    }

    #[test]
    fn one_that_is_older_than_the_agent_counts_from_the_first_listing() {
        let older = |counted| Followed { counted, ..followed(Class::Encrypted, None) };
        let mut account = Account::default();
        (1..=3).for_each(|cookie| account.listed(cookie, 1_000, SECOND));
        account.listing_is_over();
        // Its shard has counted 40 of the 100 until it became silent.
        account.take(found(|found| found.follow(1, older(40))), 2 * SECOND);
        account.listed(1, 1_100, 3 * SECOND);
        assert_eq!(bytes(&account, 7, 3 * SECOND), [0, 60, 0]);
        account.listed(1, 1_105, 4 * SECOND);
        assert_eq!(bytes(&account, 7, 4 * SECOND), [0, 65, 0]);
        // It may end first.
        account.ended(2, 1_300, 5 * SECOND);
        account.take(found(|found| found.follow(2, older(100))), 6 * SECOND);
        assert_eq!(bytes(&account, 7, 6 * SECOND), [0, 265, 0]);
        assert_eq!(account.older.len(), 1);
        // Those of later listings are younger: nothing is kept of them.
        account.listed(4, 50, 7 * SECOND);
        account.ended(3, 1_000, 7 * SECOND);
        assert!(account.older.is_empty());
    }

    #[test]
    fn one_that_was_not_listed_first_counts_from_when_it_is_listed() {
        let mut account = Account::default();
        account.listing_is_over();
        account.take(found(|found| found.follow(1, followed(Class::Encrypted, None))), SECOND);
        account.listed(1, 5000, 2 * SECOND);
        account.listed(1, 5007, 3 * SECOND);
        assert_eq!(bytes(&account, 7, 3 * SECOND), [0, 7, 0]);
    }

    #[test]
    fn an_end_may_come_before_its_shard_has_spoken() {
        let mut account = Account::default();
        account.ended(1, 500, SECOND);
        let both = found(|found| {
            found.follow(1, followed(Class::Encrypted, Some(20)));
            found.follow(1, followed(Class::Decoded, Some(20)));
        });
        account.take(both, 2 * SECOND);
        assert_eq!(bytes(&account, 7, 2 * SECOND), [480, 0, 0], "what was said last, and once");
        // Those that nobody asks for do not stay.
        for cookie in 0..2 * MAX_ENDED as u64 {
            account.ended(cookie, 1, 3 * SECOND);
        }
        assert_eq!(account.ended.len(), MAX_ENDED);
        account.ended(1 << 40, 1, 10 * SECOND);
        assert_eq!((account.ended.len(), account.ends.len()), (1, 1));
    }

    #[test]
    fn strangers_cost_no_memory_beyond_the_bounds() {
        let mut account = Account::default();
        for number in 1..=2 * MAX_PROCESSES as u32 {
            account.datagrams(process(number), 1, 100 * SECOND);
        }
        assert_eq!(account.processes.len(), MAX_PROCESSES);
        assert_eq!(account.left_out, MAX_PROCESSES as u64);
        let mut findings = Findings::default();
        for cookie in 0..2 * super::super::MAX_NEWLY_FOLLOWED as u64 {
            findings.follow(cookie, followed(Class::Unknown, None));
        }
        assert_eq!(findings.followed.len(), super::super::MAX_NEWLY_FOLLOWED);
        for cookie in 1 << 40..(1 << 40) + 2 * MAX_OLDER as u64 {
            account.listed(cookie, 1, 100 * SECOND);
        }
        assert_eq!(account.older.len(), MAX_OLDER);
        let before = account.left_out;
        account.take(findings, 100 * SECOND);
        assert!(account.left_out > before);
        account.take(Findings::default(), 100 * SECOND + UNSEEN_NS);
        assert!(account.followed.is_empty(), "their ends were lost");
        assert!(account.unseen > 0);
    }
}
