//! Bytes that a call moved through a socket.
//!
//! | program | hook | kernels |
//! |---|---|---|
//! | `send_tracepoint`, `receive_tracepoint` | `sock_send_length`, `sock_recv_length`: after every socket send and receive, in the caller's context | 6.3 and later |
//! | `…_fexit` | fexit on `inet_sendmsg` and its like | with fentry |
//!
//! This file has the attachments. [`call`] is their body: filters, position and times, whose bytes.
//! [`write`]: size classes, the way into the ring. [`connection`]: who talks to whom.
//! [`in_kernel`]: receives that no registers explain.
//!
//! Not the system calls: there a hook taxes every call of every process, and a table of
//! descriptors would have to be kept right through dup, fork, exec and SCM_RIGHTS.

pub mod call;
mod connection;
mod in_kernel;
pub mod write;

use aya_ebpf::{
    macros::{btf_tracepoint, fexit},
    programs::{BtfTracePointContext, FExitContext},
};

use crate::{
    kernel::{load, sock::Sock},
    settings::offset,
};
use call::{received, sent};

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
            sent(socket_arg(&ctx), ctx.arg($ret), $scratch);
            0
        }
    };
}

macro_rules! fexit_receive {
    ($name:ident, $function:literal, $scratch:literal) => {
        #[fexit(function = $function)]
        fn $name(ctx: FExitContext) -> i32 {
            received(socket_arg(&ctx), ctx.arg(4), ctx.arg(3), $scratch);
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

#[inline(always)]
fn socket_arg(ctx: &FExitContext) -> Sock {
    Sock(load(ctx.arg::<*const u8>(0), offset!(socket_sk)))
}
