//! The thread that follows conversations in a run: ends from the ring, living ones once an interval.

use super::report::Message;
use crate::app::clock::boot_ns;
use crate::app::shared::{Shared, Thread};
use crate::app::traffic::moved;
use crate::config::Settings;
use crate::flow::datagrams::DatagramMap;
use crate::flow::list;
use crate::flow::watched::Watched;
use crate::probe::attached::Attached;
use agent_common::counter;
use agent_common::record::Flow;
use agent_core::flow::conversation::{Conversation, Endpoint, Transport};
use agent_core::flow::record::{FlowRecord, decode};
use agent_core::flow::{FlowChange, FlowTable, Names, TableConfig, dns};
use agent_core::ledger::{Entry, Side};
use agent_core::trace::Window;
use aya::maps::{MapData, RingBuf};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

/// Pause between two looks at the ring.
const LOOK: Duration = Duration::from_millis(50);

/// Changes handed on at once: the assembler works on other things in between.
const BATCH: usize = 256;

/// Living conversations whose bytes are told to the account of processes at once: as many as it follows.
const MOST_LISTED: usize = 65_536;

/// How often the account is published, ns.
const HOUSEKEEPING_NS: u64 = 500_000_000;

/// What follows conversations, in a run or for one command.
pub struct Follower {
    /// Ends and DNS answers.
    pub ring: RingBuf<MapData>,
    /// UDP.
    pub datagrams: DatagramMap,
    /// The programs, for the iterator.
    pub attached: Attached,
    /// All that are known.
    pub table: FlowTable,
    /// Names from DNS answers.
    pub names: Names,
    records: u64,
    undecoded: u64,
    list_failed: bool,
}

impl Follower {
    /// Of loaded programs.
    pub fn new(
        ring: RingBuf<MapData>,
        datagrams: DatagramMap,
        attached: Attached,
        config: TableConfig,
    ) -> Follower {
        Follower {
            ring,
            datagrams,
            attached,
            table: FlowTable::new(config),
            names: Names::default(),
            records: 0,
            undecoded: 0,
            list_failed: false,
        }
    }

    /// Empties the ring; ends of conversations go to `out`.
    pub fn drain(&mut self, out: &mut dyn FnMut(FlowChange)) {
        while let Some(item) = self.ring.next() {
            self.records += 1;
            match decode(&item) {
                Ok(FlowRecord::Flow(flow)) => {
                    if let Some(change) = self.table.ended(flow, &self.names) {
                        out(change);
                    }
                }
                Ok(FlowRecord::Dns(record, message)) => {
                    let Some(answer) = dns::answer(message) else { continue };
                    for (address, ttl) in answer.addresses {
                        let (process, at) = (record.header.tgid, record.header.boot_ns);
                        let addr = mapped(address);
                        self.names.learn(process, record.netns, addr, &answer.name, ttl, at);
                    }
                }
                Err(_) => self.undecoded += 1,
            }
        }
    }

    /// Looks at all that live; what the listing shows goes to `also` as well.
    pub fn look(&mut self, now: u64, mut also: impl FnMut(&Flow)) {
        let Follower { attached, table, .. } = self;
        let listing = list::each(attached, |flow| {
            table.listed(flow, now);
            also(flow);
        });
        match listing {
            Ok(()) => {}
            Err(error) if !std::mem::replace(&mut self.list_failed, true) => {
                tracing::warn!("living conversations cannot be listed: {error}");
            }
            Err(_) => {}
        }
        let Follower { datagrams, table, .. } = self;
        datagrams.read(|key, counted| table.counted(key, counted, now));
    }

    fn ledger(&self, counters: &[u64]) -> Vec<Entry> {
        let get = |index: u32| counters.get(index as usize).copied().unwrap_or(0);
        let entry = |stage, unit, side, count| Entry { stage, unit, side, count };
        let (names, answers, forgotten) = self.names.counts();
        let evicted = self.datagrams.evicted(get(counter::DATAGRAMS_BEGUN));
        let mut entries = self.table.ledger();
        entries.extend([
            entry("flow_ring", "records", Side::In, self.records),
            entry("flow_ring", "records", Side::Out, self.records - self.undecoded),
            entry("flow_ring", "records", Side::Lost("undecoded"), self.undecoded),
            entry("flow_names", "addresses", Side::Held, names as u64),
            entry("flow_names", "addresses", Side::Info("learned"), answers),
            entry("flow_names", "addresses", Side::Info("evicted"), forgotten),
            entry("flow", "datagram_conversations", Side::Info("evicted"), evicted),
        ]);
        entries
    }
}

/// IPv4 as IPv4-mapped.
fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// What the thread is made of.
pub struct FlowParts {
    /// Ends and DNS answers.
    pub ring: RingBuf<MapData>,
    /// UDP.
    pub datagrams: DatagramMap,
    /// The programs, for the iterator.
    pub attached: Attached,
    /// To the assembler's thread. When it is full this thread waits, and the ring takes the load.
    pub out: SyncSender<Message>,
    /// Where the agent itself listens: the other ends of these are left out as well.
    pub own: Option<Endpoint>,
}

/// See the module.
pub struct FlowThread {
    follower: Follower,
    way: Way,
    interval_ns: u64,
    shared: Arc<Shared>,
}

/// Where a run stands to those before and after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The one before reports.
    Waits,
    /// This one does.
    Reports,
    /// The next one does.
    Over,
}

impl Stage {
    fn at(now: u64, window: Window) -> Stage {
        match now {
            now if now < window.from_ns => Stage::Waits,
            now if now < window.until_ns => Stage::Reports,
            _ => Stage::Over,
        }
    }
}

/// The way to the assembler's thread.
struct Way {
    watched: Watched,
    own: Option<Endpoint>,
    out: SyncSender<Message>,
    batch: Vec<FlowChange>,
    closed: bool,
    shared: Arc<Shared>,
}

impl FlowThread {
    /// Ready to run.
    pub fn new(settings: &Settings, parts: FlowParts, shared: Arc<Shared>) -> FlowThread {
        let config = TableConfig {
            capacity: settings.flows.table as usize,
            own_tgid: std::process::id(),
            ..TableConfig::default()
        };
        FlowThread {
            follower: Follower::new(parts.ring, parts.datagrams, parts.attached, config),
            way: Way {
                watched: Watched::new(&settings.selection),
                own: parts.own,
                out: parts.out,
                batch: Vec::new(),
                closed: false,
                shared: Arc::clone(&shared),
            },
            interval_ns: u64::try_from(settings.flows.interval.as_nanos()).unwrap_or(u64::MAX),
            shared,
        }
    }

    /// Runs until the stop flag is set, then reports what is left.
    pub fn run(mut self) {
        let (mut looked, mut housekept) = (0, 0);
        // A run alone begins as if it had always reported.
        let mut before = Stage::Reports;
        loop {
            let last = self.shared.stop.load(Ordering::Acquire);
            let now = boot_ns();
            let FlowThread { follower, way, .. } = &mut self;
            follower.drain(&mut |change| {
                if change.conversation.transport == Transport::Tcp {
                    way.shared.traffic.ended(&change.conversation);
                }
                way.give(change);
            });
            let stage = Stage::at(now, self.shared.window());
            let turns = stage != before;
            before = stage;
            match stage {
                // Once more as it begins: what came until then has been reported.
                _ if turns && stage != Stage::Over => self.take_over(now, stage),
                Stage::Waits => {}
                Stage::Reports if last || now.saturating_sub(looked) >= self.interval_ns => {
                    looked = now;
                    self.interval(now);
                }
                Stage::Over if turns => self.interval(now),
                Stage::Reports | Stage::Over => {}
            }
            if self.shared.traffic.wants_list(now) {
                self.look(now);
            }
            self.way.send_batch();
            if last || now.saturating_sub(housekept) >= HOUSEKEEPING_NS {
                housekept = now;
                let ledger = self.follower.ledger(&self.shared.kernel_counters());
                self.shared.publish(Thread::Flows, ledger);
            }
            if self.way.closed {
                // The assembler ends only after this thread: it panicked, and there is nobody left to
                // work for.
                self.shared.stop.store(true, Ordering::Release);
            }
            if last || self.way.closed {
                break;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// The run before reports what it has seen until now: nothing of it is this one's.
    fn take_over(&mut self, now: u64, stage: Stage) {
        self.look(now);
        self.follower.table.take_over();
        if stage == Stage::Reports {
            tracing::debug!("conversations are reported from here on");
        }
    }

    /// Looks at all that live.
    fn look(&mut self, now: u64) {
        let mut living = Vec::new();
        self.follower.look(now, |flow| {
            let conversation = Conversation::from_record(flow);
            if conversation.transport == Transport::Tcp && living.len() < MOST_LISTED {
                living.push((flow.cookie, moved(&conversation.totals)));
            }
        });
        self.shared.traffic.listed(living.into_iter(), now);
    }

    /// Looks at all that live, and reports them.
    fn interval(&mut self, now: u64) {
        self.look(now);
        let FlowThread { follower, way, .. } = self;
        let Follower { table, names, datagrams, .. } = follower;
        table.report(now, names, &mut |change| way.give(change), &mut |id| datagrams.remove(id));
        way.send_batch();
        way.send(Message::Interval);
    }
}

impl Way {
    fn give(&mut self, change: FlowChange) {
        if is_own(&change.conversation, self.own) || !self.watched.takes(&change.conversation) {
            return;
        }
        if let (Transport::Udp, Some(process)) =
            (change.conversation.transport, change.conversation.process)
        {
            self.shared.traffic.datagrams(process, &change.delta, boot_ns());
        }
        self.batch.push(change);
        if self.batch.len() >= BATCH {
            self.send_batch();
        }
    }

    fn send_batch(&mut self) {
        if !self.batch.is_empty() {
            let batch = std::mem::take(&mut self.batch);
            self.send(Message::Changes(batch));
        }
    }

    fn send(&mut self, message: Message) {
        self.closed |= self.out.send(message).is_err();
    }
}

/// A conversation with the agent: somebody asks its admin endpoint at `own`, or is sent to by it. That
/// endpoint speaks TCP: the same number of a UDP port is somebody else's.
fn is_own(flow: &Conversation, own: Option<Endpoint>) -> bool {
    let agent = std::process::id();
    let is_there = |own: Endpoint| {
        flow.transport == Transport::Tcp
            && flow.remote.port == own.port
            && (own.addr == [0; 16] || flow.remote.addr == own.addr)
    };
    flow.local_peer.is_some_and(|peer| peer.tgid == agent) || own.is_some_and(is_there)
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_common::record::{DatagramKey, Datagrams, Flow};
    use agent_core::event::ProcessKey;

    #[test]
    fn a_port_is_the_agents_own_by_its_protocol() {
        let addr = mapped(IpAddr::from([127, 0, 0, 1]));
        let own = Some(Endpoint { addr, port: 9464 });
        let key = DatagramKey { remote_addr: addr, remote_port: 9464, ..DatagramKey::default() };
        let udp = Conversation::from_datagrams(&key, &Datagrams::default());
        let flow = Flow { remote_addr: addr, remote_port: 9464, protocol: 6, ..Flow::default() };
        let tcp = Conversation::from_record(&flow);
        assert!(is_own(&tcp, own), "somebody asks the admin endpoint");
        assert!(!is_own(&udp, own), "UDP has ports of its own");
        assert!(!is_own(&tcp, None), "there is no endpoint");
        let agent = ProcessKey { tgid: std::process::id(), start_ns: 0 };
        assert!(is_own(&Conversation { local_peer: Some(agent), ..udp }, None), "sent to by it");
    }
}
