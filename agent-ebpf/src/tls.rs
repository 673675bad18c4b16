//! Which socket a TLS library's object uses, and where its plaintext streams stand.
//!
//! Libraries are asked nothing: the object of a call ([`ObjectKey`]) belongs to the socket
//! - that moves TLS records while the call runs, on the same thread; or,
//! - where the library only fills a buffer of the program, that sends the very bytes which the library
//!   put there ([`WireKey`]).
//!
//! An object that would have two open sockets is given none. What is freed, reused or closed is
//! forgotten: plaintext without a certain socket is counted and not reported.

use agent_common::{
    counter,
    record::{Payload, direction},
    settings::{MAX_CAPTURE, feature, socket_verdict},
    tls::{FINGERPRINT, Site},
};

use crate::{
    emit::{count, now},
    kernel::{sock::Sock, task::current_ids, user::read_user},
    maps::{TLS_CALLS, TLS_OBJECTS, TLS_SOCKETS, TLS_WIRE, VERDICT_GENERATION, VERDICTS},
    rust_tls,
    settings::{enabled, setting},
    socket::{SocketState, flag as socket_flag},
    tls_go,
};

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
    /// 1 once the library has put ciphertext into a buffer that is watched.
    pub buffered: u64,
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

/// Plaintext streams of one socket.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TlsSocket {
    /// Plaintext bytes before the next one sent.
    pub send_position: u64,
    /// The same for those received.
    pub receive_position: u64,
    /// When the first of the ciphertext arrived that was taken since plaintext was last given out, 0
    /// when none was.
    pub first_ns: u64,
    /// When the last of the ciphertext arrived.
    pub last_ns: u64,
    /// When the program first tried to send what has not been taken yet, 0 when all has.
    pub tried_ns: u64,
    /// Bits of [`flag`].
    pub flags: u32,
    /// Bytes of the running turn's head not captured yet.
    pub head_left: u32,
    /// Verdict generation last looked at.
    pub generation: u32,
    /// Local port, remote port; 0 where there are none.
    pub ports: [u16; 2],
    /// One of [`crate::shed::state`].
    pub shed: u8,
    pub pad: [u8; 7],
}

/// Bits of [`TlsSocket::flags`].
pub mod flag {
    /// The last call went out.
    pub const SENDING: u32 = 1 << 0;
    /// There was a call.
    pub const TURNED: u32 = 1 << 1;
    /// Userspace wants no more.
    pub const MUTED: u32 = 1 << 2;
    /// Userspace wants all.
    pub const FULL: u32 = 1 << 3;
    /// This end asks.
    pub const ASKS: u32 = 1 << 4;
    /// This end answers.
    pub const ANSWERS: u32 = 1 << 5;
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
        _ => TLS_OBJECTS.insert(key, cookie, 0).is_ok(),
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

/// A send moved bytes through a socket that is known to carry TLS. `slot`: as in `payload::work`.
#[inline(always)]
pub fn sent(slot: u32, cookie: u64, thread: u64, ends: Ends) {
    let writes = tls_moved(cookie, thread, 0, 0, ends.0);
    if writes == LIBRARYS {
        return;
    }
    if enabled(feature::TLS_GO) && writes != 0 {
        tls_go::wrote(slot, cookie, thread, writes);
    } else {
        rust_tls::moved(cookie, thread, 0);
    }
}

/// The same of a receive of `len` bytes. `arrived`: when the first and the last of them became readable; 0
/// where that is not known.
#[inline(always)]
pub fn received(cookie: u64, thread: u64, arrived: (u64, u64), ends: Ends, len: u32) {
    if tls_moved(cookie, thread, arrived.0, arrived.1, ends.0) != LIBRARYS {
        rust_tls::moved(cookie, thread, len);
    }
}

/// The same where the library's call is known. `arrived`: 0 of a send.
#[inline(always)]
pub fn used(cookie: u64, thread: u64, arrived: (u64, u64), ends: Ends) {
    tls_moved(cookie, thread, arrived.0, arrived.1, ends.0);
}

/// In place of a goroutine: the call of a library that this thread is in.
const LIBRARYS: u64 = u64::MAX;

/// A global function, which the verifier looks at once by itself. Gives the goroutine whose write this is the
/// first of, or [`LIBRARYS`].
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
    let Some(socket) = (if known.is_some() { known } else { socket(cookie) }) else { return 0 };
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

/// The socket is closed.
#[inline(always)]
pub fn closed(cookie: u64) {
    let _ = TLS_SOCKETS.remove(cookie);
}

/// Makes the plaintext streams of a socket where there are none. `from_start`: no plaintext went before.
#[inline(always)]
pub fn ensure_socket(cookie: u64, from_start: bool) {
    if TLS_SOCKETS.get_ptr(cookie).is_some() {
        return;
    }
    // Plaintext that was not seen went before: positions that no other connection has.
    let base = if from_start { 0 } else { now() << 8 };
    let socket = TlsSocket {
        send_position: base,
        receive_position: base,
        first_ns: 0,
        last_ns: 0,
        tried_ns: 0,
        flags: 0,
        head_left: 0,
        generation: 0,
        ports: [0; 2],
        shed: 0,
        pad: [0; 7],
    };
    let _ = TLS_SOCKETS.insert(cookie, socket, 0);
}

// --- seen from the library ---

/// Plaintext streams of the socket `cookie`.
#[inline(always)]
pub fn socket(cookie: u64) -> Option<&'static mut TlsSocket> {
    // SAFETY: a live map value; calls on one connection follow each other.
    unsafe { TLS_SOCKETS.get_ptr_mut(cookie)?.as_mut() }
}

impl TlsSocket {
    #[inline(always)]
    pub fn has(&self, flags: u32) -> bool {
        self.flags & flags != 0
    }

    /// Takes up userspace's verdict, if any is new.
    #[inline(always)]
    pub fn refresh_verdict(&mut self, cookie: u64) {
        let Some(generation) = VERDICT_GENERATION.get(0).copied() else { return };
        if generation == self.generation {
            return;
        }
        self.generation = generation;
        // SAFETY: the value is copied out.
        match unsafe { VERDICTS.get(cookie) }.copied() {
            Some(socket_verdict::MUTE) => self.flags |= flag::MUTED,
            Some(socket_verdict::FULL) => self.flags |= flag::FULL,
            Some(socket_verdict::ANSWERS | socket_verdict::TLS_ANSWERS) => {
                self.flags |= flag::ANSWERS;
            }
            Some(socket_verdict::ASKS | socket_verdict::TLS_ASKS) => self.flags |= flag::ASKS,
            _ => {}
        }
    }

    /// Port of the end that asks, if a turn to this direction begins a request.
    #[inline(always)]
    pub fn asker(&self, sending: bool) -> Option<u16> {
        let [local, remote] = self.ports;
        match sending {
            true if self.has(flag::ASKS) => Some(local),
            false if self.has(flag::ANSWERS) => Some(remote),
            _ => None,
        }
    }

    /// Notes a call in a direction; true when the direction turned with it.
    #[inline(always)]
    pub fn turn(&mut self, sending: bool) -> bool {
        let want = flag::TURNED | if sending { flag::SENDING } else { 0 };
        if self.flags & (flag::TURNED | flag::SENDING) == want {
            return false;
        }
        self.flags = self.flags & !flag::SENDING | want;
        self.head_left = setting!(head_bytes);
        true
    }

    /// How many of `len` bytes to capture.
    #[inline(always)]
    pub fn allowance(&mut self, len: u32) -> u32 {
        let later = setting!(later_bytes);
        if self.has(flag::FULL) || later == MAX_CAPTURE {
            return len;
        }
        let most = if self.head_left > later { self.head_left } else { later };
        let allowed = if len < most { len } else { most };
        self.head_left = self.head_left.saturating_sub(allowed);
        allowed
    }
}
