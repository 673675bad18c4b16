//! What is attached while something is measured.

use agent::probe::plan::Feature;

/// What is attached, and what it does with the measured sockets.
pub struct Mode {
    /// As shown.
    pub name: &'static str,
    /// Features, each by its best choice on this kernel.
    pub hooks: &'static [Feature],
    /// What they do.
    pub does: Does,
}

/// What the programs do with the measured sockets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Does {
    /// They take this process for the agent, and leave at their first question.
    Leaves,
    /// The sockets are muted.
    Mutes,
    /// Everything is captured.
    Captures,
    /// Plaintext of TLS libraries is captured, ciphertext muted, as once its beginning has been read.
    MutesCiphertext,
}

/// All that the agent attaches for HTTP in clear.
const ALL: &[Feature] = &[
    Feature::Processes,
    Feature::ConnectionState,
    Feature::Payload,
    Feature::SendTime,
    Feature::Arrival,
];

const TLS: &[Feature] = &[
    Feature::Processes,
    Feature::ConnectionState,
    Feature::Payload,
    Feature::SendTime,
    Feature::Arrival,
    Feature::Tls,
];

const ALL_AND_FLOWS: &[Feature] = &[
    Feature::Processes,
    Feature::ConnectionState,
    Feature::Payload,
    Feature::SendTime,
    Feature::Arrival,
    Feature::Flows,
    Feature::FlowPeers,
    Feature::FlowList,
];

const FLOWS: &[Feature] =
    &[Feature::Flows, Feature::FlowCalls, Feature::FlowPeers, Feature::FlowList];

const fn mode(name: &'static str, hooks: &'static [Feature], does: Does) -> Mode {
    Mode { name, hooks, does }
}

/// In the order in which they are measured; the first is what the others are compared with.
pub const MODES: &[Mode] = &[
    mode("no probe", &[], Does::Captures),
    mode("processes", &[Feature::Processes], Does::Captures),
    mode("payload, left at once", &[Feature::Payload], Does::Leaves),
    mode("payload, muted", &[Feature::Payload], Does::Mutes),
    mode("payload", &[Feature::Payload], Does::Captures),
    mode(
        "payload, connection state",
        &[Feature::Payload, Feature::ConnectionState],
        Does::Captures,
    ),
    mode("payload, send time", &[Feature::Payload, Feature::SendTime], Does::Captures),
    mode("payload, arrival", &[Feature::Payload, Feature::Arrival], Does::Captures),
    mode("flows alone", FLOWS, Does::Captures),
    mode("all hooks, muted", ALL, Does::Mutes),
    mode("all hooks", ALL, Does::Captures),
    mode("all hooks, flows", ALL_AND_FLOWS, Does::Captures),
    mode(PACKETS, ALL, Does::Captures),
    mode("all hooks, TLS", TLS, Does::Captures),
    mode("all hooks, TLS, plaintext alone", TLS, Does::MutesCiphertext),
];

/// … and the program that looks at each received packet.
pub const PACKETS: &str = "all hooks, packets";
