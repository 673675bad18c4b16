//! The hook plan: per feature the hooks in order of preference. A kernel that has none of them
//! costs that feature, by name.

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
}

impl Hook {
    /// Name of the kernel object.
    pub fn target(self) -> &'static str {
        match self {
            Hook::Tracepoint(name)
            | Hook::Fentry(name)
            | Hook::Fexit(name)
            | Hook::Iterator(name)
            | Hook::Cgroup(name) => name,
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
        }
    }
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

/// What every program uses.
const RINGS: Needs = Needs { since: (5, 8), what: "the ring buffer" };

/// What every program of the payload ring uses: socket storage in tracing programs (5.11) and
/// atomic fetch-and-add (5.12).
const SOCKETS: Needs = Needs { since: (5, 12), what: "socket storage, atomic fetch-and-add" };

/// The socket behind an open file.
const SOCKET_FILES: Needs = Needs { since: (5, 11), what: "sockets of open files" };

/// Links of cgroup programs.
const CGROUP_LINKS: Needs = Needs { since: (5, 7), what: "links of cgroup programs" };

/// … and the payload programs also the registers of the system call.
const REGISTERS: Needs = Needs { since: (5, 15), what: "bpf_task_pt_regs" };

/// One way to get a feature.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// Name, as `--hooks` takes it.
    pub name: &'static str,
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
}

const fn part(program: &'static str, hook: Hook) -> Part {
    Part { program, hook, optional: false }
}

const fn optional(program: &'static str, hook: Hook) -> Part {
    Part { program, hook, optional: true }
}

/// The table, in the order of attaching: processes first, so that facts precede the traffic they
/// name; the end of a send before its beginning, so that no beginning is left without an end.
pub const PLAN: &[Entry] = &[
    Entry {
        feature: Feature::Processes,
        name: "processes",
        without: "no exec events; names of new processes come late",
        choices: &[Choice {
            name: "tracepoint",
            parts: &[
                part("fork_tracepoint", Hook::Tracepoint("sched_process_fork")),
                part("exec_tracepoint", Hook::Tracepoint("sched_process_exec")),
                part("exit_tracepoint", Hook::Tracepoint("sched_process_exit")),
            ],
            needs: RINGS,
        }],
    },
    Entry {
        feature: Feature::Payload,
        name: "payload",
        without: "no HTTP",
        choices: &[
            Choice {
                name: "tracepoint",
                parts: &[
                    part("send_tracepoint", Hook::Tracepoint("sock_send_length")),
                    part("receive_tracepoint", Hook::Tracepoint("sock_recv_length")),
                ],
                needs: REGISTERS,
            },
            Choice {
                name: "fexit",
                parts: &[
                    part("inet_send_fexit", Hook::Fexit("inet_sendmsg")),
                    part("inet6_send_fexit", Hook::Fexit("inet6_sendmsg")),
                    part("unix_send_fexit", Hook::Fexit("unix_stream_sendmsg")),
                    part("inet_receive_fexit", Hook::Fexit("inet_recvmsg")),
                    part("inet6_receive_fexit", Hook::Fexit("inet6_recvmsg")),
                    part("unix_receive_fexit", Hook::Fexit("unix_stream_recvmsg")),
                    // sendfile and splice, until 6.5; later they go through sendmsg.
                    optional("inet_sendpage_fexit", Hook::Fexit("inet_sendpage")),
                    optional("unix_sendpage_fexit", Hook::Fexit("unix_stream_sendpage")),
                ],
                needs: REGISTERS,
            },
        ],
    },
    Entry {
        feature: Feature::ConnectionState,
        name: "connection state",
        without: "aborted requests are seen late, and connections are given up when idle",
        choices: &[Choice {
            name: "tracepoint",
            parts: &[part("state_tracepoint", Hook::Tracepoint("inet_sock_set_state"))],
            needs: SOCKETS,
        }],
    },
    Entry {
        feature: Feature::Arrival,
        name: "arrival time",
        without: "a receive counts from when the program took the data",
        choices: &[
            Choice {
                name: "tracepoint",
                parts: &[part("arrival_tracepoint", Hook::Tracepoint("sk_data_ready"))],
                needs: SOCKETS,
            },
            Choice {
                name: "fexit",
                parts: &[part("arrival_fentry", Hook::Fentry("sock_def_readable"))],
                needs: SOCKETS,
            },
        ],
    },
    Entry {
        feature: Feature::SendTime,
        name: "send time",
        without: "a send counts from its end; two threads on one socket may blur its position",
        choices: &[
            Choice {
                name: "tracepoint",
                parts: &[part("send_time_tracepoint", Hook::Tracepoint("tcp_sendmsg_locked"))],
                needs: SOCKETS,
            },
            Choice {
                name: "fexit",
                parts: &[part("send_time_fentry", Hook::Fentry("tcp_sendmsg_locked"))],
                needs: SOCKETS,
            },
        ],
    },
    Entry {
        feature: Feature::Flows,
        name: "flows",
        without: "no ends of TCP conversations, no failed connections",
        choices: &[Choice {
            name: "tracepoint",
            parts: &[
                part("flow_state_tracepoint", Hook::Tracepoint("inet_sock_set_state")),
                optional("flow_send_reset_tracepoint", Hook::Tracepoint("tcp_send_reset")),
                optional("flow_receive_reset_tracepoint", Hook::Tracepoint("tcp_receive_reset")),
            ],
            needs: SOCKETS,
        }],
    },
    Entry {
        feature: Feature::FlowCalls,
        name: "flow traffic",
        without: "no UDP conversations; the process of some TCP conversations is not known",
        choices: &[
            Choice {
                name: "tracepoint",
                parts: &[
                    part("flow_send_tracepoint", Hook::Tracepoint("sock_send_length")),
                    part("flow_receive_tracepoint", Hook::Tracepoint("sock_recv_length")),
                ],
                needs: REGISTERS,
            },
            Choice {
                name: "fexit",
                parts: &[
                    part("flow_inet_send_fexit", Hook::Fexit("inet_sendmsg")),
                    part("flow_inet6_send_fexit", Hook::Fexit("inet6_sendmsg")),
                    part("flow_inet_receive_fexit", Hook::Fexit("inet_recvmsg")),
                    part("flow_inet6_receive_fexit", Hook::Fexit("inet6_recvmsg")),
                ],
                needs: REGISTERS,
            },
        ],
    },
    Entry {
        feature: Feature::FlowPeers,
        name: "flow peers",
        without: "UDP sockets that are not connected have no peers",
        choices: &[Choice {
            name: "cgroup",
            parts: &[
                part("flow_peer_send4", Hook::Cgroup("udp sendmsg4")),
                part("flow_peer_send6", Hook::Cgroup("udp sendmsg6")),
                part("flow_peer_receive4", Hook::Cgroup("udp recvmsg4")),
                part("flow_peer_receive6", Hook::Cgroup("udp recvmsg6")),
            ],
            needs: CGROUP_LINKS,
        }],
    },
    Entry {
        feature: Feature::FlowList,
        name: "flow list",
        without: "conversations are seen when they end only, older ones without their process",
        choices: &[Choice {
            name: "iterator",
            parts: &[part("flow_list", Hook::Iterator("task_file"))],
            needs: SOCKET_FILES,
        }],
    },
];

#[cfg(test)]
mod tests {
    use super::{REGISTERS, SOCKETS};

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
}
