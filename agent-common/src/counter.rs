//! What the kernel side counts: indices into the per-CPU counter array. Each ring has two, then come
//! those of calls.

use crate::settings::MAX_PAYLOAD_RINGS;

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
/// Counters of calls: constants in this order, and the names under which they are exported.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        #[expect(non_camel_case_types, reason = "only its numbers are used")]
        #[expect(clippy::upper_case_acronyms, reason = "the same")]
        enum Index { $($name,)* }

        $($(#[$doc])* pub const $name: u32 = FIRST_OF_CALLS + Index::$name as u32;)*

        /// Names of the counters of calls as they are exported, from [`FIRST_OF_CALLS`] on.
        pub const CALL_NAMES: [&str; [$($text),*].len()] = [$($text),*];
    };
}

/// Number of counters in use.
pub const COUNT: u32 = FIRST_OF_CALLS + CALL_NAMES.len() as u32;

calls! {
    /// Calls whose bytes could not be read safely (in-kernel senders, io_uring, 32-bit callers).
    UNREACHABLE_CALLS = "payload_unreachable",
    /// Bytes of those calls.
    UNREACHABLE_BYTES = "payload_unreachable_bytes",
    /// Calls on muted sockets.
    MUTED_CALLS = "muted_calls",
    /// Bytes on muted sockets.
    MUTED_BYTES = "muted_bytes",
    /// Calls left out by the filters.
    FILTERED_CALLS = "filtered_calls",
    /// Calls of the agent itself.
    OWN_CALLS = "own_calls",
    /// Sockets for which no storage could be had: they are not observed.
    NO_STORAGE = "sockets_without_storage",
    /// Reads of the program's memory that failed (page not present).
    FAULTS = "memory_faults",
    /// Sends whose position was raced by another thread.
    RACED_SENDS = "raced_sends",
    /// Calls on sockets of families or types that are not captured.
    OTHER_SOCKETS = "other_sockets",
    /// Requests shed because the payload ring was nearly full.
    SHED_RING = "shed_requests_ring_nearly_full",
    /// Requests shed because the CPU budget was spent.
    SHED_CPU = "shed_requests_cpu_budget",
    /// Requests shed because their process had used up its rate.
    SHED_RATE = "shed_requests_process_rate",
    /// Calls of requests that were shed.
    SHED_CALLS = "shed_calls",
    /// Records tried on the flow ring (the next sequence number).
    FLOW_TRIED = "flow_records",
    /// Records lost because the flow ring was full.
    FLOW_LOST = "flow_records_lost",
    /// UDP messages whose peer could not be told.
    DATAGRAM_PEER_UNKNOWN = "datagram_peer_unknown",
    /// UDP conversations that began to be counted.
    DATAGRAMS_BEGUN = "datagram_conversations",
    /// UDP messages that found no room to be counted in.
    DATAGRAMS_UNCOUNTED = "datagrams_uncounted",
    /// Sends of pages of the kernel's (sendfile, splice, registered buffers) whose bytes were read there.
    PAGE_SENDS = "page_sends",
    /// Receives whose bytes were taken from packets, because no registers explain them (io_uring).
    PACKET_RECEIVES = "packet_receives",
    /// Receives whose bytes packets could have given, from before the program that does so was attached.
    PACKETS_MISSED = "packets_missed",
    /// Times that an io_uring was made.
    RINGS_MADE = "io_urings_made",
    /// Calls whose end was not seen by a pair of probes, or could not be noted.
    UNPAIRED_CALLS = "unpaired_calls",
    /// States made of sockets that have no storage of their own.
    UNTYPED_SOCKETS = "untyped_sockets",
    /// … and given back with their sockets; what is neither given back nor in the map was evicted.
    UNTYPED_ENDS = "untyped_socket_ends",
    /// Numbers given to sockets without a cookie.
    OWN_COOKIES = "own_cookies",
    /// Plaintext calls of TLS libraries whose socket is not known: they are not reported.
    TLS_UNMATCHED_CALLS = "tls_unmatched",
    /// Bytes of those calls.
    TLS_UNMATCHED_BYTES = "tls_unmatched_bytes",
    /// Calls of TLS libraries inside one another (TLS within TLS): the inner ones are not reported.
    TLS_NESTED = "tls_nested",
    /// TLS objects that used two sockets which were both open: neither is taken.
    TLS_CONFLICTS = "tls_conflicts",
    /// Sockets whose plaintext found no room: it is not read, unless there is room later.
    TLS_WITHOUT_ROOM = "tls_sockets_without_room",
    /// Objects of TLS libraries whose socket could not be noted for want of room.
    TLS_OBJECTS_WITHOUT_ROOM = "tls_objects_without_room",
    /// Requests that were sent with a trace context which their thread had published.
    PUBLISHED_CONTEXTS = "published_contexts",
    /// Calls of rustls whose arguments or results do not look as expected: they are not reported.
    TLS_STRANGE = "tls_strange",
    /// Calls on sockets on which the kernel does TLS, in the call's direction.
    KTLS_CALLS = "ktls_calls",
    /// Those of which nothing is reported: TLS is not asked for, the kernel does it one way only, or does
    /// not show which.
    KTLS_UNREPORTED = "ktls_unreported",
    /// Calls that moved bytes through a closed socket whose plaintext is a TLS library's, or of which nothing was known.
    CLOSED_CALLS = "closed_calls",
    /// Bytes of those calls.
    CLOSED_BYTES = "closed_bytes",
    /// Calls on sockets that are left out whole: by their ports, or because the agent is at the other end.
    LEFT_OUT_CALLS = "left_out_calls",
}
