//! x86: calls of 32-bit programs. Other numbers, other registers, and structs of 32-bit fields; a few
//! programs still reach sockets through `socketcall`, whose arguments lie in memory.

use super::{
    load,
    task::Task,
    user::{Buffer, read_user},
};

// Offsets in `struct pt_regs` (arch/x86/include/uapi/asm/ptrace.h). Arguments: bx, cx, dx, si, di.
const BX: u64 = 40;
const CX: u64 = 88;
const DX: u64 = 96;
const DI: u64 = 112;

// Numbers from arch/x86/entry/syscalls/syscall_32.tbl.
const READ: u32 = 3;
const WRITE: u32 = 4;
const SOCKETCALL: u32 = 102;
const READV: u32 = 145;
const WRITEV: u32 = 146;
const RECVMMSG: u32 = 337;
const SENDMMSG: u32 = 345;
const SENDTO: u32 = 369;
const SENDMSG: u32 = 370;
const RECVFROM: u32 = 371;
const RECVMSG: u32 = 372;
const PREADV2: u32 = 378;
const PWRITEV2: u32 = 379;
const RECVMMSG_TIME64: u32 = 417;

/// What `socketcall` does (include/uapi/linux/net.h), as the call of its own that does the same.
#[inline(always)]
fn of_socketcall(number: u32) -> u32 {
    match number {
        9 | 11 => SENDTO,
        10 | 12 => RECVFROM,
        16 => SENDMSG,
        17 => RECVMSG,
        19 => RECVMMSG,
        20 => SENDMMSG,
        _ => 0,
    }
}

/// Descriptor, address, number of pieces or messages, and address of a time limit.
#[derive(Clone, Copy)]
struct Arguments {
    fd: u32,
    address: u32,
    count: u32,
    limit: u32,
}

/// As [`super::registers::buffer`], for a call through the 32-bit table: `call` is its number.
#[inline(always)]
pub fn buffer(task: Task, regs: *const u8, call: u32, file: u64, sending: bool) -> Option<Buffer> {
    let (call, arguments) = arguments(regs, call)?;
    if !moves(call, sending) || task.file(arguments.fd) != file {
        return None;
    }
    let (address, count) = (u64::from(arguments.address), arguments.count);
    Some(match call {
        READ | WRITE | SENDTO | RECVFROM => Buffer::Flat { address },
        READV | WRITEV | PREADV2 | PWRITEV2 => {
            Buffer::Vector { address, count: u64::from(count), compat: true }
        }
        SENDMSG | RECVMSG => Buffer::Message { address, compat: true },
        RECVMMSG | RECVMMSG_TIME64 if arguments.limit != 0 => return None,
        _ => Buffer::Messages { array: address, count, compat: true },
    })
}

/// The registers say of a receive on some socket where its bytes go.
#[inline(always)]
pub fn receives(regs: *const u8, call: u32) -> bool {
    match arguments(regs, call) {
        Some((RECVMMSG | RECVMMSG_TIME64, arguments)) => arguments.limit == 0,
        Some((call, _)) => moves(call, false),
        None => false,
    }
}

/// The call is one that moves bytes in this direction.
#[inline(always)]
fn moves(call: u32, sending: bool) -> bool {
    if sending {
        return matches!(call, WRITE | WRITEV | PWRITEV2 | SENDTO | SENDMSG | SENDMMSG);
    }
    let known = [READ, READV, PREADV2, RECVFROM, RECVMSG, RECVMMSG, RECVMMSG_TIME64];
    known.contains(&call)
}

/// The call that is meant, with its arguments.
#[inline(always)]
fn arguments(regs: *const u8, call: u32) -> Option<(u32, Arguments)> {
    if call != SOCKETCALL {
        let [fd, address, count, limit] = [BX, CX, DX, DI].map(|at| load::<u64>(regs, at) as u32);
        return Some((call, Arguments { fd, address, count, limit }));
    }
    let call = of_socketcall(load::<u64>(regs, BX) as u32);
    let block = u64::from(load::<u64>(regs, CX) as u32);
    let [fd, address, count] = read_user::<[u32; 3]>(block)?;
    let limit = if call == RECVMMSG { read_user::<u32>(block + 16)? } else { 0 };
    Some((call, Arguments { fd, address, count, limit }))
}
