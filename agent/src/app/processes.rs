//! The thread of the process ring: who came, what it runs, who left; and the selection of
//! processes that the kernel side goes by.

use super::{
    batch::Batch,
    clock::boot_ns,
    payload::{Pause, is_readable},
    progress::Reading,
    recorder::Recorder,
    revisits::Revisits,
    shared::{Shared, Thread},
};
use crate::config::Executables;
use crate::probe::control::Selection;
use crate::process::ProcessReader;
use crate::runtime::go::GoPrograms;
use crate::runtime::known::What;
use agent_common::counter;
use agent_common::record::{Exec, Fork, flag};
use agent_common::settings::process_verdict;
use agent_core::event::{Event, ProcessKey, decode};
use agent_core::ledger::{Entry, Side};
use agent_core::process::ProcessFacts;
use aya::maps::{MapData, RingBuf};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

/// How often the account is published, ns.
const HOUSEKEEPING_NS: u64 = 500_000_000;

/// Processes looked at again between two looks at the ring: some 30 µs each.
const MOST_REVISITS: usize = 64;

/// Between two looks at all processes for want of records, ns: one costs some 50 µs a process.
const RESCAN_NS: u64 = 5_000_000_000;

/// Which processes the kernel side watches.
pub struct Selector {
    /// The kernel's map.
    pub selection: Selection,
    /// By executable.
    pub executables: Executables,
    /// By number: these and their children, as long as they live. None: not by number.
    pub pids: Option<HashSet<u32>>,
}

impl Selector {
    /// Nothing is left out: the kernel's map stays empty.
    pub fn is_everything(&self) -> bool {
        self.executables.is_everything() && self.pids.is_none()
    }

    /// The map lists what to watch, not what to leave out.
    pub fn is_allow_list(&self) -> bool {
        !self.executables.include.is_empty() || self.pids.is_some()
    }

    fn watches(&self, facts: &ProcessFacts) -> bool {
        let named = self.pids.as_ref().is_none_or(|pids| pids.contains(&facts.key.tgid));
        named && self.executables.watches(&facts.executable)
    }

    /// Left out for its executable only: the next program that it starts may be selected, and the
    /// kernel side watches that from its first byte on because of the entry.
    fn may_be_watched_later(&self, facts: &ProcessFacts) -> bool {
        let named = self.pids.as_ref().is_some_and(|pids| pids.contains(&facts.key.tgid));
        named && !self.executables.is_everything()
    }

    /// A child of a named process is one.
    fn forked(&mut self, parent: u32, child: u32) {
        if let Some(pids) = self.pids.as_mut().filter(|pids| pids.contains(&parent)) {
            pids.insert(child);
        }
    }

    /// Its number may next be somebody else's.
    fn exited(&mut self, tgid: u32) {
        if let Some(pids) = &mut self.pids {
            pids.remove(&tgid);
        }
    }

    /// A new process that runs its parent's program. The kernel side has given it its parent's
    /// verdict, and a newer one if it has started another program since: that one stays.
    fn judge_child(&mut self, facts: &ProcessFacts) {
        let watched = self.watches(facts);
        if watched == self.is_allow_list() {
            self.selection.set_new(facts.key.tgid, verdict(watched));
        }
    }

    fn judge(&mut self, facts: &ProcessFacts) {
        let tgid = facts.key.tgid;
        let watched = self.watches(facts);
        if watched == self.is_allow_list() || self.may_be_watched_later(facts) {
            if let Err(error) = self.selection.set(tgid, verdict(watched)) {
                tracing::warn!("process {tgid} cannot be selected: {error}");
            }
        } else {
            self.selection.remove(tgid);
        }
    }
}

fn verdict(watched: bool) -> u8 {
    if watched { process_verdict::WATCH } else { process_verdict::LEAVE }
}

/// What the thread needs.
pub struct ProcessThread {
    /// Its ring.
    pub ring: RingBuf<MapData>,
    /// Reads /proc.
    pub reader: ProcessReader,
    /// Programs in Go.
    pub go: GoPrograms,
    /// Processes to look at again.
    pub revisits: Revisits,
    /// The selection, when there is a filter.
    pub selector: Selector,
    /// To the assembler. When it is full the thread waits, and the kernel's ring takes the load.
    pub out: SyncSender<Batch>,
    /// Tells the assembler how far the ring has been read.
    pub reading: Reading,
    /// The recording, if one is made.
    pub recorder: Option<Arc<Recorder>>,
    /// Exec events are wanted.
    pub report_execs: bool,
    /// Longest wait between two looks at the ring.
    pub poll_interval: Duration,
    /// See [`Shared`].
    pub shared: Arc<Shared>,
}

#[derive(Default)]
struct Counts {
    records: u64,
    undecoded: u64,
    facts: u64,
    /// Boot time (ns) of the latest record.
    latest: u64,
    /// Records that the ring had no room for, when all processes were last looked at, and when that was.
    lost: u64,
    rescanned: u64,
    rescans: u64,
}

impl ProcessThread {
    /// Reads all processes that run already, and hands their facts on. To be called once probes
    /// are attached, so that none falls between.
    pub fn scan(&mut self) {
        let mut round = Batch::default();
        let began = boot_ns();
        match self.reader.scan() {
            Ok(all) => {
                self.revisits.found(&all, began);
                all.into_iter().for_each(|facts| self.learn(facts, &mut round));
            }
            Err(error) => tracing::warn!("processes that run already stay unnamed: {error}"),
        }
        if self.out.send(round).is_err() {
            self.shared.stop.store(true, Ordering::Release);
        }
    }

    /// Runs until the stop flag is set, then drains what is left.
    pub fn run(mut self) {
        let mut counts = Counts::default();
        let mut housekept = 0;
        let mut pause = Pause::new(self.poll_interval);
        loop {
            let last = self.shared.stop.load(Ordering::Acquire);
            self.reading.begins();
            let began = boot_ns();
            let mut round = Batch::default();
            let before = counts.records;
            let until = self.drain(began, &mut round, &mut counts);
            self.revisit(began, &mut round);
            if began.saturating_sub(housekept) >= HOUSEKEEPING_NS {
                self.rescan(began, &mut round, &mut counts);
            }
            counts.facts += round.facts.len() as u64;
            if let Some(recorder) = &self.recorder {
                recorder.tick(0, until);
            }
            if !round.is_empty() && self.out.send(round).is_err() {
                // The assembler ends only after this thread: it panicked, and there is nobody left
                // to work for.
                self.shared.stop.store(true, Ordering::Release);
                break;
            }
            if last {
                break;
            }
            self.reading.is_done(until);
            if began.saturating_sub(housekept) >= HOUSEKEEPING_NS {
                housekept = began;
                self.publish(&counts);
            }
            self.wait(pause.after(counts.records != before).most());
        }
        self.publish(&counts);
    }

    /// Empties the ring in a look that `began` then. Gives the time (boot time, ns) before which all that
    /// was written has been taken: a slot that is reserved and not yet written hides what lies behind it.
    fn drain(&mut self, began: u64, round: &mut Batch, counts: &mut Counts) -> u64 {
        let mut copies = Vec::new();
        while let Some(item) = self.ring.next() {
            counts.records += 1;
            match decode(&item) {
                Ok(event) => {
                    counts.latest = counts.latest.max(event.header().boot_ns);
                    if let Some(recorder) = &self.recorder {
                        recorder.process_record(&item, &event);
                    }
                    if self.report_execs || !matches!(event, Event::Exec(..)) {
                        round.records.push(&item);
                    }
                    note(&event, &mut copies);
                }
                Err(_) => counts.undecoded += 1,
            }
        }
        let until = if is_readable(&self.ring, Duration::ZERO) { counts.latest } else { began };
        for change in copies {
            if self.shared.drain_is_over() {
                // The records themselves say enough to name the last processes.
                break;
            }
            self.follow(change, round);
        }
        until
    }

    fn follow(&mut self, change: Change, round: &mut Batch) {
        match change {
            Change::Exec(exec, arguments) => {
                let facts = self.reader.exec_facts(&exec, &arguments);
                self.revisits.executed(&facts, exec.header.boot_ns);
                self.learn(facts, round);
            }
            Change::Fork(fork) => {
                let parent = ProcessKey { tgid: fork.header.tgid, start_ns: fork.header.start_ns };
                let child = ProcessKey { tgid: fork.child_tgid, start_ns: fork.child_start_ns };
                self.revisits.forked(parent.tgid, child, fork.header.boot_ns);
                self.selector.forked(parent.tgid, fork.child_tgid);
                if !self.selector.is_everything()
                    && let Some(facts) = self.reader.facts(child, fork.child_start_ns)
                {
                    self.selector.judge_child(&facts);
                }
            }
            Change::Exit(tgid) => {
                self.go.ended(tgid);
                self.shared.runtimes.forget(tgid, What::ThreadContext);
                self.revisits.exited(tgid);
                self.selector.exited(tgid);
                if !self.selector.is_everything() {
                    self.selector.selection.remove(tgid);
                }
            }
        }
    }

    /// Where the ring has lost records, somebody may have become somebody else unnoticed: looks at all
    /// processes, as they are from now on.
    fn rescan(&mut self, now_ns: u64, round: &mut Batch, counts: &mut Counts) {
        let kernel = self.shared.kernel_counters();
        let lost = kernel.get(counter::PROCESS_LOST as usize).copied().unwrap_or(0);
        let is_due = now_ns.saturating_sub(counts.rescanned) >= RESCAN_NS;
        if lost == counts.lost || !is_due || self.shared.drain_is_over() {
            return;
        }
        (counts.lost, counts.rescanned) = (lost, now_ns);
        counts.rescans += 1;
        let all = self.reader.scan().unwrap_or_default();
        self.revisits.found(&all, now_ns);
        // Without an executable: the kernel's own, and who ends.
        for facts in all.into_iter().filter(|facts| !facts.executable.is_empty()) {
            self.learn(ProcessFacts { since_ns: now_ns, ..facts }, round);
        }
    }

    /// Facts of those whose turn it is, as they are now.
    fn revisit(&mut self, now_ns: u64, round: &mut Batch) {
        for _ in 0..MOST_REVISITS {
            if self.shared.drain_is_over() {
                return;
            }
            let Some(key) = self.revisits.due(now_ns) else { return };
            let Some(mut facts) = self.reader.facts(key, now_ns) else { continue };
            facts.go = self.go.version(key.tgid).unwrap_or_default();
            if let Some(recorder) = &self.recorder {
                recorder.facts(&facts);
            }
            round.facts.push(facts);
        }
    }

    fn learn(&mut self, mut facts: ProcessFacts, round: &mut Batch) {
        facts.go = self.go.started(facts.key.tgid).unwrap_or_default();
        if !self.selector.is_everything() {
            self.selector.judge(&facts);
        }
        if let Some(recorder) = &self.recorder {
            recorder.facts(&facts);
        }
        round.facts.push(facts);
    }

    /// Sleeps until the kernel side wakes it (an exec) or `pause` is over.
    fn wait(&self, pause: Duration) {
        is_readable(&self.ring, pause);
    }

    fn publish(&self, counts: &Counts) {
        let entry = |unit, side, count| Entry { stage: "process_ring", unit, side, count };
        let mut entries = vec![
            entry("records", Side::In, counts.records),
            entry("records", Side::Out, counts.records - counts.undecoded),
            entry("records", Side::Lost("undecoded"), counts.undecoded),
            entry("facts", Side::Out, counts.facts),
            entry("processes", Side::Info("looked_at_again"), self.revisits.looks),
            entry("processes", Side::Info("rescans"), counts.rescans),
            entry("processes", Side::Info("not_looked_at_again"), self.revisits.refused),
        ];
        entries.extend(self.reader.counts().ledger());
        self.go.ledger(&mut entries);
        self.shared.publish(Thread::Processes, entries);
    }
}

enum Change {
    Exec(Box<Exec>, Vec<u8>),
    Fork(Fork),
    Exit(u32),
}

/// Copies what must be followed up once the ring is drained: reading /proc takes long.
fn note(event: &Event<'_>, changes: &mut Vec<Change>) {
    match event {
        Event::Exec(exec, arguments) => {
            changes.push(Change::Exec(Box::new(**exec), arguments.to_vec()));
        }
        Event::Fork(fork) if fork.header.flags & flag::THREAD == 0 => {
            changes.push(Change::Fork(**fork));
        }
        Event::Exit(exit) if exit.header.flags & flag::LAST_THREAD != 0 => {
            changes.push(Change::Exit(exit.header.tgid));
        }
        _ => {}
    }
}
