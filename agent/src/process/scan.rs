//! All processes at start.

use super::ProcessReader;
use agent_core::process::ProcessFacts;

/// Most processes read at start: as many as `pid_max` allows by default on a host of usual size.
const MAX_PROCESSES: usize = 32 * 1024;

impl ProcessReader {
    /// Facts of every process there is now, by number. Processes that start meanwhile may be
    /// missing: attach the fork and exec probes first.
    ///
    /// # Errors
    /// When /proc itself cannot be listed.
    pub fn scan(&mut self) -> std::io::Result<Vec<ProcessFacts>> {
        let mut numbers: Vec<u32> = std::fs::read_dir(self.root())?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .take(MAX_PROCESSES)
            .collect();
        numbers.sort_unstable();
        Ok(numbers.into_iter().filter_map(|tgid| self.facts_of_number(tgid)).collect())
    }
}
