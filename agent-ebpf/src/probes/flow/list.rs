//! All sockets that programs hold, in all network namespaces, older ones than the agent too: an
//! iterator over open files. It runs while userspace reads it.

use agent_common::record::{Flow, kind, role};
use aya_ebpf::{
    bindings::seq_file,
    helpers::generated::{bpf_seq_write, bpf_sock_from_file},
};

use super::{snapshot, state};
use crate::{
    emit::{header, now},
    kernel::{
        load,
        sock::{IPPROTO_TCP, IPPROTO_UDP, Sock, state as tcp_state},
        task::Task,
    },
    settings::offset,
};

/// `struct bpf_iter__task_file { struct bpf_iter_meta *meta; struct task_struct *task; u32 fd; struct
/// file *file; }` (kernel/bpf/task_iter.c): each pointer takes eight bytes. `meta` begins with the
/// `seq_file`.
const META: u64 = 0;
const TASK: u64 = 8;
const FILE: u64 = 24;
const SEQ: u64 = 0;

#[unsafe(link_section = "iter/task_file")]
#[unsafe(no_mangle)]
extern "C" fn flow_list(ctx: *const u8) -> i32 {
    let file: *const u8 = load(ctx, FILE);
    let task: *const u8 = load(ctx, TASK);
    if file.is_null() || task.is_null() {
        return 0;
    }
    // SAFETY: the verifier checks that this is a file.
    let socket = unsafe { bpf_sock_from_file(file.cast_mut().cast()) } as *const u8;
    if socket.is_null() {
        return 0;
    }
    let sock = Sock(load(socket, offset!(socket_sk)));
    if sock.0.is_null() || !sock.is_inet() {
        return 0;
    }
    let protocol = sock.protocol();
    let listed = match protocol {
        IPPROTO_TCP => !matches!(sock.state(), tcp_state::CLOSE | tcp_state::LISTEN),
        IPPROTO_UDP => true,
        _ => false,
    };
    if listed {
        write(load(load(ctx, META), SEQ), Task(task), sock);
    }
    0
}

#[inline(always)]
fn write(seq: *const u8, task: Task, sock: Sock) {
    let mut header = header(kind::FLOW, 0, now());
    header.tgid = task.tgid();
    header.tid = task.tid();
    header.start_ns = task.process_start();
    let mut flow = snapshot(header, sock, sock.cookie());
    if flow.protocol == IPPROTO_TCP
        && let Some(state) = state(sock, false)
    {
        flow.first_ns = state.first_ns;
        flow.established_ns = state.established_ns;
        flow.role = state.role;
        flow.signs |= state.signs;
    } else {
        flow.role = role::UNKNOWN;
    }
    // SAFETY: a live record of this length. A full buffer makes the kernel call again with a larger
    // one.
    unsafe {
        bpf_seq_write(
            seq.cast_mut().cast::<seq_file>(),
            (&raw const flow).cast(),
            size_of::<Flow>() as u32,
        );
    }
}
