//! The hook plan: per feature the hooks in order of preference ([`PLAN`]). A kernel that has none of
//! them costs that feature, by name.

mod table;

pub use table::PLAN;

/// What a program is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Tracepoint with typed arguments.
    Tracepoint(&'static str),
    /// Entry of a kernel function (trampoline).
    Fentry(&'static str),
    /// Return of a kernel function (trampoline).
    Fexit(&'static str),
    /// Iterator over kernel objects: runs while it is read.
    Iterator(&'static str),
    /// Addresses of UDP calls, at the root of the cgroup tree.
    Cgroup(&'static str),
    /// Tracepoint whose arguments are numbers.
    RawTracepoint(&'static str),
    /// Entry of a kernel function (breakpoint or its like).
    Kprobe(&'static str),
    /// Return of a kernel function, where at most so many calls of it are under way at once.
    Kretprobe(&'static str, u32),
}

impl Hook {
    /// Name of the kernel object.
    pub fn target(self) -> &'static str {
        match self {
            Hook::Tracepoint(name)
            | Hook::Fentry(name)
            | Hook::Fexit(name)
            | Hook::Iterator(name)
            | Hook::Cgroup(name)
            | Hook::RawTracepoint(name)
            | Hook::Kprobe(name)
            | Hook::Kretprobe(name, _) => name,
        }
    }

    /// Kind of attachment, as shown.
    pub fn kind(self) -> &'static str {
        match self {
            Hook::Tracepoint(_) => "tracepoint",
            Hook::Fentry(_) => "fentry",
            Hook::Fexit(_) => "fexit",
            Hook::Iterator(_) => "iterator",
            Hook::Cgroup(_) => "cgroup",
            Hook::RawTracepoint(_) => "raw tracepoint",
            Hook::Kprobe(_) => "kprobe",
            Hook::Kretprobe(..) => "kretprobe",
        }
    }
}

/// Which of the two kernel objects a program is in: all features of a run come from one, since their
/// programs share maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The verifier knows types: the kernel's own type information is needed.
    Typed,
    /// It does not: state by address, fields read by helper. Type information may come from a file.
    Untyped,
}

/// One program of a choice.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Name of the program in the kernel object.
    pub program: &'static str,
    /// Where it goes.
    pub hook: Hook,
    /// The choice stands without it, where this kernel does not have the hook.
    pub optional: bool,
}

/// One way to get a feature.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// Name; of payload, as `--hooks` takes it.
    pub name: &'static str,
    /// The kernel object it is in.
    pub side: Side,
    /// Its programs: all are needed, but for optional ones.
    pub parts: &'static [Part],
    /// What they need of the kernel besides the hooks themselves.
    pub needs: Needs,
}

/// What an older kernel lacks: said when it refuses a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// First version (major, minor) that has it.
    pub since: (u32, u32),
    /// It.
    pub what: &'static str,
}

impl Needs {
    /// What a kernel of this release (`uname -r`) lacks, as shown after a reason; empty when it is
    /// new enough.
    pub fn lacking(self, release: &str) -> String {
        let mut numbers = release.split(['.', '-', '+']).map_while(|part| part.parse().ok());
        let running = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        let (major, minor) = self.since;
        if running >= self.since {
            return String::new();
        }
        format!("; it needs Linux {major}.{minor} ({})", self.what)
    }
}

/// What the agent can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Feature {
    /// Process life: names, exec events.
    Processes,
    /// Who connected, when it closes.
    ConnectionState,
    /// Bytes of streams: HTTP.
    Payload,
    /// When a send began.
    SendTime,
    /// When data became readable.
    Arrival,
    /// Plaintext of TLS libraries: not in the table, its hooks are in programs' files.
    Tls,
    /// Ends of TCP conversations.
    Flows,
    /// UDP messages, and whose a TCP socket is, where payload is not captured.
    FlowCalls,
    /// Peers of UDP sockets that are not connected.
    FlowPeers,
    /// Conversations that live.
    FlowList,
    /// Bytes in pages of the kernel's: see [`super::in_kernel`].
    Pages,
    /// Bytes of received packets: see [`super::in_kernel`].
    Packets,
    /// Which goroutine calls.
    Goroutines,
    /// Which trace context a thread has published.
    ThreadContexts,
}

/// A feature with its choices, best first.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Feature.
    pub feature: Feature,
    /// Name, as shown.
    pub name: &'static str,
    /// What is lost without it.
    pub without: &'static str,
    /// Ways to get it.
    pub choices: &'static [Choice],
    /// Maps that nothing else uses: where the feature is off they are as small as can be.
    pub maps: &'static [&'static str],
}

#[cfg(test)]
mod tests {
    use super::table::{PLAN, REGISTERS, SOCKETS};
    use super::{Hook, Side};
    use std::collections::HashSet;

    #[test]
    fn an_older_kernel_is_told_what_it_lacks() {
        for (why, release, lacks) in [
            ("older", "5.10.0-46-cloud-amd64", true),
            ("the first that has it", "5.12.0", false),
            ("newer", "6.12.117+deb13-cloud-amd64", false),
            ("a number without a point", "7-rc1", false),
            ("no number", "linux", true),
        ] {
            assert_eq!(!SOCKETS.lacking(release).is_empty(), lacks, "{why}");
        }
        assert_eq!(REGISTERS.lacking("5.10"), "; it needs Linux 5.15 (bpf_task_pt_regs)");
    }

    #[test]
    fn the_table_fits_the_two_objects() {
        let mut features = HashSet::new();
        for entry in PLAN {
            assert!(features.insert(entry.feature), "{} has one entry", entry.name);
            for choice in entry.choices {
                for part in choice.parts {
                    let side = match part.hook {
                        Hook::Tracepoint(_) | Hook::Fentry(_) | Hook::Fexit(_) => Side::Typed,
                        Hook::Iterator(_) | Hook::Cgroup(_) => Side::Typed,
                        Hook::RawTracepoint(_) | Hook::Kprobe(_) | Hook::Kretprobe(..) => {
                            Side::Untyped
                        }
                    };
                    assert_eq!(side, choice.side, "{}", part.program);
                }
            }
        }
    }
}
