//! `struct task_struct`: who is running.

use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid,
    generated::{bpf_get_current_task, bpf_get_current_task_btf},
};

use super::{load, word};
use crate::settings::offset;

/// A task known to the verifier.
#[derive(Clone, Copy)]
pub struct Task(pub *const u8);

/// `PF_KTHREAD | PF_IO_WORKER | PF_USER_WORKER` (include/linux/sched.h): tasks whose registers are
/// not those of a system call that the watched program made.
const NOT_A_CALLER: u32 = 0x0020_0000 | 0x10 | 0x4000;

impl Task {
    /// The running task.
    #[inline(always)]
    pub fn current() -> Task {
        if crate::UNTYPED {
            // SAFETY: takes no pointer and has no precondition.
            return Task(unsafe { bpf_get_current_task() } as *const u8);
        }
        // SAFETY: as above.
        Task(unsafe { bpf_get_current_task_btf() }.cast())
    }

    /// Process number.
    #[inline(always)]
    pub fn tgid(self) -> u32 {
        load(self.0, offset!(task_tgid))
    }

    /// Thread number.
    #[inline(always)]
    pub fn tid(self) -> u32 {
        load(self.0, offset!(task_pid))
    }

    /// Start of its process on the boot-time clock, ns.
    #[inline(always)]
    pub fn process_start(self) -> u64 {
        let leader: *const u8 = load(self.0, offset!(task_group_leader));
        load(leader, offset!(task_start_boottime))
    }

    /// The parent process's leader.
    #[inline(always)]
    pub fn parent(self) -> Task {
        Task(load(self.0, offset!(task_real_parent)))
    }

    /// It runs a program's own code, not a kernel thread or an io_uring worker.
    #[inline(always)]
    pub fn may_call(self) -> bool {
        load::<u32>(self.0, offset!(task_flags)) & NOT_A_CALLER == 0
    }

    /// Address of the `struct file` behind `fd`, 0 when there is none.
    #[inline(always)]
    pub fn file(self, fd: u32) -> u64 {
        let files: *const u8 = load(self.0, offset!(task_files));
        if files.is_null() {
            return 0;
        }
        let table: *const u8 = load(files, offset!(files_fdt));
        if table.is_null() || fd >= load::<u32>(table, offset!(fdtable_max_fds)) {
            return 0;
        }
        let array: u64 = load(table, offset!(fdtable_fd));
        word(array + u64::from(fd) * 8)
    }

    /// Threads of its process that have not ended; meaningful in the exit hook.
    #[inline(always)]
    pub fn threads_alive(self) -> u32 {
        let signal: *const u8 = load(self.0, offset!(task_signal));
        load(signal, offset!(signal_live))
    }

    /// Real user, effective user, real group.
    #[inline(always)]
    pub fn credentials(self) -> (u32, u32, u32) {
        let cred: *const u8 = load(self.0, offset!(task_cred));
        (
            load(cred, offset!(cred_uid)),
            load(cred, offset!(cred_euid)),
            load(cred, offset!(cred_gid)),
        )
    }

    /// User addresses of the argument block's first byte and of the one behind its last.
    #[inline(always)]
    pub fn arguments(self) -> (u64, u64) {
        let mm: *const u8 = load(self.0, offset!(task_mm));
        if mm.is_null() {
            return (0, 0);
        }
        (load(mm, offset!(mm_arg_start)), load(mm, offset!(mm_arg_end)))
    }

    /// Lowest address of its kernel stack.
    #[inline(always)]
    pub fn stack(self) -> u64 {
        load(self.0, offset!(task_stack))
    }

    /// Wait status; meaningful in the exit hook.
    #[inline(always)]
    pub fn exit_code(self) -> u32 {
        load(self.0, offset!(task_exit_code))
    }
}

/// Process and thread number of the running task.
#[inline(always)]
pub fn current_ids() -> (u32, u32, u64) {
    let both = bpf_get_current_pid_tgid();
    ((both >> 32) as u32, both as u32, both)
}
