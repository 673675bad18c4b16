//! A call, between the steps in which it is dealt with: in a map and not on the stack.
//!
//! The verifier follows every way through a program with all that it knows of the values on it, and one
//! program with all steps has more ways than it is willing to walk. So a step is a global function: it
//! takes numbers, is verified once by itself (Linux 5.6; on older kernels the verifier walks through it),
//! and of what lies in a map the verifier knows nothing to tell ways apart by.

use agent_common::{counter, record::Payload, settings::feature};

use super::{in_kernel, write};
use crate::{
    emit::count as count_by,
    kernel::{
        ktls,
        messages::Moved,
        pages, registers,
        task::Task,
        user::{Buffer, Gathering, Layout, Pieces, Room, gather},
    },
    maps::WORK,
    settings::enabled,
    tls::{self, Beginning},
};

/// See the module. `way` says how to read the other fields.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Work {
    /// What is going to be written.
    pub record: Payload,
    /// The socket's `struct file`. In here, because to the verifier it is a pointer, and no number.
    file: u64,
    address: u64,
    count: u64,
    skip: u64,
    gathering: Gathering,
    /// First bytes that were written; zeros without any.
    beginning: Beginning,
    way: u32,
    /// Bytes that were gathered.
    have: u32,
}

/// Where a call keeps its bytes.
pub mod way {
    /// Nobody knows.
    pub const NONE: u32 = 0;
    /// At one address of the program's.
    pub const FLAT: u32 = 1;
    /// In pieces, as the program lists them.
    pub const PROGRAM: u32 = 2;
    /// In pieces, as a 32-bit program lists them.
    pub const COMPAT: u32 = 3;
    /// In pieces, as the kernel lists them.
    pub const KERNEL: u32 = 4;
    /// In pages of the kernel's.
    pub const PAGES: u32 = 5;
    /// In packets, which were copied before.
    pub const TAKEN: u32 = 6;
    /// Beside one of them: the call has several messages.
    pub const MESSAGES: u32 = 1 << 8;
}

/// The running program's, by its scratch number.
#[inline(always)]
pub fn of(slot: u32) -> Option<&'static mut Work> {
    // SAFETY: this CPU's live value; one program does not interrupt itself.
    WORK.get_ptr_mut(slot).map(|work| unsafe { &mut *work })
}

impl Work {
    /// Notes where the bytes are, and gives the way.
    #[inline(always)]
    pub fn note(&mut self, pieces: Pieces) -> u32 {
        let (way, address, count, skip) = match pieces {
            Pieces::One(address) => (way::FLAT, address, 0, 0),
            Pieces::Many { vector, count, skip, layout: Layout::Program } => {
                (way::PROGRAM, vector, count, skip)
            }
            Pieces::Many { vector, count, skip, layout: Layout::Compat } => {
                (way::COMPAT, vector, count, skip)
            }
            Pieces::Many { vector, count, skip, layout: Layout::Kernel } => {
                (way::KERNEL, vector, count, skip)
            }
            Pieces::Pages { vector, count, skip } => (way::PAGES, vector, count, skip),
        };
        self.address = address;
        self.count = count;
        self.skip = skip;
        self.way = way;
        way
    }

    /// They were taken from packets: so many of them.
    #[inline(always)]
    pub fn note_taken(&mut self, have: u32) {
        self.count = u64::from(have);
        self.way = way::TAKEN;
    }

    /// Nobody knows where they are.
    #[inline(always)]
    pub fn note_nowhere(&mut self) {
        self.way = way::NONE;
    }

    /// Process and thread, as one number.
    #[inline(always)]
    fn thread(&self) -> u64 {
        u64::from(self.record.header.tgid) << 32 | u64::from(self.record.header.tid)
    }
}

/// Finds where the registers say that the call keeps its bytes, and notes it. With `iterator` not 0 the messages of a sendmmsg were not followed. Gives the [`way`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn payload_locate(slot: u32, sending: u32, iterator: u32) -> u32 {
    let Some(work) = of(slot) else { return way::NONE };
    work.way = way::NONE;
    let Some(buffer) = registers::buffer(Task::current(), work.file, sending != 0) else {
        return way::NONE;
    };
    let mut several = 0;
    if let Buffer::Messages { .. } = buffer {
        if iterator != 0 {
            return way::NONE;
        }
        several = way::MESSAGES;
    }
    let moved = Moved {
        thread: work.thread(),
        cookie: work.record.cookie,
        len: work.record.header.total_len,
        sending: sending != 0,
    };
    match buffer.pieces(moved) {
        Some(pieces) => several | work.note(pieces),
        None => several,
    }
}

/// Gathers up to `want` of the call's bytes, where they are in pieces, into the program's scratch room,
/// and notes how many.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn payload_gather(slot: u32, want: u32) -> u32 {
    let Some(work) = of(slot) else { return 0 };
    let Work { address, count, skip, way, .. } = *work;
    work.gathering.begin(skip);
    work.have = 0;
    let Some(room) = Room::scratch(slot) else { return 0 };
    let layout = match way {
        way::PROGRAM => Layout::Program,
        way::COMPAT => Layout::Compat,
        way::KERNEL => Layout::Kernel,
        way::PAGES if enabled(feature::PAGES) => {
            count_by(counter::PAGE_SENDS, 1);
            work.have = pages::gather(room, &mut work.gathering, (address, count), want);
            return 0;
        }
        _ => return 0,
    };
    work.have = gather(room, &mut work.gathering, (address, count), layout, want);
    0
}

/// Writes the record with up to `want` of the call's bytes. With `in_packets` not 0 packets would have
/// had them, if they are nowhere else.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn payload_store(slot: u32, want: u32, in_packets: u32) -> u32 {
    let Some(work) = of(slot) else { return 0 };
    let way = work.way;
    work.beginning = [0; 4];
    let beginning = &raw mut work.beginning;
    if want == 0 {
        write::bare(&mut work.record);
        return 0;
    }
    if way == way::FLAT {
        write::flat(&mut work.record, want, work.address, beginning);
        return 0;
    }
    let gathered = if way == way::TAKEN && enabled(feature::PACKETS) {
        let have = work.count as u32;
        in_kernel::taken_room(work.thread())
            .map(|room| (room, if have < want { have } else { want }))
    } else if way != way::NONE {
        let have = work.have;
        Room::scratch(slot).map(|room| (room.start(), have))
    } else {
        None
    };
    match gathered {
        Some((room, have)) if have > 0 => write::gathered(&mut work.record, have, room, beginning),
        _ => {
            in_kernel::unreachable(&work.record.header, in_packets != 0 && way == way::NONE);
            write::unreachable(&mut work.record);
        }
    }
    0
}

/// 1 when what was written is TLS of a library whose call is known.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn payload_is_librarys(slot: u32) -> u32 {
    if !enabled(feature::TLS) {
        return 0;
    }
    let Some(work) = of(slot) else { return 0 };
    u32::from(tls::passes(&work.record, &work.beginning))
}

/// [`payload_is_librarys`].
#[inline(always)]
pub fn is_librarys(slot: u32) -> bool {
    payload_is_librarys(slot) != 0
}

/// Whether the running call moves something else than the program's data on a socket on which the kernel
/// does TLS: an alert, a part of a handshake. 1 or 0.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn payload_is_control(slot: u32, sending: u32) -> u32 {
    if !enabled(feature::KTLS) {
        return 0;
    }
    let Some(work) = of(slot) else { return 0 };
    match registers::buffer(Task::current(), work.file, sending != 0) {
        Some(Buffer::Message { address, compat }) => u32::from(ktls::is_control(address, compat)),
        _ => 0,
    }
}

/// [`payload_is_control`], of the call on the socket whose `struct file` is `file`.
#[inline(always)]
pub fn is_control(slot: u32, file: u64, sending: bool) -> bool {
    let Some(work) = of(slot) else { return false };
    // SAFETY: as in [`locate`].
    unsafe { (&raw mut work.file).write_volatile(file) };
    payload_is_control(slot, u32::from(sending)) != 0
}

/// [`payload_locate`].
#[inline(always)]
pub fn locate(slot: u32, file: u64, sending: bool, iterator: bool) -> u32 {
    let Some(work) = of(slot) else { return way::NONE };
    // SAFETY: a live value; volatile, so that the number is read back from there.
    unsafe { (&raw mut work.file).write_volatile(file) };
    payload_locate(slot, u32::from(sending), u32::from(iterator))
}

/// [`payload_gather`] where it is needed, then [`payload_store`].
#[inline(always)]
pub fn store(slot: u32, want: u32, in_packets: bool) {
    // Here and not in there: the stacks of functions that call each other add up, to 512 bytes at most.
    if want > 0 && of(slot).is_some_and(|work| work.way > way::FLAT) {
        payload_gather(slot, want);
    }
    payload_store(slot, want, u32::from(in_packets));
}
