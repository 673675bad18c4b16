//! Facts of one process.

use super::count::ReadCounts;
use super::proc_dir::ProcDir;
use super::user::UserNames;
use agent_common::record::{Exec, flag};
use agent_core::event::ProcessKey;
use agent_core::process::proc::{self, Stat};
use agent_core::process::{MAX_ARGS_BYTES, ProcessFacts, START_TICK_NS};
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// Bytes read of `stat` and `status`; they are about 300 and 1500 bytes long.
const MAX_STATUS: usize = 8 * 1024;

/// Bytes read of `cgroup`: v1 has a line for each of a dozen controllers, with nested paths.
const MAX_CGROUP: usize = 16 * 1024;

/// Bytes read of `environ`, to find a few variables in: an environment may be megabytes.
const MAX_ENVIRON: usize = 256 * 1024;

/// Reads facts of processes, with buffers kept from one to the next.
pub struct ProcessReader {
    root: PathBuf,
    /// What /proc adds to start times: the offset of this process's time namespace, ns.
    time_offset_ns: i64,
    tick_ns: u64,
    users: UserNames,
    buffer: Vec<u8>,
    counts: ReadCounts,
}

impl Default for ProcessReader {
    fn default() -> Self {
        Self::new(Path::new("/proc"))
    }
}

impl ProcessReader {
    /// A reader of the /proc mounted at `root`, which must be that of the initial pid namespace.
    pub fn new(root: &Path) -> Self {
        let tick_ns = 1_000_000_000_u64
            .checked_div(procfs::ticks_per_second())
            .filter(|&tick_ns| tick_ns > 0)
            .unwrap_or(START_TICK_NS);
        ProcessReader {
            root: root.to_owned(),
            time_offset_ns: time_offset_ns(),
            tick_ns,
            users: UserNames::of_host(root),
            buffer: Vec::new(),
            counts: ReadCounts::default(),
        }
    }

    /// Where /proc is.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Grain of times in `stat`, ns.
    pub(super) fn tick_ns(&self) -> u64 {
        self.tick_ns
    }

    /// A start as `stat` shows it, on the boot-time clock, ns.
    pub(super) fn start_ns(&self, ticks: u64) -> u64 {
        let shown_ns = ticks.saturating_mul(self.tick_ns);
        shown_ns.saturating_add_signed(self.time_offset_ns.saturating_neg())
    }

    /// What was met with so far.
    pub fn counts(&self) -> ReadCounts {
        self.counts
    }

    /// Facts of a process as they are now, to hold from `since_ns` on. `None` when it is gone or ends,
    /// or when its number is another process's by now.
    pub fn facts(&mut self, key: ProcessKey, since_ns: u64) -> Option<ProcessFacts> {
        let (dir, stat) = self.open(key.tgid)?;
        let shown_ns = key.start_ns.saturating_add_signed(self.time_offset_ns);
        if shown_ns / self.tick_ns != stat.start_ticks {
            self.counts.other_start += 1;
            return None;
        }
        let facts = self.of_dir(&dir, stat, key, since_ns);
        if self.ends(&dir) {
            self.counts.ending += 1;
            return None;
        }
        self.counts.read += 1;
        Some(facts)
    }

    /// Facts of whatever process has this number now, since its start. Its start is known to a
    /// tick only.
    pub fn facts_of_number(&mut self, tgid: u32) -> Option<ProcessFacts> {
        let (dir, stat) = self.open(tgid)?;
        let start_ns = self.start_ns(stat.start_ticks);
        let facts = self.of_dir(&dir, stat, ProcessKey { tgid, start_ns }, start_ns);
        self.counts.read += 1;
        Some(facts)
    }

    /// Facts of a process that has called exec. What /proc says, where it still speaks of that
    /// exec: the process may have called exec again. It may be gone ([`ProcessFacts::is_unread`]).
    pub fn exec_facts(&mut self, exec: &Exec, args: &[u8]) -> ProcessFacts {
        let mut said = ProcessFacts::from_exec(exec, args, None);
        // The record's own user, even when the process is gone or has become another user since.
        said.user_name = self.users.name(said.user_id).to_owned();
        let Some(read) = self.facts(said.key, said.since_ns) else { return said };
        let read = ProcessFacts {
            parent_tgid: said.parent_tgid,
            user_id: said.user_id,
            user_name: said.user_name,
            ..read
        };
        let cut = exec.header.flags & flag::TRUNCATED != 0;
        let sure = said.args.len().saturating_sub(usize::from(cut));
        let same = if cut { read.args.len() >= sure } else { read.args.len() == sure };
        if same && read.args.get(..sure) == said.args.get(..sure) {
            return read;
        }
        ProcessFacts { executable: said.executable, comm: said.comm, args: said.args, ..read }
    }

    fn open(&mut self, tgid: u32) -> Option<(ProcDir, Stat)> {
        self.counts.asked += 1;
        let opened = ProcDir::open(&self.root, tgid)
            .and_then(|dir| dir.read("stat", MAX_STATUS, &mut self.buffer).map(|()| dir));
        let dir = match opened {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::SRCH) => {
                self.counts.gone += 1;
                return None;
            }
            Err(_) => {
                self.counts.unreadable += 1;
                return None;
            }
        };
        let stat = proc::stat(&self.buffer);
        self.counts.unreadable += u64::from(stat.is_none());
        stat.map(|stat| (dir, stat))
    }

    /// What was read before this may be of a process that was about to end, and half of it missing.
    fn ends(&mut self, dir: &ProcDir) -> bool {
        let read = dir.read("stat", MAX_STATUS, &mut self.buffer);
        read.is_err() || proc::stat(&self.buffer).is_none_or(|stat| stat.ends)
    }

    fn of_dir(
        &mut self,
        dir: &ProcDir,
        stat: Stat,
        key: ProcessKey,
        since_ns: u64,
    ) -> ProcessFacts {
        let executable = self.part(dir.link("exe"));
        let deleted = executable.strip_suffix(" (deleted)").map(str::to_owned);
        let (user_id, vpid) = proc::status(self.file(dir, "status", MAX_STATUS), key.tgid);
        let args = proc::arguments(self.file(dir, "cmdline", MAX_ARGS_BYTES));
        let environment = proc::environment(self.file(dir, "environ", MAX_ENVIRON));
        self.counts.environ_cut += u64::from(self.buffer.len() == MAX_ENVIRON);
        ProcessFacts {
            key,
            parent_tgid: stat.parent,
            since_ns,
            executable: deleted.unwrap_or(executable),
            comm: stat.comm,
            args,
            working_directory: self.part(dir.link("cwd")),
            environment,
            cgroup: String::from_utf8_lossy(self.file(dir, "cgroup", MAX_CGROUP)).into_owned(),
            user_id,
            user_name: self.users.name(user_id).to_owned(),
            vpid,
            go: String::new(),
        }
    }

    /// The first bytes of a file; empty when it cannot be read, which is counted.
    fn file(&mut self, dir: &ProcDir, name: &str, limit: usize) -> &[u8] {
        let read = dir.read(name, limit, &mut self.buffer);
        if let Err(error) = read {
            self.buffer.clear();
            self.counts.part(error);
        }
        &self.buffer
    }

    fn part(&mut self, link: Result<String, Errno>) -> String {
        link.unwrap_or_else(|error| {
            self.counts.part(error);
            String::new()
        })
    }
}

/// Boot-time offset of this process's time namespace, ns: /proc adds it to the starts it shows.
fn time_offset_ns() -> i64 {
    let text = std::fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    parse_time_offset(&text).unwrap_or(0)
}

pub(super) fn parse_time_offset(text: &str) -> Option<i64> {
    let line = text.lines().find_map(|line| line.strip_prefix("boottime"))?;
    let mut numbers = line.split_whitespace().map(str::parse::<i64>);
    let seconds = numbers.next()?.ok()?;
    let nanoseconds = numbers.next()?.ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}
