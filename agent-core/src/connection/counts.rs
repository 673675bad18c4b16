//! The account of the connection stage, in its three units: records, connections, requests.

use super::classify::Kind;
use crate::event::ProcessKey;
use crate::ledger::{Entry, Side};

/// Open connections of one process, by what they speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindCounts {
    /// HTTP/1.x.
    pub http1: u32,
    /// TLS.
    pub tls: u32,
    /// HTTP/2 in clear.
    pub http2: u32,
    /// Left HTTP/1 by Upgrade or CONNECT.
    pub upgraded: u32,
    /// No protocol that the agent knows.
    pub unknown: u32,
    /// Nothing to judge by yet.
    pub undecided: u32,
}

/// Open connections per process, in no particular order.
pub type Census = Vec<(ProcessKey, KindCounts)>;

impl KindCounts {
    /// The counts with their names.
    pub fn by_name(&self) -> [(&'static str, u32); 6] {
        [
            ("http1", self.http1),
            ("tls", self.tls),
            ("http2", self.http2),
            ("upgraded", self.upgraded),
            ("unknown", self.unknown),
            ("undecided", self.undecided),
        ]
    }

    /// Counts one connection; `None` is undecided. The agent's own are left out.
    pub(super) fn add(&mut self, kind: Option<Kind>) {
        let count = match kind {
            None => &mut self.undecided,
            Some(Kind::Http1) => &mut self.http1,
            Some(Kind::Tls) => &mut self.tls,
            Some(Kind::Http2) => &mut self.http2,
            Some(Kind::Upgraded) => &mut self.upgraded,
            Some(Kind::Unknown) => &mut self.unknown,
            Some(Kind::Own) => return,
        };
        *count += 1;
    }
}

/// Running numbers of one shard.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Records that came in.
    pub(super) records: u64,
    /// Records that were left at the end of the run; not among those that came in.
    pub(super) discarded: u64,
    /// Records that were used.
    pub(super) used: u64,
    /// Records held for those before them, or until more bytes tell the protocol.
    pub(super) held: u64,
    /// Records of muted connections that came before the kernel took notice.
    pub(super) muted: u64,
    /// Records whose bytes were no known protocol, or came in the middle of a message.
    pub(super) unclassified: u64,
    /// Records of encrypted bytes whose plaintext is reported.
    pub(super) ciphertext: u64,
    /// Records whose bytes had all been seen.
    pub(super) duplicate: u64,
    /// Closing records of connections not in the table.
    pub(super) strangers: u64,
    /// Records of connections that are over: see [`agent_common::record::flag::AFTER_CLOSE`].
    pub(super) after_close: u64,
    /// Kinds that do not belong into a payload ring, and payload without a direction.
    pub(super) misplaced: u64,

    /// Records cut at the front because other threads' records overlapped them.
    pub(super) trimmed: u64,
    /// Gaps passed on, and the bytes in them.
    pub(super) gaps: u64,
    pub(super) gap_bytes: u64,
    /// Bytes of requests that were shed.
    pub(super) shed_bytes: u64,
    /// Implausible positions: the connection began anew.
    pub(super) resynchronised: u64,
    /// Connections that began anew because the shard held too many bytes.
    pub(super) over_held: u64,

    pub(super) opened: u64,
    pub(super) closed: u64,
    pub(super) expired: u64,
    pub(super) evicted: u64,
    /// Connections that are not looked at any more, and why.
    pub(super) muted_as: MutedAs,

    pub(super) started: u64,
    pub(super) finished: u64,
    /// Requests without a span: their start line is longer than the capture.
    pub(super) start_lines_cut: u64,
    /// Sends whose thread context did not come.
    pub(super) contexts_missing: u64,
    /// Requests of agents, which are not reported.
    pub(super) own_requests: u64,
}

/// Connections by what they were taken for when they were muted: whatever they say from there on is in no
/// other account of requests.
#[derive(Debug, Default)]
pub(super) struct MutedAs {
    tls: u64,
    http2: u64,
    upgraded: u64,
    unknown: u64,
    own: u64,
    /// Spoke HTTP/1 without a doubt, and cannot be followed any more: of those that are upgraded or unknown.
    pub(super) lost: u64,
}

impl MutedAs {
    pub(super) fn add(&mut self, kind: Kind) {
        *match kind {
            Kind::Tls => &mut self.tls,
            Kind::Http2 => &mut self.http2,
            Kind::Upgraded => &mut self.upgraded,
            Kind::Own => &mut self.own,
            Kind::Unknown | Kind::Http1 => &mut self.unknown,
        } += 1;
    }

    fn by_name(&self) -> [(&'static str, u64); 6] {
        [
            ("muted_tls", self.tls),
            ("muted_http2", self.http2),
            ("muted_upgraded", self.upgraded),
            ("muted_unknown", self.unknown),
            ("muted_own", self.own),
            ("not_followed_further", self.lost),
        ]
    }
}

impl Counts {
    pub(super) fn gap(&mut self, len: u64) {
        self.gaps += 1;
        self.gap_bytes = self.gap_bytes.saturating_add(len);
    }

    /// The account. `open` connections and `requests` are counted afresh, so that the sum is a
    /// check and not a definition.
    pub(super) fn entries(&self, open: u64, requests: u64) -> Vec<Entry> {
        let mut entries = Vec::with_capacity(40);
        let mut push = |unit, side, count| {
            entries.push(Entry { stage: "connection", unit, side, count });
        };
        push("records", Side::In, self.records);
        push("records", Side::Out, self.used);
        push("records", Side::Held, self.held);
        push("records", Side::Lost("muted"), self.muted);
        push("records", Side::Lost("unclassified"), self.unclassified);
        push("records", Side::Lost("ciphertext"), self.ciphertext);
        push("records", Side::Lost("duplicate"), self.duplicate);
        push("records", Side::Lost("unknown_connection"), self.strangers);
        push("records", Side::Lost("after_close"), self.after_close);
        push("records", Side::Lost("misplaced"), self.misplaced);
        push("records", Side::Info("trimmed"), self.trimmed);
        push("gaps", Side::Info("gaps"), self.gaps);
        push("bytes", Side::Info("gap_bytes"), self.gap_bytes);
        push("bytes", Side::Info("shed_bytes"), self.shed_bytes);
        push("connections", Side::In, self.opened);
        push("connections", Side::Out, self.closed + self.expired);
        push("connections", Side::Held, open);
        push("connections", Side::Lost("evicted"), self.evicted);
        push("connections", Side::Info("expired_idle"), self.expired);
        push("connections", Side::Info("resynchronised"), self.resynchronised);
        push("connections", Side::Info("held_too_much"), self.over_held);
        for (name, count) in self.muted_as.by_name() {
            push("connections", Side::Info(name), count);
        }
        push("requests", Side::In, self.started);
        push("requests", Side::Out, self.finished);
        push("requests", Side::Held, requests);
        push("requests", Side::Info("start_line_too_long"), self.start_lines_cut);
        push("requests", Side::Info("thread_context_missing"), self.contexts_missing);
        push("requests", Side::Info("of_agents"), self.own_requests);
        entries
    }
}
