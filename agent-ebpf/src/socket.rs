//! State kept with each observed socket, and what is worked out from it: positions, true times,
//! how much to capture.
//!
//! The state lives in socket storage. Programs on several CPUs may touch it at once without a
//! lock; each field says who writes it and why a race is harmless.

mod mptcp;
mod receive;
mod send;
mod unix;
mod untyped;

use agent_common::{
    counter,
    settings::{feature, socket_verdict},
};
use aya_ebpf::{bindings::BPF_SK_STORAGE_GET_F_CREATE, helpers::generated::bpf_sk_storage_get};

use crate::{
    emit::count,
    filter,
    kernel::sock::{Sock, Stream},
    maps::{SOCKETS, VERDICT_GENERATION, VERDICTS},
    settings::{enabled, setting},
};
use receive::Arrivals;
pub use receive::{Received, next_read};
use send::{SENDS, Send};
pub use send::{Sent, Source};
pub use untyped::{forget, known_cookie};

/// Bits of [`SocketState::flags`].
pub mod flag {
    /// The state is set up.
    pub const READY: u32 = 1 << 0;
    /// The connection record went out.
    pub const KNOWN: u32 = 1 << 1;
    /// … and named everything (unix: the peer's cookie).
    pub const COMPLETE: u32 = 1 << 2;
    /// Capture nothing: userspace's verdict.
    pub const MUTED: u32 = 1 << 3;
    /// Capture every call as far as the largest class goes.
    pub const FULL: u32 = 1 << 4;
    /// Not watched at all: a filter, or the agent is at one end.
    pub const LEFT_OUT: u32 = 1 << 5;
    /// This end called connect.
    pub const CONNECTED: u32 = 1 << 6;
    /// This end was accepted.
    pub const ACCEPTED: u32 = 1 << 7;
    /// The peer's end was reported.
    pub const END_SEEN: u32 = 1 << 8;
    /// The last call went out (else in); meaningless without [`TURNED`].
    pub const SENDING: u32 = 1 << 9;
    /// There was a call.
    pub const TURNED: u32 = 1 << 10;
    /// Its bytes are TLS, and the library is watched, or may be.
    pub const TLS: u32 = 1 << 16;
    /// This end answers requests: userspace's word, where the opening was not seen.
    pub const ANSWERS: u32 = 1 << 11;
    /// This end asks: the same.
    pub const ASKS: u32 = 1 << 12;
    /// Its plaintext has found no room once.
    pub const NO_ROOM: u32 = 1 << 13;
    /// The kernel does its TLS, in both directions.
    pub const KTLS: u32 = 1 << 17;
    /// TCP is done with it, and the program has not read everything: it ends when the program closes it.
    pub const ENDS_LATER: u32 = 1 << 18;
    /// … and TCP was done because the peer fell silent.
    pub const TIMED_OUT: u32 = 1 << 19;
}

/// What is asked of every call comes first, and fills the first cache line (56 bytes: the kernel
/// puts 8 of its own before them); the second has the sends, the third the arrivals.
#[repr(C)]
pub struct SocketState {
    /// Socket cookie. Written once.
    pub cookie: u64,
    /// 64-bit position of the last known byte sent. Written by senders; they agree on it.
    pub send_position: u64,
    /// The same for bytes received.
    pub receive_position: u64,
    /// Bits of [`flag`]. A lost update costs one repeated record or one late verdict.
    pub flags: u32,
    /// Verdict generation last looked at.
    pub generation: u32,
    /// Bytes of the running turn's head not captured yet; once muted, calls that still look for a TLS
    /// library's. A race costs or gives some bytes.
    pub head_left: u32,
    /// Arrivals written. Only the socket's owner (its lock, or its softirq) writes it.
    pub arrived: u32,
    /// Arrivals fully read. Only readers write it.
    pub taken: u32,
    /// Local port of a connection of the agent, else 0: when a socket closes the kernel has
    /// already taken its port back. Written once.
    pub own_port: u16,
    /// 1 once there was a sendmmsg or recvmmsg. Never taken back, and no bit of `flags`: an update
    /// lost there would lose the end of such a call.
    pub messages: u8,
    /// One of [`crate::shed::state`]. Written where a request begins, and no bit of `flags`: an
    /// update lost there would shed a part of one.
    pub shed: u8,
    /// Whether the process that used it last is selected.
    pub judged: filter::Judged,
    pub sends: [Send; SENDS],
    /// TCP: ring of arrivals. Unix: slot 0 holds the first, slot 1 the last unread arrival.
    pub arrivals: Arrivals,
    /// See [`crate::kernel::goroutine::runtime`]. A race costs one look-up.
    pub not_go: u64,
    /// When the header of a TLS record arrived that was read by itself, until what follows it is read; else 0.
    /// Only readers write it.
    pub header_ns: u64,
}

// The kernel puts 72 bytes before it and takes what both need from its allocator in powers of two: eight
// bytes more would cost each socket 256.
const _: () = assert!(size_of::<SocketState>() <= 256 - 72);

/// A true time, or when it is not known.
#[derive(Clone, Copy)]
pub struct Moment {
    pub ns: u64,
    pub is_true: bool,
}

/// Calls on a muted socket that look for a TLS library's: protocols go over to TLS early.
const MUTED_LOOKS: u32 = 64;

/// State of a socket; made when `create` and there is none. `None` without memory, or for a socket
/// that is not watched.
#[inline(always)]
pub fn get(sock: Sock, stream: Stream, create: bool) -> Option<&'static mut SocketState> {
    let state = stored(sock, create);
    let Some(state) = state else {
        if create {
            count(counter::NO_STORAGE, 1);
        }
        return None;
    };
    if state.flags & flag::READY == 0 {
        state.cookie = new_cookie(sock);
        let left_out = filter::leaves_out(sock, stream);
        state.flags |= flag::READY | if left_out { flag::LEFT_OUT } else { 0 };
    }
    Some(state)
}

/// The socket's state as it is stored.
#[inline(always)]
fn stored(sock: Sock, create: bool) -> Option<&'static mut SocketState> {
    if crate::UNTYPED {
        return untyped::stored(sock, create);
    }
    let flags = if create { u64::from(BPF_SK_STORAGE_GET_F_CREATE) } else { 0 };
    // SAFETY: the map is socket storage of `SocketState`; the verifier checks that this is a
    // socket. The value outlives the program's run (RCU).
    unsafe {
        let map = (&raw const SOCKETS).cast_mut().cast();
        bpf_sk_storage_get(map, sock.0.cast_mut().cast(), core::ptr::null_mut(), flags)
            .cast::<SocketState>()
            .as_mut()
    }
}

/// The cookie of a socket that is seen for the first time.
#[inline(always)]
fn new_cookie(sock: Sock) -> u64 {
    if crate::UNTYPED { untyped::new_cookie(sock) } else { sock.cookie() }
}

impl SocketState {
    #[inline(always)]
    pub fn has(&self, flags: u32) -> bool {
        self.flags & flags != 0
    }

    /// Muted, but its ciphertext's arrival is that of plaintext which is reported.
    #[inline(always)]
    pub fn watches_arrivals(&self) -> bool {
        enabled(feature::TLS) && self.flags & (flag::LEFT_OUT | flag::TLS) == flag::TLS
    }

    /// Takes up userspace's verdict on this socket, if any verdict is new. Muted it stays.
    #[inline(always)]
    pub fn refresh_verdict(&mut self) {
        let Some(generation) = VERDICT_GENERATION.get(0).copied() else { return };
        if generation == self.generation {
            return;
        }
        self.generation = generation;
        // SAFETY: the value is copied out.
        match unsafe { VERDICTS.get(self.cookie) }.copied() {
            Some(socket_verdict::MUTE) => {
                self.flags |= flag::MUTED;
                self.head_left = MUTED_LOOKS;
            }
            Some(socket_verdict::FULL) => self.flags |= flag::FULL,
            // Of the role its plaintext has use.
            Some(socket_verdict::TLS | socket_verdict::TLS_ANSWERS | socket_verdict::TLS_ASKS) => {
                self.flags |= flag::MUTED | flag::TLS;
            }
            Some(socket_verdict::ANSWERS) => self.flags |= flag::ANSWERS,
            Some(socket_verdict::ASKS) => self.flags |= flag::ASKS,
            _ => {}
        }
    }

    /// Notes a call in a direction; true when the direction turned with it. Then a new message's
    /// head may begin.
    #[inline(always)]
    pub fn turn(&mut self, sending: bool) -> bool {
        let want = flag::TURNED | if sending { flag::SENDING } else { 0 };
        if self.flags & (flag::TURNED | flag::SENDING) == want {
            return false;
        }
        self.flags = (self.flags & !flag::SENDING) | want;
        self.head_left = setting!(head_bytes);
        true
    }

    /// How many of `len` bytes to capture.
    #[inline(always)]
    pub fn allowance(&mut self, len: u32) -> u32 {
        if self.has(flag::FULL) {
            return len;
        }
        let head = self.head_left;
        let later = setting!(later_bytes);
        let most = if head > later { head } else { later };
        let allowed = if len < most { len } else { most };
        self.head_left = head.saturating_sub(allowed);
        allowed
    }
}

/// The 64-bit position nearest to `base` whose low half is `sequence`.
#[inline(always)]
pub fn extend(base: u64, sequence: u32) -> u64 {
    if base == 0 {
        // First sight. One turn up, so that bytes before it have a position as well.
        return (1 << 32) | u64::from(sequence);
    }
    let step = sequence.wrapping_sub(base as u32) as i32;
    base.wrapping_add(step as i64 as u64)
}

/// `a` lies behind `b` in sequence space.
#[inline(always)]
fn newer(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}
