//! `/processes`: what each process is to the agent, and what became of its bytes in the last minute.

use crate::app::packets::InKernel;
use crate::app::shared::Shared;
use crate::probe::plan::Feature;
use crate::runtime::known::{Read, States, What};
use crate::uprobe::knowledge::Uncovered;
use agent_common::settings::InKernelUser;
use agent_core::connection::KindCounts;
use agent_core::event::ProcessKey;
use agent_core::ledger::{Entry, Side};
use agent_core::process::{Resource, ResourceValue};
use agent_core::traffic::{Class, Moved};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// One process, as far as the agent has met it.
#[derive(Default)]
struct Row {
    moved: Moved,
    connections: KindCounts,
    in_kernel: Option<InKernelUser>,
    uncovered: Vec<Uncovered>,
    runtimes: BTreeMap<What, Read>,
}

/// The answer, once names are younger than `asked`.
pub fn to_json(run: &Shared, asked: u64) -> Option<Value> {
    let names = run.traffic.names(asked)?;
    let mut rows = BTreeMap::<ProcessKey, Row>::new();
    let (moved, covers_ns) = run.traffic.last_minute();
    for (process, moved) in moved {
        rows.entry(process).or_default().moved = moved;
    }
    for (process, connections) in run.census() {
        rows.entry(process).or_default().connections = connections;
    }
    for (tgid, user) in run.in_kernel.get().map(InKernel::processes).unwrap_or_default() {
        let process = ProcessKey { tgid, start_ns: user.start_ns };
        rows.entry(process).or_default().in_kernel = Some(user);
    }
    for uncovered in run.libraries.get().uncovered {
        row_of(&mut rows, uncovered.pid).uncovered.push(uncovered);
    }
    for ((pid, what), read) in runtimes(run) {
        row_of(&mut rows, pid).runtimes.insert(what, read);
    }
    rows.retain(|process, _| process.tgid != 0 && process.tgid != std::process::id());
    let ledger = run.ledger();
    let processes =
        rows.iter().map(|(process, row)| row.to_json(*process, names.get(process).map(|r| &**r)));
    Some(json!({
        "version": crate::cli::VERSION,
        "seconds": covers_ns / 1_000_000_000,
        "conversations": run.traffic.conversations.load(Ordering::Relaxed),
        "filters": run.traffic.filters.get(),
        "records_lost": lost_in_rings(&ledger),
        "tls_sockets_without_room": count_of(&ledger, Side::Info("tls_sockets_without_room")),
        "hooks": run.features.iter().map(|feature| json!({
            "feature": feature.name,
            "on": feature.is_active(),
            "why": feature.why,
        })).collect::<Vec<_>>(),
        "processes": processes.collect::<Vec<_>>(),
    }))
}

/// The last process of this number; one whose start nobody has told where there is none.
fn row_of(rows: &mut BTreeMap<ProcessKey, Row>, tgid: u32) -> &mut Row {
    let key = |start_ns| ProcessKey { tgid, start_ns };
    let known = rows.range(key(0)..=key(u64::MAX)).next_back().map(|(process, _)| *process);
    rows.entry(known.unwrap_or(key(0))).or_default()
}

/// What is read of runtimes: nothing of goroutines where the kernel has no way to.
fn runtimes(run: &Shared) -> States {
    let mut states = run.runtimes.get();
    let goroutines = run.features.iter().find(|one| one.feature == Feature::Goroutines);
    match goroutines {
        None => states.retain(|(_, what), _| *what != What::Goroutines),
        Some(off) if !off.is_active() => {
            let of_go = states.iter_mut().filter(|((_, what), _)| *what == What::Goroutines);
            of_go.for_each(|(_, read)| *read = Read::Not(off.why.clone()));
        }
        Some(_) => {}
    }
    states
}

fn read_json(read: &Read) -> Value {
    match read {
        Read::Whole => json!({"read": true, "why": null}),
        Read::But(why) => json!({"read": true, "why": why}),
        Read::Not(why) => json!({"read": false, "why": why}),
    }
}

/// Records for which the payload rings had no room, since the run began.
fn lost_in_rings(ledger: &[Entry]) -> u64 {
    let of_rings = ledger.iter().filter(|entry| entry.stage == "kernel_payload");
    of_rings.filter(|entry| entry.side == Side::Lost("ring_full")).map(|entry| entry.count).sum()
}

fn count_of(ledger: &[Entry], side: Side) -> u64 {
    ledger.iter().filter(|entry| entry.side == side).map(|entry| entry.count).sum()
}

impl Row {
    fn to_json(&self, process: ProcessKey, resource: Option<&Resource>) -> Value {
        let bytes =
            Class::ALL.map(|class| (class.name().to_owned(), json!(self.moved.bytes.of(class))));
        let protocols = self.moved.protocols.iter().map(|protocol| protocol.name());
        let open = self.connections.by_name().into_iter().filter(|(_, count)| *count > 0);
        let open = open.map(|(kind, count)| (kind.to_owned(), json!(count)));
        let in_kernel = self.in_kernel.map(|user| {
            json!({
                "packet_receives": user.packet_calls,
                "unreachable_calls": user.unreachable_calls,
                "unreachable_bytes": user.unreachable_bytes,
            })
        });
        let uncovered = self.uncovered.iter().map(|one| {
            json!({
                "library": one.library,
                "path": one.path.to_string_lossy(),
                "reason": one.why.to_string(),
            })
        });
        json!({
            "pid": process.tgid,
            "start_ns": process.start_ns,
            "resource": resource.map(attributes),
            "bytes": Map::from_iter(bytes),
            "protocols": protocols.collect::<Vec<_>>(),
            "connections": Map::from_iter(open),
            "in_kernel": in_kernel,
            "uncovered": uncovered.collect::<Vec<_>>(),
            "goroutines": self.runtimes.get(&What::Goroutines).map(read_json),
            "thread_context": self.runtimes.get(&What::ThreadContext).map(read_json),
        })
    }
}

fn attributes(resource: &Resource) -> Value {
    let value = |value: &ResourceValue| match value {
        ResourceValue::Str(text) => json!(text),
        ResourceValue::Int(number) => json!(number),
        ResourceValue::List(texts) => json!(texts),
    };
    let attributes = resource.attributes.iter();
    Value::Object(attributes.map(|(key, of)| (key.clone(), value(of))).collect())
}
