//! What is known of a process and of its host.

use crate::event::ProcessKey;
use crate::redact;
use agent_common::record::Exec;

/// Most arguments kept of a process.
pub const MAX_ARGS: usize = 128;

/// Most bytes of arguments kept of a process: what names it stands in front, and thousands of
/// processes must fit.
pub const MAX_ARGS_BYTES: usize = 4096;

/// Grain of start times in `/proc/PID/stat` (`USER_HZ` is 100 in the ABI of every architecture
/// that eBPF runs on), ns.
pub const START_TICK_NS: u64 = 10_000_000;

/// What is known of a process. Kept in recordings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessFacts {
    /// The process.
    pub key: ProcessKey,
    /// Parent process number.
    pub parent_tgid: u32,
    /// Boot-time ns from which on these facts hold (start, or the latest exec).
    pub since_ns: u64,
    /// Path of the executable (`/proc/PID/exe`), or the file name given to exec.
    pub executable: String,
    /// Task name.
    pub comm: String,
    /// Argument vector, secrets already redacted.
    pub args: Vec<String>,
    /// Working directory, empty when unknown.
    pub working_directory: String,
    /// Only the variables that names need.
    pub environment: Vec<(String, String)>,
    /// Lines of `/proc/PID/cgroup`.
    pub cgroup: String,
    /// Effective user number.
    pub user_id: u32,
    /// Its name, empty when unknown.
    pub user_name: String,
    /// Number inside its own pid namespace, 0 when the same.
    pub vpid: u32,
    /// Version of the Go toolchain that built the executable (`go1.26.1`), empty for other programs.
    pub go: String,
}

/// What is the same for all processes of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// `host.name`.
    pub name: String,
    /// `host.id` (`/etc/machine-id`), empty when unknown.
    pub id: String,
    /// `host.arch` in OpenTelemetry's words: `amd64`, `arm64`.
    pub arch: String,
    /// `os.version`: kernel release.
    pub kernel: String,
    /// Boot id (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
    /// Version of the agent.
    pub agent_version: String,
}

/// Start of a process as `/proc/PID/stat` gives it (in ticks since boot). Facts read from there
/// know the start no finer, so this and the process number are what a process is found by.
pub fn start_tick(key: ProcessKey) -> u64 {
    key.start_ns / START_TICK_NS
}

impl ProcessFacts {
    /// What an exec record itself says, for a process that may be gone before /proc is read.
    /// `before` is the same process before its exec: what an exec leaves as it was comes from it.
    pub fn from_exec(exec: &Exec, args: &[u8], before: Option<&ProcessFacts>) -> ProcessFacts {
        let mut facts = ProcessFacts {
            key: ProcessKey { tgid: exec.header.tgid, start_ns: exec.header.start_ns },
            parent_tgid: exec.parent_tgid,
            since_ns: exec.header.boot_ns,
            executable: c_text(&exec.filename),
            comm: c_text(&exec.comm),
            args: redact::args(&split_args(args)),
            user_id: exec.euid,
            // Of a toolchain nothing is known: what ran before had its own.
            ..ProcessFacts::default()
        };
        if let Some(before) = before {
            facts.take_over(before);
        }
        facts
    }

    /// /proc has said nothing of this: the process was gone before it was looked at. Each that lives has
    /// a cgroup there.
    pub fn is_unread(&self) -> bool {
        self.cgroup.is_empty()
    }

    /// Takes what an exec leaves as it was, and what no record says, from the same process `before`.
    pub(super) fn take_over(&mut self, before: &ProcessFacts) {
        if self.working_directory.is_empty() {
            self.working_directory.clone_from(&before.working_directory);
        }
        if self.environment.is_empty() {
            self.environment.clone_from(&before.environment);
        }
        if self.cgroup.is_empty() {
            self.cgroup.clone_from(&before.cgroup);
        }
        if self.user_name.is_empty() && self.user_id == before.user_id {
            self.user_name.clone_from(&before.user_name);
        }
        if self.vpid == 0 {
            self.vpid = before.vpid;
        }
    }

    /// The facts of a child that has just been forked: its parent's, but for who it is.
    pub fn forked(&self, child: ProcessKey, at_ns: u64) -> ProcessFacts {
        ProcessFacts {
            key: child,
            parent_tgid: self.key.tgid,
            since_ns: at_ns,
            vpid: 0,
            ..self.clone()
        }
    }
}

/// The arguments of a block of NUL-terminated strings, as text, at most [`MAX_ARGS`] of together
/// [`MAX_ARGS_BYTES`] bytes. Not redacted.
pub fn split_args(block: &[u8]) -> Vec<String> {
    let block = block.strip_suffix(&[0]).unwrap_or(block);
    if block.is_empty() {
        return Vec::new();
    }
    let block = block.get(..MAX_ARGS_BYTES).unwrap_or(block);
    let args = block.split(|&byte| byte == 0).take(MAX_ARGS);
    args.map(|arg| String::from_utf8_lossy(arg).into_owned()).collect()
}

/// A text that ends at the first NUL or at the array's end.
pub(super) fn c_text(bytes: &[u8]) -> String {
    let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}
