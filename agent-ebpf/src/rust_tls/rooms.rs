//! Plaintext that waits in a room until its socket is known, or until it is written.

use agent_common::{
    record::Payload,
    settings::{MAX_CAPTURE, feature},
};

use super::{Maker, RustCall, RustObject, Text, unmatched};
use crate::{
    kernel::{
        task::Task,
        user::{BEHIND, Gathering, Layout, Room, append, gather},
    },
    maps::{ROOM, RUST_ROOMS, RUST_TAKEN},
    probes::{
        payload::write,
        tls::{Asked, Moving, prepare},
    },
    settings::enabled,
    tls::socket,
};

/// Rooms: a power of two.
pub const ROOMS: u32 = 64;

/// Plaintext between encrypting and sending.
#[repr(C)]
pub struct Waiting {
    /// Whose it is; `born` is 0 while it is changed.
    pub owner: Maker,
    pub tgid: u32,
    pub tid: u32,
    pub began_ns: u64,
    /// Bytes in all, of which the room may have only the first.
    pub total: u64,
    pub whole: u32,
    pub have: u32,
    pub record: Payload,
    pub gathering: Gathering,
    pub bytes: [u8; ROOM + BEHIND],
}

#[inline(always)]
pub(super) fn room(slot: u32) -> Option<&'static mut Waiting> {
    // SAFETY: a live map value; who reads it asks whose it is before and after.
    unsafe { RUST_ROOMS.get_ptr_mut(slot & (ROOMS - 1))?.as_mut() }
}

/// Reports what waited in a room. `born`: its owner's, 0 where that has been asked.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn rust_release(slot: u32, cookie: u64, born: u64) -> u32 {
    if !enabled(feature::TLS) {
        return 0;
    }
    let Some(room) = room(slot) else { return 0 };
    let owner = room.owner.born;
    if owner == 0 || born != 0 && owner != born {
        return 0;
    }
    let Some(socket) = socket(cookie) else {
        unmatched(room.total);
        room.total = 0;
        return 0;
    };
    let len = room.total as u32;
    let moving = Moving { sending: true, began_ns: room.began_ns, len, asked: Asked::Nobody };
    room.total = 0;
    let Some(want) = prepare(&moving, cookie, socket, &mut room.record) else { return 0 };
    room.record.header.tid = room.tid;
    store(room, want, owner);
    0
}

/// Writes the record of a room with the bytes that it has.
#[inline(always)]
fn store(room: &'static mut Waiting, want: u32, born: u64) {
    let have = if room.have < want { room.have } else { want };
    // SAFETY: a live value; volatile, so that it is asked now: another thread may have taken the room
    // since, if all of them were in use.
    let still = unsafe { (&raw const room.owner.born).read_volatile() } == born;
    if have == 0 || !still {
        return write::bare(&mut room.record);
    }
    let start = Room(room.bytes.as_mut_ptr()).start();
    write::gathered(&mut room.record, have, start, core::ptr::null_mut());
}

/// Reports plaintext in pieces that goes to the socket `cookie`, through a room.
#[inline(always)]
pub fn report_pieces(call: &RustCall, cookie: u64, maker: Maker) {
    let slot = take(maker, call);
    fill(slot, call);
    rust_release(slot, cookie, maker.born);
}

/// Keeps plaintext until its socket is known: behind what waits already.
#[inline(always)]
pub fn wait(object: &mut RustObject, call: &RustCall) {
    let maker = Maker { handle: call.handle, born: object.born };
    let waiting = if object.room == 0 { None } else { room(object.room as u32 - 1) };
    match waiting {
        Some(room) if room.owner.born == object.born => {}
        _ => object.room = u64::from(take(maker, call)) + 1,
    }
    fill(object.room as u32 - 1, call);
}

/// A room for this owner.
#[inline(always)]
fn take(owner: Maker, call: &RustCall) -> u32 {
    let Some(taken) = RUST_TAKEN.get_ptr_mut(0) else { return 0 };
    // SAFETY: a live map value.
    let slot = unsafe { crate::kernel::atomic::fetch_add(taken, 1) } as u32;
    let slot = slot & (ROOMS - 1);
    if let Some(room) = room(slot) {
        // SAFETY: a live map value; volatile, so that nobody takes what is being changed for theirs.
        unsafe { (&raw mut room.owner.born).write_volatile(0) };
        if room.total != 0 {
            unmatched(room.total);
        }
        let task = Task::current();
        room.tgid = task.tgid();
        room.tid = task.tid();
        room.began_ns = call.began_ns;
        room.total = 0;
        room.have = 0;
        room.whole = 1;
        room.gathering.begin(0);
        room.owner.handle = owner.handle;
        // SAFETY: as above.
        unsafe { (&raw mut room.owner.born).write_volatile(owner.born) };
    }
    slot
}

/// Adds a call's plaintext to a room.
#[inline(always)]
fn fill(slot: u32, call: &RustCall) {
    let Text { address, count, skip, len, .. } = call.text;
    rust_fill(slot, address, count, skip, len);
}

/// [`fill`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn rust_fill(slot: u32, address: u64, pieces: u64, skip: u64, len: u64) -> u32 {
    if !enabled(feature::TLS) {
        return 0;
    }
    let Some(room) = room(slot) else { return 0 };
    room.total += len;
    // Bytes that do not adjoin are never joined; a fragment from within pieces is a later part of a
    // long message.
    if room.whole == 0 || skip != 0 {
        room.whole = 0;
        return 0;
    }
    let left = u64::from(MAX_CAPTURE - 1).saturating_sub(u64::from(room.have));
    let want = if len < left { len } else { left } as u32;
    let to = Room(room.bytes.as_mut_ptr());
    let had = room.have;
    room.have = if pieces == 0 {
        append(to, &mut room.gathering, address, want)
    } else {
        gather(to, &mut room.gathering, (address, pieces), Layout::Program, had + want)
    };
    if u64::from(room.have) < room.total {
        room.whole = 0;
    }
    0
}
