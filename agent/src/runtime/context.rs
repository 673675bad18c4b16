//! Programs that publish their trace context by thread (OTEP 4947): found by the variable that they, or a
//! library of theirs, export, and entered into the map by which the kernel side reads it.
//!
//! Where a library's variable is, its loader decides after the file is mapped: it is asked for again for a
//! while. So is a program's that has just started: the kernel side forgets a process whose exec ends, which
//! may be after its file was seen.

use super::known::{Known, Read, What};
use crate::probe::control::PublisherMap;
use crate::uprobe::find::Mapping;
use agent_common::runtime::{Publisher, vector};
use agent_core::elf::thread_local::{Missing, ThreadLocal};
use agent_core::elf::{Elf, Image};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// The variable.
const VARIABLE: &str = "otel_thread_ctx_v1";

/// When a process is asked, ms after its mapping was seen.
const ASKED_MS: [u64; 8] = [0, 5, 15, 40, 100, 300, 1000, 3000];

/// A success from then on stands: the exec that mapped the file is over.
const SETTLED: Duration = Duration::from_millis(10);

/// Processes that are asked at a time, at most.
const MAX_WAITING: usize = 1024;

/// What a file says of the variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    variable: ThreadLocal,
    first_address: u64,
}

impl Exported {
    /// Of a file that has it.
    pub fn by<I: Image>(elf: &Elf<I>) -> Option<Exported> {
        let variable = elf.thread_local(VARIABLE)?;
        Some(Exported { variable, first_address: elf.first_address()? })
    }
}

/// What became of processes.
#[derive(Clone, Copy, Debug, Default)]
pub struct ContextCounts {
    /// Processes whose variable was found.
    pub found: u64,
    /// Processes whose variable could not be found.
    pub refused: u64,
}

/// See the module.
pub struct Contexts {
    map: PublisherMap,
    waiting: Vec<Waiting>,
    known: Known,
    /// As of now.
    pub counts: ContextCounts,
}

struct Waiting {
    mapping: Mapping,
    exported: Exported,
    since: Instant,
    asked: usize,
}

/// What a look at a process gives.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Publishes(Publisher),
    No(Missing),
    Gone,
}

impl Contexts {
    /// None is known yet.
    pub fn new(map: PublisherMap, known: Known) -> Contexts {
        Contexts { map, waiting: Vec::new(), known, counts: ContextCounts::default() }
    }

    /// A process has mapped a file that exports the variable.
    pub fn met(&mut self, mapping: &Mapping, exported: Exported) {
        let same =
            |one: &Waiting| one.mapping.pid == mapping.pid && one.mapping.inode == mapping.inode;
        // Mapped again: by an exec, perhaps.
        self.waiting.retain(|one| !same(one));
        if self.waiting.len() >= MAX_WAITING {
            self.refuse(mapping.pid, &format!("{MAX_WAITING} processes are asked already"));
            return;
        }
        let since = Instant::now();
        self.waiting.push(Waiting { mapping: mapping.clone(), exported, since, asked: 0 });
        self.ask();
    }

    /// Time until somebody has to be asked again.
    pub fn pause(&self) -> Option<Duration> {
        self.waiting.iter().map(|one| one.due().saturating_sub(one.since.elapsed())).min()
    }

    /// Asks those whose turn it is.
    pub fn ask(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain_mut(|one| one.since.elapsed() < one.due() || self.ask_one(one));
        self.waiting = waiting;
    }

    /// True while it has to be asked again.
    fn ask_one(&mut self, one: &mut Waiting) -> bool {
        let last = one.asked + 1 >= ASKED_MS.len();
        one.asked += 1;
        let pid = one.mapping.pid;
        match look(&one.mapping, one.exported) {
            Answer::Gone => false,
            Answer::No(Missing::NotYet) if !last => true,
            Answer::No(reason) => {
                self.refuse(pid, &reason);
                let path = one.mapping.path.display();
                tracing::warn!(
                    "what threads of process {pid} publish is not read ({path}): {reason}"
                );
                false
            }
            Answer::Publishes(publisher) => self.enter(one, &publisher),
        }
    }

    fn refuse(&mut self, pid: u32, why: &dyn std::fmt::Display) {
        self.counts.refused += 1;
        self.known.set(pid, What::ThreadContext, Read::Not(why.to_string()));
    }

    fn enter(&mut self, one: &Waiting, publisher: &Publisher) -> bool {
        let pid = one.mapping.pid;
        if let Err(error) = self.map.set(pid, publisher) {
            self.refuse(pid, &error);
            tracing::warn!("what threads of process {pid} publish is not read: {error}");
            return false;
        }
        // It may have ended, or begun to run something else, while it was looked at.
        if look(&one.mapping, one.exported) != Answer::Publishes(*publisher) {
            self.map.remove(pid);
            return one.asked < ASKED_MS.len();
        }
        if one.since.elapsed() < SETTLED {
            return true;
        }
        self.counts.found += 1;
        self.known.set(pid, What::ThreadContext, Read::Whole);
        tracing::debug!("process {pid} publishes trace contexts: {publisher:?}");
        false
    }
}

impl Waiting {
    fn due(&self) -> Duration {
        Duration::from_millis(ASKED_MS.get(self.asked).copied().unwrap_or(0))
    }
}

fn look(mapping: &Mapping, exported: Exported) -> Answer {
    let pid = mapping.pid;
    let Ok(maps) = File::open(format!("/proc/{pid}/maps")) else { return Answer::Gone };
    let lines = BufReader::new(maps).lines().map_while(Result::ok);
    let Some(layout) = Layout::read(lines, &mapping.inode) else { return Answer::Gone };
    let shift = layout.start.wrapping_sub(exported.first_address);
    let memory = File::open(format!("/proc/{pid}/mem")).ok();
    let found = exported.variable.place(shift, |at| words(memory.as_ref()?, at));
    match found {
        Ok(place) => Answer::Publishes(Publisher {
            offset: place.offset,
            module: place.module,
            vector: match place.module {
                0 => vector::NONE,
                _ if layout.musl => vector::MUSL,
                _ => vector::GLIBC,
            },
        }),
        Err(missing) => Answer::No(missing),
    }
}

fn words(memory: &File, at: u64) -> Option<[u64; 2]> {
    let mut bytes = [0; 16];
    memory.read_exact_at(&mut bytes, at).ok()?;
    let [first, second] = [bytes.first_chunk(), bytes.last_chunk()];
    Some([u64::from_le_bytes(*first?), u64::from_le_bytes(*second?)])
}

/// What a process has mapped.
#[derive(Debug, Default, PartialEq, Eq)]
struct Layout {
    /// Where the file's first byte is.
    start: u64,
    /// Its C library is musl.
    musl: bool,
}

impl Layout {
    /// `None` where the file is not mapped.
    fn read(lines: impl Iterator<Item = String>, file: &(String, u64)) -> Option<Layout> {
        let mut start = None;
        let mut musl = false;
        for line in lines {
            // `range rwxp offset device inode  path`
            let mut words = line.split_ascii_whitespace();
            let Some((range, offset)) = words.next().zip(words.nth(1)) else { continue };
            let Some((device, inode)) = words.next().zip(words.next()) else { continue };
            let path = words.next().unwrap_or_default();
            let name = path.rsplit('/').next().unwrap_or_default();
            musl |= name.starts_with("ld-musl-") || name.starts_with("libc.musl-");
            let own = device == file.0 && inode.parse() == Ok(file.1);
            if own && start.is_none() && u64::from_str_radix(offset, 16) == Ok(0) {
                let (first, _) = range.split_once('-')?;
                start = u64::from_str_radix(first, 16).ok();
            }
        }
        start.map(|start| Layout { start, musl })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_beginning_and_the_c_library_are_found_among_mappings() {
        let maps = "\
55d0c000-55d0d000 r--p 00000000 fe:00 77 /x
55d0d000-55d0e000 r-xp 00001000 fe:00 77 /x
7f000000-7f001000 r--p 00000000 fe:00 78 /lib/y.so
7ffc0000-7ffc1000 rw-p 00000000 00:00 0 [stack]
cut";
        let read = |text: &str, device: &str, inode| {
            Layout::read(text.lines().map(str::to_owned), &(device.to_owned(), inode))
        };
        let found = |start, musl| Some(Layout { start, musl });
        assert_eq!(read(maps, "fe:00", 77), found(0x55d0_c000, false));
        assert_eq!(read(maps, "fe:00", 78), found(0x7f00_0000, false));
        assert_eq!(read(maps, "fe:01", 77), None, "another device");
        assert_eq!(read(maps, "fe:00", 79), None, "another file");
        let musl = "7f00-7f10 r-xp 00000000 fe:00 5 /lib/ld-musl-x86_64.so.1\n".to_owned() + maps;
        assert_eq!(read(&musl, "fe:00", 77), found(0x55d0_c000, true));
    }
}
