//! When a TCP send began to fill the socket, at which position, and from where: before the copy,
//! under the socket's lock, so that two threads on one socket stay apart and effect never precedes
//! cause.

use aya_ebpf::{
    macros::{btf_tracepoint, fentry},
    programs::{BtfTracePointContext, FEntryContext},
};

use agent_common::settings::feature;

use crate::{
    filter,
    kernel::{
        iterator::{Outgoing, outgoing},
        sock::{Sock, Stream},
        task::current_ids,
    },
    settings::enabled,
    socket::{self, flag},
};

/// `tcp_sendmsg_locked(const struct sock *sk, const struct msghdr *msg, …)`, since 6.16.
#[btf_tracepoint(function = "tcp_sendmsg_locked")]
fn send_time_tracepoint(ctx: BtfTracePointContext) -> i32 {
    begin(Sock(ctx.arg::<*const u8>(0)), ctx.arg::<*const u8>(1));
    0
}

/// The function of the same name, for kernels before: `(struct sock *sk, struct msghdr *, size_t)`.
#[fentry(function = "tcp_sendmsg_locked")]
fn send_time_fentry(ctx: FEntryContext) -> i32 {
    begin(Sock(ctx.arg::<*const u8>(0)), ctx.arg::<*const u8>(1));
    0
}

#[inline(always)]
pub fn begin(sock: Sock, message: *const u8) {
    let Some(state) = socket::get(sock, Stream::Tcp, true) else { return };
    // Of a socket on which the kernel does TLS the time counts, not the ciphertext that is sent.
    let mutes = flag::LEFT_OUT | flag::MUTED;
    if state.has(mutes) && state.flags & (mutes | flag::KTLS) != flag::MUTED | flag::KTLS {
        return;
    }
    let (tgid, tid, _) = current_ids();
    // Whoever is not watched when a send ends must leave no slot behind when it begins.
    if filter::is_own(tgid) || !filter::selects(tgid, &mut state.judged) {
        return;
    }
    if let Some(tcp) = sock.tcp() {
        // No option of it: older verifiers refuse that the rest of an empty one is copied.
        let known = enabled(feature::SEND_SOURCE);
        let outgoing = if known { outgoing(message) } else { Outgoing::UNSURE };
        state.begin_send(tid, tcp.write_seq(), outgoing);
    }
}
