//! Attachments that need no types: thin programs around the bodies in [`crate::probes`].
//!
//! | program | hook | gives |
//! |---|---|---|
//! | `…_begin`, `…_end` | kprobe and kretprobe on `inet_sendmsg` and its like | bytes |
//! | `…_socket_end` | kprobe on `inet_sock_destruct`, `unix_sock_destructor` | that a socket's state goes with it |
//! | `send_time_kprobe` | kprobe on `tcp_sendmsg_locked` | when a send began |
//! | `arrival_kprobe` | kprobe on `sock_def_readable` | when data became readable |
//! | `state_raw`, `destroy_raw` | raw tracepoints `inet_sock_set_state`, `tcp_destroy_sock` | who connected, when it closes |
//! | `fork_raw`, `exec_raw`, `exit_raw` | raw tracepoints `sched_process_…` | processes |
//!
//! While a kprobe's program runs on a CPU the kernel skips those of other kprobes there (`trace_call_bpf`
//! in kernel/trace/bpf_trace.c); raw tracepoints are not concerned, so what must not be missed hangs on
//! them.

mod calls;

use core::ffi::c_void;

use agent_common::settings::check;
use aya_ebpf::{
    macros::{kprobe, raw_tracepoint},
    programs::{ProbeContext, RawTracePointContext},
};

use crate::{
    kernel::{
        sock::{Sock, Stream},
        task::Task,
    },
    probes::{arrival, process, send_time, state},
    socket,
};

/// Run once by the loader, attached nowhere: whether the fields of the running task say what the loader
/// knows of itself (`args`: process, thread, parent process). Type information from a file may be of
/// another kernel. Gives a bit for each that differs. (Without the macro, which makes 0 of what a program
/// returns.)
#[unsafe(link_section = "raw_tp/check")]
#[unsafe(no_mangle)]
extern "C" fn check_offsets(ctx: *mut c_void) -> i32 {
    let ctx = RawTracePointContext::new(ctx);
    let task = Task::current();
    let mut wrong = 0;
    if u64::from(task.tgid()) != ctx.arg::<u64>(0) {
        wrong |= check::PROCESS;
    }
    if u64::from(task.tid()) != ctx.arg::<u64>(1) {
        wrong |= check::THREAD;
    }
    if u64::from(task.parent().tgid()) != ctx.arg::<u64>(2) {
        wrong |= check::PARENT;
    }
    wrong
}

/// `void inet_sock_destruct(struct sock *sk)`: the last reference is gone. (`sk_free` does not say that:
/// `tcp_wfree` calls it for each packet that has left.)
#[kprobe]
fn inet_socket_end(ctx: ProbeContext) -> u32 {
    ended(&ctx);
    0
}

/// `static void unix_sock_destructor(struct sock *sk)`.
#[kprobe]
fn unix_socket_end(ctx: ProbeContext) -> u32 {
    ended(&ctx);
    0
}

#[inline(always)]
fn ended(ctx: &ProbeContext) {
    if let Some(sock) = ctx.arg::<*const u8>(0) {
        socket::forget(Sock(sock));
    }
}

/// `int tcp_sendmsg_locked(struct sock *sk, struct msghdr *msg, size_t size)`.
#[kprobe]
fn send_time_kprobe(ctx: ProbeContext) -> u32 {
    if let (Some(sock), Some(message)) = (ctx.arg::<*const u8>(0), ctx.arg::<*const u8>(1)) {
        let sock = Sock(sock);
        // MPTCP sends through sockets of its own, as the other attachments of this body see them.
        if sock.stream() == Some(Stream::Tcp) {
            send_time::begin(sock, message);
        }
    }
    0
}

/// `void sock_def_readable(struct sock *sk)`.
#[kprobe]
fn arrival_kprobe(ctx: ProbeContext) -> u32 {
    if let Some(sock) = ctx.arg::<*const u8>(0) {
        arrival::arrived(Sock(sock));
    }
    0
}

/// `inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
fn state_raw(ctx: RawTracePointContext) -> i32 {
    let sock = Sock(ctx.arg::<*const u8>(0));
    if sock.stream() == Some(Stream::Tcp) {
        state::changed(sock, ctx.arg::<i32>(1) as u8, ctx.arg::<i32>(2) as u8);
    }
    0
}

/// `tcp_destroy_sock(struct sock *sk)`.
#[raw_tracepoint(tracepoint = "tcp_destroy_sock")]
fn destroy_raw(ctx: RawTracePointContext) -> i32 {
    state::destroyed(Sock(ctx.arg::<*const u8>(0)));
    0
}

/// `sched_process_fork(struct task_struct *parent, struct task_struct *child)`.
#[raw_tracepoint(tracepoint = "sched_process_fork")]
fn fork_raw(ctx: RawTracePointContext) -> i32 {
    process::forked(Task(ctx.arg::<*const u8>(0)), Task(ctx.arg::<*const u8>(1)));
    0
}

/// `sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
fn exec_raw(ctx: RawTracePointContext) -> i32 {
    process::executed(Task(ctx.arg::<*const u8>(0)), ctx.arg(1), ctx.arg::<*const u8>(2));
    0
}

/// `sched_process_exit(struct task_struct *p, …)`.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn exit_raw(ctx: RawTracePointContext) -> i32 {
    process::exited(Task(ctx.arg::<*const u8>(0)));
    0
}
