//! What runs: from /proc, from the libraries that are mapped, and from what an agent says.

use super::candidates::runs_this_file;
use super::left_out::Filters;
use super::told::tame_attributes;
use super::watch::Answer;
use crate::cli::doctor::programs::{Coverage, Program, Programs, Seen, Tls, size};
use crate::process::{ProcessReader, host_facts};
use crate::uprobe::survey::Use;
use agent_core::event::ProcessKey;
use agent_core::process::{
    HostFacts, NameRules, ProcessFacts, ResourceValue, identify, resource_attributes, start_tick,
};
use agent_core::traffic::{Bytes, Class};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};

/// All processes that have a program, but for agents: kernel threads have none.
pub fn gather(mut answer: Answer, uses: &[Use], rings: &[u32]) -> Programs {
    let host = host_facts();
    let facts = ProcessReader::default().scan().unwrap_or_default();
    let living = facts.iter().map(|facts| facts.key.tgid).collect();
    answer.remarks.extend(ended(answer.json.as_ref(), &living));
    let runs_it = runs_this_file();
    let agents = std::mem::take(&mut answer.agents);
    let facts = facts.into_iter().filter(|facts| {
        let pid = facts.key.tgid;
        let has_program = !facts.executable.is_empty() || !facts.args.is_empty();
        has_program && !agents.contains(&pid) && !runs_it(pid)
    });
    assemble(answer, facts, &host, uses, rings)
}

/// What those have moved that run no more: they have no line, and their bytes are in no share.
fn ended(json: Option<&Value>, living: &HashSet<u32>) -> Option<String> {
    let rows = json?["processes"].as_array()?;
    let (mut count, mut moved) = (0_u64, Bytes::default());
    for row in rows {
        let is_over = pid(row).is_some_and(|pid| !living.contains(&pid));
        // What another of these runs has sent to see what the kernel shows.
        let is_agent = row["resource"]["process.executable.name"] == "kernspan";
        let bytes = seen(row).bytes;
        if is_over && !is_agent && bytes.total() > 0 {
            count += 1;
            moved.merge(&bytes);
        }
    }
    let by_class = Class::ALL.into_iter().filter(|class| moved.of(*class) > 0);
    let by_class: Vec<_> =
        by_class.map(|class| format!("{} {}", size(moved.of(class)), class.name())).collect();
    let who =
        if count == 1 { "1 process that has" } else { &format!("{count} processes that have") };
    (count > 0).then(|| format!("not below: {who} ended and moved {}", by_class.join(", ")))
}

fn assemble(
    answer: Answer,
    facts: impl Iterator<Item = ProcessFacts>,
    host: &HostFacts,
    uses: &[Use],
    rings: &[u32],
) -> Programs {
    let rings: HashSet<u32> = rings.iter().copied().collect();
    let rows = answer.json.as_ref().and_then(|json| json["processes"].as_array());
    let rows: HashMap<u32, &Value> =
        rows.into_iter().flatten().filter_map(|row| Some((pid(row)?, row))).collect();
    let watched = answer.json.is_some();
    let of = |key: &str| answer.json.as_ref().and_then(|json| json[key].as_array());
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let filters: Vec<String> = of("filters").into_iter().flatten().filter_map(text).collect();
    let leaves_out = Filters::of(&filters);
    let programs = facts.map(|facts| {
        let row = rows.get(&facts.key.tgid).copied().filter(|row| is_same(row, facts.key));
        let pid = facts.key.tgid;
        let seen = watched.then(|| row.map(seen).unwrap_or_default());
        // What was seen is not left out: a child of a process that was named, and has ended.
        let is_seen = seen.as_ref().is_some_and(|seen| seen.bytes.total() > 0);
        let left_out = if is_seen { Vec::new() } else { leaves_out.leave_out(&facts) };
        Program {
            pid,
            attributes: attributes(&facts, host, row),
            tls: libraries(uses.iter().filter(|one| one.pid == pid), row),
            io_uring: rings.contains(&pid),
            seen,
            left_out,
            goroutines: row.and_then(|row| coverage(&row["goroutines"])),
            thread_context: row.and_then(|row| coverage(&row["thread_context"])),
        }
    });
    let mut programs: Vec<Program> = programs.collect();
    programs.sort_by_key(|program| program.pid);
    let off = of("hooks").into_iter().flatten().filter(|hook| hook["on"] == false);
    let off = off.filter_map(|hook| Some((text(&hook["feature"])?, text(&hook["why"])?)));
    let number = |key: &str| answer.json.as_ref().and_then(|json| json[key].as_u64()).unwrap_or(0);
    let mut remarks = answer.remarks;
    if answer.json.as_ref().is_some_and(|json| json["conversations"] == false) {
        remarks.push(
            "conversations are not followed there: of connections that are not parsed only the \
             first bytes are counted"
                .to_owned(),
        );
    }
    Programs {
        seconds: number("seconds"),
        records_lost: number("records_lost"),
        tls_sockets_without_room: number("tls_sockets_without_room"),
        source: answer.source,
        filters,
        off: off.collect(),
        programs,
        remarks,
    }
}

fn pid(row: &Value) -> Option<u32> {
    row["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok())
}

/// The number has not been given to another process. An agent that knows a library only does not know the start.
fn is_same(row: &Value, key: ProcessKey) -> bool {
    let start_ns = row["start_ns"].as_u64().unwrap_or(0);
    start_ns == 0 || start_tick(ProcessKey { start_ns, ..key }).abs_diff(start_tick(key)) <= 1
}

/// What the agent says, which knows pods and the operator's rules; else what /proc does.
fn attributes(facts: &ProcessFacts, host: &HostFacts, row: Option<&Value>) -> Map<String, Value> {
    let value = |value| match value {
        ResourceValue::Str(text) => json!(text),
        ResourceValue::Int(number) => json!(number),
        ResourceValue::List(texts) => json!(texts),
    };
    let told = row.and_then(|row| row["resource"].as_object());
    let all = match told {
        Some(told) => told.clone(),
        None => resource_attributes(facts, &identify(facts), host, &NameRules::default(), None)
            .into_iter()
            .map(|(key, of)| (key, value(of)))
            .collect(),
    };
    let of_process = |key: &str| {
        let dull =
            ["host.", "os.", "telemetry.sdk.name", "telemetry.sdk.version", "telemetry.distro."];
        !dull.iter().any(|start| key.starts_with(start))
    };
    tame_attributes(all.into_iter().filter(|(key, _)| of_process(key)).collect())
}

/// Each library once: not read, where any of its copies is not.
fn libraries<'a>(uses: impl Iterator<Item = &'a Use>, row: Option<&Value>) -> Vec<Tls> {
    let mut found = BTreeMap::<String, Option<String>>::new();
    for one in uses {
        // Its own buffers are no library to speak of.
        if one.library != "OpenSSL (libcrypto)" {
            let why = one.blind.as_ref().map(ToString::to_string);
            let known = found.entry(one.library.to_owned()).or_default();
            *known = known.take().or(why);
        }
    }
    let told = row.and_then(|row| row["uncovered"].as_array()).into_iter().flatten();
    for one in told {
        if let (Some(library), Some(why)) = (one["library"].as_str(), one["reason"].as_str()) {
            found.insert(library.to_owned(), Some(why.to_owned()));
        }
    }
    found.into_iter().map(|(library, blind)| Tls { library, blind }).collect()
}

fn coverage(told: &Value) -> Option<Coverage> {
    let why = told["why"].as_str().map(str::to_owned);
    told["read"].as_bool().map(|read| Coverage { read, why })
}

fn seen(row: &Value) -> Seen {
    let mut bytes = Bytes::default();
    for class in Class::ALL {
        bytes.add(class, row["bytes"][class.name()].as_u64().unwrap_or(0));
    }
    let protocols = row["protocols"].as_array().into_iter().flatten();
    let in_kernel = |key: &str| row["in_kernel"][key].as_u64().unwrap_or(0);
    Seen {
        bytes,
        protocols: protocols.filter_map(|name| Some(name.as_str()?.to_owned())).collect(),
        packet_receives: in_kernel("packet_receives"),
        unreachable_calls: in_kernel("unreachable_calls"),
    }
}

#[cfg(test)]
#[path = "programs_tests.rs"]
mod tests;
