//! `struct sock` and its families.

use aya_ebpf::helpers::generated::{
    bpf_get_socket_cookie, bpf_probe_read_kernel, bpf_skc_to_tcp_sock, bpf_skc_to_unix_sock,
};

use agent_common::settings::{MISSING, feature};

use super::{cast, load, probe_field};
use crate::settings::{enabled, offset};

pub const AF_UNIX: u16 = 1;
pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;
const SOCK_STREAM: u16 = 1;
const SOCK_DGRAM: u16 = 2;
pub const IPPROTO_TCP: u16 = 6;
pub const IPPROTO_UDP: u16 = 17;

const IPPROTO_MPTCP: u16 = 262;

/// TCP states (include/net/tcp_states.h).
pub mod state {
    pub const ESTABLISHED: u8 = 1;
    pub const SYN_SENT: u8 = 2;
    pub const SYN_RECV: u8 = 3;
    pub const FIN_WAIT1: u8 = 4;
    pub const TIME_WAIT: u8 = 6;
    pub const CLOSE: u8 = 7;
    pub const CLOSE_WAIT: u8 = 8;
    pub const LAST_ACK: u8 = 9;
    pub const LISTEN: u8 = 10;
    pub const CLOSING: u8 = 11;
}

/// `1 << SOCK_DONE` in `sk_flags` (enum sock_flags, include/net/sock.h).
const SOCK_DONE: u64 = 1 << 1;

/// `RCV_SHUTDOWN` (include/net/sock.h).
const RCV_SHUTDOWN: u8 = 1;

/// A socket known to the verifier.
#[derive(Clone, Copy)]
pub struct Sock(pub *const u8);

/// The streams that are captured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Tcp,
    Unix,
    /// The socket that a program holds: its subflows are TCP sockets of the kernel's.
    Mptcp,
}

/// `struct tcp_sock`, known to the verifier and not null.
#[derive(Clone, Copy)]
pub struct Tcp(*const u8);

impl Sock {
    /// Which captured stream this is, `None` for all else (datagrams, vsock…).
    #[inline(always)]
    pub fn stream(self) -> Option<Stream> {
        if load::<u16>(self.0, offset!(sock_type)) != SOCK_STREAM {
            return None;
        }
        match self.family() {
            AF_INET | AF_INET6 => match load::<u16>(self.0, offset!(sock_protocol)) {
                IPPROTO_TCP => Some(Stream::Tcp),
                IPPROTO_MPTCP if offset!(mptcp_write_seq) as u32 != MISSING => Some(Stream::Mptcp),
                _ => None,
            },
            AF_UNIX => Some(Stream::Unix),
            _ => None,
        }
    }

    /// A datagram socket of the internet families.
    #[inline(always)]
    pub fn is_datagram(self) -> bool {
        load::<u16>(self.0, offset!(sock_type)) == SOCK_DGRAM && self.is_inet()
    }

    /// IPv4 or IPv6.
    #[inline(always)]
    pub fn is_inet(self) -> bool {
        matches!(self.family(), AF_INET | AF_INET6)
    }

    /// `IPPROTO_…`.
    #[inline(always)]
    pub fn protocol(self) -> u16 {
        load(self.0, offset!(sock_protocol))
    }

    /// Local port, host byte order, also of a socket that has been closed: its number has gone back
    /// by then.
    #[inline(always)]
    pub fn local_port(self) -> u16 {
        u16::from_be(probe_field(self.0 as u64, offset!(inet_sport)))
    }

    #[inline(always)]
    pub fn family(self) -> u16 {
        load(self.0, offset!(sock_family))
    }

    #[inline(always)]
    pub fn state(self) -> u8 {
        load(self.0, offset!(sock_state))
    }

    /// `sk_err`, a positive errno or 0.
    #[inline(always)]
    pub fn error(self) -> u32 {
        load(self.0, offset!(sock_err))
    }

    /// The peer sends no more.
    #[inline(always)]
    pub fn ended(self) -> bool {
        load::<u8>(self.0, offset!(sock_shutdown)) & RCV_SHUTDOWN != 0
    }

    /// TCP: the peer's FIN was received.
    #[inline(always)]
    pub fn fin_received(self) -> bool {
        load::<u64>(self.0, offset!(sock_flags)) & SOCK_DONE != 0
    }

    /// Nothing waits to be received.
    #[inline(always)]
    pub fn drained(self) -> bool {
        load::<u32>(self.0, offset!(sock_receive_queue_len)) == 0
    }

    /// Socket cookie, made at the first call; without types 0 where nobody has made it.
    #[inline(always)]
    pub fn cookie(self) -> u64 {
        if crate::UNTYPED {
            return load(self.0, offset!(sock_cookie));
        }
        // SAFETY: the verifier checks that this is a socket.
        unsafe { bpf_get_socket_cookie(self.0.cast_mut().cast()) }
    }

    /// The same of one that may be known by its address only; 0 while it has none.
    #[inline(always)]
    pub fn known_cookie(self) -> u64 {
        load(self.0, offset!(sock_cookie))
    }

    /// Address of the `struct file` that user space holds the socket by, 0 when there is none.
    #[inline(always)]
    pub fn file(self) -> u64 {
        let socket: *const u8 = load(self.0, offset!(sock_sk_socket));
        if socket.is_null() { 0 } else { load(socket, offset!(socket_file)) }
    }

    /// Local and remote port, host byte order.
    #[inline(always)]
    pub fn ports(self) -> (u16, u16) {
        let remote: u16 = load(self.0, offset!(sock_dport));
        (load(self.0, offset!(sock_num)), u16::from_be(remote))
    }

    /// Local and remote address, IPv4 as IPv4-mapped.
    #[inline(always)]
    pub fn addresses(self) -> ([u64; 2], [u64; 2]) {
        if self.family() == AF_INET {
            let local: u32 = load(self.0, offset!(sock_rcv_saddr));
            let remote: u32 = load(self.0, offset!(sock_daddr));
            return (mapped(local), mapped(remote));
        }
        let base = self.0 as u64;
        (probe_field(base, offset!(sock_v6_rcv_saddr)), probe_field(base, offset!(sock_v6_daddr)))
    }

    /// Inode number of the network namespace.
    #[inline(always)]
    pub fn netns(self) -> u32 {
        let net: *const u8 = load(self.0, offset!(sock_net));
        load(net, offset!(net_ns_inum))
    }

    /// As TCP, which it is: [`Stream::Tcp`].
    #[inline(always)]
    pub fn tcp(self) -> Option<Tcp> {
        if crate::UNTYPED {
            return Some(Tcp(self.0));
        }
        if enabled(feature::CAST) {
            return Some(Tcp(cast(self.0 as u64, offset!(type_tcp_sock))));
        }
        // SAFETY: the verifier checks that this is a socket.
        let tcp = unsafe { bpf_skc_to_tcp_sock(self.0.cast_mut().cast()) } as *const u8;
        if tcp.is_null() { None } else { Some(Tcp(tcp)) }
    }

    /// MPTCP: sequence number of the next byte to be sent.
    #[inline(always)]
    pub fn mptcp_next_sent(self) -> u64 {
        probe_field(self.0 as u64, offset!(mptcp_write_seq))
    }

    /// MPTCP: sequence number of the next byte expected.
    #[inline(always)]
    pub fn mptcp_next_received(self) -> u64 {
        probe_field(self.0 as u64, offset!(mptcp_ack_seq))
    }

    /// MPTCP: sequence number of the first byte ever received; 0 where the kernel does not tell.
    #[inline(always)]
    pub fn mptcp_first_received(self) -> u64 {
        if offset!(mptcp_bytes_received) as u32 == MISSING {
            return 0;
        }
        let received: u64 = probe_field(self.0 as u64, offset!(mptcp_bytes_received));
        self.mptcp_next_received().wrapping_sub(received)
    }

    /// MPTCP: bytes that the program has read, where the kernel counts them.
    #[inline(always)]
    pub fn mptcp_read(self) -> Option<u64> {
        let known = offset!(mptcp_bytes_consumed) as u32 != MISSING;
        known.then(|| probe_field(self.0 as u64, offset!(mptcp_bytes_consumed)))
    }

    /// Unix: cookie of the peer, 0 while it has none.
    #[inline(always)]
    pub fn peer_cookie(self) -> u64 {
        let peer = self.peer();
        if crate::UNTYPED {
            return if peer == 0 {
                0
            } else {
                crate::socket::known_cookie(Sock(peer as *const u8))
            };
        }
        if peer == 0 { 0 } else { probe_field(peer, offset!(sock_cookie)) }
    }

    /// Unix: address of the peer, 0 while it has none.
    #[inline(always)]
    pub fn peer(self) -> u64 {
        if crate::UNTYPED {
            return load(self.0, offset!(unix_peer));
        }
        // SAFETY: the verifier checks that this is a socket.
        let unix = unsafe { bpf_skc_to_unix_sock(self.0.cast_mut().cast()) } as *const u8;
        if unix.is_null() { 0 } else { load(unix, offset!(unix_peer)) }
    }

    /// Unix: copies the path (own, else the peer's) to `to`; gives its length.
    #[inline(always)]
    pub fn path(self, to: *mut u8) -> u32 {
        let own = copy_path(self.0 as u64, to);
        if own > 0 {
            return own;
        }
        let peer = self.peer();
        if peer == 0 { 0 } else { copy_path(peer, to) }
    }
}

/// `::ffff:a.b.c.d`.
#[inline(always)]
fn mapped(address: u32) -> [u64; 2] {
    [0, (u64::from(address) << 32) | 0xffff_0000]
}

/// Room for a path: `sizeof(sun_path)`.
pub const PATH_LEN: usize = 108;

/// `sizeof(sa_family_t)`, in front of `sun_path`.
const FAMILY_LEN: u32 = 2;

#[inline(always)]
fn copy_path(unix_sock: u64, to: *mut u8) -> u32 {
    let address: u64 = probe_field(unix_sock, offset!(unix_addr));
    if address == 0 {
        return 0;
    }
    let len: u32 = probe_field(address, offset!(unix_address_len));
    let name = address + offset!(unix_address_name) + u64::from(FAMILY_LEN);
    let len = u64::from(len.saturating_sub(FAMILY_LEN));
    let Some(len) = super::user::bounded(len, PATH_LEN as i64) else { return 0 };
    // SAFETY: `to` has room for PATH_LEN bytes, the helper copies fault-free.
    let copied = unsafe { bpf_probe_read_kernel(to.cast(), len, name as *const _) };
    if copied == 0 { len } else { 0 }
}

impl Tcp {
    /// Address of the protocol that was put upon it (`struct tcp_ulp_ops`), and of what it keeps; 0
    /// without one. As numbers: one is reckoned with.
    #[inline(always)]
    pub fn upper(self) -> (u64, u64) {
        let base = self.0 as u64;
        (probe_field(base, offset!(tcp_ulp_ops)), probe_field(base, offset!(tcp_ulp_data)))
    }

    /// There is a protocol upon it.
    #[inline(always)]
    pub fn has_upper(self) -> bool {
        load::<u64>(self.0, offset!(tcp_ulp_ops)) != 0
    }

    /// Sequence number of the next byte that a send will queue.
    #[inline(always)]
    pub fn write_seq(self) -> u32 {
        load(self.0, offset!(tcp_write_seq))
    }

    /// Sequence number of the next byte that the program will read.
    #[inline(always)]
    pub fn copied_seq(self) -> u32 {
        load(self.0, offset!(tcp_copied_seq))
    }

    /// Sequence number of the next byte expected from the network.
    #[inline(always)]
    pub fn rcv_nxt(self) -> u32 {
        load(self.0, offset!(tcp_rcv_nxt))
    }

    /// Payload bytes sent, those sent again included.
    #[inline(always)]
    pub fn bytes_sent(self) -> u64 {
        load(self.0, offset!(tcp_bytes_sent))
    }

    /// Payload bytes received, a FIN as one.
    #[inline(always)]
    pub fn bytes_received(self) -> u64 {
        load(self.0, offset!(tcp_bytes_received))
    }

    /// Payload bytes sent again.
    #[inline(always)]
    pub fn bytes_retransmitted(self) -> u64 {
        load(self.0, offset!(tcp_bytes_retrans))
    }

    /// Segments sent.
    #[inline(always)]
    pub fn segments_out(self) -> u32 {
        load(self.0, offset!(tcp_segs_out))
    }

    /// Segments received.
    #[inline(always)]
    pub fn segments_in(self) -> u32 {
        load(self.0, offset!(tcp_segs_in))
    }

    /// Segments with payload sent.
    #[inline(always)]
    pub fn data_segments_out(self) -> u32 {
        load(self.0, offset!(tcp_data_segs_out))
    }

    /// Segments with payload received.
    #[inline(always)]
    pub fn data_segments_in(self) -> u32 {
        load(self.0, offset!(tcp_data_segs_in))
    }

    /// Segments sent again.
    #[inline(always)]
    pub fn retransmits(self) -> u32 {
        load(self.0, offset!(tcp_total_retrans))
    }

    /// Eight times the smoothed round-trip time, µs.
    #[inline(always)]
    pub fn srtt(self) -> u32 {
        load(self.0, offset!(tcp_srtt_us))
    }

    /// Four times its mean deviation, µs.
    #[inline(always)]
    pub fn mdev(self) -> u32 {
        load(self.0, offset!(tcp_mdev_us))
    }

    /// Window that the peer offers, bytes.
    #[inline(always)]
    pub fn send_window(self) -> u32 {
        load(self.0, offset!(tcp_snd_wnd))
    }

    /// Time for which the peer's window held sending up, jiffies: `chrono_stat` of
    /// `TCP_CHRONO_RWND_LIMITED` (include/linux/tcp.h), which is the second.
    #[inline(always)]
    pub fn window_limited(self) -> u32 {
        load(self.0, offset!(tcp_chrono_stat) + 4)
    }
}
