//! Peers of UDP sockets that are not connected: the kernel shows each address to a cgroup's programs
//! before it sends to it, and after it has received from it. These here allow everything and change
//! nothing.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated::bpf_get_socket_cookie},
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};

use crate::maps::{PEERS, Peer};

/// Let the call go on.
const ALLOW: i32 = 1;

#[cgroup_sock_addr(sendmsg4)]
fn flow_peer_send4(ctx: SockAddrContext) -> i32 {
    note(&ctx, four(&ctx));
    ALLOW
}

#[cgroup_sock_addr(sendmsg6)]
fn flow_peer_send6(ctx: SockAddrContext) -> i32 {
    note(&ctx, six(&ctx));
    ALLOW
}

#[cgroup_sock_addr(recvmsg4)]
fn flow_peer_receive4(ctx: SockAddrContext) -> i32 {
    note(&ctx, four(&ctx));
    ALLOW
}

#[cgroup_sock_addr(recvmsg6)]
fn flow_peer_receive6(ctx: SockAddrContext) -> i32 {
    note(&ctx, six(&ctx));
    ALLOW
}

/// `::ffff:a.b.c.d`.
#[inline(always)]
fn four(ctx: &SockAddrContext) -> [u64; 2] {
    // SAFETY: the context is live; volatile keeps each load whole, as the verifier wants it.
    let address = unsafe { (&raw const (*ctx.sock_addr).user_ip4).read_volatile() };
    [0, (u64::from(address) << 32) | 0xffff_0000]
}

#[inline(always)]
fn six(ctx: &SockAddrContext) -> [u64; 2] {
    // SAFETY: as in `four`.
    let word = |index: usize| unsafe {
        (&raw const (*ctx.sock_addr).user_ip6).cast::<u32>().add(index).read_volatile()
    };
    let pair = |low: u32, high: u32| (u64::from(high) << 32) | u64::from(low);
    [pair(word(0), word(1)), pair(word(2), word(3))]
}

#[inline(always)]
fn note(ctx: &SockAddrContext, address: [u64; 2]) {
    // SAFETY: as in `four`.
    let port = unsafe { (&raw const (*ctx.sock_addr).user_port).read_volatile() };
    // SAFETY: the helper takes this program's context.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.sock_addr.cast()) };
    let peer = Peer { cookie, address, port: u32::from(u16::from_be(port as u16)), used: 0 };
    // The map evicts when it is full.
    let _ = PEERS.insert(bpf_get_current_pid_tgid(), peer, 0);
}
