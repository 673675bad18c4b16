//! `run` and `record`: a run, those that follow it when the configuration changes, and an orderly end.

use super::{
    agent::{Agent, Common},
    changes::{Changes, Event},
    clock::boot_ns,
    governor,
    preamble::{self, Recorded},
    privilege,
    recorder::Recorder,
    reload::Reloader,
    rings::Rings,
    status::{Current, Status},
    threads::own_endpoint,
};
use crate::admin::{self, Server};
use crate::cli::{Failure, Record, Run};
use crate::config::{LinkEvidence, Settings};
use crate::process;
use agent_core::id::IdKey;
use agent_core::recording::Preamble;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// After another run has taken over nobody judges what the agent costs for so long.
const CALM_NS: u64 = 1_000_000_000;

/// `kernspan run`: until a signal comes.
///
/// # Errors
/// [`Failure`] says whose fault it is.
pub fn run(run: &Run) -> Result<(), Failure> {
    watch(&run.settings, None, &mut Reloader::new(run))
}

/// `kernspan top` and `trace`: until a signal comes, or nobody looks any more.
///
/// # Errors
/// [`Failure`] says whose fault it is.
pub fn show(settings: &Settings) -> Result<(), Failure> {
    watch(settings, None, &mut Reloader::never())
}

/// `kernspan record`: until a signal comes, or its time is over.
///
/// # Errors
/// [`Failure`] says whose fault it is.
pub fn record(record: &Record) -> Result<(), Failure> {
    watch(&record.settings, Some(record), &mut Reloader::never())
}

fn watch(
    settings: &Settings,
    record: Option<&Record>,
    reloader: &mut Reloader,
) -> Result<(), Failure> {
    start_logging(settings)?;
    privilege::check()?;
    privilege::warn();
    crate::export::install_crypto();
    let runtime = start_runtime()?;
    let server = match settings.listen {
        Some(address) => {
            let bound = runtime.block_on(async { admin::bind(address) }).map_err(operator)?;
            Some(bound.exposing_status(settings.expose_status))
        }
        None => None,
    };
    let common = Common {
        id_key: random_key()?,
        host: process::host_facts(),
        own: server.as_ref().map(|server| own_endpoint(server.address)),
        runtime: runtime.handle().clone(),
    };
    let recorder =
        record.map(|record| start_recording(record, settings, &common)).transpose()?.map(Arc::new);
    let agent = Agent::start(settings, &common, recorder, false)?;
    let current = Current::new(&agent.shared);
    let served = server.map(|server| serve(server, &runtime, &current, reloader));
    let result = follow(agent, &common, &runtime, &current, record, reloader);
    if let Some((end, task)) = served {
        drop(end);
        let _ = runtime.block_on(task);
    }
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

type Served = (tokio::sync::oneshot::Sender<()>, tokio::task::JoinHandle<()>);

fn serve(server: Server, runtime: &Runtime, current: &Current, reloader: &Reloader) -> Served {
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let source = Arc::new(Status::new(current.clone(), reloader.reloads()));
    let task = runtime.spawn(server.serve(source, async { drop(ended.await) }));
    (end, task)
}

/// Until the end, with one run after the other.
fn follow(
    mut agent: Agent,
    common: &Common,
    runtime: &Runtime,
    current: &Current,
    record: Option<&Record>,
    reloader: &mut Reloader,
) -> Result<(), Failure> {
    let until = record.and_then(|record| record.duration).map(|time| Instant::now() + time);
    let mut changes = runtime.block_on(async { Changes::new(reloader.file()) })?;
    agent.shared.ready.store(true, Ordering::Release);
    // From here on a signal ends the run in order.
    tracing::info!("ready");
    while let Event::Reload(why) = runtime.block_on(changes.next(&agent.shared.stop, until)) {
        let Some(settings) = reloader.read(why) else { continue };
        let began = Instant::now();
        governor::pause_until(u64::MAX);
        match Agent::start(&settings, common, None, true) {
            Ok(next) => {
                next.take_over(&agent);
                next.shared.ready.store(true, Ordering::Release);
                current.set(&next.shared);
                let before = std::mem::replace(&mut agent, next);
                if let Err(failure) = before.stop(runtime) {
                    // What has taken over delivers what it has.
                    let _ = agent.stop(runtime);
                    return Err(failure);
                }
                reloader.accepted(settings.log_level, began.elapsed());
            }
            Err(failure) => reloader.refused(&failure),
        }
        governor::pause_until(boot_ns() + CALM_NS);
    }
    agent.stop(runtime)
}

/// Log lines to standard error at the level asked for.
pub fn start_logging(settings: &Settings) -> Result<(), Failure> {
    crate::telemetry::start_logging(settings.log_level.name()).map_err(operator)
}

/// The operator can mend it.
pub fn operator(error: impl std::fmt::Display) -> Failure {
    Failure::Operator(error.to_string())
}

/// What waits for the network.
pub fn start_runtime() -> Result<Runtime, Failure> {
    let built = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("kernspan-io")
        .enable_all()
        .build();
    built.map_err(|error| anyhow::Error::new(error).context("starting the runtime").into())
}

/// A key that nobody knows.
pub fn random_key() -> Result<IdKey, Failure> {
    let mut key = [0; 16];
    getrandom::fill(&mut key)
        .map_err(|error| anyhow::anyhow!("the kernel gives no random bytes: {error}"))?;
    Ok(IdKey(key))
}

fn start_recording(
    record: &Record,
    settings: &Settings,
    common: &Common,
) -> Result<Recorder, Failure> {
    let recorded = Recorded {
        rings: Rings::of(settings).count,
        link: settings.link == LinkEvidence::All,
        own: common.own,
    };
    let preamble = Preamble {
        id_key: common.id_key,
        record_version: agent_common::record::VERSION,
        raw: record.raw,
        host: common.host.clone(),
        settings: preamble::write(settings.head_bytes, recorded),
    };
    Recorder::create(&record.file, &preamble).map_err(|error| {
        Failure::Operator(format!("{} cannot be written: {error}", record.file.display()))
    })
}
