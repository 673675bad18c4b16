//! What the kernel side counts: indices into the per-CPU counter array.

/// Number of counters in use.
pub const COUNT: u32 = 14;

/// Records tried on the process ring (the next sequence number).
pub const PROCESS_TRIED: u32 = 0;
/// Records lost because the process ring was full.
pub const PROCESS_LOST: u32 = 1;
/// Records tried on the payload ring (the next sequence number).
pub const PAYLOAD_TRIED: u32 = 2;
/// Records lost because the payload ring was full.
pub const PAYLOAD_LOST: u32 = 3;
/// Calls whose bytes could not be read safely (in-kernel senders, io_uring, 32-bit callers).
pub const UNREACHABLE_CALLS: u32 = 4;
/// Bytes of those calls.
pub const UNREACHABLE_BYTES: u32 = 5;
/// Calls on muted sockets.
pub const MUTED_CALLS: u32 = 6;
/// Bytes on muted sockets.
pub const MUTED_BYTES: u32 = 7;
/// Calls left out by the filters.
pub const FILTERED_CALLS: u32 = 8;
/// Calls of the agent itself.
pub const OWN_CALLS: u32 = 9;
/// Sockets for which no storage could be had: they are not observed.
pub const NO_STORAGE: u32 = 10;
/// Reads of the program's memory that failed (page not present).
pub const FAULTS: u32 = 11;
/// Sends whose position was raced by another thread.
pub const RACED_SENDS: u32 = 12;
/// Calls on sockets of families or types that are not captured.
pub const OTHER_SOCKETS: u32 = 13;

/// Name of each counter as it is exported, by index.
pub const NAMES: [&str; COUNT as usize] = [
    "process_records_tried",
    "process_records_lost",
    "payload_records_tried",
    "payload_records_lost",
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
];
