//! Every map on one page: key, value, size and why that size. The loader resizes what the
//! configuration names.

use agent_common::{
    counter,
    record::{DatagramKey, Datagrams},
    runtime::{GoProcess, PROCESSORS, Publisher},
    settings::{InKernelUser, PageBases, PageTest},
    tls::RustProcess,
};
use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::SkStorage,
    macros::{btf_map, map},
    maps::{Array, CgroupArray, HashMap, LruHashMap, PerCpuArray, RingBuf},
};

use crate::{
    kernel::{packet::Found, user::BEHIND},
    probes::{FlowState, payload::work::Work},
    rust_tls::{Maker, ROOMS, Received, RustCall, RustObject, Waiting},
    socket::SocketState,
    tls::{ObjectKey, OpenCall, TlsSocket, WireKey},
    tls_go::{GoCall, GoCallKey},
};

/// Processes and security events. 1 MiB holds about 2,000 execs: more than any poll interval sees.
#[map]
pub static PROCESS_RING: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Payload, ring 1. 8 MiB holds 20 ms of the highest rate measured (425 KB/ms of 4 KiB slots), four
/// times what comes between two looks; resized by `--ring-size`.
#[map]
pub static PAYLOAD_RING_1: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// Payload, ring 2. The loader gives the rings in use the size of the first; the others keep a page.
#[map]
pub static PAYLOAD_RING_2: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Payload, ring 3.
#[map]
pub static PAYLOAD_RING_3: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Payload, ring 4.
#[map]
pub static PAYLOAD_RING_4: RingBuf = RingBuf::with_byte_size(4096, 0);

/// 1 where the reader of a payload ring sleeps until it is woken: ring 1 first.
#[map]
pub static SLEEPERS: Array<u32> =
    Array::with_max_entries(agent_common::settings::MAX_PAYLOAD_RINGS, 0);

/// State of each observed socket. Lives and dies with the socket.
#[btf_map]
pub static SOCKETS: SkStorage<SocketState> = SkStorage::new();

/// The same by the socket's address, where there is no socket storage; else one entry. 64k sockets are
/// 16 MB. LRU: an entry whose end was missed makes room in time, and beyond the bound the socket that
/// was silent for longest is forgotten, never memory.
#[map]
pub static SOCKETS_BY_ADDRESS: LruHashMap<u64, SocketState> =
    LruHashMap::with_max_entries(if crate::UNTYPED { 65_536 } else { 1 }, 0);

/// The state of a new socket: 0. Never written.
#[map]
pub static BLANK_SOCKET: Array<SocketState> = Array::with_max_entries(1, 0);

/// Calls that a kprobe saw begin, by thread and function. LRU, so that a thread killed inside, or an end
/// that the kernel does not show, cannot leak its entry; as many as threads wait in a receive at once.
#[map]
pub static CALLS: LruHashMap<u64, BegunCall> =
    LruHashMap::with_max_entries(if crate::UNTYPED { 32_768 } else { 1 }, 0);

/// Counters and sequence numbers by [`agent_common::counter`] index: one bank a CPU, found at once.
#[map]
pub static COUNTERS: PerCpuArray<[u64; counter::COUNT as usize]> =
    PerCpuArray::with_max_entries(1, 0);

/// Verdicts from userspace by socket cookie. LRU: a verdict lost to its bound costs records that
/// userspace drops again, never memory.
#[map]
pub static VERDICTS: LruHashMap<u64, u32> = LruHashMap::with_max_entries(16_384, 0);

/// One number that userspace raises with each verdict: sockets look into [`VERDICTS`] only when it
/// has changed since they last did.
#[map]
pub static VERDICT_GENERATION: Array<u32> = Array::with_max_entries(1, 0);

/// Processes to watch or to leave out, by tgid. Sized to 1 when no filter is set. With room for all
/// from the start: before 6.1 the kernel warns of anything else in its log, where probes of libraries use it.
#[map]
pub static PROCESSES: HashMap<u32, u8> = HashMap::with_max_entries(32_768, 0);

/// How often [`PROCESSES`] was changed, by [`agent_common::settings::process_generation`]: each number
/// is raised after a change.
#[map]
pub static PROCESS_GENERATION: Array<u64> =
    Array::with_max_entries(agent_common::settings::process_generation::COUNT, 0);

/// How many of 2^32 requests are shed because the CPU budget is spent; set by userspace.
#[map]
pub static BUDGET: Array<u32> = Array::with_max_entries(1, 0);

/// What each process may begin, and how much of it was shed, by tgid. LRU: a process that is
/// forgotten begins anew with a full bucket.
#[map]
pub static ALLOWANCES: LruHashMap<u32, Allowance> = LruHashMap::with_max_entries(4096, 0);

/// The cgroup of `--cgroup`.
#[map]
pub static CGROUP: CgroupArray = CgroupArray::with_max_entries(1, 0);

/// Addresses of the agent's own connections, seen from the other end: that end is muted as well.
#[map]
pub static AGENT_PEERS: LruHashMap<ConnectionKey, u8> = LruHashMap::with_max_entries(256, 0);

/// When a thread's send on a unix socket first woke the peer, by thread. LRU, so that a thread
/// killed in between cannot leak its entry.
#[map]
pub static UNIX_SENDS: LruHashMap<u64, UnixSend> = LruHashMap::with_max_entries(4096, 0);

/// How far each thread is in its sendmmsg or recvmmsg. LRU, so that a thread killed in the middle
/// cannot leak its entry; far more than threads that are in such a call at once.
#[map]
pub static MESSAGES: LruHashMap<u64, Progress> = LruHashMap::with_max_entries(4096, 0);

/// The TLS library's call that each thread is or was in last. LRU, as [`MESSAGES`].
#[map]
pub static TLS_CALLS: LruHashMap<u64, OpenCall> = LruHashMap::with_max_entries(8192, 0);

/// The call of Go's `crypto/tls` that each goroutine is or was in last. LRU: of one that waits for longest in
/// a read and leaves, the rest is seen when it goes on. Where far more wait than there is room for, calls under way
/// leave as well, which is counted. Sized by `--max-memory`: 128 bytes each.
#[map]
pub static TLS_GO_CALLS: LruHashMap<GoCallKey, GoCall> = LruHashMap::with_max_entries(8192, 0);

/// The socket (cookie) of each TLS object. As [`TLS_SOCKETS`]: what finds no room is counted, and found again
/// with the next bytes; userspace takes out objects without a socket.
#[map]
pub static TLS_OBJECTS: HashMap<ObjectKey, u64> =
    HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);

/// Plaintext streams of sockets, by cookie. Not LRU: streams that begin anew in the middle are wrong, those that
/// find no room only counted. A closed socket's go; those whose end was missed userspace takes out when room is
/// needed. Memory is taken as it fills (128 bytes each, and 16 for each entry there may be); before 6.1, where
/// that is not safe here, the loader has all of it taken at once. Sized by `--max-memory`.
#[map]
pub static TLS_SOCKETS: HashMap<u64, TlsSocket> =
    HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);

/// Ciphertext in buffers of programs, not sent yet, with its TLS object.
#[map]
pub static TLS_WIRE: LruHashMap<WireKey, u64> = LruHashMap::with_max_entries(4096, 0);

/// What userspace is told of TLS: one place for each of [`agent_common::tls::note`].
#[map]
pub static TLS_NOTES: Array<u32> = Array::with_max_entries(agent_common::tls::note::COUNT, 0);

/// Processes that use rustls, by tgid. LRU: one that leaves is entered again by its next call.
#[map]
pub static RUST_PROCESSES: LruHashMap<u32, RustProcess> = LruHashMap::with_max_entries(1024, 0);

/// The method of rustls that each thread is or was in last. LRU, as [`MESSAGES`]; such programs have about as
/// many threads as processors.
#[map]
pub static RUST_CALLS: LruHashMap<u64, RustCall> = LruHashMap::with_max_entries(1024, 0);

/// Encrypters and decrypters of rustls: two a connection.
#[map]
pub static RUST_OBJECTS: LruHashMap<ObjectKey, RustObject> =
    LruHashMap::with_max_entries(16_384, 0);

/// Where each thread of such a process received ciphertext last.
#[map]
pub static RUST_RECEIVED: LruHashMap<u64, Received> = LruHashMap::with_max_entries(1024, 0);

/// A new entry of it: 0. Never written.
#[map]
pub static RUST_BLANK: Array<Received> = Array::with_max_entries(1, 0);

/// Records that such a process has made and not sent yet, with who made them.
#[map]
pub static RUST_WIRE: LruHashMap<WireKey, Maker> = LruHashMap::with_max_entries(2048, 0);

/// Plaintext that waits for the first record of its connection to be sent, or for being written. Taken
/// in turn: far more than threads are between encrypting and sending at once.
#[map]
pub static RUST_ROOMS: Array<Waiting> = Array::with_max_entries(ROOMS, 0);

/// How many of them were taken.
#[map]
pub static RUST_TAKEN: Array<u64> = Array::with_max_entries(1, 0);

/// Where pages lie; found out by userspace.
#[map]
pub static PAGE_BASES: Array<PageBases> = Array::with_max_entries(1, 0);

/// How it finds out.
#[map]
pub static PAGE_TEST: Array<PageTest> = Array::with_max_entries(1, 0);

/// Bytes that a thread's receive took from packets. LRU: a thread keeps its entry for its next
/// receive; 64 of them are 530 kB. Sized to 1 where packets are not shown.
#[map]
pub static TAKEN: LruHashMap<u64, Taken> = LruHashMap::with_max_entries(64, 0);

/// Tells userspace of processes that have use for packets: their numbers, 32 bits each.
#[map]
pub static NOTICES: RingBuf = RingBuf::with_byte_size(4096, 0);

/// [`agent_common::settings::packets_state`]: written by both sides.
#[map]
pub static PACKETS_STATE: Array<u32> = Array::with_max_entries(1, 0);

/// Processes with calls that no registers explain, by tgid. LRU: named are those of late.
#[map]
pub static IN_KERNEL_USERS: LruHashMap<u32, InKernelUser> = LruHashMap::with_max_entries(1024, 0);

/// Programs in Go that run, by tgid. A host runs tens.
#[map]
pub static GO_PROCESSES: HashMap<u32, GoProcess> = HashMap::with_max_entries(1024, 0);

/// Processes that publish trace contexts by thread, by tgid. As [`GO_PROCESSES`]; servers with many
/// workers fork them.
#[map]
pub static PUBLISHERS: HashMap<u32, Publisher> = HashMap::with_max_entries(4096, 0);

/// How often a program was entered into [`GO_PROCESSES`] or [`PUBLISHERS`]: while it is 0 nobody asks
/// further. The second number is always 0, which the verifier cannot know.
#[map]
pub static GO_GENERATION: Array<u32> = Array::with_max_entries(2, 0);

/// What was known of a goroutine's program when it began to read a request: by goroutine. LRU: one that
/// leaves costs the links of what that goroutine makes. Twice the connections that a busy host serves.
#[map]
pub static GO_SERVING: LruHashMap<Goroutine, Numbers> = LruHashMap::with_max_entries(4096, 0);

/// The goroutine that asked last on a connection of `net/http`'s client (its `*persistConn`). LRU:
/// one that leaves costs the link of one request.
#[map]
pub static GO_CALLERS: LruHashMap<GoConnection, Caller> = LruHashMap::with_max_entries(4096, 0);

/// Room to gather scattered buffers, per CPU and program: programs of one CPU may interrupt each
/// other, but none itself. Twice the largest class, because the verifier bounds offset and length
/// apart from each other; and as long as an entry of [`TAKEN`], which begins as a copy of one.
#[map]
pub static SCRATCH: PerCpuArray<[u8; SCRATCH_LEN]> =
    PerCpuArray::with_max_entries(SCRATCH_SLOTS, 0);

/// What is kept with each TCP conversation. Lives and dies with the socket.
#[btf_map]
pub static FLOWS: SkStorage<FlowState> = SkStorage::new();

/// Ends of conversations and DNS answers. A ring of its own: thousands of short conversations must
/// cost neither a security event nor a byte of a stream. The loader gives it 1 MiB where flows are
/// on: 4,500 ends.
#[map]
pub static FLOW_RING: RingBuf = RingBuf::with_byte_size(4096, 0);

/// UDP conversations by socket and peer. LRU: what is evicted is counted by userspace, as the
/// difference to those begun. Sized to 1 when flows are off.
#[map]
pub static DATAGRAMS: LruHashMap<DatagramKey, Datagrams> = LruHashMap::with_max_entries(1, 0);

/// The address of the message that a thread is just sending or has just received. LRU, so that a
/// thread that ends cannot leak its entry.
#[map]
pub static PEERS: LruHashMap<u64, Peer> = LruHashMap::with_max_entries(1, 0);

/// See [`PEERS`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Peer {
    /// Cookie of the socket.
    pub cookie: u64,
    /// Address, IPv4 as IPv4-mapped.
    pub address: [u64; 2],
    /// Port, host byte order.
    pub port: u32,
    /// 1 once it has been counted with its message.
    pub used: u32,
}

/// What a program works on, per CPU and program: as [`SCRATCH`].
#[map]
pub static WORK: PerCpuArray<Work> = PerCpuArray::with_max_entries(SCRATCH_SLOTS, 0);

/// Length of one scratch room.
pub const SCRATCH_LEN: usize = ROOM + BEHIND;
// An entry of TAKEN begins as a copy of a room.
const _: () = assert!(size_of::<Taken>() <= SCRATCH_LEN);
/// Bytes to gather in.
pub const ROOM: usize = 2 * agent_common::settings::MAX_CAPTURE as usize;
/// Number of programs that gather.
pub const SCRATCH_SLOTS: u32 = 12;

/// What the beginning of a call tells its end.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct BegunCall {
    /// Address of the `struct sock`.
    pub sock: u64,
    /// `MSG_…`; of a send 0.
    pub flags: u64,
}

/// What a receive in progress took from packets so far.
#[repr(C)]
pub struct Taken {
    /// Address of the socket that the packets are charged to.
    pub socket: u64,
    /// Address of the first packet, and the place in it.
    pub packet: u64,
    pub offset: u32,
    /// TCP: sequence number of the first byte.
    pub sequence: u32,
    /// Bytes that the receive took; 0 when nothing is noted.
    pub moved: u32,
    /// The first of them that are in the room.
    pub have: u32,
    /// Where in the packet its bytes go on.
    pub found: Found,
    pub room: [u8; ROOM],
}

/// When a thread's send first woke a unix socket.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct UnixSend {
    /// Cookie of the socket that was woken: a note for another one is left from a send that was
    /// not followed to its end (muted, filtered).
    pub receiver: u64,
    /// When.
    pub ns: u64,
}

/// One process's token bucket, and what was shed of it. Several CPUs may write at once: a token may
/// count twice, which is as good as a rate that is a little higher.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Allowance {
    /// Requests that it may begin now, in billionths.
    pub tokens: u64,
    /// When tokens were added last, boot-time ns.
    pub refilled_ns: u64,
    /// Requests shed.
    pub shed: u64,
    /// When userspace was told last, boot-time ns.
    pub told_ns: u64,
}

/// Both ends of a TCP connection, as one of its sockets sees them.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ConnectionKey {
    pub local_addr: [u64; 2],
    pub remote_addr: [u64; 2],
    pub local_port: u32,
    pub remote_port: u32,
}

/// Progress of a thread through an array of messages.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Progress {
    /// User address of the array.
    pub array: u64,
    /// Cookie of the socket.
    pub cookie: u64,
    /// Messages in the array.
    pub count: u32,
    /// Message that the next event belongs to.
    pub next: u32,
    /// Bytes that the message before it moved.
    pub moved: u32,
    /// 0 when `next` is not known.
    pub certain: u32,
}

/// A goroutine of a process.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Goroutine {
    pub tgid: u32,
    /// As records name it.
    pub number: u32,
}

/// A `*persistConn` of a process.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct GoConnection {
    pub tgid: u64,
    pub address: u64,
}

/// A goroutine that asks, and the one that made it (0: not known).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Caller {
    pub goid: u64,
    pub maker: u64,
}

/// Which numbers of goroutines were free at a moment.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Numbers {
    /// Those above were not given to any processor.
    pub given: u64,
    /// What each processor has left of them: the first, and how many; 0 where it is not known.
    pub next: [u32; PROCESSORS],
}
