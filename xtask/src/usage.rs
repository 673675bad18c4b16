//! CPU time and memory as the kernel accounts for them.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// `USER_HZ`, which `/proc` counts in, is 100 on every Linux that Debian builds.
const TICK: Duration = Duration::from_millis(10);

/// CPU time that all processors together spent not idle (`/proc/stat`, first line).
pub fn machine() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat").context("/proc/stat")?;
    busy(&stat).context("/proc/stat has no line for all processors")
}

/// user, nice, system, irq and softirq; idle, iowait and what another machine took (steal) are not
/// this machine's work.
fn busy(stat: &str) -> Option<Duration> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u32> = line.split_whitespace().flat_map(str::parse).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = fields.as_slice() else {
        return None;
    };
    Some(TICK * (user + nice + system + irq + softirq))
}

/// CPU time of one process, all its threads (`/proc/PID/stat`: utime and stime).
pub fn process(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid} is gone"))?;
    used(&stat).with_context(|| format!("/proc/{pid}/stat: {stat}"))
}

fn used(stat: &str) -> Option<Duration> {
    ticks(stat, 11)
}

/// Two times that follow each other in `/proc/PID/stat`, user's and system's, added.
fn ticks(stat: &str, behind_the_state: usize) -> Option<Duration> {
    // Behind the name in parentheses: state is field 3, utime 14, stime 15, cutime 16, cstime 17.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(behind_the_state);
    let (user, system): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(TICK * (user + system))
}

/// The same of this process's children that have ended (`cutime` and `cstime`).
pub fn ended_children() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").context("/proc/self/stat")?;
    ticks(&stat, 13).with_context(|| format!("/proc/self/stat: {stat}"))
}

/// Children of a process's first thread: those of servers are made there.
pub fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().flat_map(str::parse).collect()
}

/// Resident memory in KiB: all of it, and the anonymous part (without mapped rings and files).
pub fn memory(pid: u32) -> Result<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid} is gone"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    field("VmRSS:").zip(field("RssAnon:")).with_context(|| format!("memory of process {pid}"))
}

/// Bytes of the kernel maps that a process holds (`/proc/PID/fdinfo`), each counted once.
pub fn kernel_memory(pid: u32) -> Result<u64> {
    let mut maps = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // A descriptor may be closed by now.
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        if let (Some(map), Some(bytes)) = (number(&text, "map_id:"), number(&text, "memlock:")) {
            maps.insert(map, bytes);
        }
    }
    Ok(maps.values().sum())
}

/// The number behind a label at the beginning of a line.
pub fn number(text: &str, label: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(label))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_waiting_and_stolen_time_are_no_work() {
        let stat = "cpu  10 1 20 500 60 3 4 900 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(busy(stat), Some(Duration::from_millis(380)));
        assert_eq!(busy("cpu0 1"), None);
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 30 12 0 0 20 0 1 0 5";
        assert_eq!(used(stat), Some(Duration::from_millis(420)));
        assert_eq!(ticks(stat, 13), Some(Duration::ZERO));
    }

    #[test]
    fn this_process_has_memory_and_time() {
        let pid = std::process::id();
        let (resident, anonymous) = memory(pid).unwrap();
        assert!(resident >= anonymous && anonymous > 0);
        assert!(process(pid).unwrap() <= machine().unwrap());
    }
}
