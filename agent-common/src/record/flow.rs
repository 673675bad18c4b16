//! Conversations over TCP and UDP, and the names of their ends.

use super::Header;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bits of [`Flow::signs`].
pub mod sign {
    /// This end sent a reset.
    pub const RESET_SENT: u8 = 1 << 0;
    /// The peer sent one.
    pub const RESET_RECEIVED: u8 = 1 << 1;
    /// The peer's FIN was received: the kernel has counted it as a byte.
    pub const FIN_RECEIVED: u8 = 1 << 2;
}

/// A TCP or UDP socket with a peer, as it stands. Written to the flow ring when a TCP conversation
/// ends, and by the iterator for those that live.
///
/// The header names the process that used it first, as far as it is known (else 0): in the iterator,
/// a process that holds it. Numbers of TCP are those of `struct tcp_sock`, which `TCP_INFO` shows.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
pub struct Flow {
    /// Common part.
    pub header: Header,
    /// Socket cookie.
    pub cookie: u64,
    /// When the connection was begun here, or accepted; boot-time ns, 0 for one older than the agent.
    pub first_ns: u64,
    /// When it was established; boot-time ns, 0 when unknown or never.
    pub established_ns: u64,
    /// Payload bytes sent, those sent again included.
    pub bytes_sent: u64,
    /// Payload bytes received. The kernel counts a FIN as one.
    pub bytes_received: u64,
    /// Payload bytes sent again.
    pub bytes_retransmitted: u64,
    /// Local address, IPv4 as IPv4-mapped.
    pub local_addr: [u8; 16],
    /// Remote address, IPv4 as IPv4-mapped.
    pub remote_addr: [u8; 16],
    /// Local port, host byte order.
    pub local_port: u16,
    /// Remote port, host byte order.
    pub remote_port: u16,
    /// AF_INET 2, AF_INET6 10.
    pub family: u16,
    /// 6 TCP, 17 UDP.
    pub protocol: u16,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Segments sent, without payload as well.
    pub segments_out: u32,
    /// Segments received, without payload as well.
    pub segments_in: u32,
    /// Segments with payload sent.
    pub data_segments_out: u32,
    /// Segments with payload received.
    pub data_segments_in: u32,
    /// Segments sent again, SYN included.
    pub retransmits: u32,
    /// `srtt_us`: eight times the smoothed round-trip time, µs.
    pub srtt_us: u32,
    /// `mdev_us`: four times the round-trip time's mean deviation, µs.
    pub mdev_us: u32,
    /// `sk_err` at the end: errno, 0 for an orderly end.
    pub error: u32,
    /// Time for which the peer's receive window held sending up, jiffies.
    pub window_limited: u32,
    /// Window that the peer last offered, bytes.
    pub send_window: u32,
    /// TCP state (include/net/tcp_states.h); after the end, 7.
    pub state: u8,
    /// State before the end; alive, 0.
    pub old_state: u8,
    /// One of [`super::role`].
    pub role: u8,
    /// Bits of [`sign`].
    pub signs: u8,
}

/// Longest DNS answer that is captured: what resolvers ask for at most over UDP (RFC 9715, section 3.2,
/// and DNS flag day 2020: 1232 bytes), a little rounded.
pub const DNS_LEN: usize = 1280;

/// A DNS answer: a UDP datagram from port 53. Followed by its first `captured_len` bytes.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
pub struct DnsAnswer {
    /// Common part: the process that asked.
    pub header: Header,
    /// Socket cookie.
    pub cookie: u64,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Explicit padding, 0.
    pub pad: u32,
}

/// Key of the map of UDP conversations.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
pub struct DatagramKey {
    /// Socket cookie.
    pub cookie: u64,
    /// Remote address, IPv4 as IPv4-mapped; all 0 when it could not be told.
    pub remote_addr: [u8; 16],
    /// Remote port, host byte order.
    pub remote_port: u32,
    /// Explicit padding, 0.
    pub pad: u32,
}

/// Value of the map of UDP conversations: what one socket exchanged with one peer.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
pub struct Datagrams {
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// Messages sent.
    pub sent: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Messages received.
    pub received: u64,
    /// First message, boot-time ns.
    pub first_ns: u64,
    /// Latest message, boot-time ns.
    pub last_ns: u64,
    /// Start of the process that made it, boot-time ns.
    pub start_ns: u64,
    /// That process.
    pub tgid: u32,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Local address, IPv4 as IPv4-mapped.
    pub local_addr: [u8; 16],
    /// Local port, host byte order.
    pub local_port: u16,
    /// AF_INET 2, AF_INET6 10.
    pub family: u16,
    /// 1 when the first message was sent, 2 when it was received.
    pub began: u32,
}
