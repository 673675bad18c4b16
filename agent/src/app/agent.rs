//! One run of all stages: from what is attached to what is delivered. A new configuration begins another one beside
//! it, which takes over.

use super::{
    attach::{attach, flow_maps},
    clock::boot_ns,
    governor,
    live::operator,
    outputs::{self, Outputs},
    packets::PacketThread,
    recorder::Recorder,
    rings::Rings,
    shared::{Shared, Thread, log_ledger, log_rings},
    threads::{FlowMaps, Parts, Threads, joined, spawn},
    traffic::filters,
};
use crate::cli::Failure;
use crate::config::{Probe, Settings};
use crate::export::{Destination, Writing};
use crate::flow::datagrams::DatagramMap;
use crate::kubernetes::{self, Pods, Watching};
use crate::probe::attached::Attached;
use crate::probe::control::Maps;
use crate::probe::in_kernel::InKernelMaps;
use crate::probe::load::Loaded;
use crate::probe::misses::Misses;
use crate::probe::plan::Feature;
use crate::probe::run_time::RunTimes;
use crate::runtime::context::Contexts;
use crate::runtime::go::GoPrograms;
use crate::uprobe::service::Service;
use agent_core::connection::OwnEndpoint;
use agent_core::id::IdKey;
use agent_core::process::HostFacts;
use agent_core::trace::Window;
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

/// A run takes over so much later than it sees everything: what takes less is seen by it from its beginning, and what
/// takes longer is told by the run before, as far as that has seen it.
const NOTICE: Duration = Duration::from_millis(500);

/// Time for those who look at an interval to notice that it has.
const NOTICED: Duration = Duration::from_millis(150);

/// What the runs of one process have in common.
pub struct Common {
    /// Key of the ids: the same request has the same in each.
    pub id_key: IdKey,
    /// The host.
    pub host: HostFacts,
    /// Where the agent itself listens.
    pub own: Option<OwnEndpoint>,
    /// Does what waits for the network.
    pub runtime: Handle,
}

/// A run.
pub struct Agent {
    /// See [`Shared`].
    pub shared: Arc<Shared>,
    attached: Attached,
    libraries: Option<Service>,
    outputs: Option<crate::export::Exporter>,
    metrics: Option<crate::telemetry::MetricsGuard>,
    recorder: Option<Arc<Recorder>>,
    threads: Threads,
    /// Threads that end with the stop flag.
    companions: Vec<std::thread::JoinHandle<()>>,
    /// The list of pods, which ends with it.
    _pods: Option<Watching>,
    /// From then on (boot time, ns) it sees everything.
    sees_ns: u64,
}

impl Agent {
    /// Attaches, and starts the threads. With `waits` nothing is reported until it takes over.
    ///
    /// # Errors
    /// [`Failure`] says whose fault it is. What was attached is detached.
    pub fn start(
        settings: &Settings,
        common: &Common,
        recorder: Option<Arc<Recorder>>,
        waits: bool,
    ) -> Result<Agent, Failure> {
        let rings = Rings::of(settings);
        let outputs = outputs::open(settings, &common.runtime, Writing::Thread)?;
        // Before probes are loaded, which takes longer than a list of pods.
        let pods = kubernetes::start(&settings.kubernetes, &common.host.name, &common.runtime);
        let pods = pods.map_err(operator)?;
        // Conversations are no part of a recording.
        let flows = settings.probes.contains(&Probe::Flow) && recorder.is_none();
        // In a thread of its own, whose memory goes back with it: reading the kernel's types takes
        // tens of megabytes for a moment.
        let mut loaded = std::thread::scope(|scope| {
            joined(scope.spawn(|| attach(settings, rings, flows)).join())
        })??;
        let maps = Maps::take(&mut loaded.ebpf, rings.count).map_err(anyhow::Error::new)?;
        let flow_maps = if flows { flow_maps(&mut loaded)? } else { None };
        let parts = Attachment { loaded, maps, flow_maps, outputs, recorder, pods };
        Agent::connect(settings, common, parts, waits)
    }

    /// Connects all parts.
    fn connect(
        settings: &Settings,
        common: &Common,
        parts: Attachment,
        waits: bool,
    ) -> Result<Agent, Failure> {
        let Attachment { mut loaded, maps, flow_maps, outputs, recorder, pods } = parts;
        #[cfg(feature = "kernel-log")]
        let kernel_log = super::kernel_log::start(&mut loaded.ebpf).map_err(operator)?;
        let in_kernel = InKernelMaps::take(&mut loaded.ebpf).map_err(anyhow::Error::new)?;
        let packets_loaded = loaded.has(Feature::Packets);
        let programs = RunTimes::of(&loaded);
        let counters = Some(maps.counters);
        let shared = Arc::new(Shared::new(loaded.features.clone(), counters, Misses::of(&loaded)));
        let _ = shared.traffic.filters.set(filters(&settings.selection));
        shared.traffic.conversations.store(flow_maps.is_some(), Ordering::Relaxed);
        if waits {
            shared.report(Window { from_ns: u64::MAX, ..Window::default() });
        }
        // What has been started by then ends with a failure below.
        let mut guard = EndsUnlessKept(Some(Arc::clone(&shared)));
        let (libraries, round_trip) = (loaded.libraries.take(), loaded.round_trip.take());
        let contexts = loaded
            .has(Feature::ThreadContexts)
            .then(|| Contexts::new(maps.publishers, shared.runtimes.clone()));
        let attached = Attached::new(loaded);
        let (packets, users) =
            PacketThread::new(attached.clone(), in_kernel, packets_loaded, Arc::clone(&shared));
        let _ = shared.in_kernel.set(users);
        let _ = shared.kubernetes.set(pods.knowledge);
        let mut companions = vec![spawn("kernspan-packet", move || packets.run())?];
        #[cfg(feature = "kernel-log")]
        {
            let shared = Arc::clone(&shared);
            companions.push(spawn("kernspan-klog", move || kernel_log(shared))?);
        }
        let flows = flow_maps.map(|(ring, datagrams)| FlowMaps {
            ring,
            datagrams,
            attached: attached.clone(),
        });
        let parts = Parts {
            flows,
            process_ring: maps.process_ring,
            payload_rings: maps.payload_rings,
            verdicts: maps.verdicts,
            alarm: maps.alarm,
            selection: maps.selection,
            go: GoPrograms::new(maps.go, round_trip, shared.runtimes.clone()),
            outputs: outputs.fanout,
            recorder: recorder.clone(),
            id_key: common.id_key,
            host: common.host.clone(),
            own: common.own,
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
            let shared = Arc::clone(&shared);
            companions.push(governor::start(budget, maps.purse, programs, shared)?);
        }
        let metrics = match &outputs.otlp {
            Some(otlp) => {
                let shared = Arc::clone(&shared);
                let snapshot = Arc::new(move || shared.ledger());
                let started = crate::telemetry::start_metrics(otlp, &common.runtime, snapshot);
                started.map_err(operator)?
            }
            None => None,
        };
        guard.0 = None;
        let outputs = outputs.exporter;
        let sees_ns = boot_ns();
        Ok(Agent {
            shared,
            attached,
            libraries,
            outputs,
            metrics,
            recorder,
            threads,
            companions,
            _pods: pods.watching,
            sees_ns,
        })
    }

    /// Takes over from the run before: each request is reported by the one in whose time it ends.
    pub fn take_over(&self, before: &Agent) {
        let at = boot_ns() + u64::try_from(NOTICE.as_nanos()).unwrap_or(u64::MAX);
        let first = before.shared.window();
        let sees_ns = self.sees_ns;
        before.shared.report(Window { until_ns: at, next_sees_ns: sees_ns, ..first });
        self.shared.report(Window { from_ns: at, sees_ns, ..Window::default() });
        std::thread::sleep(NOTICE + NOTICED);
    }

    /// Detaches, drains, delivers, and prints the account.
    ///
    /// # Errors
    /// A thread panicked, or the recording cannot be finished.
    pub fn stop(self, runtime: &Runtime) -> Result<(), Failure> {
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

/// What a run is connected from.
struct Attachment {
    loaded: Loaded,
    maps: Maps,
    flow_maps: Option<(RingBuf<MapData>, DatagramMap)>,
    outputs: Outputs,
    recorder: Option<Arc<Recorder>>,
    pods: Pods,
}

/// Threads of a run that does not come about.
struct EndsUnlessKept(Option<Arc<Shared>>);

impl Drop for EndsUnlessKept {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.stop.store(true, Ordering::Release);
        }
    }
}
