//! What the agent takes of the machine at one moment.

use crate::usage;
use anyhow::{Context, Result};
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
pub const SERIES: [Series; 6] = [
    Series { name: "resident KiB", grain: 512.0, judged: true },
    Series { name: "anonymous KiB", grain: 512.0, judged: true },
    Series { name: "kernel maps KiB", grain: 64.0, judged: true },
    Series { name: "descriptors", grain: 1.0, judged: true },
    Series { name: "uprobes", grain: 1.0, judged: true },
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
pub fn take(pid: u32, at: Duration) -> Result<Sample> {
    let (resident, anonymous) = usage::memory(pid)?;
    let kernel = usage::kernel_memory(pid)? / 1024;
    let values = [resident, anonymous, kernel, descriptors(pid)?, uprobes(pid)?, slab()?];
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
