//! `kernspan doctor`: what this kernel offers, found out by loading and attaching everything once; and what the
//! programs are that run, and what an agent sees of them.

mod agent;
mod candidates;
mod left_out;
mod programs;
mod told;
mod watch;

use super::{privilege, rings::Rings};
use crate::cli::doctor::advice::advice;
use crate::cli::doctor::page::columns;
use crate::cli::doctor::programs::Programs;
use crate::cli::doctor::{Fact, HookReport, Report};
use crate::cli::{Doctor, Failure, Watch};
use crate::probe::attach;
use crate::probe::load::{FeatureReport, LoadConfig, load};
use crate::probe::plan::{Feature, PLAN};
use crate::probe::running::BTF_PATH;
use crate::process::io_uring;
use crate::uprobe::survey::{self, Use};
use agent_common::settings::{MAX_CAPTURE, Settings};
use std::path::Path;

/// Prints the report.
///
/// # Errors
/// Missing capabilities, an agent that is to be asked and does not answer, or standard output.
pub fn run(asked: &Doctor) -> Result<(), Failure> {
    let uses = survey::uses();
    // Before programs of its own are loaded: they are no matter of the agent's.
    let seen = match &asked.watch {
        Watch::Found => agent::found()?,
        Watch::Agent(address) => agent::ask(*address)?,
        Watch::Own(time, settings) => watch::watch(*time, settings)?,
    };
    let users = io_uring::with_rings();
    let programs = programs::gather(seen, &uses, &users);
    let report =
        Report { all: asked.all, ..examine(asked.btf.as_deref(), &uses, &users, programs) };
    let text = match asked.json {
        true => format!("{:#}\n", report.to_json()),
        false => report.to_text(columns()),
    };
    crate::cli::print(&text)
        .map_err(|error| anyhow::Error::new(error).context("standard output"))?;
    Ok(())
}

fn examine(btf: Option<&Path>, uses: &[Use], users: &[u32], programs: Programs) -> Report {
    let uname = rustix::system::uname();
    let mut facts = vec![
        existing(
            "type information (BTF)",
            btf.unwrap_or(Path::new(BTF_PATH)),
            "only kprobes serve, and --btf has to name a file with it",
        ),
        capability_fact(),
        existing(
            "cgroup v2",
            attach::cgroup_root().unwrap_or(Path::new("/sys/fs/cgroup/cgroup.controllers")),
            "--cgroup selects nothing, and UDP sockets that are not connected have no peers",
        ),
    ];
    let lacking = privilege::lacking();
    facts.extend(lacking.iter().map(|(name, without)| Fact {
        name: (*name).to_owned(),
        available: false,
        detail: format!("not held; {without}"),
    }));
    facts.extend(uncovered_fact(uses));
    let hooks: Vec<HookReport> = match load(crate::probe::OBJECTS, &everything(btf)) {
        Ok(loaded) => loaded.features.iter().map(hook_report).collect(),
        Err(error) => {
            facts.push(Fact {
                name: "kernel programs".to_owned(),
                available: false,
                detail: error.to_string(),
            });
            PLAN.iter().map(|entry| absent(entry.name, entry.without)).collect()
        }
    };
    Report {
        kernel: uname.release().to_string_lossy().into_owned(),
        arch: uname.machine().to_string_lossy().into_owned(),
        facts,
        advice: advice(&programs, &hooks, &lacking),
        hooks,
        io_uring: users.iter().map(|tgid| (*tgid, super::status::task_name(*tgid))).collect(),
        programs,
        all: false,
    }
}

fn everything(btf: Option<&Path>) -> LoadConfig {
    LoadConfig {
        wanted: PLAN.iter().map(|entry| entry.feature).chain([Feature::Tls]).collect(),
        payload_hooks: None,
        btf: btf.map(Path::to_owned),
        settings: Settings {
            own_tgid: std::process::id(),
            head_bytes: MAX_CAPTURE,
            later_bytes: 256,
            payload_rings: Rings::count_here(),
            ..Settings::default()
        },
        ring_size: 1 << 16,
        process_filter_size: 1,
        tls_sockets: 1024,
        flows: Some(super::flows::SIZES_TO_TRY),
    }
}

/// A feature as the report shows it.
pub fn hook_report(feature: &FeatureReport) -> HookReport {
    let active = feature.is_active();
    HookReport {
        feature: feature.name.to_owned(),
        hooks: feature.hooks.clone(),
        why: feature.why.clone(),
        missing: if active { Vec::new() } else { vec![feature.without.to_owned()] },
    }
}

fn absent(name: &str, without: &str) -> HookReport {
    HookReport {
        feature: name.to_owned(),
        hooks: Vec::new(),
        why: "nothing could be loaded".to_owned(),
        missing: vec![without.to_owned()],
    }
}

fn existing(name: &str, path: &Path, without: &str) -> Fact {
    let available = path.exists();
    let path = path.display();
    let detail = if available { path.to_string() } else { format!("{path}; without it {without}") };
    Fact { name: name.to_owned(), available, detail }
}

/// Programs named in a fact; the rest are counted.
const MOST_NAMED: usize = 16;

/// Who uses a TLS library that is not covered, where anybody does.
fn uncovered_fact(uses: &[Use]) -> Option<Fact> {
    let uncovered = uses.iter().filter_map(|one| Some((one, one.blind.as_ref()?)));
    let uncovered: Vec<_> = uncovered.collect();
    if uncovered.is_empty() {
        return None;
    }
    let mut detail: Vec<_> = uncovered
        .iter()
        .take(MOST_NAMED)
        .map(|(one, why)| {
            let name = super::status::task_name(one.pid);
            format!("{name} ({}): {} ({why})", one.pid, one.library)
        })
        .collect();
    if uncovered.len() > MOST_NAMED {
        detail.push(format!("{} more", uncovered.len() - MOST_NAMED));
    }
    Some(Fact {
        name: "TLS of all programs in clear".to_owned(),
        available: false,
        detail: format!("not of {}", detail.join(", ")),
    })
}

fn capability_fact() -> Fact {
    let missing = privilege::check().err();
    Fact {
        name: "capabilities".to_owned(),
        available: missing.is_none(),
        detail: missing.map_or("CAP_BPF and CAP_PERFMON".to_owned(), |failure| failure.to_string()),
    }
}
