//! Calls into Go's `crypto/tls`, and the sockets that they use.
//!
//! A goroutine that waits inside a call goes on on any thread, so calls are known by goroutine: at the
//! function from the register that names it, at the socket from the thread pointer. Whatever the `*Conn`
//! was made of, the socket that moves TLS records inside its call is its own; nothing is read of the
//! connection itself.

use agent_common::{counter, settings::feature};

use crate::{
    emit::count,
    kernel::goroutine,
    maps::{GO_GENERATION, GO_PROCESSES, TLS_GO_CALLS, TLS_OBJECTS},
    probes,
    settings::enabled,
    tls::{CONFLICT, ObjectKey, bind},
};

/// A goroutine of a process.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct GoCallKey {
    pub tgid: u64,
    pub goid: u64,
}

/// A goroutine's call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct GoCall {
    /// The `*Conn`.
    pub handle: u64,
    /// User address of the bytes, and how many there are, or how many have room.
    pub buffer: u64,
    pub len: u64,
    pub began_ns: u64,
    /// The socket that it uses, 0 as long as none is known; [`CONFLICT`].
    pub cookie: u64,
    /// One of [`state`].
    pub state: u32,
    /// It has received from the socket: not 0. [`ALL_COUNT`].
    pub received: u32,
    /// A call of another `*Conn` within it, 0 without one.
    pub inner: u64,
}

/// In place of `received`: the handshake is part of the call, so that the first that it receives is nothing
/// of the plaintext. The last is, at least.
pub const ALL_COUNT: u32 = 2;

/// What a goroutine is in.
pub mod state {
    /// Nothing.
    pub const NONE: u32 = 0;
    pub const READ: u32 = 1;
    pub const WRITE: u32 = 2;
    /// A handshake, or something behind it: its end is not seen.
    pub const HANDSHAKE: u32 = 3;
    /// It has used a socket, in a call that began unseen, or in none.
    pub const UNSEEN: u32 = 4;
    /// A write that has been reported.
    pub const WROTE: u32 = 5;
}

/// Which part the current goroutine's call has in what a socket moved.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// It is not in Go, or its call is not of this socket.
    None,
    Some,
    /// And that is the first that the call receives, or counts as it.
    FirstReceive,
    /// It is a write, and this the first of its ciphertext.
    Sends,
}

/// The goroutine that runs, 0 when it is none of a Go program that is known.
#[inline(always)]
pub fn running(tgid: u32) -> u64 {
    tls_go_running(tgid)
}

/// A global function: its stack is its own, where that of its callers is short.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tls_go_running(tgid: u32) -> u64 {
    if !enabled(feature::TLS_GO) || GO_GENERATION.get(0).copied().unwrap_or(0) == 0 {
        return 0;
    }
    // SAFETY: a live map value, of which constants are read.
    let program = unsafe { GO_PROCESSES.get(tgid) };
    program.and_then(goroutine::number_of_running).unwrap_or(0)
}

/// The call that a goroutine is or was in last.
#[inline(always)]
pub fn call_of(key: GoCallKey) -> Option<&'static mut GoCall> {
    // SAFETY: a live map value that only this goroutine uses.
    unsafe { TLS_GO_CALLS.get_ptr_mut(key)?.as_mut() }
}

/// The goroutine `goid` moved TLS records through the socket `cookie`.
#[inline(always)]
pub fn uses(tgid: u32, goid: u64, cookie: u64, receives: bool) -> Use {
    if goid == 0 {
        return Use::None;
    }
    let key = GoCallKey { tgid: u64::from(tgid), goid };
    let Some(call) = call_of(key).filter(|call| call.state != state::NONE) else {
        // Its call may be older than the probes: where it ends, it is known by this.
        let _ = TLS_GO_CALLS.insert(key, GoCall::unseen(cookie, receives), 0);
        return if receives { Use::FirstReceive } else { Use::Some };
    };
    if call.inner != 0 || !call.takes(key.tgid, cookie) {
        return Use::None;
    }
    if !receives {
        let sends = call.state == state::WRITE && call.received != ALL_COUNT;
        return if sends { Use::Sends } else { Use::Some };
    }
    if call.received == 1 {
        return Use::Some;
    }
    if call.received == 0 {
        call.received = 1;
    }
    Use::FirstReceive
}

/// The goroutine `goid` has sent the first ciphertext of its write: reported here and not where the write
/// ends, since another goroutine may have read the answer by then. `slot`: of the
/// socket's program, as in `payload::work`.
#[inline(always)]
pub fn wrote(slot: u32, cookie: u64, thread: u64, goid: u64) {
    probes::tls_go::tls_go_wrote(slot, cookie, thread, goid);
}

impl GoCall {
    #[inline(always)]
    fn unseen(cookie: u64, receives: bool) -> GoCall {
        GoCall {
            handle: 0,
            buffer: 0,
            len: 0,
            began_ns: 0,
            cookie,
            state: state::UNSEEN,
            received: u32::from(receives),
            inner: 0,
        }
    }

    /// It uses the socket `cookie`: false when it uses another.
    #[inline(always)]
    fn takes(&mut self, tgid: u64, cookie: u64) -> bool {
        if self.cookie == cookie {
            return true;
        }
        if self.state == state::UNSEEN || self.state == state::WROTE {
            // What went before may have been before the call, or is done.
            *self = GoCall::unseen(cookie, false);
            return true;
        }
        if self.cookie == CONFLICT || self.state == state::HANDSHAKE && self.cookie != 0 {
            return false;
        }
        let key = ObjectKey { tgid, handle: self.handle };
        let agrees = self.cookie == 0 && bind(key, cookie);
        if !agrees {
            let _ = TLS_OBJECTS.remove(key);
            count(counter::TLS_CONFLICTS, 1);
        }
        self.cookie = if agrees { cookie } else { CONFLICT };
        agrees
    }
}
