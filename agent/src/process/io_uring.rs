//! Processes that have an io_uring open.

use std::path::Path;

/// What the link of such a descriptor says (io_uring/io_uring.c).
const NAME: &str = "anon_inode:[io_uring]";

/// Descriptors that are looked at of one process: the ring is made at its start, mostly.
const MOST_DESCRIPTORS: usize = 16_384;

/// Numbers of the processes that hold one by a descriptor. (A ring that is registered only with its
/// threads, or of a process that the agent may not look into, is not among them.)
pub fn with_rings() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter(|tgid| has_ring(*tgid)).collect()
}

/// The process has an io_uring open.
pub fn has_ring(tgid: u32) -> bool {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{tgid}/fd")) else { return false };
    entries
        .take(MOST_DESCRIPTORS)
        .flatten()
        .any(|entry| std::fs::read_link(entry.path()).is_ok_and(|link| link == Path::new(NAME)))
}
