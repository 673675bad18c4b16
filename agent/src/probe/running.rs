//! What the running kernel offers, as far as can be known without loading anything.

use super::attach;
use super::btf::{Btf, NotBtf};
use super::plan::{Choice, Hook, Needs, Part, Side};
use aya::Btf as AyaBtf;
use std::path::{Path, PathBuf};

/// Where a kernel keeps its own type information.
pub const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// There where functions can be probed (`perf_event_open`, Linux 4.17).
const KPROBES: &str = "/sys/bus/event_source/devices/kprobe/type";

/// Largest file that `--btf` takes: that of a distribution's kernel has 5 to 8 MB; as ELF file with
/// debug information it may have a few hundred.
const MAX_FILE: u64 = 1 << 30;

/// Why there is no type information.
#[derive(Debug, thiserror::Error)]
pub enum BtfFault {
    /// The kernel has none.
    #[error(
        "this kernel offers no type information at {BTF_PATH} ({0}): it is built without \
         CONFIG_DEBUG_INFO_BTF; --btf FILE names a file with that of this very kernel"
    )]
    Absent(std::io::Error),
    /// A file that cannot be read.
    #[error("{path} cannot be read: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// System's word.
        reason: String,
    },
    /// A file that is none.
    #[error("{path}: {reason}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: NotBtf,
    },
    /// Of another kernel.
    #[error(
        "{path} is not of the running kernel {release}: by its offsets the agent's own {what} cannot be \
         found; it has to be of this very build"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// `uname -r`.
        release: String,
        /// Which facts.
        what: String,
    },
    /// It lacks what every program needs.
    #[error(
        "{path} lacks what the programs read: {fields}; is it of a Linux kernel, and of this machine's?"
    )]
    Lacking {
        /// The file.
        path: PathBuf,
        /// Fields, as in [`agent_common::settings::Offsets`].
        fields: String,
    },
}

/// The running kernel.
pub struct Running {
    /// Its types.
    pub btf: Btf,
    /// The same for aya's programs; none where they come from a file: the kernel cannot check them.
    pub typed: Option<AyaBtf>,
    /// Where `btf` comes from.
    pub source: PathBuf,
    /// Functions can be probed.
    kprobes: bool,
}

impl Running {
    /// Reads the types: from `file`, else the kernel's own.
    ///
    /// # Errors
    /// [`BtfFault`].
    pub fn read(file: Option<&Path>) -> Result<Running, BtfFault> {
        let source = file.unwrap_or(Path::new(BTF_PATH)).to_owned();
        let data = match file {
            Some(path) => read_file(path)?,
            None => std::fs::read(BTF_PATH).map_err(BtfFault::Absent)?,
        };
        let wrong = |reason| BtfFault::Wrong { path: source.clone(), reason };
        let btf = Btf::from_file(data).map_err(wrong)?;
        let typed = match file {
            Some(_) => None,
            None => Some(AyaBtf::from_sys_fs().map_err(|error| BtfFault::Unreadable {
                path: source.clone(),
                reason: error.to_string(),
            })?),
        };
        Ok(Running { btf, typed, source, kprobes: Path::new(KPROBES).exists() })
    }

    /// Programs may add and fetch at once.
    pub fn fetches(&self) -> bool {
        self.is(Needs { since: (5, 12), what: "" })
    }

    /// It is as new as that.
    pub fn is(&self, needs: Needs) -> bool {
        needs.lacking(&rustix::system::uname().release().to_string_lossy()).is_empty()
    }

    /// The kernel has what a program is attached to.
    pub fn has(&self, hook: Hook) -> bool {
        match hook {
            Hook::Tracepoint(name) | Hook::RawTracepoint(name) => self.btf.has_tracepoint(name),
            Hook::Fentry(name) | Hook::Fexit(name) => self.btf.has_function(name),
            Hook::Iterator(name) => self.btf.has_function(&format!("bpf_iter_{name}")),
            // Nothing of it is in the type information: attaching tells.
            Hook::Cgroup(_) => true,
            Hook::Kprobe(name) | Hook::Kretprobe(name, _) => {
                self.kprobes && self.btf.has_function(name)
            }
        }
    }

    /// Why it cannot have a choice.
    pub fn lacks(&self, choice: &Choice) -> Option<String> {
        if choice.side == Side::Typed && self.typed.is_none() {
            return Some("types from a file serve only kprobes".to_owned());
        }
        let needed = || choice.parts.iter().filter(|part| !part.optional);
        let probes = |hook| matches!(hook, Hook::Kprobe(_) | Hook::Kretprobe(..));
        if !self.kprobes && needed().any(|part| probes(part.hook)) {
            return Some(format!("this kernel has no kprobes (no {KPROBES})"));
        }
        let cgroup = |part: &Part| matches!(part.hook, Hook::Cgroup(_));
        if needed().any(cgroup) && attach::cgroup_root().is_none() {
            return Some("the version 2 tree of cgroups is mounted nowhere in reach".to_owned());
        }
        let absent = needed().find(|part| !self.has(part.hook))?;
        Some(format!("this kernel has no {} {}", noun(absent.hook), absent.hook.target()))
    }
}

fn noun(hook: Hook) -> &'static str {
    match hook {
        Hook::Tracepoint(_) | Hook::RawTracepoint(_) => "tracepoint",
        Hook::Iterator(_) => "iterator",
        Hook::Cgroup(_) => "cgroup hook",
        Hook::Fentry(_) | Hook::Fexit(_) | Hook::Kprobe(_) | Hook::Kretprobe(..) => "function",
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, BtfFault> {
    let unreadable = |reason: String| BtfFault::Unreadable { path: path.to_owned(), reason };
    let size = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
    if size > MAX_FILE {
        return Err(unreadable(format!("it has {size} bytes, more than {MAX_FILE}")));
    }
    std::fs::read(path).map_err(|error| unreadable(error.to_string()))
}
