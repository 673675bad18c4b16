//! Which calls are looked at: the filters, and what is left of a call on a muted socket.

use agent_common::{counter, settings::feature};

use super::ktls;
use crate::{
    emit::{count, count_both, now},
    filter,
    kernel::{
        sock::{Sock, Stream, state as tcp_state},
        task::{Task, current_ids},
    },
    settings::enabled,
    shed,
    socket::{self, Moment, SocketState, flag},
    tls::{self, Ends, OpenCall},
};

/// Bytes of a TLS record's header.
const RECORD_HEADER: u32 = 5;

/// A call that is known to concern a watched stream.
pub(super) struct Call {
    pub(super) sock: Sock,
    pub(super) stream: Stream,
    pub(super) task: Task,
    pub(super) tgid: u32,
    pub(super) sending: bool,
    pub(super) scratch: u32,
}

/// The filters, in order of cost. Takes up the socket's verdict.
#[inline(always)]
pub(super) fn watched(
    sock: Sock,
    sending: bool,
    ret: i32,
    scratch: u32,
) -> Option<(&'static mut SocketState, Call)> {
    if sock.0.is_null() {
        return None;
    }
    let Some(stream) = sock.stream() else {
        let own = filter::is_own(Task::current().tgid());
        count(if own { counter::OWN_CALLS } else { counter::OTHER_SOCKETS }, 1);
        left_out(sending, ret);
        return None;
    };
    let state = socket::get(sock, stream, true)?;
    if state.has(flag::LEFT_OUT) {
        left_out(sending, ret);
    }
    // Nothing would take away again what is kept of a closed connection.
    if is_closed(sock, stream, state) && !is_awaited(state) {
        if ret > 0 {
            count_both((counter::CLOSED_CALLS, 1), (counter::CLOSED_BYTES, ret as u32 as u64));
        }
        return None;
    }
    if ktls::takes(sock, stream, state, scratch, sending, ret) {
        return None;
    }
    // The agent's own sockets are never muted.
    if state.has(flag::MUTED) && !reopens(state) {
        muted(sock, state, stream, sending, ret, scratch);
        return None;
    }
    let task = Task::current();
    let tgid = task.tgid();
    if filter::is_own(tgid) {
        leave_out_own(sock, stream, state);
        return None;
    }
    if !filter::watches(tgid, &mut state.judged) {
        return None;
    }
    if state.has(flag::LEFT_OUT) {
        count(counter::LEFT_OUT_CALLS, 1);
        return None;
    }
    state.refresh_verdict();
    // Userspace needs no more of a library's ciphertext than its beginning, and says so once it has read that: in a
    // ring that is nearly full it would take the room of what cannot be left out.
    let in_vain =
        enabled(feature::SHEDDING) && state.has(flag::TLS) && shed::is_crowded(state.cookie);
    if state.has(flag::MUTED) || in_vain {
        muted(sock, state, stream, sending, ret, scratch);
        return None;
    }
    Some((state, Call { sock, stream, task, tgid, sending, scratch }))
}

/// Of a socket that is not looked at a library's call is told all the same: it has not sent into a buffer.
#[inline(always)]
fn left_out(sending: bool, ret: i32) {
    if enabled(feature::TLS) && sending && ret > 0 {
        tls::sent_left_out();
    }
}

/// The connection is over: its closing record has been written, as the state changes after those who ask to be
/// told (`inet_sk_state_store`).
#[inline(always)]
pub(super) fn is_closed(sock: Sock, stream: Stream, state: &SocketState) -> bool {
    stream != Stream::Unix && sock.state() == tcp_state::CLOSE && !state.has(flag::ENDS_LATER)
}

/// What the connection's end has cut short: the rest of what the ring knows of, and plaintext whose library is at work.
#[inline(always)]
fn is_awaited(state: &SocketState) -> bool {
    match enabled(feature::TLS) && state.has(flag::TLS) {
        true => tls::socket(state.cookie).is_some(),
        false => state.has(flag::KNOWN),
    }
}

/// The agent's own call: its connection is left out at both ends.
#[inline(always)]
fn leave_out_own(sock: Sock, stream: Stream, state: &mut SocketState) {
    count(counter::OWN_CALLS, 1);
    if stream != Stream::Unix && !state.has(flag::LEFT_OUT) {
        state.flags |= flag::LEFT_OUT;
        filter::note_own(sock);
    }
}

/// A protocol that nobody knows may go over to TLS (STARTTLS): a muted socket that a TLS library uses
/// is looked at once more.
#[inline(always)]
fn reopens(state: &mut SocketState) -> bool {
    if !enabled(feature::TLS) || state.has(flag::TLS) || state.head_left == 0 {
        return false;
    }
    state.head_left -= 1;
    let (_, _, thread) = current_ids();
    let used = OpenCall::of(thread).is_some();
    if used {
        state.flags &= !flag::MUTED;
    }
    used
}

/// A call on a muted socket is counted. So are the bytes of a stream whose positions are own
/// counters; TCP's are read from the socket.
#[inline(always)]
fn muted(
    sock: Sock,
    state: &mut SocketState,
    stream: Stream,
    sending: bool,
    ret: i32,
    scratch: u32,
) {
    if ret <= 0 {
        return;
    }
    let len = u64::from(ret as u32);
    count_both((counter::MUTED_CALLS, 1), (counter::MUTED_BYTES, len));
    if enabled(feature::TLS) && state.has(flag::TLS) {
        return muted_tls(sock, state, stream, sending, ret as u32, scratch);
    }
    if stream != Stream::Tcp {
        if sending {
            state.send_position += len;
        } else {
            state.receive_position += len;
        }
    }
}

/// The ciphertext of a library that is watched: its arrival is that of the plaintext.
#[inline(always)]
fn muted_tls(
    sock: Sock,
    state: &mut SocketState,
    stream: Stream,
    sending: bool,
    len: u32,
    scratch: u32,
) {
    let (_, _, thread) = current_ids();
    let ends = Ends::of(sock, state);
    if sending {
        if stream != Stream::Tcp {
            state.send_position += u64::from(len);
        }
        return tls::sent(scratch, state, thread, ends);
    }
    // No option of what a receive found: the kernel refuses how the compiler describes its layout.
    let mut arrived = (0, 0);
    if stream == Stream::Mptcp {
        state.receive_position += u64::from(len);
    } else {
        let received = match sock.tcp() {
            Some(tcp) if stream == Stream::Tcp => state.end_receive(sock, tcp, len),
            _ => state.end_receive_unix(sock, len),
        };
        // One look at the clock, where what arrived is not known.
        let now = if received.first.is_true && received.last.is_true { 0 } else { now() };
        arrived = (known_or(received.first, now), known_or(received.last, now));
        if len == RECORD_HEADER {
            // Libraries read it by itself, and what follows it says all the rest. An older one was no header but the
            // last bytes of a record: this time is the later, and never too early.
            state.header_ns = arrived.0;
            return;
        }
        if state.header_ns != 0 {
            arrived.0 = state.header_ns;
            state.header_ns = 0;
        }
    }
    tls::received(state, thread, arrived, ends, len);
}

/// A time that is known, or another.
#[inline(always)]
pub(super) fn known_or(moment: Moment, otherwise: u64) -> u64 {
    if moment.is_true { moment.ns } else { otherwise }
}
