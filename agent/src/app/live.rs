//! `run` and `record`: probes, threads, outputs, and an orderly end.

use super::{
    assemble::{Assembly, Spare},
    clock::boot_ns,
    outputs::{self, Outputs},
    payload::PayloadThread,
    preamble::{self, Recorded},
    privilege,
    processes::{ProcessThread, Selector},
    progress::Reading,
    recorder::Recorder,
    shared::{Shared, log_ledger},
    status::Status,
};
use crate::admin;
use crate::cli::{Failure, Record};
use crate::config::{Capture, Hooks, LinkEvidence, Probe, Settings};
use crate::export::{Destination, Writing};
use crate::probe::control::Maps;
use crate::probe::load::{LoadConfig, Loaded, load};
use crate::probe::misses::Misses;
use crate::probe::plan::Feature;
use crate::process::{self, ProcessReader};
use agent_common::settings::{MAX_CAPTURE, Settings as KernelSettings, feature};
use agent_core::connection::{OwnEndpoint, Shard, ShardConfig};
use agent_core::id::IdKey;
use agent_core::process::HostFacts;
use agent_core::recording::Preamble;
use agent_core::trace::{Assembler, AssemblerConfig, LinkerSwitches};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};
use tokio::runtime::{Handle, Runtime};

/// Batches between the process ring's thread and the assembler. Small: the kernel's ring is the
/// buffer.
const BATCHES: usize = 32;

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
    let listen = server.as_ref().map(|server| server.address);
    let outputs = outputs::open(settings, runtime.handle(), Writing::Thread)?;
    let host = process::host_facts();
    let id_key = random_key()?;
    let recorder = match record {
        Some(record) => {
            let own = listen.map(own_endpoint);
            Some(Arc::new(start_recording(record, settings, own, id_key, &host)?))
        }
        None => None,
    };
    // In a thread of its own, whose memory goes back with it: reading the kernel's types takes
    // tens of megabytes for a moment.
    let mut loaded = std::thread::scope(|scope| joined(scope.spawn(|| attach(settings)).join()))??;
    let maps = Maps::take(&mut loaded.ebpf).map_err(anyhow::Error::new)?;
    #[cfg(feature = "kernel-log")]
    let kernel_log = super::kernel_log::start(&mut loaded.ebpf).map_err(operator)?;
    let agent = Agent::start(
        settings,
        loaded,
        maps,
        outputs,
        recorder,
        id_key,
        host,
        listen,
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
            Recorded { link: settings.link == LinkEvidence::All, own },
        ),
    };
    Recorder::create(&record.file, &preamble).map_err(|error| {
        Failure::Operator(format!("{} cannot be written: {error}", record.file.display()))
    })
}

fn attach(settings: &Settings) -> Result<Loaded, Failure> {
    let mut wanted = vec![Feature::Processes];
    if settings.probes.contains(&Probe::Http) {
        wanted.extend([
            Feature::Payload,
            Feature::ConnectionState,
            Feature::Arrival,
            Feature::SendTime,
        ]);
    }
    let config = LoadConfig {
        wanted: wanted.into_iter().collect(),
        payload_hooks: match settings.hooks {
            Hooks::Auto => None,
            only => Some(only.name().to_owned()),
        },
        settings: kernel_settings(settings),
        ring_size: settings.ring_size,
        process_filter_size: if filters_processes(settings) { SELECTED_PROCESSES } else { 1 },
    };
    let mut loaded = load_apart(&config)?;
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

/// Loads on a thread of its own: the kernel's types take 60 MB while they are read, and the
/// allocator gives back what a thread leaves when that ends.
fn load_apart(config: &LoadConfig) -> Result<Loaded, Failure> {
    let loading = spawn("kernspan-load", {
        let config = config.clone();
        move || load(crate::probe::OBJECT, &config)
    })?;
    joined(loading.join())?.map_err(operator)
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
        let stopped = async {
            while !shared.stop.load(Ordering::Acquire) {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = over => {}
            () = stopped => {}
        }
        Ok::<(), Failure>(())
    })
}

struct Agent {
    loaded: Loaded,
    shared: Arc<Shared>,
    outputs: Option<crate::export::Exporter>,
    metrics: Option<crate::telemetry::MetricsGuard>,
    recorder: Option<Arc<Recorder>>,
    processes: std::thread::JoinHandle<()>,
    payload: std::thread::JoinHandle<crate::export::Fanout>,
}

impl Agent {
    #[expect(clippy::too_many_arguments, reason = "called once; it is where all parts meet")]
    fn start(
        settings: &Settings,
        loaded: Loaded,
        maps: Maps,
        outputs: Outputs,
        recorder: Option<Arc<Recorder>>,
        id_key: IdKey,
        host: HostFacts,
        listen: Option<SocketAddr>,
        runtime: &Handle,
    ) -> Result<Agent, Failure> {
        let shared = Arc::new(Shared::new(
            loaded.features.clone(),
            Some(maps.counters),
            Misses::of(&loaded.ebpf),
        ));
        let (out, batches) = sync_channel(BATCHES);
        let reading = Reading::default();
        let ring = maps.process_ring.as_fd().try_clone_to_owned();
        let evidence = settings.link == LinkEvidence::All;
        let assembly = Assembly {
            assembler: Assembler::new(assembler_config(settings, evidence, id_key), host),
            outputs: outputs.fanout,
            processes: batches,
            progress: reading.progress(ring.map_err(anyhow::Error::new)?),
            recorder: recorder.clone(),
            silence: super::silence::Silence::default(),
            shared: Arc::clone(&shared),
            spare: Spare::default(),
            flushed: 0,
            published: boot_ns(),
        };
        let mut processes = ProcessThread {
            ring: maps.process_ring,
            reader: ProcessReader::default(),
            selector: Selector {
                selection: maps.selection,
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
        let processes = spawn("kernspan-proc", move || processes.run())?;
        let mut shard = Shard::new(ShardConfig { id_key, ..ShardConfig::default() });
        if let Some(address) = listen {
            shard.mute_endpoint(own_endpoint(address));
        }
        let payload = PayloadThread {
            ring: maps.payload_ring,
            shard,
            verdicts: maps.verdicts,
            never_mute: settings.capture == Capture::Full,
            assembly,
            recorder: recorder.clone(),
            poll_interval: settings.poll_interval,
            shared: Arc::clone(&shared),
        };
        let payload = spawn("kernspan-ring1", move || payload.run())?;
        let metrics = match &outputs.otlp {
            Some(otlp) => {
                let shared = Arc::clone(&shared);
                let snapshot = Arc::new(move || shared.ledger());
                crate::telemetry::start_metrics(otlp, runtime, snapshot).map_err(operator)?
            }
            None => None,
        };
        Ok(Agent {
            loaded,
            shared,
            outputs: outputs.exporter,
            metrics,
            recorder,
            processes,
            payload,
        })
    }

    /// Detaches, drains, delivers, and prints the account.
    fn stop(self, runtime: &Runtime) -> Result<(), Failure> {
        let deadline = Instant::now() + FLUSH;
        self.shared.ready.store(false, Ordering::Release);
        self.shared.drain_until.store(boot_ns() + DRAIN_NS, Ordering::Relaxed);
        // Detached first: the rings then hold all there will ever be.
        drop(self.loaded);
        self.shared.stop.store(true, Ordering::Release);
        joined(self.processes.join())?;
        let mut outputs = joined(self.payload.join())?;
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
        self.shared.publish("outputs", entries);
        drop(outputs);
        log_ledger(&self.shared.ledger());
        if let Some(recorder) = &self.recorder {
            recorder.counters(self.shared.kernel_counters());
            recorder.finish()?;
        }
        Ok(())
    }
}

/// `evidence`: client spans are linked by headers and threads.
pub(super) fn assembler_config(
    settings: &Settings,
    evidence: bool,
    id_key: IdKey,
) -> AssemblerConfig {
    AssemblerConfig {
        id_key,
        rings: 2,
        sample_ratio: settings.sample,
        linker: LinkerSwitches {
            headers: evidence,
            threads: evidence,
            ..LinkerSwitches::default()
        },
        ..AssemblerConfig::default()
    }
}

fn own_endpoint(address: SocketAddr) -> OwnEndpoint {
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

fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<std::thread::JoinHandle<T>, Failure> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|error| anyhow::Error::new(error).context(format!("starting {name}")).into())
}

fn joined<T>(result: std::thread::Result<T>) -> Result<T, Failure> {
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
