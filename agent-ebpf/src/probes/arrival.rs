//! When data became readable.
//!
//! `sk_data_ready(const struct sock *sk)` fires in the interrupt that queued the data (TCP, lock
//! or softirq held) or in the sender's own call (unix). It also marks when a unix send began to
//! take effect: no other hook does.

use aya_ebpf::{
    macros::{btf_tracepoint, fentry},
    programs::{BtfTracePointContext, FEntryContext},
};

use crate::{
    emit::now,
    kernel::{
        sock::{Sock, Stream, state},
        task::current_ids,
    },
    maps::{UNIX_SENDS, UnixSend},
    socket::{self, flag},
};

#[btf_tracepoint(function = "sk_data_ready")]
fn arrival_tracepoint(ctx: BtfTracePointContext) -> i32 {
    arrived(Sock(ctx.arg::<*const u8>(0)));
    0
}

/// Kernels before 6.3: `void sock_def_readable(struct sock *sk)`.
#[fentry(function = "sock_def_readable")]
fn arrival_fentry(ctx: FEntryContext) -> i32 {
    arrived(Sock(ctx.arg::<*const u8>(0)));
    0
}

#[inline(always)]
pub fn arrived(sock: Sock) {
    let Some(stream) = sock.stream() else { return };
    if stream == Stream::Mptcp {
        return;
    }
    let tcp_state = sock.state();
    if tcp_state == state::LISTEN || tcp_state == state::CLOSE {
        return;
    }
    let Some(state) = socket::get(sock, stream, true) else { return };
    if state.has(flag::LEFT_OUT | flag::MUTED) && !state.watches_arrivals() {
        return;
    }
    // A watched process that is handed the socket takes the bytes that wait as arrived with the next
    // ones, or when it reads them: as in a full ring of arrivals, late and never early.
    let unwatched = state.judged.is_unwatched();
    match stream {
        Stream::Tcp if unwatched => {}
        Stream::Mptcp => {}
        Stream::Tcp => {
            if let Some(tcp) = sock.tcp() {
                state.arrive(tcp.rcv_nxt());
            }
        }
        Stream::Unix => {
            if !unwatched {
                state.arrive_unix(sock);
            }
            // The sender's time, whoever receives.
            let (_, _, thread) = current_ids();
            // SAFETY: the value is copied out; only this thread writes its entry.
            let noted = unsafe { UNIX_SENDS.get(thread) }.copied();
            if noted.is_none_or(|noted| noted.receiver != state.cookie) {
                let _ =
                    UNIX_SENDS.insert(thread, UnixSend { receiver: state.cookie, ns: now() }, 0);
            }
        }
    }
}
