//! What the assembler counts. `started = spans given out + sampled out + refused + held`.

use super::request::Evidence;
use super::sampling::sampler::Spans;
use crate::ledger::{Entry, Side};

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) started: u64,
    pub(super) spans: u64,
    pub(super) sampled_out: u64,
    /// Reported by the run before, or the next one.
    pub(super) handed_over: u64,
    pub(super) execs_handed_over: u64,
    pub(super) without_role: u64,
    pub(super) too_many_on_connection: u64,
    pub(super) requests_evicted: u64,
    pub(super) ends_without_start: u64,
    pub(super) ends_lost: u64,
    pub(super) open_at_end: u64,
    pub(super) late_joins: u64,
    pub(super) starts_corrected: u64,
    pub(super) starts_clamped: u64,
    pub(super) ends_clamped: u64,
    pub(super) links: [u64; Evidence::ALL.len()],
    pub(super) roots: u64,
    pub(super) execs: u64,
    pub(super) exec_logs: u64,
    pub(super) execs_caused: u64,
    pub(super) forced: u64,
}

/// What other tables count or hold.
#[derive(Debug, Default)]
pub(super) struct Others {
    pub(super) requests_held: u64,
    pub(super) execs_held: u64,
    pub(super) queued: u64,
    pub(super) waiting: u64,
    pub(super) trees: u64,
    pub(super) late: u64,
    pub(super) connections: u64,
    pub(super) connections_evicted: u64,
    pub(super) threads: u64,
    pub(super) threads_evicted: u64,
    pub(super) threads_barred: u64,
}

impl Counts {
    pub(super) fn left(&mut self, spans: Spans) {
        self.spans += spans.out;
        self.sampled_out += spans.dropped;
    }

    pub(super) fn linked(&mut self, evidence: Option<Evidence>) {
        match evidence {
            None => self.roots += 1,
            Some(evidence) => {
                let at = Evidence::ALL.iter().position(|other| *other == evidence);
                if let Some(count) = at.and_then(|at| self.links.get_mut(at)) {
                    *count += 1;
                }
            }
        }
    }

    pub(super) fn entries(&self, others: &Others) -> Vec<Entry> {
        let mut entries = self.requests(others).to_vec();
        entries.extend(self.explanations(others));
        entries
    }

    fn requests(&self, others: &Others) -> [Entry; 11] {
        let request = |side, count| entry("requests", side, count);
        [
            request(Side::In, self.started),
            request(Side::Out, self.spans),
            request(Side::Held, others.requests_held),
            request(Side::Lost("sampled_out"), self.sampled_out),
            request(Side::Lost("handed_over"), self.handed_over),
            request(Side::Lost("without_role"), self.without_role),
            request(Side::Lost("too_many_on_connection"), self.too_many_on_connection),
            entry("execs", Side::In, self.execs),
            entry("execs", Side::Out, self.exec_logs),
            entry("execs", Side::Held, others.execs_held),
            entry("execs", Side::Lost("handed_over"), self.execs_handed_over),
        ]
    }

    fn explanations(&self, others: &Others) -> Vec<Entry> {
        let mut infos = vec![
            ("requests", "evicted", self.requests_evicted),
            ("requests", "open_at_end", self.open_at_end),
            ("requests", "end_lost", self.ends_lost),
            ("requests", "end_without_start", self.ends_without_start),
            ("requests", "late_join", self.late_joins),
            ("requests", "start_corrected", self.starts_corrected),
            ("requests", "start_clamped", self.starts_clamped),
            ("requests", "end_clamped", self.ends_clamped),
            ("links", "root", self.roots),
            ("execs", "caused", self.execs_caused),
            ("items", "queued", others.queued),
            ("items", "waiting", others.waiting),
            ("traces", "open", others.trees),
            ("items", "late", others.late),
            ("items", "forced", self.forced),
            ("connections", "known", others.connections),
            ("connections", "evicted", others.connections_evicted),
            ("threads", "known", others.threads),
            ("threads", "evicted", others.threads_evicted),
            ("threads", "barred", others.threads_barred),
        ];
        let links = Evidence::ALL.iter().zip(self.links);
        infos.extend(links.map(|(evidence, count)| ("links", evidence.method(), count)));
        infos.into_iter().map(|(unit, name, count)| entry(unit, Side::Info(name), count)).collect()
    }
}

fn entry(unit: &'static str, side: Side, count: u64) -> Entry {
    Entry { stage: "trace", unit, side, count }
}
