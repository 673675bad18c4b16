//! Conversations: who talked to whom, how much, how well. Never per packet.
//!
//! | file | hooks | gives | cost by design |
//! |---|---|---|---|
//! | `tcp` | `inet_sock_set_state`, `tcp_send_reset`, `tcp_receive_reset` | a record when a TCP conversation ends | one look into socket storage a change of state, one record an end |
//! | `datagram` | the payload programs' hooks | counts of UDP by socket and peer | two map look-ups and a clock read a message; two loads a call of anything else |
//! | `peer` | cgroup sendmsg, recvmsg of UDP (4.18, 5.2) | peers of sockets that are not connected | one map look-up a message with an address |
//! | `list` | iterator `task_file` (5.11) | all sockets that live, older ones too | only while somebody asks |

pub mod datagram;
mod list;
mod peer;
mod tcp;

use agent_common::{
    counter,
    record::{Flow, Header, sign},
};
use aya_ebpf::{bindings::BPF_SK_STORAGE_GET_F_CREATE, helpers::generated::bpf_sk_storage_get};

use crate::{
    emit,
    kernel::sock::{IPPROTO_TCP, Sock},
    maps::FLOWS,
};

/// What is kept with a TCP socket: what the kernel does not know of it itself.
#[repr(C)]
pub struct FlowState {
    /// When connect was called, or the connection was accepted; boot-time ns.
    pub first_ns: u64,
    /// When it was established; boot-time ns.
    pub established_ns: u64,
    /// Start of the process, boot-time ns.
    pub start_ns: u64,
    /// The process that used it first, 0 while unknown.
    pub tgid: u32,
    /// One of [`agent_common::record::role`].
    pub role: u8,
    /// Bits of [`agent_common::record::sign`].
    pub signs: u8,
    /// Explicit padding, 0.
    pub pad: u16,
}

/// State of a TCP socket's conversation; made when `create` and there is none.
#[inline(always)]
pub fn state(sock: Sock, create: bool) -> Option<&'static mut FlowState> {
    if crate::UNTYPED {
        return None;
    }
    let flags = if create { u64::from(BPF_SK_STORAGE_GET_F_CREATE) } else { 0 };
    // SAFETY: the map is socket storage of `FlowState`; the verifier checks that this is a socket.
    // The value outlives the program's run (RCU).
    unsafe {
        let map = (&raw const FLOWS).cast_mut().cast();
        bpf_sk_storage_get(map, sock.0.cast_mut().cast(), core::ptr::null_mut(), flags)
            .cast::<FlowState>()
            .as_mut()
    }
}

/// Names the process of a socket that has none yet. Called once a connection by the payload programs.
#[inline(always)]
pub fn own(sock: Sock, tgid: u32, start_ns: u64) {
    if let Some(state) = state(sock, true)
        && state.tgid == 0
    {
        state.start_ns = start_ns;
        state.tgid = tgid;
    }
}

/// What the kernel knows of a socket, without what is kept beside it.
#[inline(always)]
fn snapshot(header: Header, sock: Sock, cookie: u64) -> Flow {
    let (local_addr, remote_addr) = sock.addresses();
    let protocol = sock.protocol();
    let mut flow = Flow {
        header,
        cookie,
        local_port: sock.local_port(),
        remote_port: sock.ports().1,
        family: sock.family(),
        protocol,
        netns: sock.netns(),
        error: sock.error(),
        state: sock.state(),
        signs: if sock.fin_received() { sign::FIN_RECEIVED } else { 0 },
        ..Flow::default()
    };
    // SAFETY: both are 16 bytes of plain data.
    unsafe {
        flow.local_addr = core::mem::transmute::<[u64; 2], [u8; 16]>(local_addr);
        flow.remote_addr = core::mem::transmute::<[u64; 2], [u8; 16]>(remote_addr);
    }
    if protocol == IPPROTO_TCP
        && let Some(tcp) = sock.tcp()
    {
        flow.bytes_sent = tcp.bytes_sent();
        flow.bytes_received = tcp.bytes_received();
        flow.bytes_retransmitted = tcp.bytes_retransmitted();
        flow.segments_out = tcp.segments_out();
        flow.segments_in = tcp.segments_in();
        flow.data_segments_out = tcp.data_segments_out();
        flow.data_segments_in = tcp.data_segments_in();
        flow.retransmits = tcp.retransmits();
        flow.srtt_us = tcp.srtt();
        flow.mdev_us = tcp.mdev();
        flow.window_limited = tcp.window_limited();
        flow.send_window = tcp.send_window();
    }
    flow
}

/// Number of the next record of the flow ring.
#[inline(always)]
fn next_sequence() -> u64 {
    emit::next_of(counter::FLOW_TRIED)
}
