//! Processes: `sched_process_fork`, `sched_process_exec`, `sched_process_exit`.
//!
//! Written to the process ring. No atomic fetch-and-add here: these programs load on 5.10.

use agent_common::{
    counter,
    record::{Exec, Exit, FILENAME_LEN, Fork, Header, flag, kind},
};
use aya_ebpf::{
    helpers::generated::{bpf_get_current_cgroup_id, bpf_probe_read_kernel_str},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};

use crate::{
    emit::{QUIET, URGENT, count_plain, header, next_sequence_plain, now},
    filter,
    kernel::{load, published, task::Task, user::copy_flat},
    maps::PROCESS_RING,
    settings::offset,
};

/// `sched_process_fork(struct task_struct *parent, struct task_struct *child)`: processes and
/// threads alike.
#[btf_tracepoint(function = "sched_process_fork")]
fn fork_tracepoint(ctx: BtfTracePointContext) -> i32 {
    forked(Task(ctx.arg::<*const u8>(0)), Task(ctx.arg::<*const u8>(1)));
    0
}

/// `sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`.
#[btf_tracepoint(function = "sched_process_exec")]
fn exec_tracepoint(ctx: BtfTracePointContext) -> i32 {
    executed(Task(ctx.arg::<*const u8>(0)), ctx.arg(1), ctx.arg::<*const u8>(2));
    0
}

/// `sched_process_exit(struct task_struct *p, …)`.
#[btf_tracepoint(function = "sched_process_exit")]
fn exit_tracepoint(ctx: BtfTracePointContext) -> i32 {
    exited(Task(ctx.arg::<*const u8>(0)));
    0
}

#[inline(always)]
fn task_header(task: Task, kind: u8) -> Header {
    let sequence = next_sequence_plain(counter::PROCESS_TRIED);
    Header {
        tgid: task.tgid(),
        tid: task.tid(),
        start_ns: task.process_start(),
        ..header(kind, sequence, now())
    }
}

#[inline(always)]
pub fn forked(parent: Task, child: Task) {
    let mut header = task_header(parent, kind::FORK);
    let record = {
        let child_tgid = child.tgid();
        if child_tgid == header.tgid {
            header.flags |= flag::THREAD;
        } else {
            filter::inherit(header.tgid, child_tgid);
            published::inherit(header.tgid, child_tgid);
        }
        Fork { header, child_tgid, child_tid: child.tid(), child_start_ns: child.process_start() }
    };
    let Some(mut slot) = PROCESS_RING.reserve_bytes(size_of::<Fork>(), 0) else {
        count_plain(counter::PROCESS_LOST);
        return;
    };
    // SAFETY: the slot is as long as the record and 8-byte aligned; the verifier checks both.
    unsafe { slot.as_mut_ptr().cast::<Fork>().write(record) };
    slot.submit(QUIET);
}

#[inline(always)]
pub fn exited(task: Task) {
    let mut header = task_header(task, kind::EXIT);
    if task.threads_alive() == 0 {
        header.flags |= flag::LAST_THREAD;
        published::forget(header.tgid);
    }
    let record = Exit { header, code: task.exit_code(), pad: 0 };
    let Some(mut slot) = PROCESS_RING.reserve_bytes(size_of::<Exit>(), 0) else {
        count_plain(counter::PROCESS_LOST);
        return;
    };
    // SAFETY: as in `forked`.
    unsafe { slot.as_mut_ptr().cast::<Exit>().write(record) };
    slot.submit(QUIET);
}

// --- exec ---

/// Argument blocks are captured in one of two size classes.
const SHORT_ARGS: usize = 512;
const LONG_ARGS: usize = 4096;
const FIXED: usize = size_of::<Exec>();

#[inline(always)]
pub fn executed(task: Task, old_tid: u32, program: *const u8) {
    filter::watch_for_now(task.tgid());
    published::forget(task.tgid());
    let (start, end) = task.arguments();
    let len = end.saturating_sub(start);
    if len <= SHORT_ARGS as u64 {
        write_exec::<SHORT_ARGS>(task, old_tid, program, start, len as u32);
    } else {
        let len = if len > u64::from(u32::MAX) { u32::MAX } else { len as u32 };
        write_exec::<LONG_ARGS>(task, old_tid, program, start, len);
    }
}

#[inline(always)]
fn write_exec<const ROOM: usize>(
    task: Task,
    old_tid: u32,
    program: *const u8,
    arguments: u64,
    len: u32,
) {
    let mut header = task_header(task, kind::EXEC);
    let Some(mut slot) = PROCESS_RING.reserve_bytes(FIXED + ROOM, 0) else {
        count_plain(counter::PROCESS_LOST);
        return;
    };
    let start = slot.as_mut_ptr();
    let parent = task.parent();
    let (uid, euid, gid) = task.credentials();
    header.total_len = len;
    let mut want = len;
    if want > ROOM as u32 {
        want = ROOM as u32;
        header.flags |= flag::TRUNCATED;
    }
    let filename: u64 = load(program, offset!(binprm_filename));
    // SAFETY: the slot holds FIXED + ROOM bytes, 8-byte aligned; the verifier checks every write.
    unsafe {
        let copied = want > 0
            && match ROOM {
                SHORT_ARGS => copy_flat::<{ SHORT_ARGS as i64 }>(start.add(FIXED), want, arguments),
                _ => copy_flat::<{ LONG_ARGS as i64 }>(start.add(FIXED), want, arguments),
            };
        header.captured_len = if copied { want } else { 0 };
        let record = start.cast::<Exec>();
        (&raw mut (*record).header).write(header);
        (&raw mut (*record).cgroup).write(bpf_get_current_cgroup_id());
        (&raw mut (*record).parent_tgid).write(parent.tgid());
        (&raw mut (*record).uid).write(uid);
        (&raw mut (*record).euid).write(euid);
        (&raw mut (*record).gid).write(gid);
        (&raw mut (*record).old_tid).write(old_tid);
        (&raw mut (*record).pidns).write(0);
        (&raw mut (*record).parent_start_ns).write(parent.process_start());
        write_name(&raw mut (*record).comm, task);
        write_filename((&raw mut (*record).filename).cast(), filename);
    }
    slot.submit(URGENT);
}

/// Copies the task's name.
///
/// # Safety
/// `to` is writable.
#[inline(always)]
unsafe fn write_name(to: *mut [u8; 16], task: Task) {
    let name = crate::kernel::probe_field::<[u64; 2]>(task.0 as u64, offset!(task_comm));
    // SAFETY: the caller's promise; 16 bytes at 8-byte alignment.
    unsafe { to.cast::<[u64; 2]>().write(name) };
}

/// Copies the path, and makes sure that it is terminated when it cannot be read.
///
/// # Safety
/// `to` has room for [`FILENAME_LEN`] bytes.
#[inline(always)]
unsafe fn write_filename(to: *mut u8, from: u64) {
    // SAFETY: the caller's promise; the helper copies fault-free and terminates.
    unsafe {
        if bpf_probe_read_kernel_str(to.cast(), FILENAME_LEN as u32, from as *const _) < 0 {
            to.write(0);
        }
    }
}
