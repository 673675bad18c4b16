//! x86-64: the registers of the system call that the current thread is in, and where each call
//! keeps its buffer; arguments and results of functions. The only architecture-specific file of the
//! kernel side.

use aya_ebpf::{
    bindings::pt_regs,
    helpers::generated::bpf_task_pt_regs,
    programs::{ProbeContext, RetProbeContext},
};

use agent_common::settings::feature;

use super::{
    compat, load,
    task::Task,
    user::{Buffer, message},
};
use crate::settings::{enabled, offset};

// Offsets in `struct pt_regs` (arch/x86/include/uapi/asm/ptrace.h).
const R8: u64 = 72;
const AX: u64 = 80;
const DX: u64 = 96;
const SI: u64 = 104;
const DI: u64 = 112;
const ORIG_AX: u64 = 120;

const CS: u64 = 136;
const SS: u64 = 160;
/// `sizeof(struct pt_regs)`.
const PT_REGS_LEN: u64 = 168;

/// `THREAD_SIZE` (arch/x86/include/asm/page_64_types.h), without KASAN: with it nothing is found.
const THREAD_SIZE: u64 = 16_384;
/// `TOP_OF_KERNEL_STACK_PADDING` of kernels that are built with FRED (6.9 and later); else 0.
const FRED_PADDING: u64 = 16;
/// Segments of programs (arch/x86/include/asm/segment.h): 64-bit code, 32-bit code, stack.
const USER_CS: u16 = 0x33;
const USER32_CS: u16 = 0x23;
const USER_DS: u16 = 0x2b;

/// `-ENOSYS`: what the entry code leaves in `ax` until the call returns.
const STILL_INSIDE: i64 = -38;

/// `TS_COMPAT` (arch/x86/include/asm/thread_info.h): the call came through the 32-bit table.
const TS_COMPAT: u32 = 2;

// Numbers from arch/x86/entry/syscalls/syscall_64.tbl.
const READ: u64 = 0;
const WRITE: u64 = 1;
const READV: u64 = 19;
const WRITEV: u64 = 20;
const SENDTO: u64 = 44;
const RECVFROM: u64 = 45;
const SENDMSG: u64 = 46;
const RECVMSG: u64 = 47;
const RECVMMSG: u64 = 299;
const SENDMMSG: u64 = 307;
const PREADV2: u64 = 327;
const PWRITEV2: u64 = 328;

/// Where the kernel keeps the registers with which the running task entered it.
#[inline(always)]
fn saved(task: Task) -> Option<*const u8> {
    if crate::UNTYPED {
        let top = task.stack() + THREAD_SIZE;
        return on_top(top).or_else(|| on_top(top - FRED_PADDING));
    }
    // SAFETY: the task is the current one and alive.
    Some(unsafe { bpf_task_pt_regs(task.0.cast_mut().cast()) } as *const u8)
}

/// The registers that end at `end`, if a program's code and stack segments stand where they should:
/// at another place stand other things.
#[inline(always)]
fn on_top(end: u64) -> Option<*const u8> {
    let regs = end.wrapping_sub(PT_REGS_LEN) as *const u8;
    let (code, stack) = (load::<u16>(regs, CS), load::<u16>(regs, SS));
    (matches!(code, USER_CS | USER32_CS) && stack == USER_DS).then_some(regs)
}

/// Finds the buffer of the running send (`sending`) or receive on the socket whose `struct file`
/// is `file`, or `None` when the registers do not prove that they belong to it.
///
/// The proof: the task runs a program's own code; the thread is still inside the call whose
/// arguments stand in the registers (`ax`); the call is one that moves bytes in this direction
/// (by the table, 64-bit or 32-bit, that it came through); and its descriptor is this very file. io_uring completions, kernel threads and
/// in-kernel users of sockets fail it.
#[inline(always)]
pub fn buffer(task: Task, file: u64, sending: bool) -> Option<Buffer> {
    if file == 0 || !task.may_call() {
        return None;
    }
    let compat = is_compat(task);
    if compat && !enabled(feature::COMPAT) {
        return None;
    }
    let regs = saved(task)?;
    if load::<i64>(regs, AX) != STILL_INSIDE {
        return None;
    }
    let call: u64 = load(regs, ORIG_AX);
    if compat {
        return compat::buffer(task, regs, call as u32, file, sending);
    }
    let known = if sending {
        matches!(call, WRITE | WRITEV | PWRITEV2 | SENDTO | SENDMSG | SENDMMSG)
    } else {
        matches!(call, READ | READV | PREADV2 | RECVFROM | RECVMSG | RECVMMSG)
    };
    if !known || task.file(load::<u64>(regs, DI) as u32) != file {
        return None;
    }
    let address: u64 = load(regs, SI);
    Some(match call {
        READ | WRITE | SENDTO | RECVFROM => Buffer::Flat { address },
        READV | WRITEV | PREADV2 | PWRITEV2 => {
            Buffer::Vector { address, count: load(regs, DX), compat: false }
        }
        SENDMSG | RECVMSG => Buffer::Message { address, compat: false },
        // With a time limit (its fifth argument) recvmmsg may end unseen.
        RECVMMSG if load::<u64>(regs, R8) != 0 => return None,
        _ => {
            let count = load::<u64>(regs, DX) as u32;
            Buffer::Messages { array: address, count, compat: false }
        }
    })
}

/// Where the registers say that the running call has its bytes: an address, and of how many pieces (0:
/// the bytes themselves). Whose registers they are is not asked: what lies there has to prove itself.
#[inline(always)]
pub fn hint(task: Task) -> Option<(u64, u64)> {
    if !task.may_call() || is_compat(task) {
        return None;
    }
    let regs = saved(task)?;
    if load::<i64>(regs, AX) != STILL_INSIDE {
        return None;
    }
    let address: u64 = load(regs, SI);
    match load::<u64>(regs, ORIG_AX) {
        READ | WRITE | SENDTO | RECVFROM => Some((address, 0)),
        READV | WRITEV | PREADV2 | PWRITEV2 => Some((address, load(regs, DX))),
        SENDMSG | RECVMSG => message(address, false),
        _ => None,
    }
}

/// First argument of a Go function, and the running goroutine (Go's internal ABI, since 1.17).
#[inline(always)]
pub fn go_arguments(ctx: &ProbeContext) -> (u64, u64) {
    // SAFETY: the context of a uprobe is a live `struct pt_regs`; the verifier checks the loads.
    unsafe { ((*ctx.regs).rax, (*ctx.regs).r14) }
}

/// The running task is inside a receive whose registers say where its bytes go, whatever it receives
/// from: [`buffer`] will find them.
#[inline(always)]
pub fn receives(task: Task) -> bool {
    if !task.may_call() {
        return false;
    }
    let compat = is_compat(task);
    if compat && !enabled(feature::COMPAT) {
        return false;
    }
    let Some(regs) = saved(task) else { return false };
    if load::<i64>(regs, AX) != STILL_INSIDE {
        return false;
    }
    let call: u64 = load(regs, ORIG_AX);
    if compat {
        return compat::receives(regs, call as u32);
    }
    match call {
        RECVMMSG => load::<u64>(regs, R8) == 0,
        call => matches!(call, READ | READV | PREADV2 | RECVFROM | RECVMSG),
    }
}

/// The call came through the 32-bit table.
#[inline(always)]
fn is_compat(task: Task) -> bool {
    load::<u32>(task.0, offset!(task_thread_info_status)) & TS_COMPAT != 0
}

/// Registers of a program at the entry of a function.
#[derive(Clone, Copy)]
pub struct Called {
    arguments: [u64; 6],
    /// Stack pointer.
    pub stack: u64,
}

/// Registers of a program in Go, by its internal ABI (since 1.17).
#[derive(Clone, Copy)]
pub struct GoRegisters {
    /// First argument or result, and those that follow.
    pub first: u64,
    pub second: u64,
    pub third: u64,
    /// The running goroutine's struct.
    pub g: u64,
    /// Frame pointer.
    pub frame: u64,
}

/// Registers of a program behind the return of a function.
#[derive(Clone, Copy)]
pub struct Returned {
    /// What it returned.
    pub value: u64,
    /// Stack pointer.
    pub stack: u64,
}

/// One register of a probe's context; volatile, so that each is loaded at a constant offset.
macro_rules! register {
    ($regs:expr, $name:ident) => {{
        let regs: *const pt_regs = $regs;
        // SAFETY: the program's own context.
        unsafe { (&raw const (*regs).$name).read_volatile() }
    }};
}

impl Called {
    #[inline(always)]
    pub fn of(ctx: &ProbeContext) -> Called {
        let regs = ctx.regs.cast_const();
        Called {
            arguments: [
                register!(regs, rdi),
                register!(regs, rsi),
                register!(regs, rdx),
                register!(regs, rcx),
                register!(regs, r8),
                register!(regs, r9),
            ],
            stack: register!(regs, rsp),
        }
    }

    /// Argument `number` by the System V convention, from 0.
    #[inline(always)]
    pub fn argument(&self, number: u64) -> u64 {
        match number {
            0 => self.arguments[0],
            1 => self.arguments[1],
            2 => self.arguments[2],
            3 => self.arguments[3],
            4 => self.arguments[4],
            _ => self.arguments[5],
        }
    }
}

impl GoRegisters {
    #[inline(always)]
    pub fn of(ctx: &ProbeContext) -> GoRegisters {
        let regs = ctx.regs.cast_const();
        GoRegisters {
            first: register!(regs, rax),
            second: register!(regs, rbx),
            third: register!(regs, rcx),
            g: register!(regs, r14),
            frame: register!(regs, rbp),
        }
    }
}

impl Returned {
    #[inline(always)]
    pub fn of(ctx: &RetProbeContext) -> Returned {
        let regs = ctx.regs.cast_const();
        Returned { value: register!(regs, rax), stack: register!(regs, rsp) }
    }
}
