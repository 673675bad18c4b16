//! What the admin endpoint tells about a run.

pub mod processes;

use super::{doctor::hook_report, packets::InKernel, reload::Reloads, shared::Shared};
use crate::admin::{Gauge, StatusSource, ledger_json};
use agent_core::flow::metrics::Sample;
use agent_core::ledger::Entry;
use agent_core::request::Numbers;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

/// The run that reports now.
#[derive(Clone)]
pub struct Current(Arc<RwLock<Arc<Shared>>>);

impl Current {
    /// The first one.
    pub fn new(shared: &Arc<Shared>) -> Current {
        Current(Arc::new(RwLock::new(Arc::clone(shared))))
    }

    /// Another one has taken over.
    pub fn set(&self, shared: &Arc<Shared>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(shared);
    }

    fn get(&self) -> Arc<Shared> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An agent, to be asked.
pub struct Status {
    run: Current,
    reloads: Reloads,
    started: Instant,
}

impl Status {
    /// Started now.
    pub fn new(run: Current, reloads: Reloads) -> Status {
        Status { run, reloads, started: Instant::now() }
    }
}

impl StatusSource for Status {
    fn ready(&self) -> Result<(), String> {
        if self.run.get().ready.load(Ordering::Acquire) {
            Ok(())
        } else {
            Err("probes are not attached yet".to_owned())
        }
    }

    fn ledger(&self) -> Vec<Entry> {
        self.run.get().ledger()
    }

    fn gauges(&self) -> Vec<Gauge> {
        let (taken_up, refused) = self.reloads.counts();
        let reloads = [
            (
                "kernspan_config_reloads_total",
                "Configurations that were taken up while running.",
                taken_up,
            ),
            (
                "kernspan_config_refusals_total",
                "Configurations that were refused while running.",
                refused,
            ),
        ];
        let gauge = |(name, help, count)| {
            let (labels, value) = (Vec::new(), count as f64);
            Gauge { name, help, labels, value }
        };
        reloads.map(gauge).into()
    }

    fn flows(&self) -> Arc<Vec<Sample>> {
        self.run.get().flows()
    }

    fn requests(&self) -> Arc<Numbers> {
        self.run.get().requests()
    }

    fn ask(&self) -> u64 {
        self.run.get().traffic.ask()
    }

    fn processes(&self, asked: u64) -> Option<Value> {
        processes::to_json(&self.run.get(), asked)
    }

    fn status(&self) -> Value {
        let hooks: Vec<Value> =
            self.run.get().features.iter().map(|feature| hook_report(feature).to_json()).collect();
        json!({
            "version": crate::cli::VERSION,
            "pid": std::process::id(),
            "uptime_seconds": self.started.elapsed().as_secs_f64(),
            "configuration": self.reloads.to_json(),
            "ready": self.ready().is_ok(),
            "hooks": hooks,
            "memory": memory(),
            "connections": self.connections(),
            "tls": self.tls(),
            "in_kernel": self.in_kernel(),
            "lacking": lacking(),
            "kubernetes": self.run.get().kubernetes.get().map(|knowledge| knowledge.report()),
            "payload_rings": self.rings(),
            "ledger": ledger_json(&self.ledger()),
        })
    }
}

/// Capabilities that are missing, with what they cost.
fn lacking() -> Vec<Value> {
    let missing = super::privilege::lacking().into_iter();
    missing.map(|(name, without)| json!({"capability": name, "without": without})).collect()
}

impl Status {
    /// Libraries that are covered, by file, and processes with one that is not.
    fn tls(&self) -> Value {
        let known = self.run.get().libraries.get();
        let covered = known.covered.iter().map(|((path, _, inode), libraries)| {
            json!({"path": path.to_string_lossy(), "inode": inode, "libraries": libraries})
        });
        let uncovered = known.uncovered.iter().map(|one| {
            json!({
                "pid": one.pid,
                "library": one.library,
                "path": one.path.to_string_lossy(),
                "reason": one.why.to_string(),
            })
        });
        json!({
            "covered": covered.collect::<Vec<_>>(),
            "uncovered": uncovered.collect::<Vec<_>>(),
        })
    }

    fn rings(&self) -> Value {
        let rings = self.run.get().rings().into_iter().map(|ring| {
            json!({
                "ring": ring.number,
                "tried": ring.tried,
                "lost": ring.lost,
                "read": ring.read,
                "missing": ring.missing,
                "left": ring.left,
            })
        });
        rings.collect()
    }

    /// Processes that move bytes in ways that no registers explain (io_uring).
    fn in_kernel(&self) -> Value {
        let users = self.run.get().in_kernel.get().map(InKernel::processes).unwrap_or_default();
        let rows = users.into_iter().map(|(tgid, user)| {
            json!({
                "pid": tgid,
                "comm": task_name(tgid),
                "packet_receives": user.packet_calls,
                "unreachable_calls": user.unreachable_calls,
                "unreachable_bytes": user.unreachable_bytes,
            })
        });
        rows.collect()
    }

    fn connections(&self) -> Value {
        let census = self.run.get().census();
        let mut rows: Vec<_> = census.into_iter().collect();
        rows.sort_by_key(|(process, _)| (process.tgid, process.start_ns));
        let rows = rows.into_iter().map(|(process, counts)| {
            let mut row = serde_json::Map::new();
            row.insert("pid".to_owned(), json!(process.tgid));
            row.insert("comm".to_owned(), json!(task_name(process.tgid)));
            for (kind, count) in counts.by_name() {
                row.insert(kind.to_owned(), json!(count));
            }
            Value::Object(row)
        });
        rows.collect()
    }
}

/// Name of a process, empty when it is gone.
pub fn task_name(tgid: u32) -> String {
    let comm = std::fs::read_to_string(format!("/proc/{tgid}/comm"));
    comm.map(|name| name.trim_end().to_owned()).unwrap_or_default()
}

/// Memory of the process, bytes. Kernel maps are not part of it.
fn memory() -> Value {
    let status = procfs::process::Process::myself().and_then(|process| process.status());
    let Ok(status) = status else { return Value::Null };
    let bytes = |kib: Option<u64>| kib.map(|kib| kib * 1024);
    json!({
        "resident_bytes": bytes(status.vmrss),
        "resident_anonymous_bytes": bytes(status.rssanon),
        "peak_resident_bytes": bytes(status.vmhwm),
    })
}
