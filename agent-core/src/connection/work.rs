//! What the connections of a shard share: numbers, spare states, and those that wait.

use super::counts::Counts;
use super::shard::ShardConfig;
use crate::protocol::http1::Http1;
use crate::traffic::Findings;
use std::collections::VecDeque;

/// Spare protocol states. More connections than this rarely open between two that close.
const MAX_SPARE: usize = 1024;

/// Shared parts of a shard.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) config: ShardConfig,
    pub(super) counts: Counts,
    /// Bytes held by all connections together.
    pub(super) held_bytes: usize,
    /// Connections that wait for a record, by deadline (boot-time ns), with their cookies.
    pub(super) waits: VecDeque<(u64, u64)>,
    /// What their bytes were.
    pub(super) findings: Findings,
    #[expect(clippy::vec_box, reason = "boxes are what is reused")]
    spare: Vec<Box<Http1>>,
}

/// What one step of a connection may use.
pub(super) struct Step<'a, O> {
    pub(super) work: &'a mut Work,
    pub(super) out: &'a mut O,
}

impl Work {
    pub(super) fn new(config: ShardConfig) -> Work {
        Work { config, ..Work::default() }
    }

    /// A fresh protocol state.
    pub(super) fn http1(&mut self) -> Box<Http1> {
        match self.spare.pop() {
            Some(mut spare) => {
                *spare = Http1::new();
                spare
            }
            None => Box::new(Http1::new()),
        }
    }

    /// Takes a state back.
    pub(super) fn recycle(&mut self, http: Box<Http1>) {
        if self.spare.len() < MAX_SPARE {
            self.spare.push(http);
        }
    }

    /// Remembers that `cookie` waits from `now` on; returns its deadline.
    pub(super) fn wait(&mut self, cookie: u64, now: u64) -> u64 {
        let deadline = now.saturating_add(self.config.reorder_ns);
        self.waits.push_back((deadline, cookie));
        deadline
    }
}
