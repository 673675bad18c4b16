//! `kernspan flows`: loads what it needs, looks, prints.

use super::run::Follower;
use super::sizes;
use crate::app::clock::boot_ns;
use crate::app::privilege;
use crate::cli::{Failure, Flows};
use crate::flow::datagrams::DatagramMap;
use crate::flow::table::{self, Directory};
use crate::probe::attached::Attached;
use crate::probe::load::{LoadConfig, Loaded, load};
use crate::probe::plan::Feature;
use agent_common::settings::{Settings as KernelSettings, feature};
use agent_core::flow::{Conversation, TableConfig, Transport};
use aya::maps::RingBuf;
use rustix::io::Errno;
use std::collections::HashSet;
use std::io::IsTerminal;
use std::time::Duration;

/// Conversations known at once.
const TABLE: u32 = 262_144;

/// UDP conversations counted at once.
const DATAGRAMS: u32 = 65_536;

/// Pause between two looks at the ring.
const LOOK: Duration = Duration::from_millis(50);

/// Goes to the upper left corner of a terminal and clears it (ECMA-48 CUP, ED).
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// Lists conversations, once or again and again.
///
/// # Errors
/// The operator's: missing capabilities, a kernel without the iterator; or standard output.
pub fn list(asked: &Flows) -> Result<(), Failure> {
    privilege::check()?;
    let loaded = attach(asked.watch.is_some())?;
    let notes = notes(&loaded, asked);
    let mut follower = follower(loaded)?;
    let mut directory = Directory::default();
    loop {
        let now = boot_ns();
        follower.drain(&mut drop);
        let mut sockets = Vec::new();
        follower.look(now, |flow| {
            let conversation = Conversation::from_record(flow);
            sockets.extend(Some(conversation).filter(|one| one.transport == Transport::Udp));
        });
        let text = show(&follower, asked, sockets, &notes, &mut directory, now);
        if !printed(&text)? {
            return Ok(());
        }
        let Some(interval) = asked.watch else { return Ok(()) };
        let end = std::time::Instant::now() + interval;
        while std::time::Instant::now() < end {
            std::thread::sleep(LOOK.min(interval));
            follower.drain(&mut drop);
        }
        directory.forget();
        let over = |id| follower.datagrams.remove(id);
        follower.table.report(boot_ns(), &follower.names, &mut drop, &mut { over });
    }
}

fn attach(counts: bool) -> Result<Loaded, Failure> {
    let wanted: &[Feature] = match counts {
        true => &[Feature::FlowList, Feature::Flows, Feature::FlowCalls, Feature::FlowPeers],
        false => &[Feature::FlowList],
    };
    let config = LoadConfig {
        wanted: wanted.iter().copied().collect(),
        payload_hooks: None,
        btf: None,
        settings: KernelSettings {
            own_tgid: std::process::id(),
            payload_rings: 1,
            features: feature::FLOW | feature::FLOW_DNS,
            ..KernelSettings::default()
        },
        ring_size: 4096,
        process_filter_size: 1,
        tls_sockets: 1,
        flows: Some(sizes(if counts { 2 * DATAGRAMS } else { 64 })),
    };
    let loaded = load(crate::probe::OBJECTS, &config)
        .map_err(|error| Failure::Operator(error.to_string()))?;
    if !loaded.has(Feature::FlowList) {
        let why = loaded.features.iter().find(|report| report.feature == Feature::FlowList);
        let why = why.map_or("", |report| &report.why);
        return Err(Failure::Operator(format!("sockets cannot be listed here: {why}")));
    }
    Ok(loaded)
}

fn follower(mut loaded: Loaded) -> Result<Follower, Failure> {
    let missing = || anyhow::anyhow!("the kernel object has no map FLOW_RING");
    let ring = loaded.ebpf.take_map("FLOW_RING").ok_or_else(missing)?;
    let ring = RingBuf::try_from(ring).map_err(anyhow::Error::new)?;
    let datagrams = DatagramMap::take(&mut loaded.ebpf).map_err(anyhow::Error::new)?;
    let config = TableConfig {
        capacity: TABLE as usize,
        own_tgid: std::process::id(),
        ..TableConfig::default()
    };
    Ok(Follower::new(ring, datagrams, Attached::new(loaded), config))
}

/// What this list cannot show.
fn notes(loaded: &Loaded, asked: &Flows) -> Vec<String> {
    let mut notes = Vec::new();
    if asked.watch.is_none() {
        notes.push(
            "bytes of UDP, names from DNS answers, and who began older connections are known with \
             --watch, from its start on"
                .to_owned(),
        );
    }
    notes.push(
        "sockets that no descriptor holds (closing ones, io_uring's own) are not listed".to_owned(),
    );
    for report in &loaded.features {
        let asked_for = report.why != "not asked for";
        if asked_for && !report.is_active() {
            notes
                .push(format!("{} is missing, so {}: {}", report.name, report.without, report.why));
        }
    }
    notes
}

fn show(
    follower: &Follower,
    asked: &Flows,
    sockets: Vec<Conversation>,
    notes: &[String],
    directory: &mut Directory,
    now: u64,
) -> String {
    let mut all = follower.table.all(&follower.names);
    // UDP sockets that have moved nothing since this began.
    let mut known: HashSet<u64> = all.iter().map(|flow| flow.id.cookie).collect();
    let own = std::process::id();
    all.extend(sockets.into_iter().filter(|flow| {
        flow.process.is_none_or(|process| process.tgid != own) && known.insert(flow.id.cookie)
    }));
    let rows = table::rows(all, asked, directory);
    if asked.json {
        return format!("{}\n", table::to_json(&rows, notes, now));
    }
    let text = table::to_text(&rows, notes, now);
    let clears = asked.watch.is_some() && std::io::stdout().is_terminal();
    if clears { format!("{CLEAR}{text}") } else { text }
}

/// False when nobody reads any more.
fn printed(text: &str) -> Result<bool, Failure> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(Errno::PIPE.raw_os_error()) => Ok(false),
        Err(error) => Err(anyhow::Error::new(error).context("standard output").into()),
    }
}
