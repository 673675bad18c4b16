//! Records, as they lie in a ring: a [`Header`], the fixed part of the kind, then `captured_len`
//! bytes. The slot in the ring may be longer (size classes): what lies behind is not part of it.

mod flow;

pub use flow::{DNS_LEN, DatagramKey, Datagrams, DnsAnswer, Flow, sign};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Version of this layout. A recording or a kernel object with another one is refused by name.
pub const VERSION: u8 = 1;

/// What a record reports: the value of [`Header::kind`].
///
/// Integers and not an enum: a byte from a ring or a file may hold anything.
pub mod kind {
    /// A socket seen for the first time, or again with more known: [`super::Connection`].
    pub const CONNECTION: u8 = 1;
    /// Bytes moved by one send or receive: [`super::Payload`].
    pub const PAYLOAD: u8 = 2;
    /// A TCP connection that starts or finishes closing: [`super::Closing`].
    pub const CLOSING: u8 = 3;
    /// A new process or thread: [`super::Fork`].
    pub const FORK: u8 = 4;
    /// A new program in a process: [`super::Exec`].
    pub const EXEC: u8 = 5;
    /// A thread that ended: [`super::Exit`].
    pub const EXIT: u8 = 6;
    /// Requests of a process were shed: [`super::Shed`].
    pub const SHED: u8 = 14;
    /// The trace context that a thread has published: [`super::ThreadContext`].
    pub const THREAD_CONTEXT: u8 = 15;
    /// A conversation over TCP or UDP as it stands: [`super::Flow`].
    pub const FLOW: u8 = 9;
    /// A DNS answer that a program received: [`super::DnsAnswer`].
    pub const DNS_ANSWER: u8 = 10;
}

/// Bits of [`Header::flags`].
pub mod flag {
    /// Payload: the bytes moved but could not be read safely; `captured_len` is 0.
    pub const UNREACHABLE: u16 = 1 << 0;
    /// Payload: the peer closed its sending direction (a receive returned 0).
    pub const END: u16 = 1 << 1;
    /// Payload: the direction turned with this call (the previous call on the socket went the
    /// other way, or there was none).
    pub const TURN: u16 = 1 << 2;
    /// Payload: `first_ns` is the true time (first byte entered the socket, or became readable);
    /// without it, it is the time the call returned.
    pub const TRUE_FIRST: u16 = 1 << 3;
    /// Payload received: `last_ns` is the time the last byte became readable; without it, it is
    /// the time the call returned.
    pub const TRUE_LAST: u16 = 1 << 4;
    /// Positions are own byte counters from 0 (unix sockets), not TCP sequence numbers.
    pub const COUNTED: u16 = 1 << 5;
    /// Payload: the position was taken without the socket's lock and another thread was sending:
    /// it may be off by that thread's bytes.
    pub const RACED: u16 = 1 << 6;
    /// Fork: the new task is a thread of the same process.
    pub const THREAD: u16 = 1 << 7;
    /// Exit: the last thread of the process ended.
    pub const LAST_THREAD: u16 = 1 << 8;
    /// Closing: this end closed first or second (a FIN goes out).
    pub const LOCAL_END: u16 = 1 << 9;
    /// Closing: the socket reached TCP_CLOSE: nothing follows on this cookie.
    pub const CLOSED: u16 = 1 << 10;
    /// Exec: the argument block was longer than what was captured.
    pub const TRUNCATED: u16 = 1 << 11;
    /// Payload and what goes before it: its call returned when the closing record was written already. A program
    /// may send as the connection is reset, or read later what came before; nothing says once more that it is over.
    pub const AFTER_CLOSE: u16 = 1 << 12;
    /// Payload: plaintext of a TLS library that travels encrypted on this socket. Its positions are own
    /// counters ([`COUNTED`]): from 0 where the library was watched from the handshake on, else from a
    /// number that no other connection begins at.
    pub const PLAINTEXT: u16 = 1 << 14;
    /// Payload: a [`super::ThreadContext`] of the same socket, thread and time went before it.
    pub const PUBLISHED: u16 = 1 << 15;
    /// Payload and closing: whole requests before this one were shed on purpose. The bytes of both
    /// directions up to here are theirs, and not lost.
    pub const SHED: u16 = 1 << 7;
}

/// Direction of a payload record, seen from the watched program.
pub mod direction {
    /// The program sent.
    pub const SEND: u8 = 0;
    /// The program received.
    pub const RECEIVE: u8 = 1;
}

/// How a socket came to be connected: [`Connection::role`].
pub mod role {
    /// Older than the agent, or not observable (unix).
    pub const UNKNOWN: u8 = 0;
    /// This end called connect.
    pub const CONNECTED: u8 = 1;
    /// This end was accepted.
    pub const ACCEPTED: u8 = 2;
}

/// First bytes of every record. 48 bytes.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
pub struct Header {
    /// [`VERSION`].
    pub version: u8,
    /// One of [`kind`].
    pub kind: u8,
    /// One of [`direction`] (payload only, else 0).
    pub direction: u8,
    /// Explicit padding, 0.
    pub pad: u8,
    /// Bits of [`flag`].
    pub flags: u16,
    /// CPU that wrote the record.
    pub cpu: u16,
    /// Number of this record among all that this CPU tried to write to this ring, from 0. A gap
    /// is a lost record.
    pub seq: u64,
    /// `CLOCK_BOOTTIME` when the hook ran, ns.
    pub boot_ns: u64,
    /// Process, in the initial pid namespace.
    pub tgid: u32,
    /// Thread, in the initial pid namespace.
    pub tid: u32,
    /// Start of the process (its group leader) on the boot-time clock, ns. With `tgid` it names a
    /// process for good.
    pub start_ns: u64,
    /// Bytes the call moved (payload), or the true length of what was captured in part (exec).
    pub total_len: u32,
    /// Bytes that follow the fixed part.
    pub captured_len: u32,
}

/// Bytes moved by one call. Followed by the first `captured_len` of them.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
pub struct Payload {
    /// Common part; `total_len` is what the call returned.
    pub header: Header,
    /// Socket cookie.
    pub cookie: u64,
    /// Stream position of the first byte of the call. TCP: the low 32 bits are the raw sequence
    /// number.
    pub position: u64,
    /// Position of the opposite direction when the hook ran: for a send, the next byte to be
    /// received; for a receive, the next byte to be sent.
    pub opposite: u64,
    /// Send: when the first byte entered the socket. Receive: when the first byte became readable.
    pub first_ns: u64,
    /// Receive: when the last byte became readable. Send: equal to `first_ns`.
    pub last_ns: u64,
    /// Runtime context, 0 when there is none: see [`crate::runtime`].
    pub context: u64,
}

/// The trace context that a thread had published when it began to send a request (OTEP 4947). Written
/// only where there is one, before the record of that send, which says so ([`flag::PUBLISHED`]): both have
/// the same socket, thread and time.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
pub struct ThreadContext {
    /// Common part; of its flags [`flag::PLAINTEXT`] as in that record.
    pub header: Header,
    /// Socket cookie.
    pub cookie: u64,
    /// As published, never 0.
    pub trace_id: [u8; 16],
    /// As published, never 0.
    pub span_id: [u8; 8],
    /// W3C trace flags as published.
    pub trace_flags: u8,
    /// Explicit padding, 0.
    pub pad: [u8; 7],
}

/// Who talks to whom on one socket.
///
/// IPv4 addresses are IPv4-mapped (`::ffff:a.b.c.d`), so that one layout serves both families.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
pub struct Connection {
    /// Common part. Followed by the bytes of a unix socket's path (`captured_len`): its own or,
    /// where it has none, its peer's. An abstract name begins with a NUL byte.
    pub header: Header,
    /// Socket cookie.
    pub cookie: u64,
    /// Unix: cookie of the peer socket, 0 while unknown. TCP: 0.
    pub peer_cookie: u64,
    /// Position of the next byte to be sent.
    pub send_position: u64,
    /// Position of the next byte to be received.
    pub receive_position: u64,
    /// Local address.
    pub local_addr: [u8; 16],
    /// Remote address.
    pub remote_addr: [u8; 16],
    /// Local port, host byte order.
    pub local_port: u16,
    /// Remote port, host byte order.
    pub remote_port: u16,
    /// AF_INET 2, AF_INET6 10, AF_UNIX 1.
    pub family: u16,
    /// One of [`role`].
    pub role: u8,
    /// Explicit padding, 0.
    pub pad: u8,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Explicit padding, 0.
    pub pad2: u32,
}

/// A TCP socket that starts to close (`LOCAL_END`), or is closed (`CLOSED`).
///
/// May run in an interrupt: `tgid`, `tid` and `start_ns` are 0.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
pub struct Closing {
    /// Common part.
    pub header: Header,
    /// Socket cookie.
    pub cookie: u64,
    /// Position of the next byte to be sent.
    pub send_position: u64,
    /// Position of the next byte to be received.
    pub receive_position: u64,
    /// `sk_err`: 104 ECONNRESET, 110 ETIMEDOUT, 32 EPIPE, 0 for an orderly end.
    pub error: u32,
    /// TCP state before.
    pub old_state: u8,
    /// TCP state after.
    pub new_state: u8,
    /// Explicit padding, 0.
    pub pad: [u8; 2],
}

/// Requests of the process that the header names were shed: it may work for some that nobody saw.
/// Written at most once in [`SHED_REPEAT_NS`] while it goes on.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
pub struct Shed {
    /// Common part: the thread whose call began the request.
    pub header: Header,
    /// Requests of this process that were shed so far.
    pub requests: u64,
}

/// See [`Shed`]: often enough for a doubt that lasts a second, rare enough to cost nothing.
pub const SHED_REPEAT_NS: u64 = 100_000_000;

/// A new task. The header names the parent.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
pub struct Fork {
    /// Common part: the thread that forked.
    pub header: Header,
    /// Process of the new task.
    pub child_tgid: u32,
    /// The new task.
    pub child_tid: u32,
    /// Start of the child's process, boot-time ns.
    pub child_start_ns: u64,
}

/// Longest file name in an [`Exec`], with its NUL.
pub const FILENAME_LEN: usize = 256;

/// A new program. Followed by the argument block: NUL-terminated strings, the first `captured_len`
/// of `total_len` bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, Immutable, IntoBytes, KnownLayout)]
pub struct Exec {
    /// Common part: the process after the exec.
    pub header: Header,
    /// Cgroup v2 id.
    pub cgroup: u64,
    /// Parent process.
    pub parent_tgid: u32,
    /// Real user.
    pub uid: u32,
    /// Effective user.
    pub euid: u32,
    /// Real group.
    pub gid: u32,
    /// Thread that called exec, before it became the leader.
    pub old_tid: u32,
    /// Inode number of the pid namespace, 0 when unknown.
    pub pidns: u32,
    /// Start of the parent process, boot-time ns.
    pub parent_start_ns: u64,
    /// Task name.
    pub comm: [u8; 16],
    /// Path as given to exec, NUL-terminated, cut at the array's end.
    pub filename: [u8; FILENAME_LEN],
}

/// A task that ended. The header names it.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
pub struct Exit {
    /// Common part.
    pub header: Header,
    /// `task->exit_code`: wait status.
    pub code: u32,
    /// Explicit padding, 0.
    pub pad: u32,
}
