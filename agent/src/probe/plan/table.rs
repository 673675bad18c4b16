//! The table itself. A feature is one block; a way to get it is one [`Choice`].

use super::Hook::{Cgroup, Fentry, Fexit, Iterator, Kprobe, Kretprobe, RawTracepoint, Tracepoint};
use super::{Choice, Entry, Feature, Hook, Needs, Part, Side};

/// What every program uses; those without types need nothing else.
pub(super) const RINGS: Needs = Needs { since: (5, 8), what: "the ring buffer" };

/// What every program of the payload ring uses: socket storage in tracing programs (5.11) and
/// atomic fetch-and-add (5.12).
pub(super) const SOCKETS: Needs =
    Needs { since: (5, 12), what: "socket storage, atomic fetch-and-add" };

/// The socket behind an open file.
const SOCKET_FILES: Needs = Needs { since: (5, 11), what: "sockets of open files" };

/// Links of cgroup programs.
const CGROUP_LINKS: Needs = Needs { since: (5, 7), what: "links of cgroup programs" };

/// … and the payload programs also the registers of the system call.
pub(super) const REGISTERS: Needs = Needs { since: (5, 15), what: "bpf_task_pt_regs" };

/// Calls of a receive function that may be under way at once: threads wait there. The kernel's most
/// (`KRETPROBE_MAXACTIVE_MAX`); it keeps some 60 bytes for each.
const RECEIVERS: u32 = 4096;
/// The same of a send function: threads wait there only while their peers are slow.
const SENDERS: u32 = 1024;

const fn part(program: &'static str, hook: Hook) -> Part {
    Part { program, hook, optional: false }
}

const fn optional(program: &'static str, hook: Hook) -> Part {
    Part { program, hook, optional: true }
}

const fn typed(name: &'static str, needs: Needs, parts: &'static [Part]) -> Choice {
    Choice { name, side: Side::Typed, parts, needs }
}

const fn untyped(name: &'static str, needs: Needs, parts: &'static [Part]) -> Choice {
    Choice { name, side: Side::Untyped, parts, needs }
}

/// The table, in the order of attaching: processes first, so that facts precede the traffic they
/// name; the end of a send before its beginning, so that no beginning is left without an end.
pub const PLAN: &[Entry] = &[
    Entry {
        feature: Feature::Processes,
        name: "processes",
        without: "no exec events; names of new processes come late",
        choices: &[
            typed(
                "tracepoint",
                RINGS,
                &[
                    part("fork_tracepoint", Tracepoint("sched_process_fork")),
                    part("exec_tracepoint", Tracepoint("sched_process_exec")),
                    part("exit_tracepoint", Tracepoint("sched_process_exit")),
                ],
            ),
            untyped(
                "raw tracepoint",
                RINGS,
                &[
                    part("fork_raw", RawTracepoint("sched_process_fork")),
                    part("exec_raw", RawTracepoint("sched_process_exec")),
                    part("exit_raw", RawTracepoint("sched_process_exit")),
                ],
            ),
        ],
        maps: &[],
    },
    Entry {
        feature: Feature::Payload,
        name: "payload",
        without: "no HTTP",
        choices: &[
            typed(
                "tracepoint",
                REGISTERS,
                &[
                    part("send_tracepoint", Tracepoint("sock_send_length")),
                    part("receive_tracepoint", Tracepoint("sock_recv_length")),
                ],
            ),
            typed(
                "fexit",
                REGISTERS,
                &[
                    part("inet_send_fexit", Fexit("inet_sendmsg")),
                    part("inet6_send_fexit", Fexit("inet6_sendmsg")),
                    part("unix_send_fexit", Fexit("unix_stream_sendmsg")),
                    part("inet_receive_fexit", Fexit("inet_recvmsg")),
                    part("inet6_receive_fexit", Fexit("inet6_recvmsg")),
                    part("unix_receive_fexit", Fexit("unix_stream_recvmsg")),
                    // sendfile and splice, until 6.5; later they go through sendmsg.
                    optional("inet_sendpage_fexit", Fexit("inet_sendpage")),
                    optional("unix_sendpage_fexit", Fexit("unix_stream_sendpage")),
                ],
            ),
            untyped(
                "kprobe",
                RINGS,
                &[
                    // A socket's state goes with it: before the first is made.
                    part("inet_socket_end", Kprobe("inet_sock_destruct")),
                    part("unix_socket_end", Kprobe("unix_sock_destructor")),
                    // The end of a call before its beginning.
                    part("inet_send_end", Kretprobe("inet_sendmsg", SENDERS)),
                    part("inet6_send_end", Kretprobe("inet6_sendmsg", SENDERS)),
                    part("unix_send_end", Kretprobe("unix_stream_sendmsg", SENDERS)),
                    part("inet_receive_end", Kretprobe("inet_recvmsg", RECEIVERS)),
                    part("inet6_receive_end", Kretprobe("inet6_recvmsg", RECEIVERS)),
                    part("unix_receive_end", Kretprobe("unix_stream_recvmsg", RECEIVERS)),
                    optional("inet_sendpage_end", Kretprobe("inet_sendpage", SENDERS)),
                    optional("unix_sendpage_end", Kretprobe("unix_stream_sendpage", SENDERS)),
                    part("inet_send_begin", Kprobe("inet_sendmsg")),
                    part("inet6_send_begin", Kprobe("inet6_sendmsg")),
                    part("unix_send_begin", Kprobe("unix_stream_sendmsg")),
                    part("inet_receive_begin", Kprobe("inet_recvmsg")),
                    part("inet6_receive_begin", Kprobe("inet6_recvmsg")),
                    part("unix_receive_begin", Kprobe("unix_stream_recvmsg")),
                    optional("inet_sendpage_begin", Kprobe("inet_sendpage")),
                    optional("unix_sendpage_begin", Kprobe("unix_stream_sendpage")),
                ],
            ),
        ],
        maps: &[
            "PAYLOAD_RING_1",
            "PAYLOAD_RING_2",
            "PAYLOAD_RING_3",
            "PAYLOAD_RING_4",
            "VERDICTS",
            "MESSAGES",
            "SCRATCH",
            "AGENT_PEERS",
            "SOCKETS_BY_ADDRESS",
            "CALLS",
        ],
    },
    Entry {
        feature: Feature::ConnectionState,
        name: "connection state",
        without: "aborted requests are seen late, and connections are given up when idle",
        choices: &[
            typed(
                "tracepoint",
                SOCKETS,
                &[
                    // Before the state is left to it.
                    part("destroy_tracepoint", Tracepoint("tcp_destroy_sock")),
                    part("state_tracepoint", Tracepoint("inet_sock_set_state")),
                ],
            ),
            untyped(
                "raw tracepoint",
                RINGS,
                &[
                    part("destroy_raw", RawTracepoint("tcp_destroy_sock")),
                    part("state_raw", RawTracepoint("inet_sock_set_state")),
                ],
            ),
        ],
        maps: &[],
    },
    Entry {
        feature: Feature::Arrival,
        name: "arrival time",
        without: "a receive counts from when the program took the data",
        choices: &[
            typed(
                "tracepoint",
                SOCKETS,
                &[part("arrival_tracepoint", Tracepoint("sk_data_ready"))],
            ),
            typed("fexit", SOCKETS, &[part("arrival_fentry", Fentry("sock_def_readable"))]),
            untyped("kprobe", RINGS, &[part("arrival_kprobe", Kprobe("sock_def_readable"))]),
        ],
        maps: &["UNIX_SENDS"],
    },
    Entry {
        feature: Feature::SendTime,
        name: "send time",
        without: "a send counts from its end; two threads on one socket may blur its position",
        choices: &[
            typed(
                "tracepoint",
                SOCKETS,
                &[part("send_time_tracepoint", Tracepoint("tcp_sendmsg_locked"))],
            ),
            typed("fexit", SOCKETS, &[part("send_time_fentry", Fentry("tcp_sendmsg_locked"))]),
            untyped("kprobe", RINGS, &[part("send_time_kprobe", Kprobe("tcp_sendmsg_locked"))]),
        ],
        maps: &[],
    },
    Entry {
        feature: Feature::Flows,
        name: "flows",
        without: "no ends of TCP conversations, no failed connections",
        choices: &[typed(
            "tracepoint",
            SOCKETS,
            &[
                part("flow_state_tracepoint", Tracepoint("inet_sock_set_state")),
                optional("flow_send_reset_tracepoint", Tracepoint("tcp_send_reset")),
                optional("flow_receive_reset_tracepoint", Tracepoint("tcp_receive_reset")),
            ],
        )],
        maps: &[],
    },
    Entry {
        feature: Feature::FlowCalls,
        name: "flow traffic",
        without: "no UDP conversations; the process of some TCP conversations is not known",
        choices: &[
            typed(
                "tracepoint",
                REGISTERS,
                &[
                    part("flow_send_tracepoint", Tracepoint("sock_send_length")),
                    part("flow_receive_tracepoint", Tracepoint("sock_recv_length")),
                ],
            ),
            typed(
                "fexit",
                REGISTERS,
                &[
                    part("flow_inet_send_fexit", Fexit("inet_sendmsg")),
                    part("flow_inet6_send_fexit", Fexit("inet6_sendmsg")),
                    part("flow_inet_receive_fexit", Fexit("inet_recvmsg")),
                    part("flow_inet6_receive_fexit", Fexit("inet6_recvmsg")),
                ],
            ),
        ],
        maps: &[],
    },
    Entry {
        feature: Feature::FlowPeers,
        name: "flow peers",
        without: "UDP sockets that are not connected have no peers",
        choices: &[typed(
            "cgroup",
            CGROUP_LINKS,
            &[
                part("flow_peer_send4", Cgroup("udp sendmsg4")),
                part("flow_peer_send6", Cgroup("udp sendmsg6")),
                part("flow_peer_receive4", Cgroup("udp recvmsg4")),
                part("flow_peer_receive6", Cgroup("udp recvmsg6")),
            ],
        )],
        maps: &[],
    },
    Entry {
        feature: Feature::FlowList,
        name: "flow list",
        without: "conversations are seen when they end only, older ones without their process",
        choices: &[typed("iterator", SOCKET_FILES, &[part("flow_list", Iterator("task_file"))])],
        maps: &[],
    },
];
