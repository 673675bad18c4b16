//! When a TCP send began to fill the socket, and at which position: before the copy, under the
//! socket's lock, so that two threads on one socket stay apart and effect never precedes cause.

use aya_ebpf::{
    macros::{btf_tracepoint, fentry},
    programs::{BtfTracePointContext, FEntryContext},
};

use crate::{
    filter,
    kernel::{
        sock::{Sock, Stream},
        task::current_ids,
    },
    socket::{self, flag},
};

/// `tcp_sendmsg_locked(const struct sock *sk, …)`, since 6.16.
#[btf_tracepoint(function = "tcp_sendmsg_locked")]
fn send_time_tracepoint(ctx: BtfTracePointContext) -> i32 {
    begin(Sock(ctx.arg::<*const u8>(0)));
    0
}

/// The function of the same name, for kernels before: `(struct sock *sk, struct msghdr *, size_t)`.
#[fentry(function = "tcp_sendmsg_locked")]
fn send_time_fentry(ctx: FEntryContext) -> i32 {
    begin(Sock(ctx.arg::<*const u8>(0)));
    0
}

#[inline(always)]
fn begin(sock: Sock) {
    let (tgid, tid, _) = current_ids();
    if filter::is_own(tgid) || sock.stream() != Some(Stream::Tcp) {
        return;
    }
    let Some(state) = socket::get(sock, Stream::Tcp, true) else { return };
    if state.has(flag::LEFT_OUT | flag::MUTED) {
        return;
    }
    if let Some(tcp) = sock.tcp() {
        state.begin_send(tid, tcp.write_seq());
    }
}
