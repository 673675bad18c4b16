//! Attachments of [`crate::probes::payload`] whose arguments the verifier knows by type: BTF tracepoints
//! and trampolines.

use aya_ebpf::{
    macros::{btf_tracepoint, fexit},
    programs::{BtfTracePointContext, FExitContext},
};

use crate::{
    kernel::{load, sock::Sock},
    probes::payload::call::{received, sent},
    settings::offset,
};

/// `sock_send_length(struct sock *sk, int ret, int flags)`.
#[btf_tracepoint(function = "sock_send_length")]
fn send_tracepoint(ctx: BtfTracePointContext) -> i32 {
    sent(Sock(ctx.arg::<*const u8>(0)), ctx.arg(1), 0);
    0
}

/// `sock_recv_length(struct sock *sk, int ret, int flags)`.
#[btf_tracepoint(function = "sock_recv_length")]
fn receive_tracepoint(ctx: BtfTracePointContext) -> i32 {
    received(Sock(ctx.arg::<*const u8>(0)), ctx.arg(1), ctx.arg(2), 1);
    0
}

macro_rules! fexit_send {
    ($name:ident, $function:literal, $ret:literal, $scratch:literal) => {
        #[fexit(function = $function)]
        fn $name(ctx: FExitContext) -> i32 {
            fexit_sent(socket_arg(&ctx), ctx.arg($ret), $scratch);
            0
        }
    };
}

macro_rules! fexit_receive {
    ($name:ident, $function:literal, $scratch:literal) => {
        #[fexit(function = $function)]
        fn $name(ctx: FExitContext) -> i32 {
            fexit_received(socket_arg(&ctx), ctx.arg(4), ctx.arg(3), $scratch);
            0
        }
    };
}

// int X_sendmsg(struct socket *, struct msghdr *, size_t); the return value follows the arguments.
fexit_send!(inet_send_fexit, "inet_sendmsg", 3, 2);
fexit_send!(inet6_send_fexit, "inet6_sendmsg", 3, 3);
fexit_send!(unix_send_fexit, "unix_stream_sendmsg", 3, 4);
// ssize_t inet_sendpage(struct socket *, struct page *, int, size_t, int), until 6.5.
fexit_send!(inet_sendpage_fexit, "inet_sendpage", 5, 5);
fexit_send!(unix_sendpage_fexit, "unix_stream_sendpage", 5, 6);
// int X_recvmsg(struct socket *, struct msghdr *, size_t, int flags).
fexit_receive!(inet_receive_fexit, "inet_recvmsg", 7);
fexit_receive!(inet6_receive_fexit, "inet6_recvmsg", 8);
fexit_receive!(unix_receive_fexit, "unix_stream_recvmsg", 9);

/// One body for all of these: each would else be compiled by itself, for minutes.
#[inline(never)]
fn fexit_sent(sock: Sock, ret: i32, scratch: u32) {
    sent(sock, ret, scratch);
}

/// The same.
#[inline(never)]
fn fexit_received(sock: Sock, ret: i32, flags: i32, scratch: u32) {
    received(sock, ret, flags, scratch);
}

#[inline(always)]
fn socket_arg(ctx: &FExitContext) -> Sock {
    Sock(load(ctx.arg::<*const u8>(0), offset!(socket_sk)))
}
