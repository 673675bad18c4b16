//! What the kernel side counts: indices into the per-CPU counter array. Each ring has two, then come
//! those of calls.

use crate::settings::MAX_PAYLOAD_RINGS;

/// Number of counters in use.
pub const COUNT: u32 = FIRST_OF_CALLS + 14;

/// Records tried on a ring (the next sequence number). Ring 0 is that of processes, the payload
/// rings follow.
pub const fn tried(ring: u32) -> u32 {
    2 * ring
}

/// Records lost because the ring was full.
pub const fn lost(ring: u32) -> u32 {
    2 * ring + 1
}

/// [`tried`] of the process ring.
pub const PROCESS_TRIED: u32 = tried(0);
/// [`lost`] of the process ring.
pub const PROCESS_LOST: u32 = lost(0);

/// The first that is not of a ring.
pub const FIRST_OF_CALLS: u32 = tried(MAX_PAYLOAD_RINGS + 1);
/// Calls whose bytes could not be read safely (in-kernel senders, io_uring, 32-bit callers).
pub const UNREACHABLE_CALLS: u32 = FIRST_OF_CALLS;
/// Bytes of those calls.
pub const UNREACHABLE_BYTES: u32 = FIRST_OF_CALLS + 1;
/// Calls on muted sockets.
pub const MUTED_CALLS: u32 = FIRST_OF_CALLS + 2;
/// Bytes on muted sockets.
pub const MUTED_BYTES: u32 = FIRST_OF_CALLS + 3;
/// Calls left out by the filters.
pub const FILTERED_CALLS: u32 = FIRST_OF_CALLS + 4;
/// Calls of the agent itself.
pub const OWN_CALLS: u32 = FIRST_OF_CALLS + 5;
/// Sockets for which no storage could be had: they are not observed.
pub const NO_STORAGE: u32 = FIRST_OF_CALLS + 6;
/// Reads of the program's memory that failed (page not present).
pub const FAULTS: u32 = FIRST_OF_CALLS + 7;
/// Sends whose position was raced by another thread.
pub const RACED_SENDS: u32 = FIRST_OF_CALLS + 8;
/// Calls on sockets of families or types that are not captured.
pub const OTHER_SOCKETS: u32 = FIRST_OF_CALLS + 9;
/// Plaintext calls of TLS libraries whose socket is not known: they are not reported.
pub const TLS_UNMATCHED_CALLS: u32 = FIRST_OF_CALLS + 10;
/// Bytes of those calls.
pub const TLS_UNMATCHED_BYTES: u32 = FIRST_OF_CALLS + 11;
/// Calls of TLS libraries inside one another (TLS within TLS): the inner ones are not reported.
pub const TLS_NESTED: u32 = FIRST_OF_CALLS + 12;
/// TLS objects that used two sockets which were both open: neither is taken.
pub const TLS_CONFLICTS: u32 = FIRST_OF_CALLS + 13;

/// Names of the counters of calls as they are exported, from [`FIRST_OF_CALLS`] on.
pub const CALL_NAMES: [&str; (COUNT - FIRST_OF_CALLS) as usize] = [
    "payload_unreachable",
    "payload_unreachable_bytes",
    "muted_calls",
    "muted_bytes",
    "filtered_calls",
    "own_calls",
    "sockets_without_storage",
    "memory_faults",
    "raced_sends",
    "other_sockets",
    "tls_unmatched",
    "tls_unmatched_bytes",
    "tls_nested",
    "tls_conflicts",
];
