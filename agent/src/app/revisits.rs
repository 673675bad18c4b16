//! Processes to look at again: some say who they are only after a while.
//!
//! A server's workers are forked and then become another user, and what runs others' code writes a title
//! over its arguments (`php-fpm: pool shop`). Neither is told by a record. Who was there before the agent may
//! have begun a moment before, so its first look at all processes is a start to everybody whom it may be one to.

use agent_core::event::ProcessKey;
use agent_core::process::{ProcessFacts, hosts_code, start_tick};
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet, VecDeque};

/// When a process is looked at again, ns after its fork or exec: the first is past most short programs, the
/// last past a slow start.
const AFTER_NS: [u64; 3] = [500_000_000, 5_000_000_000, 30_000_000_000];

/// Processes that wait for a look: more than start in half a second unless somebody wants them to. What is
/// beyond keeps the facts of its parent or its exec.
const MAX_WAITING: usize = 4096;

/// Of them at most, who was found by a look at all processes: the others are for what starts meanwhile.
const MAX_FOUND: usize = MAX_WAITING / 2;

/// The processes that wait, by when their turn is.
#[derive(Default)]
pub struct Revisits {
    /// One a delay, each in order of time.
    queues: [VecDeque<(u64, ProcessKey)>; AFTER_NS.len()],
    /// Start of the process with this number that waits.
    waiting: HashMap<u32, u64>,
    /// Live processes that run others' code.
    hosts: HashSet<u32>,
    /// Looked at again.
    pub looks: u64,
    /// Not taken: too many.
    pub refused: u64,
}

impl Revisits {
    /// A process runs this program now.
    pub fn executed(&mut self, facts: &ProcessFacts, now_ns: u64) {
        let tgid = facts.key.tgid;
        self.waiting.remove(&tgid);
        if hosts_code(&facts.executable) {
            self.hosts.insert(tgid);
            self.wait(facts.key, now_ns);
        } else {
            self.hosts.remove(&tgid);
        }
    }

    /// A process has this child.
    pub fn forked(&mut self, parent: u32, child: ProcessKey, now_ns: u64) {
        if self.hosts.contains(&parent) {
            self.hosts.insert(child.tgid);
        }
        self.wait(child, now_ns);
    }

    /// A look at all processes, which began then, has found these. When one has called exec nobody can say, so
    /// what runs others' code is looked at as if it did now; who else was forked long enough ago is who it is.
    pub fn found(&mut self, all: &[ProcessFacts], now_ns: u64) {
        let [first, ..] = AFTER_NS;
        let mut open = Vec::new();
        for facts in all {
            let ProcessKey { tgid, start_ns } = facts.key;
            let hosts = hosts_code(&facts.executable);
            if hosts {
                self.hosts.insert(tgid);
            } else {
                self.hosts.remove(&tgid);
            }
            if (hosts || start_ns.saturating_add(first) > now_ns) && !self.waits(facts.key) {
                open.push(facts.key);
            }
        }
        // Who began last is most likely to become somebody else.
        open.sort_unstable_by_key(|key| Reverse(key.start_ns));
        let room = MAX_FOUND.saturating_sub(self.waiting.len());
        self.refused += open.len().saturating_sub(room) as u64;
        open.into_iter().take(room).for_each(|key| self.wait(key, now_ns));
    }

    /// By ticks: a look at all processes knows a start no finer.
    fn waits(&self, key: ProcessKey) -> bool {
        let start = self.waiting.get(&key.tgid);
        start.is_some_and(|&start_ns| start_tick(ProcessKey { start_ns, ..key }) == start_tick(key))
    }

    /// A process is gone.
    pub fn exited(&mut self, tgid: u32) {
        self.waiting.remove(&tgid);
        self.hosts.remove(&tgid);
    }

    /// The next one whose turn it is.
    pub fn due(&mut self, now_ns: u64) -> Option<ProcessKey> {
        for at in 0..self.queues.len() {
            while let Some((due, key)) = self.take_due(at, now_ns) {
                if self.waiting.get(&key.tgid) != Some(&key.start_ns) {
                    continue;
                }
                match (AFTER_NS.get(at), AFTER_NS.get(at + 1), self.queues.get_mut(at + 1)) {
                    // Only what runs others' code goes on changing its title.
                    (Some(this), Some(next), Some(queue)) if self.hosts.contains(&key.tgid) => {
                        queue.push_back((due - this + next, key));
                    }
                    _ => drop(self.waiting.remove(&key.tgid)),
                }
                self.looks += 1;
                return Some(key);
            }
        }
        None
    }

    fn take_due(&mut self, at: usize, now_ns: u64) -> Option<(u64, ProcessKey)> {
        let queue = self.queues.get_mut(at)?;
        queue.pop_front_if(|(due, _)| *due <= now_ns)
    }

    fn wait(&mut self, key: ProcessKey, now_ns: u64) {
        let [first, ..] = AFTER_NS;
        let [queue, ..] = &mut self.queues;
        // What has left the table stays in its queue until its turn: that is bounded, too.
        if self.waiting.len() >= MAX_WAITING || queue.len() >= 4 * MAX_WAITING {
            self.refused += 1;
            return;
        }
        self.waiting.insert(key.tgid, key.start_ns);
        queue.push_back((now_ns + first, key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn key(tgid: u32) -> ProcessKey {
        ProcessKey { tgid, start_ns: u64::from(tgid) }
    }

    fn program(tgid: u32, executable: &str) -> ProcessFacts {
        ProcessFacts { key: key(tgid), executable: executable.into(), ..ProcessFacts::default() }
    }

    fn looked_at(revisits: &mut Revisits, now_ns: u64) -> Vec<u32> {
        std::iter::from_fn(|| revisits.due(now_ns)).map(|key| key.tgid).collect()
    }

    #[test]
    fn what_runs_others_code_is_looked_at_three_times_and_its_children_too() {
        let mut revisits = Revisits::default();
        revisits.executed(&program(1, "/usr/bin/python3.11"), 0);
        revisits.forked(1, key(2), 100 * MS);
        assert_eq!(looked_at(&mut revisits, 499 * MS), [0_u32; 0]);
        assert_eq!(looked_at(&mut revisits, 500 * MS), [1]);
        assert_eq!(looked_at(&mut revisits, 600 * MS), [2]);
        assert_eq!(looked_at(&mut revisits, 5_100 * MS), [1, 2]);
        assert_eq!(looked_at(&mut revisits, 30_100 * MS), [1, 2]);
        assert_eq!(looked_at(&mut revisits, 90_000 * MS), [0_u32; 0]);
        assert!(revisits.waiting.is_empty() && revisits.queues.iter().all(VecDeque::is_empty));
    }

    #[test]
    fn other_children_are_looked_at_once_and_what_is_gone_or_another_never() {
        let mut revisits = Revisits::default();
        revisits.executed(&program(1, "/usr/sbin/nginx"), 0);
        revisits.forked(1, key(2), 0);
        revisits.forked(1, key(3), 0);
        revisits.exited(3);
        revisits.forked(1, key(4), 0);
        revisits.executed(&program(4, "/usr/bin/curl"), 0);
        assert_eq!(looked_at(&mut revisits, 60_000 * MS), [2]);
        assert_eq!(revisits.looks, 1);
    }

    /// Who was there before the agent: by when it was forked, and what it runs.
    #[test]
    fn who_is_older_than_the_agent_is_looked_at_as_if_it_had_just_begun() {
        let mut revisits = Revisits::default();
        let since = |tgid, executable, start_ns| {
            let facts = program(tgid, executable);
            ProcessFacts { key: ProcessKey { tgid, start_ns }, ..facts }
        };
        let now = 3_600_000 * MS;
        let found = [
            since(1, "/usr/bin/node", now - 1_000 * MS),
            since(2, "/usr/bin/python3.11", 5 * MS),
            since(3, "/usr/sbin/nginx", now - 100 * MS),
            since(4, "/usr/sbin/nginx", now - 501 * MS),
            since(5, "/usr/bin/node", now - 10 * MS),
        ];
        revisits.found(&found, now);
        revisits.exited(5);
        // A worker of the older program, which forks it now.
        revisits.forked(2, key(6), now + 10 * MS);
        assert_eq!(looked_at(&mut revisits, now + 499 * MS), [0_u32; 0]);
        assert_eq!(looked_at(&mut revisits, now + 510 * MS), [3, 1, 2, 6]);
        // Another such look, as its records were lost: who waits already is not asked twice.
        revisits.found(&found[..2], now + 600 * MS);
        assert_eq!(looked_at(&mut revisits, now + 5_010 * MS), [1, 2, 6]);
        assert_eq!(looked_at(&mut revisits, now + 30_010 * MS), [1, 2, 6]);
        assert_eq!(looked_at(&mut revisits, u64::MAX), [0_u32; 0]);
    }

    #[test]
    fn a_crowd_that_is_older_leaves_room_for_what_starts_and_its_youngest_come_first() {
        let mut revisits = Revisits::default();
        let crowd: Vec<_> = (1..=10_000).map(|tgid| program(tgid, "/usr/bin/python3")).collect();
        revisits.found(&crowd, 3_600_000 * MS);
        assert_eq!((revisits.waiting.len(), revisits.refused), (MAX_FOUND, 10_000 - 2_048));
        assert!(revisits.waiting.contains_key(&10_000) && !revisits.waiting.contains_key(&1));
        revisits.forked(1, key(20_000), 3_600_000 * MS);
        assert!(revisits.waiting.contains_key(&20_000));
    }

    #[test]
    fn a_storm_of_processes_is_bounded() {
        let mut revisits = Revisits::default();
        for tgid in 0..100_000 {
            revisits.forked(1, key(tgid), 0);
            revisits.exited(tgid);
        }
        assert!(revisits.queues[0].len() <= 4 * MAX_WAITING);
        for tgid in 0..100_000 {
            revisits.forked(1, key(tgid), 0);
        }
        assert!(revisits.waiting.len() <= MAX_WAITING && revisits.refused > 0);
    }
}
