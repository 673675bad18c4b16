//! Which socket an encrypter or decrypter of rustls works for.
//!
//! A program with rustls does its input and output itself, before and after the library's work. So an
//! object ([`RustObject`]) belongs to the socket
//! - from which this thread has just received the very record that is being decrypted; or,
//! - to which the very record is sent that it has made ([`RUST_WIRE`]). Plaintext waits for that in a
//!   room ([`Waiting`]).
//!
//! What was found once holds for the object's life. That needs no look at where it is freed: an object
//! numbers its records from 0, and each call says the number, so one that comes to lie where another lay
//! is not taken for it.

mod rooms;

use agent_common::{
    counter,
    settings::feature,
    tls::{FINGERPRINT, RustProcess, Site},
};

use crate::{
    emit::{count, count_both},
    kernel::{registers, task::Task, user::read_user},
    maps::{RUST_BLANK, RUST_OBJECTS, RUST_PROCESSES, RUST_RECEIVED, RUST_WIRE, TLS_SOCKETS},
    settings::enabled,
    tls::{ObjectKey, OpenCall, WireKey},
};
pub use rooms::{ROOMS, Waiting, report_pieces, wait};
use rooms::{room, rust_release};

/// An encrypter or decrypter.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RustObject {
    /// Number of the record that comes next.
    pub next: u64,
    /// When it was seen first: tells it from others at its place.
    pub born: u64,
    /// Socket, 0 as long as none is known.
    pub cookie: u64,
    /// Room with plaintext that waits, counted from 1; 0 without.
    pub room: u64,
}

/// Who made a record.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Maker {
    pub handle: u64,
    /// [`RustObject::born`].
    pub born: u64,
}

/// Records that a thread received last, each by its beginning.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Received {
    pub cookie: u64,
    pub records: [Beginning; MAX_RECEIVED],
}

/// Header of a record, without type and version, and [`COMPARED`] bytes behind it; else 0.
type Beginning = [u64; 3];

/// A method that a thread is in. 0 in `stack`: none.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RustCall {
    pub stack: u64,
    pub site: Site,
    /// Where the result goes.
    pub result: u64,
    pub handle: u64,
    /// The record's number.
    pub number: u64,
    pub began_ns: u64,
    pub text: Text,
    /// Socket, 0 as long as none is known.
    pub cookie: u64,
}

/// Bytes that are given to a method.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Text {
    /// The bytes, or `[&[u8]; count]`.
    pub address: u64,
    pub count: u64,
    /// Bytes before those that are meant.
    pub skip: u64,
    pub len: u64,
    /// Content type, by rustls's numbers.
    pub kind: u64,
}

/// Records of one receive that are remembered.
const MAX_RECEIVED: usize = 4;
/// Pieces of a send that are looked at for records.
const MAX_SENT: u64 = 4;
/// Bytes of ciphertext that are compared: a tag's length, which every record has.
const COMPARED: usize = 16;
/// What belongs to a [`Beginning`] in its last word.
const BEGINNING_END: u64 = (1 << 40) - 1;

// --- seen from the socket ---

/// A process calls rustls.
#[inline(always)]
pub fn is_used_by(tgid: u32) -> bool {
    RUST_PROCESSES.get_ptr(tgid).is_some()
}

/// A call moved bytes through a socket that carries TLS: `received` of them, or some were sent. Gives the
/// room whose plaintext is to be reported, counted from 1, else 0: the stacks of functions that call each
/// other add up, so that the caller does it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn rust_moved(cookie: u64, thread: u64, received: u32) -> u32 {
    if !enabled(feature::TLS) {
        return 0;
    }
    let tgid = (thread >> 32) as u32;
    if !is_used_by(tgid) || OpenCall::of(thread).is_some() {
        return 0;
    }
    let Some((address, count)) = registers::hint(Task::current()) else { return 0 };
    let mut room = 0;
    let mut index = 0;
    while index < MAX_SENT {
        if index > 0 && (index >= count || received != 0) {
            break;
        }
        let at = if count == 0 { Some(address) } else { read_user::<u64>(address + index * 16) };
        if let Some(at) = at {
            if received != 0 {
                rust_received(cookie, thread, at, u64::from(received));
            } else if room == 0 {
                room = rust_sent(cookie, u64::from(tgid), at);
            }
        }
        index += 1;
    }
    room
}

/// [`rust_moved`], and what follows from it.
#[inline(always)]
pub fn moved(cookie: u64, thread: u64, received: u32) {
    let room = rust_moved(cookie, thread, received);
    if room != 0 {
        rust_release(room - 1, cookie, 0);
    }
}

/// Remembers the records that `len` bytes at `address` begin with. A later part of a long record leaves
/// what is known of its beginning.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn rust_received(cookie: u64, thread: u64, address: u64, len: u64) -> u32 {
    if !enabled(feature::TLS) {
        return 0;
    }
    // SAFETY: a live map value that only this thread uses.
    let known = || unsafe { RUST_RECEIVED.get_ptr_mut(thread).and_then(|last| last.as_mut()) };
    if known().is_none()
        && let Some(blank) = RUST_BLANK.get(0)
    {
        let _ = RUST_RECEIVED.insert(thread, blank, 0);
    }
    let Some(last) = known() else { return 0 };
    let (mut at, mut index) = (0, 0);
    while index < MAX_RECEIVED {
        let mut words = None;
        if at + 24 <= len {
            words = read_user::<Beginning>(address + at);
        }
        let Some(mut words) = words else { break };
        let [kind, major, _, high, low, ..] = words[0].to_le_bytes();
        if !matches!(kind, 20..=23) || major != 3 {
            break;
        }
        words[0] &= !0xff_ffff;
        words[2] &= BEGINNING_END;
        last.cookie = cookie;
        last.records[index] = words;
        at += 5 + (u64::from(high) << 8 | u64::from(low));
        index += 1;
    }
    // Those of an earlier receive are none of this socket's.
    while index < MAX_RECEIVED {
        if at != 0 {
            last.records[index] = [0; 3];
        }
        index += 1;
    }
    0
}

/// What is sent may begin with a record that somebody made: the maker's socket is this one. As
/// [`rust_moved`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn rust_sent(cookie: u64, tgid: u64, address: u64) -> u32 {
    if !enabled(feature::TLS) {
        return 0;
    }
    let Some(bytes) = read_user::<[u64; FINGERPRINT / 8]>(address) else { return 0 };
    let key = WireKey { tgid, bytes };
    // SAFETY: the value is copied out.
    let Some(maker) = unsafe { RUST_WIRE.get(key) }.copied() else { return 0 };
    let _ = RUST_WIRE.remove(key);
    let Some(object) = object(ObjectKey { tgid, handle: maker.handle }) else { return 0 };
    if object.born != maker.born || object.cookie != 0 {
        return 0;
    }
    object.cookie = cookie;
    let slot = object.room;
    object.room = 0;
    match room(slot.wrapping_sub(1) as u32) {
        Some(room) if slot != 0 && room.owner.born == maker.born => slot as u32,
        _ => 0,
    }
}

// --- seen from the library ---

/// A live object.
#[inline(always)]
pub fn object(key: ObjectKey) -> Option<&'static mut RustObject> {
    // SAFETY: a live map value; calls on one object follow each other.
    unsafe { RUST_OBJECTS.get_ptr_mut(key)?.as_mut() }
}

/// The object's socket, if it is known and open.
#[inline(always)]
pub fn socket_of(object: &RustObject) -> u64 {
    if object.cookie != 0 && TLS_SOCKETS.get_ptr(object.cookie).is_some() {
        object.cookie
    } else {
        0
    }
}

/// The call went as expected, or not.
#[inline(always)]
pub fn note(tgid: u32, fits: bool) {
    // SAFETY: a live map value; a lost update costs one of many counts.
    match unsafe { RUST_PROCESSES.get_ptr_mut(tgid).and_then(|process| process.as_mut()) } {
        Some(process) if fits => process.fit = process.fit.wrapping_add(1),
        Some(process) => process.strange = process.strange.wrapping_add(1),
        None => {
            let process = RustProcess { fit: u64::from(fits), strange: u64::from(!fits) };
            let _ = RUST_PROCESSES.insert(tgid, process, 0);
        }
    }
    if !fits {
        count(counter::TLS_STRANGE, 1);
    }
}

/// Plaintext whose socket is not known.
#[inline(always)]
pub fn unmatched(len: u64) {
    count_both((counter::TLS_UNMATCHED_CALLS, 1), (counter::TLS_UNMATCHED_BYTES, len));
}

/// The socket from which the thread received the record that it is about to decrypt, 0 when it did not:
/// the record's length and first bytes are among what it received last.
#[inline(always)]
pub fn origin(thread: u64, text: Text) -> u64 {
    // SAFETY: a live map value that only this thread uses.
    let Some(last) = RUST_RECEIVED.get_ptr(thread).and_then(|last| unsafe { last.as_ref() }) else {
        return 0;
    };
    let Some(body) = read_user::<[u8; COMPARED]>(text.address) else { return 0 };
    let mut bytes = [0_u8; 24];
    bytes[3] = (text.len >> 8) as u8;
    bytes[4] = text.len as u8;
    bytes[5..5 + COMPARED].copy_from_slice(&body);
    // SAFETY: both are plain bytes of the same length.
    let wanted = unsafe { core::mem::transmute::<[u8; 24], Beginning>(bytes) };
    let mut index = 0;
    while index < MAX_RECEIVED {
        if last.records[index] == wanted {
            return last.cookie;
        }
        index += 1;
    }
    0
}

/// Remembers a record by its first bytes: whoever sends it is the maker's socket. `address`: of what
/// follows its header.
#[inline(always)]
pub fn remember(tgid: u64, maker: Maker, kind: u8, address: u64, len: u64) {
    let Some(body) = read_user::<[u8; FINGERPRINT - 5]>(address) else { return };
    let mut bytes = [0_u8; FINGERPRINT];
    bytes[0] = kind;
    bytes[1] = 3;
    bytes[2] = 3;
    bytes[3] = (len >> 8) as u8;
    bytes[4] = len as u8;
    bytes[5..].copy_from_slice(&body);
    // SAFETY: both are plain bytes of the same length.
    let bytes = unsafe { core::mem::transmute::<[u8; FINGERPRINT], [u64; FINGERPRINT / 8]>(bytes) };
    let _ = RUST_WIRE.insert(WireKey { tgid, bytes }, maker, 0);
}

/// The call as the reports of other libraries take it.
#[inline(always)]
pub fn plain(call: &RustCall, buffer: u64) -> OpenCall {
    let site =
        if call.site.receives() { Site::receive(0, 1, true) } else { Site::send(0, 1, true) };
    OpenCall {
        handle: call.handle,
        buffer,
        count_at: 0,
        site,
        stack: call.stack,
        inner_stack: 0,
        began_ns: call.began_ns,
        tick: 0,
        cookie: call.cookie,
        went: 0,
    }
}
