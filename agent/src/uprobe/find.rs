//! Files with code that are mapped now, and libraries that the standard loader would find.

use super::open;
use super::target::FileKey;
use agent_core::process::proc;
use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Where the standard loader looks (ld.so(8)), on the distributions that are in use.
const DIRECTORIES: [&str; 7] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/local/lib64",
    "/usr/lib",
];

/// How the names of libraries begin that are probed before anybody has mapped them: programs that live
/// only for a moment are seen from their first call.
const WELL_KNOWN: [&str; 5] =
    ["libssl.so", "libcrypto.so", "libgnutls.so", "libnspr4.so", "libssl3.so"];

/// Longest `/proc/PID/maps` that is read.
const MAX_MAPS: u64 = 8 << 20;

/// One mapping with code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Process.
    pub pid: u32,
    /// First and last address, hexadecimal, as in `map_files`.
    pub range: String,
    /// Device (`fd:01`) and inode: what it is, before it is opened.
    pub inode: (String, u64),
    /// Path as the process sees it; of a deleted file with a remark behind it.
    pub path: PathBuf,
}

impl Mapping {
    /// Opens the file, also where it has been deleted, or lies in another mount namespace. Nothing but a
    /// regular file is opened.
    pub fn open(&self) -> Option<File> {
        let link = format!("/proc/{}/map_files/{}", self.pid, self.range);
        let mapped = open::regular(Path::new(&link));
        mapped.or_else(|| open::seen_by(self.pid, &self.path, self.inode.1))
    }
}

/// The well-known libraries.
pub fn well_known() -> Vec<PathBuf> {
    let mut seen = HashSet::new();
    let directories = DIRECTORIES.iter().filter_map(|path| std::fs::read_dir(path).ok());
    let files = directories.flatten().flatten().filter(|entry| {
        let name = entry.file_name();
        WELL_KNOWN.iter().any(|start| name.to_string_lossy().starts_with(start))
    });
    let mut found: Vec<PathBuf> = files
        .map(|entry| entry.path())
        .filter(|path| {
            open::regular(path)
                .and_then(|file| FileKey::of(&file))
                .is_some_and(|key| seen.insert(key))
        })
        .collect();
    found.sort();
    found
}

/// The mappings with code of all processes, each file of a process once.
pub fn mapped() -> Vec<Mapping> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != std::process::id()).flat_map(of_process).collect()
}

/// The mappings with code of one process.
pub fn of_process(pid: u32) -> Vec<Mapping> {
    use std::io::Read;
    let Ok(file) = File::open(format!("/proc/{pid}/maps")) else { return Vec::new() };
    let mut text = Vec::new();
    if file.take(MAX_MAPS).read_to_end(&mut text).is_err() {
        return Vec::new();
    }
    let mut seen = HashSet::new();
    let lines = String::from_utf8_lossy(&text);
    let mappings = lines.lines().filter_map(proc::code).map(|code| Mapping {
        pid,
        range: code.range.to_owned(),
        inode: (code.device.to_owned(), code.inode),
        path: PathBuf::from(code.path),
    });
    mappings.filter(|mapping| seen.insert(mapping.inode.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_maps_its_own_program() {
        let own = std::env::current_exe().unwrap();
        let mappings = of_process(std::process::id());
        let program = mappings.iter().find(|mapping| mapping.path == own).expect("the program");
        assert!(program.open().is_some());
    }
}
