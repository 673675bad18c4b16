//! The watched program's memory: where the bytes of a call lie, and copying them out.

use aya_ebpf::{
    check_bounds_signed,
    helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_user},
};

use super::{
    messages::{self, Moved},
    probe,
};
use crate::{
    maps::{ROOM, SCRATCH},
    settings::enabled,
};
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
            return only_piece(vector, compat).map(|piece| Pieces::One(piece.base));
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
    only_piece(vector, compat).map(|piece| (piece.base, piece.len))
}

/// The first pieces of an array, [`MAX_PIECES`] at most. Behind the bytes of a room: it has no place on
/// the stack.
#[derive(Clone, Copy)]
struct Table(*mut u8);

impl Table {
    /// Reads an array in one go: what it looks like does not concern those who go through it. Gives it
    /// with how many there are; `None` on a fault.
    #[inline(always)]
    fn read(room: Room, vector: u64, count: u64, layout: Layout) -> Option<(Table, u64)> {
        // SAFETY: a room goes on behind its bytes.
        let to = unsafe { room.0.add(ROOM) };
        let count = if count < MAX_PIECES { count } else { MAX_PIECES };
        if layout == Layout::Compat && enabled(feature::COMPAT) {
            return Self::read_compat(to, vector, count);
        }
        let len = bounded(count * 16, MAX_PIECES as i64 * 16)?;
        let from = vector as *const _;
        // SAFETY: the table has room for as many; the helpers copy fault-free from any address.
        let failed = unsafe {
            match layout {
                Layout::Kernel => bpf_probe_read_kernel(to.cast(), len, from),
                _ => bpf_probe_read_user(to.cast(), len, from),
            }
        };
        (failed == 0).then_some((Table(to), count))
    }

    /// The same of 32-bit pieces, which are read behind the table and widened into it.
    #[inline(always)]
    fn read_compat(to: *mut u8, vector: u64, count: u64) -> Option<(Table, u64)> {
        let len = bounded(count * 8, MAX_PIECES as i64 * 8)?;
        // SAFETY: a room goes on for as long.
        let narrow = unsafe { to.add(TABLE) };
        // SAFETY: as in `read`.
        if unsafe { bpf_probe_read_user(narrow.cast(), len, vector as *const _) } != 0 {
            return None;
        }
        let mut index = 0;
        while index < MAX_PIECES as usize {
            // SAFETY: the index is within both arrays.
            unsafe {
                let pair = narrow.cast::<u64>().add(index).read_volatile();
                let wide = Piece { base: pair & 0xffff_ffff, len: pair >> 32 };
                to.cast::<Piece>().add(index).write_volatile(wide);
            }
            index += 1;
        }
        Some((Table(to), count))
    }

    #[inline(always)]
    fn get(self, index: u64) -> Piece {
        // SAFETY: callers stay below MAX_PIECES; the verifier checks that.
        unsafe { self.0.cast::<Piece>().add(index as usize).read_volatile() }
    }
}

/// Bytes of a [`Table`], and of all that lies behind the bytes of a room: also 32-bit pieces.
const TABLE: usize = MAX_PIECES as usize * 16;
pub const BEHIND: usize = TABLE + MAX_PIECES as usize * 8;

/// The only `struct iovec` of an array.
#[inline(always)]
fn only_piece(vector: u64, compat: bool) -> Option<Piece> {
    if compat && enabled(feature::COMPAT) { narrow_pair(vector) } else { read_user(vector) }
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
    let size = if compat && enabled(feature::COMPAT) { 8 } else { 16 };
    let mut total: u64 = 0;
    let mut index = 0;
    while index < MAX_PIECES {
        if index >= count {
            break;
        }
        total = total.wrapping_add(only_piece(vector + index * size, compat)?.len);
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

/// How far a gathering is. In a map: of what lies there the verifier knows nothing, so that the ways
/// through one turn of a loop meet again before the next.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Gathering {
    have: u64,
    skip: u64,
}

impl Gathering {
    /// Begins `skip` bytes into the first piece.
    #[inline(always)]
    pub fn begin(&mut self, skip: u64) {
        self.set(0, skip);
    }

    /// Bytes gathered, and those to leave out of the next piece.
    #[inline(always)]
    pub fn get(&self) -> (u64, u64) {
        // SAFETY: a live value; volatile, so that it is read from there.
        unsafe { ((&raw const self.have).read_volatile(), (&raw const self.skip).read_volatile()) }
    }

    /// Notes both.
    #[inline(always)]
    pub fn set(&mut self, have: u64, skip: u64) {
        // SAFETY: as in `get`.
        unsafe {
            (&raw mut self.have).write_volatile(have);
            (&raw mut self.skip).write_volatile(skip);
        }
    }
}

/// Gathers pieces into a room, from where `gathering` begins, up to `want` bytes. Gives how many; fewer
/// than `want` on a fault or beyond [`MAX_PIECES`].
#[inline(always)]
pub fn gather(
    room: Room,
    gathering: &mut Gathering,
    (vector, count): (u64, u64),
    layout: Layout,
    want: u32,
) -> u32 {
    let Some((table, count)) = Table::read(room, vector, count, layout) else { return 0 };
    let want = u64::from(want);
    let mut index = 0;
    while index < MAX_PIECES {
        let (have, skip) = gathering.get();
        if index >= count || have >= want {
            break;
        }
        let piece = table.get(index);
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
            gathering.set(have + u64::from(len), 0);
        } else {
            gathering.set(have, 0);
        }
        index += 1;
    }
    gathering.get().0 as u32
}

/// The same with a single piece, behind what was gathered.
#[inline(always)]
pub fn append(room: Room, gathering: &mut Gathering, address: u64, want: u32) -> u32 {
    let (have, _) = gathering.get();
    let at = bounded(have + 1, i64::from(MAX_CAPTURE));
    let len = bounded(u64::from(want), i64::from(MAX_CAPTURE));
    if let (Some(at), Some(len)) = (at, len) {
        // SAFETY: as in `gather`.
        let copied = unsafe {
            bpf_probe_read_user(room.0.add(at as usize).cast(), len, address as *const _)
        };
        if copied == 0 {
            gathering.set(have + u64::from(len), 0);
        }
    }
    gathering.get().0 as u32
}

/// Copies `len` bytes of a scratch room to `to`, which has room for `ROOM`.
#[inline(always)]
pub fn copy_scratch<const ROOM: i64>(to: *mut u8, len: u32, from: *const u8) -> bool {
    let Some(len) = bounded(u64::from(len), ROOM) else { return false };
    // SAFETY: as in `copy_flat`; the source is a map value at least as long.
    unsafe { bpf_probe_read_kernel(to.cast(), len, from.cast()) == 0 }
}
