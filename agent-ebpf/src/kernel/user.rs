//! The watched program's memory: where the bytes of a call lie, and copying them out.

use aya_ebpf::{
    check_bounds_signed,
    helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_user},
};

use super::{
    messages::{self, Moved},
    probe,
};
use crate::maps::SCRATCH;
use agent_common::settings::MAX_CAPTURE;

/// Where a call keeps its bytes.
#[derive(Clone, Copy)]
pub enum Buffer {
    /// One piece.
    Flat { address: u64 },
    /// `struct iovec[count]`.
    Vector { address: u64, count: u64 },
    /// `struct user_msghdr`.
    Message { address: u64 },
    /// `struct mmsghdr[count]`, one event for each message.
    Messages { array: u64, count: u32 },
}

/// Bytes to copy: one piece, or pieces to gather.
#[derive(Clone, Copy)]
pub enum Pieces {
    /// At this user address.
    One(u64),
    /// `struct iovec[count]` at `vector`, in the program's memory or the kernel's copy of it.
    Many { vector: u64, count: u64, in_kernel: bool },
}

/// Most pieces gathered from one call: servers send a head and a few parts; what lies beyond is a
/// gap. Eight keeps the program small for the verifier.
const MAX_PIECES: u64 = 8;

/// `offsetof(struct user_msghdr, msg_iov)`; `msg_iovlen` follows.
const MSG_IOV: u64 = 16;

/// `struct iovec`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Piece {
    base: u64,
    len: u64,
}

impl Buffer {
    /// Resolves headers down to pieces. `None` when the program's memory cannot be read, or when
    /// it is not certain which message was moved.
    #[inline(always)]
    pub fn pieces(self, moved: Moved) -> Option<Pieces> {
        let (vector, count) = match self {
            Buffer::Flat { address } => return Some(Pieces::One(address)),
            Buffer::Vector { address, count } => (address, count),
            Buffer::Message { address } => message(address)?,
            Buffer::Messages { array, count } => messages::pass(moved, array, count)?,
        };
        if count == 1 {
            return read_user::<Piece>(vector).map(|piece| Pieces::One(piece.base));
        }
        Some(Pieces::Many { vector, count, in_kernel: false })
    }
}

impl Pieces {
    /// One piece where the kernel's array has one.
    #[inline(always)]
    pub fn simplified(self) -> Pieces {
        match self {
            Pieces::Many { vector, count: 1, in_kernel: true } => {
                Pieces::One(probe::<Piece>(vector).base)
            }
            other => other,
        }
    }
}

/// `msg_iov` and `msg_iovlen` of a message header.
#[inline(always)]
pub fn message(address: u64) -> Option<(u64, u64)> {
    read_user::<Piece>(address + MSG_IOV).map(|pair| (pair.base, pair.len))
}

/// Bytes that `struct iovec[count]` holds; `None` for more than [`MAX_PIECES`], or on a fault.
#[inline(always)]
pub fn add_up(vector: u64, count: u64) -> Option<u64> {
    if count > MAX_PIECES {
        return None;
    }
    let mut total: u64 = 0;
    let mut index = 0;
    while index < MAX_PIECES {
        if index >= count {
            break;
        }
        total = total.wrapping_add(read_user::<Piece>(vector + index * 16)?.len);
        index += 1;
    }
    Some(total)
}

#[inline(always)]
pub fn read_user<T: Copy>(address: u64) -> Option<T> {
    // SAFETY: the helper copies fault-free from any user address.
    unsafe { aya_ebpf::helpers::bpf_probe_read_user(address as *const T) }.ok()
}

/// `len` when it lies in `1..=most`. The compiler forgets what it knew of the value, so that the
/// verifier sees the bound on the very register that is used.
#[inline(always)]
pub fn bounded(len: u64, most: i64) -> Option<u32> {
    let mut len = len;
    // SAFETY: a move onto itself; it only pins the value. (An empty template would give two source
    // lines to one instruction, which the kernel refuses.)
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) len) };
    if check_bounds_signed(len as i64, 1, most) { Some(len as u32) } else { None }
}

/// Copies `len` bytes at the user address `from` to `to`, which has room for `ROOM`. False on a
/// fault.
#[inline(always)]
pub fn copy_flat<const ROOM: i64>(to: *mut u8, len: u32, from: u64) -> bool {
    let Some(len) = bounded(u64::from(len), ROOM) else { return false };
    // SAFETY: `to` has room for ROOM bytes (the verifier checks), the source may be any address.
    unsafe { bpf_probe_read_user(to.cast(), len, from as *const _) == 0 }
}

/// Gathers pieces into the scratch room `slot`, up to `want` bytes. Gives the room and the bytes
/// in it; fewer than `want` on a fault or beyond [`MAX_PIECES`].
#[inline(always)]
pub fn gather(
    slot: u32,
    vector: u64,
    count: u64,
    in_kernel: bool,
    want: u32,
) -> Option<(*const u8, u32)> {
    let room = SCRATCH.get_ptr_mut(slot)?.cast::<u8>();
    let mut have: u64 = 0;
    let want = u64::from(want);
    let mut index = 0;
    while index < MAX_PIECES {
        if index >= count || have >= want {
            break;
        }
        let at = vector + index * 16;
        let piece = if in_kernel { Some(probe(at)) } else { read_user::<Piece>(at) };
        let Some(piece) = piece else { break };
        let len = if piece.len < want - have { piece.len } else { want - have };
        if len > 0 {
            // `have` begins at 1 so that one bound serves both; the room's first byte stays free.
            let Some(at) = bounded(have + 1, i64::from(MAX_CAPTURE)) else { break };
            let Some(len) = bounded(len, i64::from(MAX_CAPTURE)) else { break };
            // SAFETY: the room holds twice MAX_CAPTURE, and offset and length were bounded to
            // MAX_CAPTURE each.
            let copied = unsafe {
                bpf_probe_read_user(room.add(at as usize).cast(), len, piece.base as *const _)
            };
            if copied != 0 {
                break;
            }
            have += u64::from(len);
        }
        index += 1;
    }
    // SAFETY: one byte into the room.
    Some((unsafe { room.add(1) }, have as u32))
}

/// Copies `len` bytes of a scratch room to `to`, which has room for `ROOM`.
#[inline(always)]
pub fn copy_scratch<const ROOM: i64>(to: *mut u8, len: u32, from: *const u8) -> bool {
    let Some(len) = bounded(u64::from(len), ROOM) else { return false };
    // SAFETY: as in `copy_flat`; the source is a map value at least as long.
    unsafe { bpf_probe_read_kernel(to.cast(), len, from.cast()) == 0 }
}
