//! TCP: when a conversation begins and ends, and who resets it.

use agent_common::{
    counter,
    record::{Flow, Header, kind, role, sign},
};
use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use super::{FlowState, next_sequence, snapshot, state};
use crate::{
    emit::{QUIET, count, header, now},
    kernel::{
        sock::{Sock, Stream, state as tcp_state},
        task::Task,
    },
    maps::FLOW_RING,
};

/// `inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`.
#[btf_tracepoint(function = "inet_sock_set_state")]
fn flow_state_tracepoint(ctx: BtfTracePointContext) -> i32 {
    let sock = Sock(ctx.arg::<*const u8>(0));
    if sock.stream() == Some(Stream::Tcp) {
        changed(sock, ctx.arg::<i32>(1) as u8, ctx.arg::<i32>(2) as u8);
    }
    0
}

/// `tcp_send_reset(const struct sock *sk, const struct sk_buff *skb, …)`: without a socket where
/// nobody listens.
#[btf_tracepoint(function = "tcp_send_reset")]
fn flow_send_reset_tracepoint(ctx: BtfTracePointContext) -> i32 {
    note_reset(Sock(ctx.arg::<*const u8>(0)), sign::RESET_SENT);
    0
}

/// `tcp_receive_reset(struct sock *sk)`.
#[btf_tracepoint(function = "tcp_receive_reset")]
fn flow_receive_reset_tracepoint(ctx: BtfTracePointContext) -> i32 {
    note_reset(Sock(ctx.arg::<*const u8>(0)), sign::RESET_RECEIVED);
    0
}

#[inline(always)]
fn note_reset(sock: Sock, what: u8) {
    if sock.0.is_null() {
        return;
    }
    if let Some(state) = state(sock, false) {
        state.signs |= what;
    }
}

#[inline(always)]
fn changed(sock: Sock, old: u8, new: u8) {
    match new {
        // In the caller's context. A socket may be connected again after a failure.
        tcp_state::SYN_SENT => {
            let Some(state) = state(sock, true) else { return };
            let task = Task::current();
            *state = FlowState {
                first_ns: now(),
                established_ns: 0,
                start_ns: task.process_start(),
                tgid: task.tgid(),
                role: role::CONNECTED,
                signs: 0,
                pad: 0,
            };
        }
        tcp_state::ESTABLISHED => {
            let Some(state) = state(sock, true) else { return };
            state.established_ns = now();
            if old != tcp_state::SYN_SENT {
                state.role = role::ACCEPTED;
                state.first_ns = state.established_ns;
            }
        }
        // Only a program closes its sending side: by shutdown, close, or its own end.
        tcp_state::FIN_WAIT1 | tcp_state::LAST_ACK => {
            let task = Task::current();
            if let Some(state) = state(sock, true)
                && state.tgid == 0
                && task.may_call()
            {
                state.start_ns = task.process_start();
                state.tgid = task.tgid();
            }
        }
        tcp_state::CLOSE if is_conversation(old) => ended(sock, old),
        _ => {}
    }
}

/// A socket in this state has had a peer, or has asked for one.
#[inline(always)]
fn is_conversation(state: u8) -> bool {
    !matches!(state, tcp_state::CLOSE | tcp_state::LISTEN | tcp_state::SYN_RECV)
}

#[inline(always)]
fn ended(sock: Sock, old: u8) {
    let sequence = next_sequence();
    let mut flow = snapshot(header(kind::FLOW, sequence, now()), sock, sock.cookie());
    if let Some(state) = state(sock, false) {
        flow.header = Header { tgid: state.tgid, start_ns: state.start_ns, ..flow.header };
        flow.first_ns = state.first_ns;
        flow.established_ns = state.established_ns;
        flow.role = state.role;
        flow.signs |= state.signs;
        // Connected again, it is another conversation.
        state.signs = 0;
    }
    flow.state = tcp_state::CLOSE;
    flow.old_state = old;
    let Some(mut slot) = FLOW_RING.reserve_bytes(size_of::<Flow>(), 0) else {
        count(counter::FLOW_LOST, 1);
        return;
    };
    // SAFETY: the slot is as long as the record and 8-byte aligned; the verifier checks both.
    unsafe { slot.as_mut_ptr().cast::<Flow>().write(flow) };
    slot.submit(QUIET);
}
