//! Which socket a TLS library's object uses, and where its plaintext streams stand.
//!
//! Libraries are asked nothing: the object of a call ([`ObjectKey`]) belongs to the socket
//! - that moves TLS records while the call runs, on the same thread; or,
//! - where the library only fills a buffer of the program, that sends the very bytes which the library
//!   put there ([`WireKey`]).
//!
//! An object that would have two open sockets is given none. What is freed, reused or closed is
//! forgotten: plaintext without a certain socket is counted and not reported.

mod streams;

use agent_common::{
    counter,
    record::{Payload, direction},
    settings::feature,
    tls::{FINGERPRINT, Site, note},
};

use crate::{
    emit::count,
    kernel::{sock::Sock, task::current_ids, user::read_user},
    maps::{TLS_CALLS, TLS_OBJECTS, TLS_SOCKETS, TLS_WIRE},
    rust_tls,
    settings::enabled,
    socket::{SocketState, flag as socket_flag},
    tls_go,
};
pub use streams::{TlsSocket, closed, ensure_socket, flag, moment, no_room, socket, tell};

/// A library's call that a thread is in. 0 in `stack`: none.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct OpenCall {
    /// The connection's object.
    pub handle: u64,
    /// User address of the bytes.
    pub buffer: u64,
    /// User address of their number, where it is given by pointer; or the number, where it is known before.
    pub count_at: u64,
    pub site: Site,
    /// Stack pointer at its entry.
    pub stack: u64,
    /// The same of a call within it, 0 without one.
    pub inner_stack: u64,
    /// When it began, if it sends.
    pub began_ns: u64,
    /// The same in [`crate::emit::ticks`], of every call.
    pub tick: u64,
    /// The socket that it uses, 0 as long as none is known; [`CONFLICT`].
    pub cookie: u64,
    /// Where its ciphertext went, as far as it was seen: bits of [`went`].
    pub went: u64,
}

/// Bits of [`OpenCall::went`].
pub mod went {
    /// Into a buffer of the library's own.
    pub const BUFFER: u64 = 1 << 0;
    /// Past the function that all pass, which is probed only for programs with buffers of their own.
    pub const PAST_ALL: u64 = 1 << 1;
    /// To a socket that is left out.
    pub const LEFT_OUT: u64 = 1 << 2;
}

/// In place of a cookie: two sockets.
pub const CONFLICT: u64 = u64::MAX;

/// A connection's object in a process.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ObjectKey {
    pub tgid: u64,
    pub handle: u64,
}

/// First bytes of ciphertext that a process has in a buffer.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct WireKey {
    pub tgid: u64,
    pub bytes: [u64; FINGERPRINT / 8],
}

/// What is known of a socket's ends, as one number: bits of [`flag`] above, below the local and the remote
/// port.
#[derive(Clone, Copy)]
pub struct Ends(u64);

impl Ends {
    #[inline(always)]
    pub fn of(sock: Sock, state: &SocketState) -> Ends {
        let asks = state.has(socket_flag::CONNECTED | socket_flag::ASKS);
        let answers = state.has(socket_flag::ACCEPTED | socket_flag::ANSWERS);
        let role = if asks { flag::ASKS } else { 0 } | if answers { flag::ANSWERS } else { 0 };
        let (local, remote) = sock.ports();
        Ends(u64::from(role) << 32 | u64::from(local) << 16 | u64::from(remote))
    }
}

/// `handshake` (RFC 8446 section 5.1): the first record of a connection, and in the clear only there.
const HANDSHAKE: u8 = 22;

impl OpenCall {
    /// The call that this thread is in.
    #[inline(always)]
    pub fn of(thread: u64) -> Option<&'static mut OpenCall> {
        // SAFETY: a live map value that only this thread uses.
        let call = unsafe { TLS_CALLS.get_ptr_mut(thread)?.as_mut()? };
        if call.stack == 0 || call.inner_stack != 0 { None } else { Some(call) }
    }

    /// It uses the socket `cookie`.
    #[inline(always)]
    fn uses(&mut self, tgid: u32, cookie: u64) {
        if self.cookie == cookie || self.cookie == CONFLICT {
            return;
        }
        let key = ObjectKey { tgid: u64::from(tgid), handle: self.handle };
        let agrees = self.cookie == 0 && bind(key, cookie);
        if !agrees {
            let _ = TLS_OBJECTS.remove(key);
            count(counter::TLS_CONFLICTS, 1);
        }
        self.cookie = if agrees { cookie } else { CONFLICT };
    }
}

/// The object uses the socket `cookie`. False when it uses another that is open.
#[inline(always)]
pub fn bind(key: ObjectKey, cookie: u64) -> bool {
    // SAFETY: the value is copied out.
    match unsafe { TLS_OBJECTS.get(key) }.copied() {
        Some(known) if known == cookie => true,
        Some(known) if TLS_SOCKETS.get_ptr(known).is_some() => false,
        _ => {
            if TLS_OBJECTS.insert(key, cookie, 0).is_err() {
                // Its next call finds it again, unless that only fills a buffer.
                count(counter::TLS_OBJECTS_WITHOUT_ROOM, 1);
                tell(note::FULL, 1);
            }
            true
        }
    }
}

// --- seen from the socket ---

/// First bytes that a call moved.
pub type Beginning = [u64; FINGERPRINT / 8];

/// A call on a socket moved `len` captured bytes. True when they are TLS and the library's call that
/// made or takes them is known.
#[inline(always)]
pub fn passes(record: &Payload, beginning: &Beginning) -> bool {
    let len = record.header.captured_len;
    if len < 5 {
        return false;
    }
    let [kind, major, minor, ..] = beginning[0].to_le_bytes();
    if !matches!(kind, 20..=23) || major != 3 || minor > 4 {
        return false;
    }
    let header = &record.header;
    let thread = u64::from(header.tgid) << 32 | u64::from(header.tid);
    let from_start = kind == HANDSHAKE;
    if let Some(call) = OpenCall::of(thread) {
        // A program that does TLS itself hands records to a library's plain descriptor.
        if len >= 8 && read_user::<u64>(call.buffer) == Some(beginning[0]) {
            return false;
        }
        ensure_socket(record.cookie, from_start);
        call.uses(header.tgid, record.cookie);
        return true;
    }
    if tls_go::running(header.tgid) != 0 {
        // Which call that is, if any, is looked at next.
        ensure_socket(record.cookie, from_start);
        return true;
    }
    if from_start {
        // Whoever's it is: positions are the peer's only from the first byte on.
        ensure_socket(record.cookie, true);
    }
    if rust_tls::is_used_by(header.tgid) {
        ensure_socket(record.cookie, false);
        return true;
    }
    if header.direction != direction::SEND || len < FINGERPRINT as u32 {
        return false;
    }
    let key = WireKey { tgid: u64::from(header.tgid), bytes: *beginning };
    // SAFETY: the value is copied out.
    let Some(handle) = unsafe { TLS_WIRE.get(key) }.copied() else { return false };
    let _ = TLS_WIRE.remove(key);
    ensure_socket(record.cookie, from_start);
    let object = ObjectKey { tgid: key.tgid, handle };
    if !bind(object, record.cookie) {
        let _ = TLS_OBJECTS.remove(object);
        count(counter::TLS_CONFLICTS, 1);
    }
    true
}

/// A send moved bytes through a socket that is left out: that is where the library's call sends, if any.
#[inline(always)]
pub fn sent_left_out() {
    let (_, _, thread) = current_ids();
    if let Some(call) = OpenCall::of(thread) {
        call.went |= went::LEFT_OUT;
    }
}

/// A send moved bytes through a socket that is known to carry TLS. `slot`: as in `payload::work`.
#[inline(always)]
pub fn sent(slot: u32, state: &mut SocketState, thread: u64, ends: Ends) {
    let cookie = state.cookie;
    let writes = tls_moved(cookie, thread, 0, 0, ends.0);
    if writes == LIBRARYS {
        return;
    }
    if writes == NO_ROOM {
        no_room(state);
    }
    if enabled(feature::TLS_GO) && writes != 0 && writes != NO_ROOM {
        tls_go::wrote(slot, cookie, thread, writes);
    } else {
        rust_tls::moved(cookie, thread, 0);
    }
}

/// The same of a receive of `len` bytes. `arrived`: when the first and the last of them became readable; 0
/// where that is not known.
#[inline(always)]
pub fn received(state: &mut SocketState, thread: u64, arrived: (u64, u64), ends: Ends, len: u32) {
    let cookie = state.cookie;
    let uses = tls_moved(cookie, thread, arrived.0, arrived.1, ends.0);
    if uses == NO_ROOM {
        no_room(state);
    }
    if uses != LIBRARYS {
        rust_tls::moved(cookie, thread, len);
    }
}

/// The same where the library's call is known. `arrived`: 0 of a send.
#[inline(always)]
pub fn used(state: &mut SocketState, thread: u64, arrived: (u64, u64), ends: Ends) {
    if tls_moved(state.cookie, thread, arrived.0, arrived.1, ends.0) == NO_ROOM {
        no_room(state);
    }
}

/// In place of a goroutine: the call of a library that this thread is in.
const LIBRARYS: u64 = u64::MAX;

/// In place of a goroutine: the plaintext has no room.
const NO_ROOM: u64 = u64::MAX - 1;

/// A global function, which the verifier looks at once by itself. Gives the goroutine whose write this is the
/// first of, [`LIBRARYS`] or [`NO_ROOM`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tls_moved(cookie: u64, thread: u64, first: u64, last: u64, ends: u64) -> u64 {
    if !enabled(feature::TLS) {
        return 0;
    }
    let known = socket(cookie);
    if known.is_none() {
        ensure_socket(cookie, false);
    }
    let tgid = (thread >> 32) as u32;
    let mut part = tls_go::Use::None;
    let mut whose = LIBRARYS;
    if let Some(call) = OpenCall::of(thread) {
        call.uses(tgid, cookie);
    } else {
        let goid = tls_go::running(tgid);
        part = tls_go::uses(tgid, goid, cookie, first != 0);
        whose = if part == tls_go::Use::Sends { goid } else { 0 };
    }
    let Some(socket) = (if known.is_some() { known } else { socket(cookie) }) else {
        return NO_ROOM;
    };
    socket.flags |= (ends >> 32) as u32;
    socket.ports = [(ends >> 16) as u16, ends as u16];
    if first != 0 {
        if part == tls_go::Use::FirstReceive || socket.first_ns == 0 {
            socket.first_ns = first;
        }
        socket.last_ns = last;
    }
    whose
}

/// A library of this process may be in the middle of a call: a reset that comes within its send closes the socket
/// before it says what it sent.
#[inline(always)]
pub fn is_at_work() -> bool {
    let (tgid, _, thread) = current_ids();
    OpenCall::of(thread).is_some() || tls_go::running(tgid) != 0 || rust_tls::is_used_by(tgid)
}
