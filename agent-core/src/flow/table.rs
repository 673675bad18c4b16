//! All conversations that are known, bounded.

use super::conversation::{Conversation, FlowId, Role, Totals, Transport};
use super::names::Names;
use super::places::Places;
use crate::ledger::{Entry as LedgerEntry, Side};
use agent_common::record::{DatagramKey, Datagrams, Flow};

/// Limits.
#[derive(Clone, Copy, Debug)]
pub struct TableConfig {
    /// Conversations kept at once; each takes about 350 bytes.
    pub capacity: usize,
    /// A UDP conversation ends after so long without a message, ns.
    pub idle_ns: u64,
    /// A TCP conversation that no listing has shown for so long is given up, ns: its end was lost,
    /// or nobody holds it by a descriptor.
    pub unseen_ns: u64,
    /// The agent: its own conversations are nobody's business.
    pub own_tgid: u32,
}

impl Default for TableConfig {
    fn default() -> Self {
        TableConfig {
            capacity: 32_768,
            idle_ns: 60_000_000_000,
            unseen_ns: 600_000_000_000,
            own_tgid: 0,
        }
    }
}

/// Why a conversation is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It lives, and an interval is over.
    Interval,
    /// It ended.
    End,
}

/// A conversation with what came since it was last reported.
#[derive(Clone, Debug)]
pub struct FlowChange {
    /// Why.
    pub change: Change,
    /// It, with its totals.
    pub conversation: Conversation,
    /// What is new of them.
    pub delta: Totals,
    /// It is reported for the first time.
    pub is_new: bool,
}

/// A conversation as it is kept.
pub(super) struct Known {
    pub(super) conversation: Conversation,
    reported: Totals,
    is_reported: bool,
    /// Boot time of the latest listing that showed it, ns.
    seen_ns: u64,
}

#[derive(Default)]
struct Counts {
    came: u64,
    ended: u64,
    own: u64,
    full: u64,
    unseen: u64,
}

/// See the module.
pub struct FlowTable {
    config: TableConfig,
    flows: Places,
    counts: Counts,
}

impl FlowTable {
    /// An empty one.
    pub fn new(config: TableConfig) -> FlowTable {
        FlowTable { config, flows: Places::default(), counts: Counts::default() }
    }

    /// A conversation that a listing at `now_ns` shows.
    pub fn listed(&mut self, flow: &Flow, now_ns: u64) {
        let conversation = Conversation::from_record(flow);
        // What a UDP socket moved stands in the kernel's map.
        if conversation.transport == Transport::Tcp {
            self.insert(conversation, now_ns);
        }
    }

    /// An entry of the kernel's map of UDP conversations.
    pub fn counted(&mut self, key: &DatagramKey, counted: &Datagrams, now_ns: u64) {
        self.insert(Conversation::from_datagrams(key, counted), now_ns);
    }

    fn insert(&mut self, conversation: Conversation, now_ns: u64) {
        if self.is_own(&conversation) {
            self.counts.own += 1;
            return;
        }
        let unknown = self.flows.renew(conversation, |known, mut conversation| {
            keep_what_is_known(&mut conversation, &known.conversation);
            known.conversation = conversation;
            known.seen_ns = now_ns;
        });
        let Some(conversation) = unknown else { return };
        if self.flows.len() >= self.config.capacity {
            self.counts.full += 1;
            return;
        }
        self.counts.came += 1;
        self.flows.insert(Known {
            conversation,
            reported: Totals::default(),
            is_reported: false,
            seen_ns: now_ns,
        });
    }

    /// A TCP conversation ended. `None` for the agent's own.
    pub fn ended(&mut self, flow: &Flow, names: &Names) -> Option<FlowChange> {
        let mut conversation = Conversation::from_record(flow);
        let known = self.flows.remove(conversation.id);
        let mut reported = Totals::default();
        let mut is_new = true;
        if let Some(known) = known {
            keep_what_is_known(&mut conversation, &known.conversation);
            reported = known.reported;
            is_new = !known.is_reported;
        } else {
            self.counts.came += 1;
        }
        self.counts.ended += 1;
        if self.is_own(&conversation) {
            self.counts.own += 1;
            return None;
        }
        self.complete(&mut conversation, names);
        let delta = conversation.totals.since(&reported);
        Some(FlowChange { change: Change::End, conversation, delta, is_new })
    }

    /// An interval is over: reports all that live, and ends UDP conversations that are quiet. Gives
    /// the ids of these to `over`, to be removed from the kernel's map.
    pub fn report(
        &mut self,
        now_ns: u64,
        names: &Names,
        out: &mut dyn FnMut(FlowChange),
        over: &mut dyn FnMut(FlowId),
    ) {
        let mut gone = Vec::new();
        for place in 0..self.flows.places() {
            let Some(known) = self.flows.at(place) else { continue };
            let mut conversation = known.conversation.clone();
            self.complete(&mut conversation, names);
            let (config, known) = (self.config, self.flows.at_mut(place));
            let Some(known) = known else { continue };
            known.conversation.remote_name.clone_from(&conversation.remote_name);
            known.conversation.local_peer = conversation.local_peer;
            let quiet = conversation.transport == Transport::Udp
                && conversation.last_ns.saturating_add(config.idle_ns) < now_ns;
            let unseen = known.seen_ns.saturating_add(config.unseen_ns) < now_ns;
            if quiet || unseen {
                gone.push((conversation.id, quiet));
            }
            if unseen && !quiet {
                continue;
            }
            let delta = conversation.totals.since(&known.reported);
            known.reported = conversation.totals;
            let is_new = !std::mem::replace(&mut known.is_reported, true);
            let change = if quiet { Change::End } else { Change::Interval };
            out(FlowChange { change, conversation, delta, is_new });
        }
        for (id, quiet) in gone {
            self.flows.remove(id);
            if quiet {
                self.counts.ended += 1;
                over(id);
            } else {
                self.counts.unseen += 1;
            }
        }
    }

    /// Another run has reported what is known so far: deltas begin here.
    pub fn take_over(&mut self) {
        for place in 0..self.flows.places() {
            let Some(known) = self.flows.at_mut(place) else { continue };
            known.reported = known.conversation.totals;
            known.is_reported = true;
        }
    }

    /// All that are known, completed.
    pub fn all(&self, names: &Names) -> Vec<Conversation> {
        let mut all: Vec<_> = self.flows.iter().map(|known| known.conversation.clone()).collect();
        all.iter_mut().for_each(|conversation| self.complete(conversation, names));
        all
    }

    /// The account.
    pub fn ledger(&self) -> Vec<LedgerEntry> {
        let entry = |side, count| LedgerEntry { stage: "flow", unit: "conversations", side, count };
        let Counts { came, ended, own, full, unseen } = self.counts;
        vec![
            entry(Side::In, came),
            entry(Side::Held, self.flows.len() as u64),
            entry(Side::Out, ended),
            entry(Side::Lost("unseen"), unseen),
            entry(Side::Info("own"), own),
            entry(Side::Info("table_full"), full),
        ]
    }

    fn is_own(&self, conversation: &Conversation) -> bool {
        let own = self.config.own_tgid;
        conversation.process.is_some_and(|process| process.tgid == own)
    }

    /// Adds the name of the other end, and its process when that is on this host.
    fn complete(&self, conversation: &mut Conversation, names: &Names) {
        if let Some(other) = self.other_end(conversation) {
            conversation.local_peer = other.process;
            if conversation.role == Role::Unknown {
                conversation.role = match other.role {
                    Role::Client => Role::Server,
                    Role::Server => Role::Client,
                    Role::Unknown => Role::Unknown,
                };
            }
        }
        let process = conversation.process.map(|process| process.tgid);
        let (netns, addr) = (conversation.netns, conversation.remote.addr);
        if let Some(name) = names.name(process, netns, addr, conversation.last_ns) {
            conversation.remote_name = Some(name.into());
        }
    }

    /// The same conversation seen from its other end; where several namespaces have such addresses,
    /// the one in the same, else none.
    fn other_end(&self, conversation: &Conversation) -> Option<&Conversation> {
        let found = || {
            let found = self.flows.reversed(conversation).map(|known| &known.conversation);
            found.filter(|other| other.id != conversation.id)
        };
        let same = found().find(|other| other.netns == conversation.netns);
        same.or_else(|| found().next().filter(|_| self.flows.reversed(conversation).count() == 1))
    }
}

/// What was found out about a conversation before stays, where a later record does not say it.
fn keep_what_is_known(new: &mut Conversation, known: &Conversation) {
    // The process that was seen first: later ones were handed the socket.
    new.process = known.process.or(new.process);
    if new.role == Role::Unknown {
        new.role = known.role;
    }
    if new.first_ns == 0 {
        new.first_ns = known.first_ns;
    }
    if new.established_ns == 0 {
        new.established_ns = known.established_ns;
    }
    new.local_peer = new.local_peer.or(known.local_peer);
    if new.remote_name.is_none() {
        new.remote_name.clone_from(&known.remote_name);
    }
}
