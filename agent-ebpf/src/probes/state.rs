//! Who connected, and when a TCP connection closes: `inet_sock_set_state`, fired at every change of
//! state, in the caller's context or in an interrupt; and `tcp_destroy_sock`, for what a program reads after
//! that.

use agent_common::{
    record::{Closing, Header, flag as record_flag, kind},
    settings::feature,
};
use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{
    emit::{header, now, reserve, wakeup},
    filter,
    kernel::{
        sock::{Sock, Stream, state},
        task::current_ids,
    },
    settings::enabled,
    shed,
    socket::{self, SocketState, flag},
    tls,
};

/// include/uapi/asm-generic/errno.h.
const ECONNRESET: u32 = 104;
const ETIMEDOUT: u32 = 110;

/// `inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`.
#[btf_tracepoint(function = "inet_sock_set_state")]
fn state_tracepoint(ctx: BtfTracePointContext) -> i32 {
    let sock = Sock(ctx.arg::<*const u8>(0));
    if matches!(sock.stream(), Some(Stream::Tcp | Stream::Mptcp)) {
        let (old, new) = (ctx.arg::<i32>(1) as u8, ctx.arg::<i32>(2) as u8);
        #[cfg(feature = "log")]
        aya_log_ebpf::debug!(&ctx, "socket {}: TCP state {} to {}", sock.cookie(), old, new);
        changed(sock, old, new);
    }
    0
}

/// `tcp_destroy_sock(struct sock *sk)`: TCP is done with it, and nobody holds it by a file.
#[btf_tracepoint(function = "tcp_destroy_sock")]
fn destroy_tracepoint(ctx: BtfTracePointContext) -> i32 {
    destroyed(Sock(ctx.arg::<*const u8>(0)));
    0
}

#[inline(always)]
pub fn changed(sock: Sock, old: u8, new: u8) {
    if new == state::SYN_SENT || new == state::ESTABLISHED && old == state::SYN_RECV {
        // A new socket, perhaps where another one was whose end was not seen.
        socket::forget(sock);
    }
    match new {
        state::SYN_SENT => {
            let (tgid, _, _) = current_ids();
            if filter::is_own(tgid)
                && let Some(state) = socket::get(sock, Stream::Tcp, true)
            {
                state.flags |= flag::LEFT_OUT;
            }
        }
        state::ESTABLISHED => established(sock, old),
        state::FIN_WAIT1 | state::LAST_ACK => closing(sock, old, new, record_flag::LOCAL_END),
        state::CLOSE if is_unread(sock) => defer(sock),
        state::CLOSE => closing(sock, old, new, record_flag::CLOSED),
        _ => {}
    }
}

#[inline(always)]
fn established(sock: Sock, old: u8) {
    let Some(state) = socket::get(sock, Stream::Tcp, true) else { return };
    if state.has(flag::LEFT_OUT) && old == state::SYN_SENT {
        // The other end is established after this one: it finds the note.
        state.own_port = filter::note_own(sock);
        return;
    }
    state.flags |= if old == state::SYN_SENT { flag::CONNECTED } else { flag::ACCEPTED };
}

/// A program holds the socket, and bytes wait for it: a reset, or an end that the peer and TCP have agreed upon,
/// takes none of them away.
#[inline(always)]
fn is_unread(sock: Sock) -> bool {
    if sock.stream() != Some(Stream::Tcp) || sock.file() == 0 {
        return false;
    }
    let Some(tcp) = sock.tcp() else { return false };
    let waits = tcp.rcv_nxt().wrapping_sub(tcp.copied_seq());
    // A FIN has a number as well.
    waits > if sock.fin_received() { 1 } else { 0 }
}

#[inline(always)]
fn defer(sock: Sock) {
    let Some(state) = socket::get(sock, Stream::Tcp, false) else { return };
    state.flags |= flag::ENDS_LATER;
    if sock.error() == ETIMEDOUT {
        state.flags |= flag::TIMED_OUT;
    }
}

#[inline(always)]
pub fn destroyed(sock: Sock) {
    let Some(socket) = socket::get(sock, Stream::Tcp, false) else { return };
    if socket.has(flag::ENDS_LATER) {
        closing(sock, state::CLOSE, state::CLOSE, record_flag::CLOSED);
    }
    if enabled(feature::TLS) && socket.has(flag::TLS) {
        tls::closed(socket.cookie);
    }
}

/// What the closing record says of how it ended. The program has been told by now, and the socket forgets.
#[inline(always)]
fn error(sock: Sock, state: &SocketState) -> u32 {
    if !state.has(flag::ENDS_LATER) {
        return sock.error();
    }
    if state.has(flag::TIMED_OUT) {
        ETIMEDOUT
    } else if sock.fin_received() {
        0
    } else {
        ECONNRESET
    }
}

#[inline(always)]
fn closing(sock: Sock, old: u8, new: u8, what: u16) {
    let Some(state) = socket::get(sock, Stream::Tcp, false) else { return };
    if new == state::CLOSE && state.own_port != 0 {
        filter::forget_own(sock, u32::from(state.own_port));
        state.own_port = 0;
    }
    // Also where it is not known for TLS: whoever's handshake begins there has its streams made.
    let waits = enabled(feature::TLS) && state.has(flag::TLS) && tls::is_at_work();
    if new == state::CLOSE && enabled(feature::TLS) && !waits {
        tls::closed(state.cookie);
    }
    if !state.has(flag::KNOWN) {
        return;
    }
    write(sock, state, old, new, what);
}

/// How far what was sent goes. A reset that comes within a send ends the connection before the send's own record
/// is written: what TCP has taken says that there is one to wait for. Where an end was sent, that has a number as
/// well, and no send is open.
#[inline(always)]
fn sent(sock: Sock, state: &SocketState, old: u8, new: u8) -> u64 {
    let is_open = new == state::CLOSE && (old == state::ESTABLISHED || old == state::CLOSE_WAIT);
    if !is_open || state.has(flag::MUTED) || sock.stream() != Some(Stream::Tcp) {
        return state.send_position;
    }
    match sock.tcp() {
        Some(tcp) => socket::extend(state.send_position, tcp.write_seq()),
        None => state.send_position,
    }
}

#[inline(always)]
fn write(sock: Sock, state: &mut SocketState, old: u8, new: u8, what: u16) {
    let Some((sequence, mut slot)) = reserve(state.cookie, size_of::<Closing>()) else {
        return;
    };
    let record = Closing {
        header: Header {
            flags: what | shed::mark(state),
            ..header(kind::CLOSING, sequence, now())
        },
        cookie: state.cookie,
        send_position: sent(sock, state, old, new),
        receive_position: state.receive_position,
        error: error(sock, state),
        old_state: old,
        new_state: new,
        pad: [0; 2],
    };
    // SAFETY: the slot is as long as the record and 8-byte aligned; the verifier checks both.
    unsafe { slot.as_mut_ptr().cast::<Closing>().write(record) };
    slot.submit(wakeup(state.cookie));
}
