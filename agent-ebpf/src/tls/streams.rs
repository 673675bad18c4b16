//! Plaintext streams of sockets, by cookie: where they stand, and what userspace has said of them.

use agent_common::{
    counter,
    settings::{MAX_CAPTURE, socket_verdict},
    tls::note,
};

use crate::{
    emit::{count, now},
    maps::{TLS_NOTES, TLS_SOCKETS, VERDICT_GENERATION, VERDICTS},
    settings::setting,
    socket::{SocketState, flag as socket_flag},
};

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
    pub pad: [u8; 3],
    /// When plaintext was last moved, or it was made: see [`moment`].
    pub used: u32,
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

// Userspace reads it there.
const _: () = assert!(
    core::mem::offset_of!(TlsSocket, used) == agent_common::tls::USED_AT
        && size_of::<TlsSocket>() == agent_common::tls::STREAMS_LEN
);

/// Boot time in steps of about a second, which 32 bits hold for a century.
#[inline(always)]
pub fn moment(boot_ns: u64) -> u32 {
    (boot_ns >> agent_common::tls::USED_SHIFT) as u32
}

/// The socket is closed.
#[inline(always)]
pub fn closed(cookie: u64) {
    let _ = TLS_SOCKETS.remove(cookie);
}

/// Makes the plaintext streams of a socket where there are none, and room for them. `from_start`: no plaintext
/// went before.
#[inline(always)]
pub fn ensure_socket(cookie: u64, from_start: bool) {
    /// include/uapi/linux/bpf.h: another CPU may have made them meanwhile.
    const BPF_NOEXIST: u64 = 1;
    if TLS_SOCKETS.get_ptr(cookie).is_some() {
        return;
    }
    let now = now();
    // Plaintext that was not seen went before: positions that no other connection has.
    let base = if from_start { 0 } else { now << 8 };
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
        pad: [0; 3],
        used: moment(now),
    };
    let _ = TLS_SOCKETS.insert(cookie, socket, BPF_NOEXIST);
}

/// There is no room for the plaintext streams of a socket: it is counted once, and not read until there is.
#[inline(always)]
pub fn no_room(state: &mut SocketState) {
    tell(note::FULL, 1);
    if !state.has(socket_flag::NO_ROOM) {
        state.flags |= socket_flag::NO_ROOM;
        count(counter::TLS_WITHOUT_ROOM, 1);
    }
}

/// Tells userspace something: a place of [`note`].
#[inline(always)]
pub fn tell(place: u32, what: u32) {
    if let Some(note) = TLS_NOTES.get_ptr_mut(place) {
        // SAFETY: a live map value; whoever writes last is as good as another.
        unsafe { note.write(what) };
    }
}

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
