//! UDP: messages and bytes by socket and peer, added up in the kernel; and DNS answers.

use agent_common::{
    counter,
    record::{DNS_LEN, DatagramKey, Datagrams, DnsAnswer, Header, kind},
    settings::feature,
};
use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{btf_tracepoint, fexit},
    programs::{BtfTracePointContext, FExitContext},
};

use super::{next_sequence, own};
use crate::{
    emit::{QUIET, count, header, now},
    filter,
    kernel::{
        atomic, load, registers,
        sock::{IPPROTO_UDP, Sock, Stream, state as tcp_state},
        task::Task,
        user::{Buffer, copy_flat, first_piece},
    },
    maps::{DATAGRAMS, FLOW_RING, PEERS},
    settings::{enabled, offset},
};

/// Flags of a receive: the message stays in the queue, or comes from the error queue.
const NOT_TAKEN: i32 = 2 | 0x2000;

/// Where DNS servers answer from.
const DNS_PORT: u32 = 53;

/// Shortest DNS message: its header (RFC 1035, section 4.1.1).
const DNS_HEADER: i32 = 12;

// --- attachments of their own, where nothing else of a call is captured ---

/// `sock_send_length(struct sock *sk, int ret, int flags)`.
#[btf_tracepoint(function = "sock_send_length")]
fn flow_send_tracepoint(ctx: BtfTracePointContext) -> i32 {
    used(Sock(ctx.arg::<*const u8>(0)), ctx.arg(1), true, 0);
    0
}

/// `sock_recv_length(struct sock *sk, int ret, int flags)`.
#[btf_tracepoint(function = "sock_recv_length")]
fn flow_receive_tracepoint(ctx: BtfTracePointContext) -> i32 {
    used(Sock(ctx.arg::<*const u8>(0)), ctx.arg(1), false, ctx.arg(2));
    0
}

macro_rules! fexit_flow {
    ($name:ident, $function:literal, $ret:literal, $sending:literal) => {
        #[fexit(function = $function)]
        fn $name(ctx: FExitContext) -> i32 {
            let sock = Sock(load(ctx.arg::<*const u8>(0), offset!(socket_sk)));
            let flags: i32 = if $sending { 0 } else { ctx.arg(3) };
            used(sock, ctx.arg($ret), $sending, flags);
            0
        }
    };
}

fexit_flow!(flow_inet_send_fexit, "inet_sendmsg", 3, true);
fexit_flow!(flow_inet6_send_fexit, "inet6_sendmsg", 3, true);
fexit_flow!(flow_inet_receive_fexit, "inet_recvmsg", 4, false);
fexit_flow!(flow_inet6_receive_fexit, "inet6_recvmsg", 4, false);

/// A call on any socket: names a TCP socket's process, counts a datagram.
#[inline(always)]
fn used(sock: Sock, ret: i32, sending: bool, flags: i32) {
    if sock.0.is_null() || moved(sock, ret, sending, flags) {
        return;
    }
    if ret > 0 && sock.stream() == Some(Stream::Tcp) {
        let task = Task::current();
        own(sock, task.tgid(), task.process_start());
    }
}

// --- datagrams ---

/// A call on a socket returned `ret`. True when it is a UDP socket: it has been dealt with.
///
/// Not inlined: see `payload::connection::introduce`.
#[inline(never)]
pub fn moved(sock: Sock, ret: i32, sending: bool, flags: i32) -> bool {
    if sock.0.is_null() || !sock.is_datagram() || sock.protocol() != IPPROTO_UDP {
        return false;
    }
    let task = Task::current();
    let tgid = task.tgid();
    if ret < 0 || flags & NOT_TAKEN != 0 || filter::is_own(tgid) {
        return true;
    }
    let cookie = sock.cookie();
    let (address, port) = peer(sock, cookie);
    if port == 0 {
        count(counter::DATAGRAM_PEER_UNKNOWN, 1);
    }
    let key = key(cookie, address, port);
    add(sock, task, tgid, &key, sending, ret as u64);
    if !sending && port == DNS_PORT && ret >= DNS_HEADER && enabled(feature::FLOW_DNS) {
        dns(sock, task, tgid, cookie, ret as u32);
    }
    true
}

#[inline(always)]
fn key(cookie: u64, address: [u64; 2], port: u32) -> DatagramKey {
    // SAFETY: both are 16 bytes of plain data.
    let remote_addr = unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(address) };
    DatagramKey { cookie, remote_addr, remote_port: port, pad: 0 }
}

/// The other end of the message that this thread has just moved: as noted by `peer`, else the one
/// that the socket is connected to. Port 0 when it cannot be told.
#[inline(always)]
fn peer(sock: Sock, cookie: u64) -> ([u64; 2], u32) {
    if let Some(peer) = PEERS.get_ptr_mut(bpf_get_current_pid_tgid()) {
        // SAFETY: a live map value, and only this thread uses it.
        unsafe {
            if (*peer).cookie == cookie && (*peer).used == 0 {
                // A note is of one message.
                (*peer).used = 1;
                return ((*peer).address, (*peer).port);
            }
        }
    }
    if sock.state() == tcp_state::ESTABLISHED {
        return (sock.addresses().1, u32::from(sock.ports().1));
    }
    ([0; 2], 0)
}

#[inline(always)]
fn add(sock: Sock, task: Task, tgid: u32, key: &DatagramKey, sending: bool, len: u64) {
    let found = DATAGRAMS.get_ptr_mut(*key);
    let entry = match found {
        Some(entry) => entry,
        None => {
            begin(sock, task, tgid, key, sending);
            let Some(entry) = DATAGRAMS.get_ptr_mut(*key) else {
                count(counter::DATAGRAMS_UNCOUNTED, 1);
                return;
            };
            entry
        }
    };
    // SAFETY: a live map value; other CPUs add to it as well.
    unsafe {
        if sending {
            atomic::add(&raw mut (*entry).bytes_sent, len);
            atomic::add(&raw mut (*entry).sent, 1);
        } else {
            atomic::add(&raw mut (*entry).bytes_received, len);
            atomic::add(&raw mut (*entry).received, 1);
        }
        (&raw mut (*entry).last_ns).write_volatile(now());
    }
}

#[inline(always)]
fn begin(sock: Sock, task: Task, tgid: u32, key: &DatagramKey, sending: bool) {
    let first_ns = now();
    let none = zero();
    let entry = Datagrams {
        bytes_sent: none,
        sent: none,
        bytes_received: none,
        received: none,
        first_ns,
        // Userspace may look before the first message is added, and must not take it for quiet.
        last_ns: first_ns,
        start_ns: task.process_start(),
        tgid,
        netns: sock.netns(),
        // SAFETY: both are 16 bytes of plain data.
        local_addr: unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(sock.addresses().0) },
        local_port: sock.ports().0,
        family: sock.family(),
        began: if sending { 1 } else { 2 },
    };
    /// Only where there is none (include/uapi/linux/bpf.h): another CPU may have been faster.
    const BPF_NOEXIST: u64 = 1;
    if DATAGRAMS.insert(*key, entry, BPF_NOEXIST).is_ok() {
        count(counter::DATAGRAMS_BEGUN, 1);
    }
}

/// 0, unknown to the compiler: of several in a row it makes a call of `memset`, one frame more for a chain of
/// calls that fills the 512 bytes of kernels before 6.13.
#[inline(always)]
fn zero() -> u64 {
    let zero;
    // SAFETY: a move; it reads and writes nothing else.
    unsafe { core::arch::asm!("{0} = 0", out(reg) zero, options(pure, nomem, nostack)) };
    zero
}

// --- DNS ---

const DNS_FIXED: usize = size_of::<DnsAnswer>();

/// Captures an answer from the receiver's buffer, where it lies in one piece and the registers prove
/// that it is this call's.
#[inline(always)]
fn dns(sock: Sock, task: Task, tgid: u32, cookie: u64, len: u32) {
    let Some(buffer) = registers::buffer(task, sock.file(), false) else { return };
    let address = match buffer {
        Buffer::Flat { address } => address,
        Buffer::Message { address, compat } => match first_piece(address, compat) {
            // All of it, or none.
            Some((address, room)) if room >= u64::from(len) => address,
            _ => return,
        },
        Buffer::Vector { .. } | Buffer::Messages { .. } => return,
    };
    let sequence = next_sequence();
    let Some(mut slot) = FLOW_RING.reserve_bytes(DNS_FIXED + DNS_LEN, 0) else {
        count(counter::FLOW_LOST, 1);
        return;
    };
    let want = if len > DNS_LEN as u32 { DNS_LEN as u32 } else { len };
    // SAFETY: the slot holds DNS_FIXED + DNS_LEN bytes, 8-byte aligned; the verifier checks both.
    unsafe {
        let start = slot.as_mut_ptr();
        let copied = copy_flat::<{ DNS_LEN as i64 }>(start.add(DNS_FIXED), want, address);
        start.cast::<DnsAnswer>().write(DnsAnswer {
            header: Header {
                tgid,
                tid: task.tid(),
                start_ns: task.process_start(),
                total_len: len,
                captured_len: if copied { want } else { 0 },
                ..header(kind::DNS_ANSWER, sequence, now())
            },
            cookie,
            netns: sock.netns(),
            pad: 0,
        });
    }
    slot.submit(QUIET);
}
