//! What the agent takes of the machine at one moment.

use crate::usage;
use crate::watcher::Watcher;
use anyhow::{Context, Result};
use serde_json::Value;
use std::fs;
use std::time::Duration;

/// One thing that is followed.
pub struct Series {
    /// As shown.
    pub name: &'static str,
    /// What it may change by, for a page or a buffer more are no leak.
    pub grain: f64,
    /// The agent's own; the machine's is shown only.
    pub judged: bool,
}

/// In the order of [`Sample::values`].
pub const SERIES: [Series; 8] = [
    Series { name: "resident KiB", grain: 512.0, judged: true },
    Series { name: "anonymous KiB", grain: 512.0, judged: true },
    Series { name: "kernel maps KiB", grain: 64.0, judged: true },
    Series { name: "descriptors", grain: 1.0, judged: true },
    Series { name: "uprobes", grain: 1.0, judged: true },
    // Connections that live are some tens.
    Series { name: "connections held", grain: 8.0, judged: true },
    Series { name: "other entries held", grain: 64.0, judged: true },
    Series { name: "machine's fixed slab KiB", grain: 4096.0, judged: false },
];

/// One look.
pub struct Sample {
    /// Since the beginning.
    pub at: Duration,
    /// One of each series.
    pub values: [f64; SERIES.len()],
}

/// Looks at the agent.
pub fn take(agent: &Watcher, at: Duration) -> Result<Sample> {
    let pid = agent.pid();
    let ledger = agent.ledger()?;
    let (resident, anonymous) = usage::memory(pid)?;
    let kernel = usage::kernel_memory(pid)? / 1024;
    let connections = held(&ledger, |stage| stage == "connection");
    let others = held(&ledger, |stage| stage != "connection");
    let (files, places) = (descriptors(pid)?, uprobes(pid)?);
    let values = [resident, anonymous, kernel, files, places, connections, others, slab()?];
    Ok(Sample { at, values: values.map(|value| value as f64) })
}

/// Above the lines.
pub fn heading() -> String {
    let names = SERIES.iter().map(|series| format!("{:>26}", series.name));
    format!("minute{}", names.collect::<String>())
}

impl Sample {
    /// As shown.
    pub fn line(&self) -> String {
        let values = self.values.iter().map(|value| format!("{value:>26.0}"));
        format!("{:>6.1}{}", self.at.as_secs_f64() / 60.0, values.collect::<String>())
    }
}

/// What tables hold, of some stages: what is left there is a leak long before memory shows it.
fn held(ledger: &[Value], of: impl Fn(&str) -> bool) -> u64 {
    let is_held =
        |entry: &&Value| entry["side"] == "held" && of(entry["stage"].as_str().unwrap_or_default());
    ledger.iter().filter(is_held).filter_map(|entry| entry["count"].as_u64()).sum()
}

fn descriptors(pid: u32) -> Result<u64> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).context("the agent is gone")?;
    Ok(open.count() as u64)
}

/// Places in libraries that carry a probe of its own.
fn uprobes(pid: u32) -> Result<u64> {
    let mut places = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // A descriptor may be closed by now.
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        places += places_of(&text);
    }
    Ok(places)
}

/// Of one descriptor: a link says how many places it has, or is one.
fn places_of(text: &str) -> u64 {
    let number = |label| usage::number(text, label);
    if let Some(places) = number("uprobe_cnt:") {
        return places;
    }
    let kind = text.lines().find_map(|line| line.strip_prefix("link_type:"));
    u64::from(kind.is_some_and(|kind| kind.trim() == "uprobe_multi"))
}

fn slab() -> Result<u64> {
    let info = fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
    usage::number(&info, "SUnreclaim:").context("/proc/meminfo has no SUnreclaim")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_counts_its_places() {
        let multi = "pos:\t0\nlink_type:\tuprobe_multi\nlink_id:\t9\nuprobe_cnt:\t7\npath:\t/x\n";
        for (text, places) in [
            (multi, 7),
            ("link_type:\tuprobe_multi\nlink_id:\t9\n", 1),
            ("link_type:\ttracing\nlink_id:\t9\n", 0),
            ("pos:\t0\n", 0),
        ] {
            assert_eq!(places_of(text), places, "{text}");
        }
    }
}
