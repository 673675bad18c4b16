//! What userspace tells the kernel side.
//!
//! [`Settings`] and [`Offsets`] become constants in the code: see [`OFFSET_MARK`].

mod offsets;

pub use offsets::{MISSING, OFFSET_COUNT, Offsets};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Longest payload of one record: the largest size class.
pub const MAX_CAPTURE: u32 = 4096;

/// Bits of [`Settings::features`].
pub mod feature {
    /// `tcp_sendmsg_locked` is attached: true send times and raced positions are known.
    pub const SEND_TIME: u32 = 1 << 0;
    /// `sk_data_ready` is attached: arrival times are known.
    pub const ARRIVAL: u32 = 1 << 1;
    /// The process map [`super::process_verdict`] is in use.
    pub const PROCESS_FILTER: u32 = 1 << 2;
    /// The process map lists what to watch (else: what to leave out).
    pub const PROCESS_ALLOW_LIST: u32 = 1 << 3;
    /// Only the ports in [`super::Settings::ports`] are watched.
    pub const PORT_FILTER: u32 = 1 << 4;
    /// Only tasks under the cgroup in the cgroup map are watched.
    pub const CGROUP_FILTER: u32 = 1 << 5;
    /// Kernel-side log lines (development builds).
    pub const LOG: u32 = 1 << 6;
    /// Executables are selected, and nothing else of processes: a program that starts is watched
    /// until userspace has judged it.
    pub const EXECUTABLE_FILTER: u32 = 1 << 7;
    /// With [`SEND_TIME`]: the message iterator says where the bytes of a TCP send are.
    pub const SEND_SOURCE: u32 = 1 << 8;
    /// The loader has turned [`super::CAST_CALL`] into a cast.
    pub const CAST: u32 = 1 << 9;
    /// Executables are selected among the descendants of named processes: the same for a program
    /// that one of these starts. They are in the process map, watched or not.
    pub const FAMILY_FILTER: u32 = 1 << 10;
    /// Functions of TLS libraries are probed: sockets look for the call that uses them.
    pub const TLS: u32 = 1 << 16;
    /// With [`TLS`]: the thread pointer of a task is known, so that calls of Go's `crypto/tls` are found by
    /// their goroutines.
    pub const TLS_GO: u32 = 1 << 28;
    /// Whole requests may be shed: see [`super::lot`].
    pub const SHEDDING: u32 = 1 << 24;
    /// With [`SHEDDING`]: each process has a rate of its own.
    pub const PROCESS_RATE: u32 = 1 << 25;
    /// With [`SHEDDING`]: userspace keeps to a CPU budget, and says how much to shed for it.
    pub const CPU_BUDGET: u32 = 1 << 26;
    /// Conversations are counted: the payload programs name the process of a TCP socket, once, and
    /// count datagrams.
    pub const FLOW: u32 = 1 << 21;
    /// With [`FLOW`]: DNS answers are captured.
    pub const FLOW_DNS: u32 = 1 << 22;
    /// With [`SEND_SOURCE`]: bytes in pages of the kernel's (sendfile, splice, registered buffers) are
    /// found once userspace has found out where pages lie.
    pub const PAGES: u32 = 1 << 13;
    /// Bytes of receives that no registers explain (io_uring) are taken from packets, while the
    /// program that does so is attached.
    pub const PACKETS: u32 = 1 << 14;
    /// This kernel runs 32-bit programs.
    pub const COMPAT: u32 = 1 << 15;
    /// The kernel has atomic fetch-and-add (5.12). Only the object without types asks.
    pub const ATOMIC_FETCH: u32 = 1 << 11;
    /// The thread pointer of a task is known: goroutines can be read.
    pub const GO: u32 = 1 << 19;
    /// The same, and processes are followed: trace contexts that threads publish can be read.
    pub const THREAD_CONTEXT: u32 = 1 << 20;
    /// It is known how a socket says that the kernel does TLS on it.
    pub const KTLS: u32 = 1 << 17;
}

/// Number of a helper that does not exist. The loader makes a call of the kernel function
/// `bpf_rdonly_cast` of each call of it (6.2 and later), else a load of 0 that is never reached.
/// The verifier puts a move in place of that call: it costs nothing when it runs.
pub const CAST_CALL: i32 = 0x7e5f_0001;

/// Most payload rings: each is a map of its own in the kernel object.
pub const MAX_PAYLOAD_RINGS: u32 = 4;

/// Number of a socket's payload ring, from 1, where there are `rings` of them (a power of two).
///
/// Cookies are handed out in turn, and programs open sockets in patterns (one that connects, one that
/// accepts): the upper bits of a product with the golden ratio spread these too (Knuth, The Art of
/// Computer Programming, 6.4).
#[inline(always)]
pub const fn payload_ring(cookie: u64, rings: u32) -> u32 {
    let spread = cookie.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 62;
    1 + (spread as u32 & rings.wrapping_sub(1))
}

/// The loader writes the numbers of [`Settings`] and [`Offsets`] into the object: in place of a
/// 64-bit move of this number and the field's index, counted in 32 bits, it puts one of its value.
/// So the verifier sees a constant, turns a load at an offset into a checked one, and prunes what is
/// switched off; and no program has to load what it could know.
pub const OFFSET_MARK: i32 = 0x7e5f_1000;
/// The same for the settings.
pub const SETTING_MARK: i32 = 0x7e5f_2000;

/// How many ports `--port` takes.
pub const MAX_PORTS: usize = 16;

/// Switches and sizes, constant for one run.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
pub struct Settings {
    /// The agent's own process: its traffic is muted at both ends.
    pub own_tgid: u32,
    /// Bits of [`feature`].
    pub features: u32,
    /// Bytes captured of a message from where the direction turns, at most [`MAX_CAPTURE`].
    pub head_bytes: u32,
    /// Bytes captured of each later call of the same turn.
    pub later_bytes: u32,
    /// Number of ports in use.
    pub port_count: u32,
    /// Ports to watch (local or remote), host byte order.
    pub ports: [u16; MAX_PORTS],
    /// Payload rings in use: a power of two up to [`MAX_PAYLOAD_RINGS`]. 0 is 1.
    pub payload_rings: u32,
    /// Bytes that wait in a payload ring beyond which requests that begin are shed: three quarters.
    pub ring_limit: u32,
    /// Bytes over that, over which the share of those that are shed grows to all.
    pub ring_span: u32,
    /// Requests a second that a process may begin, under [`feature::PROCESS_RATE`].
    pub process_rate: u32,
}

/// The lot of the request whose first byte is at `position`: where a share of the requests is shed, it is
/// those with a lot below that share of 2^32. Both ends of a TCP connection know the
/// low 32 bits and so draw the same (Knuth's multiplicative hash: neighbours are spread).
#[inline(always)]
pub const fn lot(position: u64) -> u32 {
    let mixed = (position as u32).wrapping_mul(0x9e37_79b1);
    (mixed ^ (mixed >> 15)).wrapping_mul(0x85eb_ca77)
}

/// What `check_offsets` finds wrong: bits of its result.
pub mod check {
    /// `task_struct.tgid`.
    pub const PROCESS: i32 = 1 << 0;
    /// `task_struct.pid`.
    pub const THREAD: i32 = 1 << 1;
    /// `task_struct.real_parent`, or what it leads to.
    pub const PARENT: i32 = 1 << 2;
}

/// Verdict of the process map: value for a tgid.
pub mod process_verdict {
    /// Watch this process.
    pub const WATCH: u8 = 1;
    /// Leave this process out.
    pub const LEAVE: u8 = 2;
}

/// Who changed the process map: the index of the count of such changes, since neither side can
/// raise the other's.
pub mod process_generation {
    /// The kernel side.
    pub const KERNEL: u32 = 0;
    /// Userspace.
    pub const USER: u32 = 1;
    /// Number of them.
    pub const COUNT: u32 = 2;
}

/// Verdict on a socket, handed to the kernel through the verdict map (key: cookie).
pub mod socket_verdict {
    /// Capture heads (the default).
    pub const HEADS: u32 = 0;
    /// Capture nothing more; positions and bytes are still counted.
    pub const MUTE: u32 = 1;
    /// Capture every call as far as the largest class goes.
    pub const FULL: u32 = 2;
    /// Its bytes are TLS: capture no more of them, but look for the library's call that moves them.
    pub const TLS: u32 = 5;
    /// This end answers requests. For sockets whose opening was not seen.
    pub const ANSWERS: u32 = 3;
    /// This end asks.
    pub const ASKS: u32 = 4;
    /// [`TLS`] and [`ANSWERS`] in one: a socket has one verdict at a time.
    pub const TLS_ANSWERS: u32 = 6;
    /// [`TLS`] and [`ASKS`].
    pub const TLS_ASKS: u32 = 7;
}

/// What userspace and the program that takes bytes from packets tell each other.
pub mod packets_state {
    /// It is not attached.
    pub const DETACHED: u32 = 0;
    /// It is not attached, and userspace has been told that it is needed.
    pub const ASKED: u32 = 1;
    /// It is attached.
    pub const ATTACHED: u32 = 2;
}

/// Where pages lie: found out by userspace, with the program `page_test_…`, when it starts. 0 until
/// then.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
pub struct PageBases {
    /// `page_offset_base`: address of the first byte of physical memory.
    pub memory: u64,
    /// `vmemmap_base`: address of its `struct page`.
    pub pages: u64,
}

/// The test that finds [`PageBases`]: one page of known content is sent.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
pub struct PageTest {
    /// First eight bytes of the page, never 0.
    pub marker: u64,
    /// First candidate to try; afterwards the first that was not tried.
    pub next: u64,
    /// How many beginnings of the map of memory are tried with each beginning of the array of pages.
    pub memory_steps: u64,
    /// The bases, once found.
    pub found: PageBases,
    /// How often the page was seen.
    pub seen: u64,
}

/// A process of which calls moved bytes that its registers do not explain: value of a map by tgid.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
pub struct InKernelUser {
    /// Start of the process, boot-time ns.
    pub start_ns: u64,
    /// Receives whose bytes were taken from packets.
    pub packet_calls: u64,
    /// Calls that stayed unreachable.
    pub unreachable_calls: u64,
    /// Bytes of those.
    pub unreachable_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_of_cookies_is_spread_over_the_rings() {
        for rings in [1, 2, 4] {
            for stride in 1..=16 {
                let mut sockets = [0; MAX_PAYLOAD_RINGS as usize + 1];
                for n in 0..400 {
                    sockets[payload_ring(4096 + stride * n, rings) as usize] += 1;
                }
                let (used, unused) = sockets[1..].split_at(rings as usize);
                let fair = 400 / rings;
                for count in used {
                    assert!(*count > fair / 2 && *count < 2 * fair, "{rings} {stride}: {used:?}");
                }
                assert_eq!((sockets[0], unused.iter().sum::<u32>()), (0, 0));
            }
        }
    }
}
