//! Programs in Go: found when they start (or run already), read once a file, and entered into the map
//! by which the kernel side reads goroutines.

use crate::probe::attached::Attached;
use crate::probe::control::GoMaps;
use agent_common::runtime::{GoProcess, PROCESSORS};
use agent_core::golang::{self, Fault, Program, ReadAt, Site};
use agent_core::ledger::{Entry, Side};
use aya::Ebpf;
use aya::programs::uprobe::{UProbeAttachLocation, UProbeLinkId, UProbeScope};
use aya::programs::{ProgramError, UProbe};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Executables remembered: hosts run some hundred different ones. Beyond, all are forgotten and read
/// again when they are next met.
const MAX_FILES: usize = 4096;

/// Executables with a uprobe at most: each costs a descriptor, and 80 ms when the agent stops. One that
/// no process runs any more makes room.
const MAX_PROBED: usize = 16;

/// Lines of `/proc/PID/maps` looked at: the executable's come first.
const MAX_MAPS: usize = 64;

/// The program of the kernel object that is attached to HTTP clients.
const ROUND_TRIP: &str = "go_round_trip";

/// One file's contents, as far as anybody can tell from outside.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

/// What a file turned out to be.
type Analysis = Result<Option<Program>, Fault>;

/// See the module.
pub struct GoPrograms {
    maps: GoMaps,
    attached: Attached,
    files: HashMap<Identity, Analysis>,
    probed: HashMap<Identity, UProbeLinkId>,
    processes: HashMap<u32, Identity>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    refused: u64,
    unprobed: u64,
}

/// An executable, read where it is needed.
pub struct Reader<'a>(pub &'a File);

impl ReadAt for Reader<'_> {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> usize {
        let mut filled = 0;
        while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
            match self.0.read_at(room, offset.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        filled
    }
}

impl GoPrograms {
    /// None is known yet.
    pub fn new(maps: GoMaps, attached: Attached) -> GoPrograms {
        GoPrograms {
            maps,
            attached,
            files: HashMap::new(),
            probed: HashMap::new(),
            processes: HashMap::new(),
            counts: Counts::default(),
        }
    }

    /// Process `tgid` runs already, or has called exec. The version of the toolchain, if it is in Go.
    pub fn started(&mut self, tgid: u32) -> Option<String> {
        let path = PathBuf::from(format!("/proc/{tgid}/exe"));
        // Gone, or a kernel thread: nothing to watch.
        let found = File::open(&path).ok().and_then(|file| self.analysis(&file));
        let Some((identity, analysis)) = found else {
            self.ended(tgid);
            return None;
        };
        match analysis {
            Ok(Some(program)) => {
                self.enter(tgid, &program, identity, &path);
                Some(format!("go{}", program.version))
            }
            Ok(None) => {
                self.ended(tgid);
                None
            }
            Err(fault) => {
                self.counts.refused += 1;
                tracing::warn!("goroutines of process {tgid} stay unknown: {fault}");
                self.ended(tgid);
                None
            }
        }
    }

    /// The version of the toolchain that built what a known process runs.
    pub fn version(&self, tgid: u32) -> Option<String> {
        let analysis = self.files.get(self.processes.get(&tgid)?)?;
        analysis.as_ref().ok()?.as_ref().map(|program| format!("go{}", program.version))
    }

    /// From now on the kernel side reads its goroutines.
    fn enter(&mut self, tgid: u32, program: &Program, identity: Identity, path: &Path) {
        let Some(shift) = shift(tgid, program, identity.inode) else { return self.ended(tgid) };
        if let Some(site) = program.round_trip {
            self.probe(identity, site, path, tgid);
        }
        match self.maps.set(tgid, &entry(program, shift)) {
            Ok(()) => {
                self.processes.insert(tgid, identity);
                tracing::debug!("process {tgid} is in Go {}", program.version);
            }
            Err(error) => {
                self.counts.refused += 1;
                tracing::warn!("goroutines of process {tgid} stay unknown: {error}");
            }
        }
    }

    /// The process is gone, or runs something else.
    pub fn ended(&mut self, tgid: u32) {
        if self.processes.remove(&tgid).is_some() {
            self.maps.remove(tgid);
        }
    }

    /// Its account.
    pub fn ledger(&self, entries: &mut Vec<Entry>) {
        let count =
            |name, count| Entry { stage: "go", unit: "processes", side: Side::Info(name), count };
        entries.extend([
            count("known", self.processes.len() as u64),
            count("refused", self.counts.refused),
            count("clients_without_probe", self.counts.unprobed),
        ]);
    }

    fn analysis(&mut self, file: &File) -> Option<(Identity, Analysis)> {
        let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let identity = Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        };
        if let Some(known) = self.files.get(&identity) {
            return Some((identity, known.clone()));
        }
        let analysis = golang::analyse(&mut Reader(file));
        if self.files.len() >= MAX_FILES {
            self.files.clear();
        }
        self.files.insert(identity, analysis.clone());
        Some((identity, analysis))
    }

    /// Attaches to the HTTP client of a file, once for all processes that run it. Without it requests
    /// of that client have no parent from within the program, and no wrong one.
    fn probe(&mut self, identity: Identity, site: Site, path: &Path, tgid: u32) {
        if self.probed.contains_key(&identity) {
            return;
        }
        if self.probed.len() >= MAX_PROBED {
            self.make_room();
        }
        let attached = match self.probed.len() {
            MAX_PROBED.. => Err(format!("{MAX_PROBED} executables that run have a probe")),
            _ => self.attach(site, path),
        };
        match attached {
            Ok(Some(link)) => {
                self.probed.insert(identity, link);
            }
            Ok(None) => {}
            Err(reason) => {
                self.counts.unprobed += 1;
                tracing::warn!("who asks in process {tgid} (net/http) stays unknown: {reason}");
            }
        }
    }

    /// Detaches from an executable that nobody runs.
    fn make_room(&mut self) {
        let used: HashSet<&Identity> = self.processes.values().collect();
        let unused = self.probed.keys().find(|identity| !used.contains(identity)).copied();
        let Some(link) = unused.and_then(|identity| self.probed.remove(&identity)) else { return };
        let detached = self.attached.with(|ebpf| round_trip(ebpf)?.detach(link).map_err(text));
        if let Some(Err(reason)) = detached {
            tracing::warn!("a uprobe stays where nobody runs it: {reason}");
        }
    }

    /// `None`: the agent stops.
    fn attach(&self, site: Site, path: &Path) -> Result<Option<UProbeLinkId>, String> {
        let place = UProbeAttachLocation::AbsoluteOffset(site.offset);
        let attached = self.attached.with(|ebpf| {
            let program = round_trip(ebpf)?;
            if program.fd().is_err() {
                program.load().map_err(text)?;
            }
            program.attach(place, path, UProbeScope::AllProcesses).map_err(text)
        });
        attached.transpose()
    }
}

fn round_trip(ebpf: &mut Ebpf) -> Result<&mut UProbe, String> {
    let program = ebpf.program_mut(ROUND_TRIP).ok_or("the kernel object has no such program")?;
    program.try_into().map_err(text)
}

fn text(error: ProgramError) -> String {
    format!("{error:?}")
}

/// What the kernel side needs of a program that is loaded `shift` bytes above its addresses.
fn entry(program: &Program, shift: u64) -> GoProcess {
    let at = |address: u64| address.wrapping_add(shift);
    let layout = program.layout;
    let writer = program.writer.map(|writer| {
        let address = at(writer.function.address);
        ([address, address.saturating_add(writer.function.size)], writer.receiver)
    });
    let (writer, receiver) = writer.unwrap_or_default();
    GoProcess {
        slot: i64::from(program.slot),
        goid: layout.goid.into(),
        parent: layout.parent.into(),
        start: layout.start.into(),
        m: layout.m.into(),
        current: layout.current.into(),
        p: layout.p.into(),
        old_p: layout.old_p.into(),
        next_goid: layout.next_goid.into(),
        numbers: program.numbers.map_or(0, at),
        servants: program.servants.map_or([0; 2], |(first, last)| [at(first), at(last)]),
        writer,
        receiver,
        // What has a client linked in calls out.
        calls: program.round_trip.is_some().into(),
        processors: [0; PROCESSORS],
    }
}

/// How far above its addresses the executable is loaded. `None` when the process is gone.
fn shift(tgid: u32, program: &Program, inode: u64) -> Option<u64> {
    if !program.relocated {
        return Some(0);
    }
    let maps = BufReader::new(File::open(format!("/proc/{tgid}/maps")).ok()?);
    let lines = maps.lines().take(MAX_MAPS).map_while(Result::ok);
    let first = lines.filter_map(|line| beginning(&line, inode)).next()?;
    Some(first.wrapping_sub(program.base))
}

/// Address at which a line of `maps` has the beginning of the file `inode`.
fn beginning(line: &str, inode: u64) -> Option<u64> {
    let mut fields = line.split_ascii_whitespace();
    let (start, _) = fields.next()?.split_once('-')?;
    let offset = fields.nth(1)?;
    let own = fields.nth(1)?.parse() == Ok(inode);
    let first = u64::from_str_radix(offset, 16) == Ok(0);
    if own && first { u64::from_str_radix(start, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::beginning;

    #[test]
    fn the_beginning_of_a_file_is_found_among_mappings() {
        for (why, line, expected) in [
            ("it", "55d0c000-55d0d000 r--p 00000000 fe:00 77 /x", Some(0x55d0_c000)),
            ("further on", "55d0d000-55d0e000 r-xp 00001000 fe:00 77 /x", None),
            ("another file", "55d0c000-55d0d000 r--p 00000000 fe:00 78 /y", None),
            ("no file", "7ffc0000-7ffc1000 rw-p 00000000 00:00 0 [stack]", None),
            ("cut", "7ffc0000", None),
        ] {
            assert_eq!(beginning(line, 77), expected, "{why}");
        }
    }
}
