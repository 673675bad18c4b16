//! Sends and receives by pairs of probes: the beginning of a call knows its arguments, the end what it
//! returned. Between them the arguments wait in [`CALLS`], by thread and function.

use agent_common::counter;
use aya_ebpf::{
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};

use crate::{
    emit::count,
    kernel::{load, sock::Sock, task::current_ids},
    maps::{BegunCall, CALLS},
    probes::payload::call::{received, sent},
    settings::offset,
};

macro_rules! send_pair {
    ($begin:ident, $end:ident, $function:literal) => {
        #[kprobe]
        fn $begin(ctx: ProbeContext) -> u32 {
            begin($function, ctx.arg(0), Some(0));
            0
        }

        #[kretprobe]
        fn $end(ctx: RetProbeContext) -> u32 {
            if let Some(call) = end($function) {
                sent(Sock(call.sock as *const u8), ctx.ret::<i32>(), $function);
            }
            0
        }
    };
}

macro_rules! receive_pair {
    ($begin:ident, $end:ident, $function:literal) => {
        #[kprobe]
        fn $begin(ctx: ProbeContext) -> u32 {
            begin($function, ctx.arg(0), ctx.arg::<i32>(3));
            0
        }

        #[kretprobe]
        fn $end(ctx: RetProbeContext) -> u32 {
            if let Some(call) = end($function) {
                let sock = Sock(call.sock as *const u8);
                received(sock, ctx.ret::<i32>(), call.flags as i32, $function);
            }
            0
        }
    };
}

// The number tells the functions apart that a thread may be in at once, and names the scratch room.
// int X_sendmsg(struct socket *, struct msghdr *, size_t).
send_pair!(inet_send_begin, inet_send_end, 0);
send_pair!(inet6_send_begin, inet6_send_end, 1);
send_pair!(unix_send_begin, unix_send_end, 2);
// ssize_t inet_sendpage(struct socket *, struct page *, int, size_t, int), until 6.5.
send_pair!(inet_sendpage_begin, inet_sendpage_end, 3);
send_pair!(unix_sendpage_begin, unix_sendpage_end, 4);
// int X_recvmsg(struct socket *, struct msghdr *, size_t, int flags).
receive_pair!(inet_receive_begin, inet_receive_end, 5);
receive_pair!(inet6_receive_begin, inet6_receive_end, 6);
receive_pair!(unix_receive_begin, unix_receive_end, 7);

/// `struct socket *` and flags of a call that begins.
#[inline(always)]
fn begin(function: u32, socket: Option<*const u8>, flags: Option<i32>) {
    let (Some(socket), Some(flags)) = (socket, flags) else { return };
    let sock: u64 = load(socket, offset!(socket_sk));
    if Sock(sock as *const u8).stream().is_none() {
        return;
    }
    let key = key(function);
    // SAFETY: only its presence is used.
    if unsafe { CALLS.get(key) }.is_some() {
        // The thread has left that call unseen: the kernel had no room to note where it returns.
        count(counter::UNPAIRED_CALLS, 1);
    }
    let call = BegunCall { sock, flags: u64::from(flags as u32) };
    if CALLS.insert(key, call, 0).is_err() {
        count(counter::UNPAIRED_CALLS, 1);
    }
}

/// What was noted of the call that ends.
#[inline(always)]
fn end(function: u32) -> Option<BegunCall> {
    let key = key(function);
    // SAFETY: the value is copied out; only this thread writes its entry.
    let call = unsafe { CALLS.get(key) }.copied()?;
    let _ = CALLS.remove(key);
    Some(call)
}

#[inline(always)]
fn key(function: u32) -> u64 {
    let (_, tid, _) = current_ids();
    u64::from(function) << 32 | u64::from(tid)
}
