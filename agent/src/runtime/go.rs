//! Programs in Go: found when they start (or run already), read once a file, and entered into the map
//! by which the kernel side reads goroutines.

use super::known::{Known, Read, What};
use crate::probe::control::GoMaps;
use crate::uprobe::loader::Attached;
use crate::uprobe::round_trip::RoundTrip;
use crate::uprobe::target::FileKey;
use agent_common::runtime::{GoProcess, PROCESSORS};
use agent_core::golang::{self, Fault, Program, ReadAt, Site};
use agent_core::ledger::{Entry, Side};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;

/// Executables remembered: hosts run some hundred different ones. Beyond, all are forgotten and read
/// again when they are next met.
const MAX_FILES: usize = 4096;

/// Lines of `/proc/PID/maps` looked at: the executable's come first.
const MAX_MAPS: usize = 64;

/// What a file turned out to be.
type Analysis = Result<Option<Program>, Fault>;

/// Executables that were read, each once: as the kernel's probes see it, which is one file for all overlays
/// above a layer.
#[derive(Default)]
struct Files(HashMap<FileKey, Analysis>);

impl Files {
    fn of(&mut self, file: &File) -> Option<(FileKey, Analysis)> {
        let key = FileKey::of(file)?;
        if let Some(known) = self.0.get(&key) {
            return Some((key, known.clone()));
        }
        let analysis = golang::analyse(&mut Reader(file));
        if self.0.len() >= MAX_FILES {
            self.0.clear();
        }
        self.0.insert(key, analysis.clone());
        Some((key, analysis))
    }
}

/// See the module.
pub struct GoPrograms {
    maps: GoMaps,
    /// `None`: it could not be loaded, which has been said.
    round_trip: Option<RoundTrip>,
    files: Files,
    probed: HashMap<FileKey, Attached>,
    processes: HashMap<u32, FileKey>,
    known: Known,
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
    pub fn new(maps: GoMaps, round_trip: Option<RoundTrip>, known: Known) -> GoPrograms {
        GoPrograms {
            maps,
            round_trip,
            files: Files::default(),
            probed: HashMap::new(),
            processes: HashMap::new(),
            known,
            counts: Counts::default(),
        }
    }

    /// Process `tgid` runs already, or has called exec. The version of the toolchain, if it is in Go.
    pub fn started(&mut self, tgid: u32) -> Option<String> {
        // Gone, or a kernel thread: nothing to watch.
        let found = File::open(format!("/proc/{tgid}/exe")).ok().and_then(|file| {
            let (key, analysis) = self.files.of(&file)?;
            Some((file, key, analysis))
        });
        let Some((file, key, analysis)) = found else {
            self.ended(tgid);
            return None;
        };
        match analysis {
            Ok(Some(program)) => {
                self.enter(tgid, &program, key, &file);
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
                self.known.set(tgid, What::Goroutines, Read::Not(fault.to_string()));
                None
            }
        }
    }

    /// The version of the toolchain that built what a known process runs.
    pub fn version(&self, tgid: u32) -> Option<String> {
        let analysis = self.files.0.get(self.processes.get(&tgid)?)?;
        analysis.as_ref().ok()?.as_ref().map(|program| format!("go{}", program.version))
    }

    /// From now on the kernel side reads its goroutines.
    fn enter(&mut self, tgid: u32, program: &Program, key: FileKey, file: &File) {
        let Some(shift) = shift(tgid, program, key.inode) else { return self.ended(tgid) };
        let unprobed = program.round_trip.and_then(|site| self.probe(key, site, file, tgid));
        match self.maps.set(tgid, &entry(program, shift)) {
            Ok(()) => {
                self.known.set(tgid, What::Goroutines, how_far(program, unprobed));
                self.processes.insert(tgid, key);
                tracing::debug!("process {tgid} is in Go {}", program.version);
            }
            Err(error) => {
                self.counts.refused += 1;
                tracing::warn!("goroutines of process {tgid} stay unknown: {error}");
                self.known.set(tgid, What::Goroutines, Read::Not(error.to_string()));
            }
        }
    }

    /// The process is gone, or runs something else.
    pub fn ended(&mut self, tgid: u32) {
        self.known.forget(tgid, What::Goroutines);
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

    /// Attaches to the HTTP client of a file, once for all processes that run it. Without it requests
    /// of that client have no parent from within the program, and no wrong one: the reason is given.
    fn probe(&mut self, key: FileKey, site: Site, file: &File, tgid: u32) -> Option<String> {
        let Some(program) = &self.round_trip else {
            self.counts.unprobed += 1;
            return Some("its probe could not be loaded".to_owned());
        };
        if self.probed.contains_key(&key) {
            return None;
        }
        let most = program.most();
        if self.probed.len() >= most {
            make_room(&mut self.probed, &self.processes);
        }
        let attached = if self.probed.len() < most {
            program.attach(file, site.offset)
        } else {
            Err(format!("{most} executables that run have a probe"))
        };
        match attached {
            Ok(link) => {
                self.probed.insert(key, link);
                None
            }
            Err(reason) => {
                self.counts.unprobed += 1;
                tracing::warn!("who asks in process {tgid} (net/http) stays unknown: {reason}");
                Some(reason)
            }
        }
    }
}

/// Of a program whose goroutines are read.
fn how_far(program: &Program, unprobed: Option<String>) -> Read {
    let mut missing = Vec::new();
    if program.layout.parent == 0 {
        missing.push(
            "before Go 1.21 nobody knows who made a goroutine: what those calls that a handler \
             starts has no parent"
                .to_owned(),
        );
    }
    if let Some(reason) = unprobed {
        missing.push(format!("who asks by net/http's client is not known ({reason})"));
    }
    if missing.is_empty() { Read::Whole } else { Read::But(missing.join("; ")) }
}

/// Detaches from an executable that nobody runs.
fn make_room(probed: &mut HashMap<FileKey, Attached>, processes: &HashMap<u32, FileKey>) {
    let used: HashSet<&FileKey> = processes.values().collect();
    let unused = probed.keys().find(|key| !used.contains(key)).copied();
    unused.and_then(|key| probed.remove(&key));
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
    use super::{Files, beginning};
    use crate::uprobe::overlays::Overlays;

    /// Containers of one image run one file, which is read and probed once.
    #[test]
    fn a_program_on_two_overlays_of_one_layer_is_one_file() {
        let lower = [("program", "the same"), ("other", "the same")];
        let Some(overlays) = Overlays::mount("go_overlays", &lower, "") else { return };
        let mut files = Files::default();
        let mut key = |merged, name| files.of(&overlays.open(merged, name)).unwrap().0;
        let keys = [("merged1", "program"), ("merged2", "program"), ("merged1", "other")]
            .map(|(merged, name)| key(merged, name));
        assert_eq!(keys[0], keys[1]);
        assert_ne!(keys[0], keys[2]);
        assert_eq!(files.0.len(), 2);
    }

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
