//! The watched program's memory: where the bytes of a call lie, and copying them out.

use aya_ebpf::{
    check_bounds_signed,
    helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_user},
};

use super::{
    messages::{self, Moved},
    probe,
};
use crate::{maps::SCRATCH, settings::enabled};
use agent_common::settings::{MAX_CAPTURE, feature};

/// Where a call keeps its bytes.
#[derive(Clone, Copy)]
pub enum Buffer {
    /// One piece.
    Flat { address: u64 },
    /// `struct iovec[count]`. Here and below, `compat`: a 32-bit program's.
    Vector { address: u64, count: u64, compat: bool },
    /// `struct user_msghdr`.
    Message { address: u64, compat: bool },
    /// `struct mmsghdr[count]`, one event for each message.
    Messages { array: u64, count: u32, compat: bool },
}

/// Whose `struct iovec`s an array has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// The program's.
    Program,
    /// A 32-bit program's.
    Compat,
    /// The kernel's copy of either.
    Kernel,
}

/// Bytes to copy: one piece, or pieces to gather.
#[derive(Clone, Copy)]
pub enum Pieces {
    /// At this user address.
    One(u64),
    /// `struct iovec[count]` at `vector`, from `skip` bytes into the first one.
    Many { vector: u64, count: u64, skip: u64, layout: Layout },
    /// `struct bio_vec[count]` at `vector`, from `skip` bytes into the first one.
    Pages { vector: u64, count: u64, skip: u64 },
    /// In a room: what was taken from packets.
    Taken { room: *const u8, have: u32 },
}

/// A room to gather in, twice the largest class long.
#[derive(Clone, Copy)]
pub struct Room(pub *mut u8);

impl Room {
    /// The scratch room of a program.
    #[inline(always)]
    pub fn scratch(slot: u32) -> Option<Room> {
        Some(Room(SCRATCH.get_ptr_mut(slot)?.cast()))
    }
}

/// Most pieces gathered from one call: servers send a head and a few parts; what lies beyond is a
/// gap. Eight keeps the program small for the verifier.
const MAX_PIECES: u64 = 8;

/// `offsetof(struct user_msghdr, msg_iov)`; `msg_iovlen` follows.
const MSG_IOV: u64 = 16;
/// The same of `struct compat_msghdr`.
const COMPAT_MSG_IOV: u64 = 8;

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
        let (vector, count, compat) = match self {
            Buffer::Flat { address } => return Some(Pieces::One(address)),
            Buffer::Vector { address, count, compat } => (address, count, compat),
            Buffer::Message { address, compat } => {
                let (vector, count) = message(address, compat)?;
                (vector, count, compat)
            }
            Buffer::Messages { array, count, compat } => {
                let (vector, count) = messages::pass(moved, array, count, compat)?;
                (vector, count, compat)
            }
        };
        let layout = if compat { Layout::Compat } else { Layout::Program };
        if count == 1 {
            return piece(vector, 0, layout).map(|piece| Pieces::One(piece.base));
        }
        Some(Pieces::Many { vector, count, skip: 0, layout })
    }
}

impl Pieces {
    /// One piece where the kernel's array has one.
    #[inline(always)]
    pub fn simplified(self) -> Pieces {
        match self {
            Pieces::Many { vector, count: 1, skip, layout: Layout::Kernel } => {
                Pieces::One(probe::<Piece>(vector).base + skip)
            }
            other => other,
        }
    }
}

/// `msg_iov` and `msg_iovlen` of a message header.
#[inline(always)]
pub fn message(address: u64, compat: bool) -> Option<(u64, u64)> {
    if compat && enabled(feature::COMPAT) {
        return narrow_pair(address + COMPAT_MSG_IOV).map(|pair| (pair.base, pair.len));
    }
    read_user::<Piece>(address + MSG_IOV).map(|pair| (pair.base, pair.len))
}

/// The first piece of a message: its address and length.
#[inline(always)]
pub fn first_piece(address: u64, compat: bool) -> Option<(u64, u64)> {
    let (vector, count) = message(address, compat)?;
    if count == 0 {
        return None;
    }
    let layout = if compat { Layout::Compat } else { Layout::Program };
    piece(vector, 0, layout).map(|piece| (piece.base, piece.len))
}

/// One `struct iovec` of an array.
#[inline(always)]
fn piece(vector: u64, index: u64, layout: Layout) -> Option<Piece> {
    if layout == Layout::Kernel {
        return Some(probe(vector + index * 16));
    }
    if layout == Layout::Compat && enabled(feature::COMPAT) {
        return narrow_pair(vector + index * 8);
    }
    read_user(vector + index * 16)
}

/// Two 32-bit numbers: `struct compat_iovec`, and two fields of `struct compat_msghdr`.
#[inline(always)]
fn narrow_pair(address: u64) -> Option<Piece> {
    let [base, len] = read_user::<[u32; 2]>(address)?;
    Some(Piece { base: u64::from(base), len: u64::from(len) })
}

/// Bytes that `struct iovec[count]` holds; `None` for more than [`MAX_PIECES`], or on a fault.
#[inline(always)]
pub fn add_up(vector: u64, count: u64, compat: bool) -> Option<u64> {
    if count > MAX_PIECES {
        return None;
    }
    let layout = if compat { Layout::Compat } else { Layout::Program };
    let mut total: u64 = 0;
    let mut index = 0;
    while index < MAX_PIECES {
        if index >= count {
            break;
        }
        total = total.wrapping_add(piece(vector, index, layout)?.len);
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

/// Gathers pieces into a room, from `skip` bytes into the first one, up to `want` bytes. Gives the room and the bytes
/// in it; fewer than `want` on a fault or beyond [`MAX_PIECES`].
#[inline(always)]
pub fn gather(
    room: Room,
    vector: u64,
    count: u64,
    skip: u64,
    layout: Layout,
    want: u32,
) -> Option<(*const u8, u32)> {
    let mut skip = skip;
    let mut have: u64 = 0;
    let want = u64::from(want);
    let mut index = 0;
    while index < MAX_PIECES {
        if index >= count || have >= want {
            break;
        }
        let Some(piece) = piece(vector, index, layout) else { break };
        let rest = piece.len.saturating_sub(skip);
        let len = if rest < want - have { rest } else { want - have };
        if len > 0 {
            // `have` begins at 1 so that one bound serves both; the room's first byte stays free.
            let Some(at) = bounded(have + 1, i64::from(MAX_CAPTURE)) else { break };
            let Some(len) = bounded(len, i64::from(MAX_CAPTURE)) else { break };
            // SAFETY: the room holds twice MAX_CAPTURE, and offset and length were bounded to
            // MAX_CAPTURE each.
            let copied = unsafe {
                let from = (piece.base + skip) as *const _;
                bpf_probe_read_user(room.0.add(at as usize).cast(), len, from)
            };
            if copied != 0 {
                break;
            }
            have += u64::from(len);
        }
        skip = 0;
        index += 1;
    }
    Some((room.start(), have as u32))
}

/// Copies `len` bytes of a scratch room to `to`, which has room for `ROOM`.
#[inline(always)]
pub fn copy_scratch<const ROOM: i64>(to: *mut u8, len: u32, from: *const u8) -> bool {
    let Some(len) = bounded(u64::from(len), ROOM) else { return false };
    // SAFETY: as in `copy_flat`; the source is a map value at least as long.
    unsafe { bpf_probe_read_kernel(to.cast(), len, from.cast()) == 0 }
}
