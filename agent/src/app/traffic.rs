//! What bytes of processes have become, for whoever asks: `/processes`, and `kernspan doctor`.
//!
//! The shards say it twice a second, and the thread that follows conversations once an interval. Names are made by
//! the assembler's thread, which knows the processes, when somebody asks: nobody pays for them otherwise.

use super::clock::boot_ns;
use crate::config::Selection;
use agent_core::connection::Census;
use agent_core::event::ProcessKey;
use agent_core::flow::conversation::{Conversation, Totals};
use agent_core::ledger::Entry;
use agent_core::process::SharedResource;
use agent_core::traffic::{Account, Findings, Moved};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Who asks again within this time gets what was asked for before, ns.
const AGAIN_NS: u64 = 500_000_000;

/// So does who asks while that has no answer yet: each question would else put off the answer to those before it. A
/// thread that is busy for longer is to begin anew, ns.
const PENDING_NS: u64 = 2_000_000_000;

/// Conversations are listed so long after somebody asks: the shards have spoken since, ns.
const LIST_NS: u64 = 600_000_000;

/// The answer is made so long after, ns.
const ANSWER_NS: u64 = 800_000_000;

/// See the module.
#[derive(Default)]
pub struct Traffic {
    account: Mutex<Account>,
    /// Conversations are followed.
    pub conversations: AtomicBool,
    /// What the run is told to leave out.
    pub filters: OnceLock<Vec<String>>,
    asked_ns: AtomicU64,
    listed_ns: AtomicU64,
    names: Mutex<(u64, Names)>,
}

/// Resources of processes that something is known of.
pub type Names = Arc<BTreeMap<ProcessKey, SharedResource>>;

impl Traffic {
    /// A shard's findings.
    pub fn take(&self, findings: Findings, now: u64) {
        self.lock().take(findings, now);
    }

    /// A conversation over TCP has ended.
    pub fn ended(&self, conversation: &Conversation) {
        self.lock().ended(conversation.id.cookie, moved(&conversation.totals), boot_ns());
    }

    /// Conversations over TCP that live, and what each has moved in all.
    pub fn listed(&self, living: impl Iterator<Item = (u64, u64)>, now: u64) {
        let mut account = self.lock();
        living.for_each(|(cookie, bytes)| account.listed(cookie, bytes, now));
        account.listing_is_over();
    }

    /// What a process moved over UDP since it was last told.
    pub fn datagrams(&self, process: ProcessKey, new: &Totals, now: u64) {
        self.lock().datagrams(process, moved(new), now);
    }

    /// What each process has moved in the last minute, and how much of it was seen, ns.
    pub fn last_minute(&self) -> (Vec<(ProcessKey, Moved)>, u64) {
        let now = boot_ns();
        let account = self.lock();
        (account.last_minute(now), account.covers_ns(now))
    }

    /// The account of the account.
    pub fn ledger(&self) -> Vec<Entry> {
        self.lock().ledger()
    }

    /// Somebody wants to know. Gives the time that the answer is to be younger than.
    pub fn ask(&self) -> u64 {
        self.ask_at(boot_ns())
    }

    fn ask_at(&self, now: u64) -> u64 {
        let asked = self.asked_ns.load(Ordering::Acquire);
        let again = if lock(&self.names).0 > asked { AGAIN_NS } else { PENDING_NS };
        if asked != 0 && now.saturating_sub(asked) < again {
            return asked;
        }
        self.asked_ns.store(now, Ordering::Release);
        now
    }

    /// Conversations are to be listed for who asks.
    pub fn wants_list(&self, now: u64) -> bool {
        let asked = self.asked_ns.load(Ordering::Acquire);
        let due = asked.saturating_add(LIST_NS) <= now && asked != 0;
        due && self.listed_ns.fetch_max(asked, Ordering::AcqRel) < asked
    }

    /// Names are wanted.
    pub fn wants_names(&self, now: u64) -> bool {
        let asked = self.asked_ns.load(Ordering::Acquire);
        asked != 0 && asked.saturating_add(ANSWER_NS) <= now && lock(&self.names).0 < asked
    }

    /// Names, as they are known at `now`.
    pub fn name(&self, now: u64, names: BTreeMap<ProcessKey, SharedResource>) {
        *lock(&self.names) = (now, Arc::new(names));
    }

    /// Names younger than that, once there are any.
    pub fn names(&self, younger_than: u64) -> Option<Names> {
        let names = lock(&self.names);
        (names.0 > younger_than).then(|| Arc::clone(&names.1))
    }

    /// Those of which something can be said: they have moved something, or have something open.
    pub fn processes(&self, census: &Census) -> Vec<ProcessKey> {
        let moved = self.last_minute().0.into_iter().map(|(process, _)| process);
        let mut all: Vec<_> = moved.chain(census.iter().map(|(process, _)| *process)).collect();
        all.retain(|process| process.tgid != 0);
        all.sort_unstable();
        all.dedup();
        all
    }

    fn lock(&self) -> MutexGuard<'_, Account> {
        lock(&self.account)
    }
}

/// What passed through the socket: nothing twice because it was sent again.
pub fn moved(totals: &Totals) -> u64 {
    let sent = totals.bytes_sent.saturating_sub(totals.bytes_retransmitted);
    sent.saturating_add(totals.bytes_received)
}

/// The filters as they were given.
pub fn filters(selection: &Selection) -> Vec<String> {
    let mut given = Vec::new();
    let mut push =
        |flag: &str, value: &dyn std::fmt::Display| given.push(format!("--{flag} {value}"));
    selection.executables.include.iter().for_each(|glob| push("include", glob));
    selection.executables.exclude.iter().for_each(|glob| push("exclude", glob));
    selection.pids.iter().for_each(|pid| push("pid", pid));
    selection.ports.iter().for_each(|port| push("port", port));
    selection.cgroup.iter().for_each(|path| push("cgroup", &path.display()));
    given
}

/// Whole values are replaced, or added to.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_gets_an_answer_that_is_younger() {
        let traffic = Traffic::default();
        let later = |asked: u64| asked + ANSWER_NS;
        assert!(!traffic.wants_list(u64::MAX) && !traffic.wants_names(u64::MAX), "nobody asks");
        let asked = traffic.ask();
        assert_eq!(traffic.ask(), asked, "two who ask at once have one answer");
        assert!(!traffic.wants_list(asked) && !traffic.wants_names(asked), "not yet");
        assert!(traffic.wants_list(later(asked)));
        assert!(!traffic.wants_list(later(asked)), "once");
        assert!(traffic.wants_names(later(asked)));
        assert!(traffic.names(asked).is_none());
        traffic.name(later(asked), BTreeMap::new());
        assert!(traffic.names(asked).is_some() && !traffic.wants_names(later(asked)));
    }

    #[test]
    fn who_asks_over_and_over_does_not_put_off_the_answer() {
        let traffic = Traffic::default();
        const BEGAN: u64 = 100_000_000_000;
        let every = AGAIN_NS + 100_000_000;
        // The assembler looks between two questions.
        let answered = (0..5).find(|number| {
            let now = BEGAN + number * every;
            traffic.ask_at(now);
            traffic.wants_names(now + every - 1)
        });
        assert_eq!(answered, Some(1));
        let now = BEGAN + 2 * every;
        traffic.name(now, BTreeMap::new());
        assert_eq!(traffic.ask_at(now + 1), now + 1, "it has its answer: a new one is asked for");
        // Nobody has an answer: a later question is one of its own.
        assert_eq!(traffic.ask_at(now + PENDING_NS + 2), now + PENDING_NS + 2);
    }

    #[test]
    fn what_is_sent_again_has_moved_once() {
        let totals = Totals {
            bytes_sent: 100,
            bytes_retransmitted: 30,
            bytes_received: 5,
            ..Totals::default()
        };
        assert_eq!(moved(&totals), 75);
    }
}
