//! `replay`: a recording through the same stages, on one thread, without kernel or privileges.

use super::{
    outputs,
    payload::FIRST_RING,
    preamble,
    shared::{add_up, kernel_entries},
    threads::{assembler_config, shard_config},
};
use crate::cli::{Failure, Replay};
use crate::config::{LinkEvidence, Settings};
use crate::export::{Destination, Fanout, Writing};
use agent_common::record::VERSION;
use agent_core::connection::{OwnEndpoint, Shard, ShardOutput};
use agent_core::event::decode;
use agent_core::message::{Signal, Started};
use agent_core::recording::{Item, Preamble, ReadError, Reader};
use agent_core::trace::Assembler;
use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::time::{Duration, Instant};

/// Time to deliver what is queued at the end: a replay has nobody who waits for it.
const FLUSH: Duration = Duration::from_secs(10);

/// Signals handed on at once, also where the recording holds no tick: bounds the memory.
const BATCH: usize = 4096;

/// Record time between two flushes of the outputs, ns.
const FLUSH_NS: u64 = 50_000_000;

/// Replays a file.
///
/// # Errors
/// The operator's: no such file, no recording, records of another layout. A damaged recording
/// replays up to the damage, and one with records that are none replays without them; both fail
/// then.
pub fn run(replay: &Replay) -> Result<(), Failure> {
    super::live::start_logging(&replay.settings)?;
    crate::export::install_crypto();
    let unusable = |error: &dyn std::fmt::Display| {
        Failure::Operator(format!("{}: {error}", replay.file.display()))
    };
    let file = File::open(&replay.file).map_err(|error| unusable(&error))?;
    let (mut reader, preamble) =
        Reader::new(BufReader::new(file)).map_err(|error| unusable(&error))?;
    if preamble.record_version != VERSION {
        let found = preamble.record_version;
        return Err(unusable(&format_args!(
            "its records have version {found}, this build reads {VERSION}"
        )));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| anyhow::Error::new(error).context("starting the runtime"))?;
    let outputs = outputs::open(&replay.settings, runtime.handle(), Writing::Inline)?;
    let recorded = preamble::read(&preamble.settings);
    let evidence = recorded.link && replay.settings.link == LinkEvidence::All;
    let rings = recorded.rings as usize;
    let config = assembler_config(&replay.settings, rings, evidence, preamble.id_key);
    let mut stages = Stages {
        shards: (0..rings)
            .map(|_| shard(&replay.settings, rings, &preamble, recorded.own))
            .collect(),
        assembler: Assembler::new(config, preamble.host),
        outputs: outputs.fanout,
        collected: Collected::default(),
        counters: Vec::new(),
        flushed: 0,
        ended: HashMap::new(),
        undecoded: 0,
    };
    let damage = stages.read(&mut reader);
    let undecoded = stages.undecoded;
    stages.finish();
    if let Some(exporter) = outputs.exporter {
        runtime.block_on(exporter.shutdown(Instant::now() + FLUSH));
    }
    match (damage, undecoded) {
        (Some(error), _) => Err(unusable(&error)),
        (None, 0) => Ok(()),
        (None, count) => Err(unusable(&format_args!("records that cannot be decoded: {count}"))),
    }
}

fn shard(
    settings: &Settings,
    rings: usize,
    preamble: &Preamble,
    own: Option<OwnEndpoint>,
) -> Shard {
    let mut shard = Shard::new(shard_config(settings, rings, preamble.id_key));
    if let Some(own) = own {
        shard.mute_endpoint(own);
    }
    shard
}

#[derive(Default)]
struct Collected {
    /// Ring whose records said it.
    ring: u8,
    signals: Vec<Signal>,
    #[expect(clippy::vec_box, reason = "the stages pass the boxes on")]
    spare: Vec<Box<Started>>,
}

impl Collected {
    /// What follows is said by the records of `ring`.
    fn turn_to(&mut self, ring: u8, assembler: &mut Assembler) {
        if self.ring != ring {
            self.hand_on(assembler);
            self.ring = ring;
        }
    }

    fn hand_on(&mut self, assembler: &mut Assembler) {
        for signal in self.signals.drain(..) {
            assembler.signal(usize::from(self.ring), signal);
        }
    }
}

impl ShardOutput for Collected {
    fn signal(&mut self, signal: Signal) {
        self.signals.push(signal);
    }

    /// Nobody captures: there is nothing to mute.
    fn verdict(&mut self, _cookie: u64, _verdict: u32) {}

    fn reuse(&mut self) -> Option<Box<Started>> {
        self.spare.pop()
    }
}

struct Stages {
    /// By payload ring.
    shards: Vec<Shard>,
    assembler: Assembler,
    outputs: Fanout,
    collected: Collected,
    counters: Vec<u64>,
    flushed: u64,
    ended: HashMap<u8, u64>,
    /// Records that are none.
    undecoded: u64,
}

impl Stages {
    /// Reads to the end; gives the damage, if there is any.
    fn read(&mut self, reader: &mut Reader<BufReader<File>>) -> Option<ReadError> {
        loop {
            match reader.item() {
                Ok(Some(item)) => self.take(&item),
                Ok(None) => return None,
                Err(error) => return Some(error),
            }
        }
    }

    fn take(&mut self, item: &Item<'_>) {
        match item {
            Item::Record { ring, bytes } => self.record(*ring, bytes),
            Item::Process(facts) => self.assembler.facts((**facts).clone()),
            Item::Pod(change) => self.assembler.pod((**change).clone()),
            Item::Tick { ring, boot_ns } => self.tick(*ring, *boot_ns),
            Item::Clock { boot_ns, unix_minus_boot_ns } => {
                self.assembler.clock(*boot_ns, *unix_minus_boot_ns);
            }
            Item::Counters(counters) => self.counters.clone_from(counters),
            Item::Settle { ring, cpu, next } => {
                if let Some(shard) = shard_of(&mut self.shards, *ring) {
                    shard.settle(*cpu, *next);
                }
            }
            Item::End(_) => {}
        }
    }

    fn record(&mut self, ring: u8, bytes: &[u8]) {
        let event = match decode(bytes) {
            Ok(event) => event,
            Err(error) => {
                if self.undecoded == 0 {
                    tracing::error!("ring {ring}: a record cannot be decoded: {error}");
                }
                self.undecoded += 1;
                return;
            }
        };
        if ring == 0 {
            return self.assembler.process_event(&event);
        }
        let Some(shard) = shard_of(&mut self.shards, ring) else {
            if self.undecoded == 0 {
                tracing::error!("ring {ring}: the recording does not say that there is one");
            }
            self.undecoded += 1;
            return;
        };
        self.collected.turn_to(ring, &mut self.assembler);
        shard.ingest(&event, &mut self.collected);
        if self.collected.signals.len() >= BATCH {
            self.collected.hand_on(&mut self.assembler);
        }
    }

    fn tick(&mut self, ring: u8, boot_ns: u64) {
        if let Some(shard) = shard_of(&mut self.shards, ring) {
            self.collected.turn_to(ring, &mut self.assembler);
            shard.idle(boot_ns, &mut self.collected);
            self.collected.hand_on(&mut self.assembler);
        }
        self.ended.insert(ring, boot_ns);
        let spare = &mut self.collected.spare;
        let recycle = &mut |started| spare.push(started);
        self.assembler.tick(usize::from(ring), boot_ns, &mut self.outputs, recycle);
        if boot_ns.saturating_sub(self.flushed) >= FLUSH_NS {
            self.flushed = boot_ns;
            self.outputs.flush(boot_ns);
        }
    }

    fn finish(&mut self) {
        if self.undecoded > 0 {
            tracing::error!("{} records could not be decoded and are left out", self.undecoded);
        }
        for (shard, ring) in self.shards.iter_mut().zip(FIRST_RING as u8..) {
            self.collected.turn_to(ring, &mut self.assembler);
            shard.finish(&mut self.collected);
        }
        self.collected.hand_on(&mut self.assembler);
        self.assembler.finish(&mut self.outputs, &mut |_| {});
        let last = self.ended.values().copied().max().unwrap_or(0);
        self.outputs.finish(last);
        let mut entries = kernel_entries(&self.counters);
        self.shards.iter().for_each(|shard| add_up(&mut entries, &shard.ledger()));
        entries.extend(self.assembler.ledger());
        self.outputs.ledger(&mut entries);
        super::shared::log_ledger(&entries);
    }
}

/// The shard of a payload ring.
fn shard_of(shards: &mut [Shard], ring: u8) -> Option<&mut Shard> {
    shards.get_mut(usize::from(ring).checked_sub(FIRST_RING)?)
}
