//! `run` and `record`: probes, threads, outputs, and an orderly end.

use super::{
    clock::boot_ns,
    governor, heap,
    outputs::{self, Outputs},
    packets::PacketThread,
    preamble::{self, Recorded},
    privilege,
    recorder::Recorder,
    rings::Rings,
    shared::{Shared, Thread, log_ledger, log_rings},
    status::Status,
    threads::{FlowMaps, Parts, Threads, joined, own_endpoint, spawn},
};
use crate::admin;
use crate::cli::{Failure, Record};
use crate::config::{Capture, Hooks, LinkEvidence, Probe, Settings};
use crate::export::{Destination, Writing};
use crate::flow::datagrams::DatagramMap;
use crate::kubernetes::{self, Pods};
use crate::probe::attached::Attached;
use crate::probe::control::Maps;
use crate::probe::in_kernel::InKernelMaps;
use crate::probe::load::{LoadConfig, Loaded, load};
use crate::probe::misses::Misses;
use crate::probe::plan::Feature;
use crate::probe::run_time::RunTimes;
use crate::process;
use crate::runtime::context::Contexts;
use crate::runtime::go::GoPrograms;
use crate::uprobe::service::Service;
use agent_common::settings::{MAX_CAPTURE, Settings as KernelSettings, feature};
use agent_core::connection::OwnEndpoint;
use agent_core::id::IdKey;
use agent_core::process::HostFacts;
use agent_core::recording::Preamble;
use aya::maps::{MapData, RingBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::runtime::{Handle, Runtime};

/// Time to empty the rings at the end.
const DRAIN_NS: u64 = 700_000_000;

/// Time to deliver what is queued at the end, all in all.
const FLUSH: Duration = Duration::from_millis(1500);

/// Time to deliver the agent's own last metrics.
const METRICS_FLUSH: Duration = Duration::from_millis(300);

/// Bytes captured of each later call of a turn.
const LATER_BYTES: u32 = 256;

/// Processes that a filter may name.
const SELECTED_PROCESSES: u32 = 32_768;

/// Runs until a signal comes, or the duration of a recording is over.
///
/// # Errors
/// [`Failure`] says whose fault it is.
pub fn run(settings: &Settings, record: Option<&Record>) -> Result<(), Failure> {
    start_logging(settings)?;
    privilege::check()?;
    privilege::warn();
    crate::export::install_crypto();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("kernspan-io")
        .enable_all()
        .build()
        .map_err(|error| anyhow::Error::new(error).context("starting the runtime"))?;
    let server = match settings.listen {
        Some(address) => Some(runtime.block_on(async { admin::bind(address) }).map_err(operator)?),
        None => None,
    };
    let own = server.as_ref().map(|server| own_endpoint(server.address));
    let rings = Rings::of(settings);
    let outputs = outputs::open(settings, runtime.handle(), Writing::Thread)?;
    let host = process::host_facts();
    let id_key = random_key()?;
    let recorder = match record {
        Some(record) => {
            Some(Arc::new(start_recording(record, settings, rings, own, id_key, &host)?))
        }
        None => None,
    };
    // Before probes are loaded, which takes longer than a list of pods.
    let pods = kubernetes::start(&settings.kubernetes, &host.name, runtime.handle());
    let pods = pods.map_err(operator)?;
    // Conversations are no part of a recording.
    let flows = settings.probes.contains(&Probe::Flow) && record.is_none();
    // In a thread of its own, whose memory goes back with it: reading the kernel's types takes
    // tens of megabytes for a moment.
    let mut loaded =
        std::thread::scope(|scope| joined(scope.spawn(|| attach(settings, rings, flows)).join()))??;
    let maps = Maps::take(&mut loaded.ebpf, rings.count).map_err(anyhow::Error::new)?;
    #[cfg(feature = "kernel-log")]
    let kernel_log = super::kernel_log::start(&mut loaded.ebpf).map_err(operator)?;
    let flow_maps = if flows { flow_maps(&mut loaded)? } else { None };
    let agent = Agent::start(
        settings,
        loaded,
        maps,
        flow_maps,
        outputs,
        recorder,
        id_key,
        host,
        own,
        pods,
        runtime.handle(),
    )?;
    let shared = Arc::clone(&agent.shared);
    #[cfg(feature = "kernel-log")]
    {
        let shared = Arc::clone(&shared);
        // Ends with the stop flag; nobody waits for the last lines.
        drop(spawn("kernspan-klog", move || kernel_log(shared))?);
    }
    let served = server.map(|server| {
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let source = Arc::new(Status(Arc::clone(&shared)));
        let task = runtime.spawn(server.serve(source, async { drop(ended.await) }));
        (end, task)
    });
    wait_for_end(&runtime, record.and_then(|record| record.duration), &shared)?;
    let result = agent.stop(&runtime);
    if let Some((end, task)) = served {
        drop(end);
        let _ = runtime.block_on(task);
    }
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

/// Log lines to standard error at the level asked for.
pub fn start_logging(settings: &Settings) -> Result<(), Failure> {
    crate::telemetry::start_logging(settings.log_level.name()).map_err(operator)
}

fn operator(error: impl std::fmt::Display) -> Failure {
    Failure::Operator(error.to_string())
}

fn random_key() -> Result<IdKey, Failure> {
    let mut key = [0; 16];
    getrandom::fill(&mut key)
        .map_err(|error| anyhow::anyhow!("the kernel gives no random bytes: {error}"))?;
    Ok(IdKey(key))
}

fn start_recording(
    record: &Record,
    settings: &Settings,
    rings: Rings,
    own: Option<OwnEndpoint>,
    id_key: IdKey,
    host: &HostFacts,
) -> Result<Recorder, Failure> {
    let preamble = Preamble {
        id_key,
        record_version: agent_common::record::VERSION,
        raw: record.raw,
        host: host.clone(),
        settings: preamble::write(
            settings.head_bytes,
            Recorded { rings: rings.count, link: settings.link == LinkEvidence::All, own },
        ),
    };
    Recorder::create(&record.file, &preamble).map_err(|error| {
        Failure::Operator(format!("{} cannot be written: {error}", record.file.display()))
    })
}

fn attach(settings: &Settings, rings: Rings, flows: bool) -> Result<Loaded, Failure> {
    let mut wanted = vec![Feature::Processes];
    if settings.probes.contains(&Probe::Http) {
        wanted.extend([
            Feature::Payload,
            Feature::ConnectionState,
            Feature::Arrival,
            Feature::SendTime,
        ]);
        if settings.probes.contains(&Probe::Tls) {
            wanted.push(Feature::Tls);
        }
    }
    let mut kernel = kernel_settings(settings);
    if flows {
        wanted.extend([Feature::Flows, Feature::FlowPeers, Feature::FlowList]);
        if !settings.probes.contains(&Probe::Http) {
            wanted.push(Feature::FlowCalls);
        }
        kernel.features |= feature::FLOW;
        kernel.features |= if settings.flows.dns { feature::FLOW_DNS } else { 0 };
    }
    let config = LoadConfig {
        wanted: wanted.into_iter().collect(),
        payload_hooks: match settings.hooks {
            Hooks::Auto => None,
            only => Some(only.name().to_owned()),
        },
        btf: settings.btf.clone(),
        settings: KernelSettings {
            payload_rings: rings.count,
            ring_limit: rings.bytes / 4 * 3,
            ring_span: rings.bytes / 8,
            ..kernel
        },
        ring_size: rings.bytes,
        process_filter_size: if filters_processes(settings) { SELECTED_PROCESSES } else { 1 },
        flows: flows.then(|| super::flows::sizes(settings.flows.table)),
    };
    let mut loaded = load(crate::probe::OBJECTS, &config).map_err(operator)?;
    if let Some(cgroup) = &settings.selection.cgroup {
        crate::probe::control::select_cgroup(&mut loaded.ebpf, cgroup).map_err(operator)?;
    }
    for feature in &loaded.features {
        if feature.is_active() {
            tracing::info!("{}: {} ({})", feature.name, feature.hooks.join(", "), feature.why);
        } else if config.wanted.contains(&feature.feature) {
            tracing::warn!("{} is missing, so {}: {}", feature.name, feature.without, feature.why);
        }
    }
    Ok(loaded)
}

fn filters_processes(settings: &Settings) -> bool {
    !settings.selection.executables.is_everything() || !settings.selection.pids.is_empty()
}

fn kernel_settings(settings: &Settings) -> KernelSettings {
    let selection = &settings.selection;
    let mut kernel = KernelSettings {
        own_tgid: std::process::id(),
        head_bytes: settings.head_bytes,
        later_bytes: LATER_BYTES.min(settings.head_bytes),
        ..KernelSettings::default()
    };
    if settings.capture == Capture::Full {
        (kernel.head_bytes, kernel.later_bytes) = (MAX_CAPTURE, MAX_CAPTURE);
    }
    if filters_processes(settings) {
        kernel.features |= feature::PROCESS_FILTER;
        if selection.pids.is_empty() {
            kernel.features |= feature::EXECUTABLE_FILTER;
        } else if !selection.executables.is_everything() {
            kernel.features |= feature::FAMILY_FILTER;
        }
        if !selection.executables.include.is_empty() || !selection.pids.is_empty() {
            kernel.features |= feature::PROCESS_ALLOW_LIST;
        }
    }
    if !selection.ports.is_empty() {
        kernel.features |= feature::PORT_FILTER;
        for (slot, port) in kernel.ports.iter_mut().zip(&selection.ports) {
            *slot = *port;
            kernel.port_count += 1;
        }
    }
    if selection.cgroup.is_some() {
        kernel.features |= feature::CGROUP_FILTER;
    }
    kernel.features |= feature::SHEDDING;
    if settings.max_cpu.is_some() {
        kernel.features |= feature::CPU_BUDGET;
    }
    if let Some(rate) = settings.max_request_rate {
        kernel.features |= feature::PROCESS_RATE;
        kernel.process_rate = rate;
    }
    kernel
}

fn wait_for_end(
    runtime: &Runtime,
    duration: Option<Duration>,
    shared: &Arc<Shared>,
) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    runtime.block_on(async {
        let failed = |error| anyhow::Error::new(error).context("listening for signals");
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        // From here on a signal ends the run in order.
        shared.ready.store(true, Ordering::Release);
        tracing::info!("ready");
        let over = async {
            match duration {
                Some(duration) => tokio::time::sleep(duration).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = over => {}
            () = heap::tend(&shared.stop) => {}
        }
        Ok::<(), Failure>(())
    })
}

/// Ring and map of conversations, where their programs are attached.
fn flow_maps(loaded: &mut Loaded) -> Result<Option<(RingBuf<MapData>, DatagramMap)>, Failure> {
    let wanted = [Feature::Flows, Feature::FlowCalls, Feature::FlowPeers, Feature::FlowList];
    if !wanted.into_iter().any(|feature| loaded.has(feature)) {
        return Ok(None);
    }
    let missing = || anyhow::anyhow!("the kernel object has no map FLOW_RING");
    let ring = loaded.ebpf.take_map("FLOW_RING").ok_or_else(missing)?;
    let ring = RingBuf::try_from(ring).map_err(anyhow::Error::new)?;
    let datagrams = DatagramMap::take(&mut loaded.ebpf).map_err(anyhow::Error::new)?;
    Ok(Some((ring, datagrams)))
}

struct Agent {
    attached: Attached,
    libraries: Option<Service>,
    shared: Arc<Shared>,
    outputs: Option<crate::export::Exporter>,
    metrics: Option<crate::telemetry::MetricsGuard>,
    recorder: Option<Arc<Recorder>>,
    threads: Threads,
    /// Threads that end with the stop flag.
    companions: Vec<std::thread::JoinHandle<()>>,
}

impl Agent {
    #[expect(clippy::too_many_arguments, reason = "called once; it is where all parts meet")]
    fn start(
        settings: &Settings,
        mut loaded: Loaded,
        maps: Maps,
        flow_maps: Option<(RingBuf<MapData>, DatagramMap)>,
        outputs: Outputs,
        recorder: Option<Arc<Recorder>>,
        id_key: IdKey,
        host: HostFacts,
        own: Option<OwnEndpoint>,
        pods: Pods,
        runtime: &Handle,
    ) -> Result<Agent, Failure> {
        let Maps {
            process_ring,
            payload_rings,
            verdicts,
            alarm,
            counters,
            selection,
            purse,
            go,
            publishers,
        } = maps;
        let in_kernel = InKernelMaps::take(&mut loaded.ebpf).map_err(anyhow::Error::new)?;
        let packets_loaded = loaded.has(Feature::Packets);
        let programs = RunTimes::of(&loaded.ebpf, loaded.libraries.as_ref());
        let shared =
            Arc::new(Shared::new(loaded.features.clone(), Some(counters), Misses::of(&loaded)));
        let libraries = loaded.libraries.take();
        let contexts = loaded.has(Feature::ThreadContexts).then(|| Contexts::new(publishers));
        let attached = Attached::new(loaded);
        let (packets, users) =
            PacketThread::new(attached.clone(), in_kernel, packets_loaded, Arc::clone(&shared));
        let _ = shared.in_kernel.set(users);
        let _ = shared.kubernetes.set(pods.knowledge);
        let mut companions = vec![spawn("kernspan-packet", move || packets.run())?];
        let flows = flow_maps.map(|(ring, datagrams)| FlowMaps {
            ring,
            datagrams,
            attached: attached.clone(),
        });
        let parts = Parts {
            flows,
            process_ring,
            payload_rings,
            verdicts,
            alarm,
            selection,
            go: GoPrograms::new(go, attached.clone()),
            outputs: outputs.fanout,
            recorder: recorder.clone(),
            id_key,
            host,
            own,
            pods: pods.changes,
            shared: Arc::clone(&shared),
        };
        let threads = Threads::start(settings, parts)?;
        let libraries = (libraries.is_some() || contexts.is_some()).then(|| {
            Service::start(libraries, contexts, shared.libraries.clone()).map_err(|error| {
                anyhow::Error::new(error).context("starting the thread for libraries")
            })
        });
        let libraries = libraries.transpose()?;
        if let Some(budget) = settings.max_cpu {
            companions.push(governor::start(budget, purse, programs, Arc::clone(&shared))?);
        }
        let metrics = match &outputs.otlp {
            Some(otlp) => {
                let shared = Arc::clone(&shared);
                let snapshot = Arc::new(move || shared.ledger());
                crate::telemetry::start_metrics(otlp, runtime, snapshot).map_err(operator)?
            }
            None => None,
        };
        let outputs = outputs.exporter;
        Ok(Agent { attached, libraries, shared, outputs, metrics, recorder, threads, companions })
    }

    /// Detaches, drains, delivers, and prints the account.
    fn stop(self, runtime: &Runtime) -> Result<(), Failure> {
        let deadline = Instant::now() + FLUSH;
        self.shared.ready.store(false, Ordering::Release);
        self.shared.drain_until.store(boot_ns() + DRAIN_NS, Ordering::Relaxed);
        // Detached first: the rings then hold all there will ever be.
        if let Some(libraries) = self.libraries {
            libraries.stop();
        }
        self.attached.detach();
        self.shared.stop.store(true, Ordering::Release);
        let mut outputs = self.threads.join()?;
        for companion in self.companions {
            joined(companion.join())?;
        }
        if let Some(metrics) = self.metrics
            && let Err(error) = metrics.shutdown(METRICS_FLUSH)
        {
            tracing::debug!("the last metrics may not have arrived: {error}");
        }
        if let Some(exporter) = self.outputs {
            runtime.block_on(exporter.shutdown(deadline));
        }
        outputs.close(deadline);
        // In place of what the assembler published while requests were still under way.
        let mut entries = Vec::new();
        outputs.ledger(&mut entries);
        self.shared.publish(Thread::Outputs, entries);
        drop(outputs);
        log_rings(&self.shared.rings());
        log_ledger(&self.shared.ledger());
        if let Some(recorder) = &self.recorder {
            recorder.counters(self.shared.kernel_counters());
            recorder.finish()?;
        }
        Ok(())
    }
}
