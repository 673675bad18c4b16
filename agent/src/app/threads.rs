//! The threads of a run: one for each ring, and the assembler's.

use super::{
    assemble::{Assembly, Spare},
    clock::boot_ns,
    flows::{FlowPart, FlowParts, FlowThread},
    memory::Memory,
    payload::{Downstream, FIRST_RING, PayloadThread, Remote},
    processes::{ProcessThread, Selector},
    progress::Reading,
    queue::queue,
    recorder::Recorder,
    requests::RequestReport,
    revisits::Revisits,
    shared::Shared,
};
use crate::cli::Failure;
use crate::config::{Capture, LinkEvidence, Output, Probe, Settings};
use crate::export::Fanout;
use crate::flow::datagrams::DatagramMap;
use crate::probe::attached::Attached;
use crate::probe::control::{Alarm, Selection, Verdicts};
use crate::process::ProcessReader;
use crate::runtime::go::GoPrograms;
use agent_core::connection::{OwnEndpoint, Shard, ShardConfig};
use agent_core::flow::Endpoint;
use agent_core::id::IdKey;
use agent_core::process::HostFacts;
use agent_core::process::kubernetes::PodChange;
use agent_core::request::RequestLimits;
use agent_core::trace::{Assembler, AssemblerConfig, LinkerSwitches};
use aya::maps::{MapData, RingBuf};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

/// Batches between the process ring's thread and the assembler. Small: the kernel's ring is the
/// buffer.
const BATCHES: usize = 32;

/// What the threads are made of.
pub struct Parts {
    /// Processes and security events.
    pub process_ring: RingBuf<MapData>,
    /// Payload, ring 1 first.
    pub payload_rings: Vec<RingBuf<MapData>>,
    /// Way back to the kernel side, for sockets.
    pub verdicts: Verdicts,
    /// Wakes the payload rings' readers.
    pub alarm: Alarm,
    /// The same for processes.
    pub selection: Selection,
    /// Programs in Go.
    pub go: GoPrograms,
    /// Where spans go.
    pub outputs: Fanout,
    /// The recording, if one is made.
    pub recorder: Option<Arc<Recorder>>,
    /// Key of the ids.
    pub id_key: IdKey,
    /// The host.
    pub host: HostFacts,
    /// Where the agent itself listens.
    pub own: Option<OwnEndpoint>,
    /// Conversations, when they are followed.
    pub flows: Option<FlowMaps>,
    /// What changes of this node's pods.
    pub pods: Receiver<PodChange>,
    /// See [`Shared`].
    pub shared: Arc<Shared>,
}

/// What conversations come from.
pub struct FlowMaps {
    /// Ends and DNS answers.
    pub ring: RingBuf<MapData>,
    /// UDP.
    pub datagrams: DatagramMap,
    /// The programs, for the iterator.
    pub attached: Attached,
}

/// All that run.
pub struct Threads {
    processes: JoinHandle<()>,
    flows: Option<JoinHandle<()>>,
    /// Reads what processes use.
    usage: Option<JoinHandle<()>>,
    /// Those that hand on to the assembler's thread.
    rings: Vec<JoinHandle<()>>,
    /// The one with the assembler: its own, or that of the only payload ring.
    assembler: JoinHandle<Fanout>,
}

impl Threads {
    /// Reads what runs already, and starts the threads.
    ///
    /// # Errors
    /// The system's, when it starts no thread.
    pub fn start(settings: &Settings, parts: Parts) -> Result<Threads, Failure> {
        let Parts { process_ring, payload_rings, outputs, host, .. } = parts;
        let Parts { recorder, id_key, shared, .. } = parts;
        let (out, batches) = sync_channel(BATCHES);
        let reading = Reading::default();
        let ring = process_ring.as_fd().try_clone_to_owned();
        let evidence = settings.link == LinkEvidence::All;
        let config = assembler_config(settings, payload_rings.len(), evidence, id_key);
        let mut assembly = Assembly {
            assembler: Assembler::new(config, host),
            outputs,
            processes: batches,
            progress: reading.progress(ring.map_err(anyhow::Error::new)?),
            recorder: recorder.clone(),
            silence: super::silence::Silence::default(),
            shared: Arc::clone(&shared),
            spare: Spare::default(),
            flushed: 0,
            published: boot_ns(),
            flows: None,
            requests: settings.request_metrics.map(RequestReport::new),
            pods: parts.pods,
        };
        // Before the first tick of any ring, in a recording as well.
        assembly.sample_clock();
        let mut processes = ProcessThread {
            ring: process_ring,
            reader: ProcessReader::default(),
            go: parts.go,
            revisits: Revisits::default(),
            selector: Selector {
                selection: parts.selection,
                executables: settings.selection.executables.clone(),
                pids: (!settings.selection.pids.is_empty())
                    .then(|| settings.selection.pids.iter().copied().collect()),
            },
            out,
            reading,
            recorder: recorder.clone(),
            report_execs: settings.probes.contains(&Probe::Exec),
            poll_interval: settings.poll_interval,
            shared: Arc::clone(&shared),
        };
        processes.scan();
        let usage = match settings.process_metrics.filter(|_| takes_metrics(settings)) {
            Some(interval) => {
                Some(super::usage::start(interval, processes.out.clone(), Arc::clone(&shared))?)
            }
            None => None,
        };
        let processes = spawn("kernspan-proc", move || processes.run())?;
        let flows = match parts.flows {
            Some(maps) => {
                let own = parts.own.map(flow_endpoint);
                let (thread, part) = flow_thread(settings, maps, own, Arc::clone(&shared))?;
                assembly.flows = Some(part);
                Some(thread)
            }
            None => None,
        };
        let common = Common {
            config: ShardConfig {
                conversations: flows.is_some(),
                ..shard_config(settings, payload_rings.len(), id_key)
            },
            own: parts.own,
            verdicts: parts.verdicts,
            alarm: parts.alarm,
            never_mute: settings.capture == Capture::Full,
            recorder,
            settings,
            shared,
        };
        let (rings, assembler) = common.start(payload_rings, assembly)?;
        Ok(Threads { processes, flows, usage, rings, assembler })
    }

    /// Waits for all of them to end. Gives the outputs back, finished.
    ///
    /// # Errors
    /// One panicked.
    pub fn join(self) -> Result<Fanout, Failure> {
        joined(self.processes.join())?;
        if let Some(flows) = self.flows {
            joined(flows.join())?;
        }
        if let Some(usage) = self.usage {
            joined(usage.join())?;
        }
        for ring in self.rings {
            joined(ring.join())?;
        }
        joined(self.assembler.join())
    }
}

/// Starts the thread that follows conversations; gives with it the assembler's side.
fn flow_thread(
    settings: &Settings,
    maps: FlowMaps,
    own: Option<Endpoint>,
    shared: Arc<Shared>,
) -> Result<(JoinHandle<()>, FlowPart), Failure> {
    let (out, receiver) = sync_channel(BATCHES);
    let FlowMaps { ring, datagrams, attached } = maps;
    let parts = FlowParts { ring, datagrams, attached, out, own };
    let thread = FlowThread::new(settings, parts, shared);
    let part = FlowPart::new(receiver, settings.flows);
    Ok((spawn("kernspan-flow", move || thread.run())?, part))
}

fn flow_endpoint(own: OwnEndpoint) -> Endpoint {
    Endpoint { addr: own.addr.unwrap_or_default(), port: own.port }
}

/// The console shows no metrics.
fn takes_metrics(settings: &Settings) -> bool {
    settings.outputs.iter().any(|output| *output != Output::Console)
}

/// What the threads of all payload rings have in common.
struct Common<'a> {
    config: ShardConfig,
    own: Option<OwnEndpoint>,
    verdicts: Verdicts,
    alarm: Alarm,
    never_mute: bool,
    recorder: Option<Arc<Recorder>>,
    settings: &'a Settings,
    shared: Arc<Shared>,
}

type Started = (Vec<JoinHandle<()>>, JoinHandle<Fanout>);

impl Common<'_> {
    fn start(
        &self,
        payload_rings: Vec<RingBuf<MapData>>,
        assembly: Assembly,
    ) -> Result<Started, Failure> {
        let payload_rings = match <[_; 1]>::try_from(payload_rings) {
            Ok([only]) => return Ok((Vec::new(), self.ring(FIRST_RING, only, assembly)?)),
            Err(several) => several,
        };
        let (mut threads, mut inboxes) = (Vec::new(), Vec::new());
        for (number, ring) in (FIRST_RING..).zip(payload_rings) {
            let (outbox, inbox) = queue();
            inboxes.push(inbox);
            let remote = Remote { outbox, shared: Arc::clone(&self.shared) };
            threads.push(self.ring(number, ring, remote)?);
        }
        let poll_interval = self.settings.poll_interval;
        let assembler = spawn("kernspan-trace", move || assembly.run(&inboxes, poll_interval))?;
        Ok((threads, assembler))
    }

    fn ring<D: Downstream + Send + 'static>(
        &self,
        number: usize,
        ring: RingBuf<MapData>,
        downstream: D,
    ) -> Result<JoinHandle<D::End>, Failure>
    where
        D::End: Send,
    {
        let mut shard = Shard::new(self.config);
        if let Some(own) = self.own {
            shard.mute_endpoint(own);
        }
        let thread = PayloadThread {
            number,
            ring,
            shard,
            verdicts: self.verdicts.clone(),
            never_mute: self.never_mute,
            downstream,
            recorder: self.recorder.clone(),
            poll_interval: self.settings.poll_interval,
            alarm: self.alarm.clone(),
            shared: Arc::clone(&self.shared),
        };
        spawn(&format!("kernspan-ring{number}"), move || thread.run())
    }
}

/// Settings of the assembler. `evidence`: client spans are linked by headers and threads.
pub fn assembler_config(
    settings: &Settings,
    rings: usize,
    evidence: bool,
    id_key: IdKey,
) -> AssemblerConfig {
    AssemblerConfig {
        id_key,
        rings: FIRST_RING + rings,
        buckets: settings.buckets,
        sampling: settings.sampling,
        routes: settings.routes.clone(),
        linker: LinkerSwitches {
            headers: evidence,
            threads: evidence,
            ..LinkerSwitches::default()
        },
        request_metrics: settings
            .request_metrics
            .filter(|_| takes_metrics(settings) || settings.listen.is_some())
            .map(|_| (request_limits(settings), settings.temporality)),
        names: settings.names.clone(),
        limits: Memory::of(settings).limits(),
        ..AssemblerConfig::default()
    }
}

/// With routes a service has as many series as routes and statuses that go together.
fn request_limits(settings: &Settings) -> RequestLimits {
    let usual = RequestLimits::default();
    match settings.routes.is_empty() {
        true => usual,
        false => RequestLimits { by_service: 1000, ..usual },
    }
}

/// Settings of one of so many shards: together they have the memory of one.
pub fn shard_config(settings: &Settings, rings: usize, id_key: IdKey) -> ShardConfig {
    let whole = ShardConfig { id_key, ..ShardConfig::default() };
    Memory::of(settings).shard(whole, rings)
}

/// Where the agent itself listens.
pub fn own_endpoint(address: SocketAddr) -> OwnEndpoint {
    let addr = match address.ip() {
        ip if ip.is_unspecified() => None,
        IpAddr::V4(v4) => Some(v4.to_ipv6_mapped().octets()),
        IpAddr::V6(v6) => Some(v6.octets()),
    };
    OwnEndpoint { addr, port: address.port(), netns: own_netns() }
}

/// The agent's network namespace, as the kernel side names it: the same port in another one is
/// somebody else's. `None` where it cannot be told.
fn own_netns() -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    let namespace = std::fs::metadata("/proc/self/ns/net").ok()?;
    u32::try_from(namespace.ino()).ok()
}

/// Starts a thread with a name.
pub fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<std::thread::JoinHandle<T>, Failure> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|error| anyhow::Error::new(error).context(format!("starting {name}")).into())
}

/// What a thread gave, unless it panicked.
pub fn joined<T>(result: std::thread::Result<T>) -> Result<T, Failure> {
    result.map_err(|_| anyhow::anyhow!("a thread of the agent panicked; this is a bug").into())
}

#[cfg(test)]
mod tests {
    use super::own_endpoint;

    #[test]
    fn the_own_endpoint_is_in_the_own_network_namespace() {
        let link = std::fs::read_link("/proc/self/ns/net").expect("procfs");
        let name = link.to_string_lossy();
        let inode = name.trim_start_matches("net:[").trim_end_matches(']').parse().ok();
        assert!(inode.is_some(), "{name}");
        let own = own_endpoint(([0, 0, 0, 0], 9464).into());
        assert_eq!((own.addr, own.port, own.netns), (None, 9464, inode));
    }
}
