//! One conversation, as it is shown and reported.

use crate::event::ProcessKey;
use agent_common::record::{DatagramKey, Datagrams, Flow, role, sign};
use std::net::{IpAddr, Ipv6Addr};

/// `IPPROTO_UDP`.
const UDP: u16 = 17;

/// TCP states (include/net/tcp_states.h), in the words of RFC 9293 where it has them.
const STATES: [&str; 13] = [
    "unknown",
    "established",
    "syn-sent",
    "syn-received",
    "fin-wait-1",
    "fin-wait-2",
    "time-wait",
    "closed",
    "close-wait",
    "last-ack",
    "listen",
    "closing",
    "syn-received",
];

/// Names of the TCP states that can be asked for.
pub fn state_names() -> impl Iterator<Item = &'static str> {
    STATES.into_iter().skip(1).take(11)
}

/// Transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// `network.transport`.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        }
    }
}

/// Which end of a conversation this is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// It began the conversation: connected, or sent the first datagram.
    Client,
    /// The other end did.
    Server,
    /// Nobody saw it: older than the agent.
    #[default]
    Unknown,
}

impl Role {
    /// As it is exported.
    pub fn name(self) -> &'static str {
        match self {
            Role::Client => "client",
            Role::Server => "server",
            Role::Unknown => "unknown",
        }
    }
}

/// Address and port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// IPv4 as IPv4-mapped.
    pub addr: [u8; 16],
    /// Port.
    pub port: u16,
}

impl Endpoint {
    /// The address as people write it.
    pub fn ip(&self) -> IpAddr {
        Ipv6Addr::from(self.addr).to_canonical()
    }

    /// No address: it could not be told.
    pub fn is_unknown(&self) -> bool {
        self.port == 0
    }
}

/// What a conversation is found by. UDP has one for each peer of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowId {
    /// Socket cookie.
    pub cookie: u64,
    /// UDP: the peer.
    pub peer: Option<Endpoint>,
}

/// Numbers that only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Payload bytes sent. TCP: those sent again included.
    pub bytes_sent: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// TCP segments, UDP messages.
    pub packets_sent: u64,
    /// TCP segments, UDP messages.
    pub packets_received: u64,
    /// TCP segments with payload.
    pub data_packets_sent: u64,
    /// TCP segments with payload.
    pub data_packets_received: u64,
    /// TCP: segments sent again.
    pub retransmits: u64,
    /// TCP: payload bytes sent again.
    pub bytes_retransmitted: u64,
}

impl Totals {
    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Totals) {
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.packets_sent += other.packets_sent;
        self.packets_received += other.packets_received;
        self.data_packets_sent += other.data_packets_sent;
        self.data_packets_received += other.data_packets_received;
        self.retransmits += other.retransmits;
        self.bytes_retransmitted += other.bytes_retransmitted;
    }

    /// What came since `before`.
    pub fn since(&self, before: &Totals) -> Totals {
        Totals {
            bytes_sent: self.bytes_sent.saturating_sub(before.bytes_sent),
            bytes_received: self.bytes_received.saturating_sub(before.bytes_received),
            packets_sent: self.packets_sent.saturating_sub(before.packets_sent),
            packets_received: self.packets_received.saturating_sub(before.packets_received),
            data_packets_sent: self.data_packets_sent.saturating_sub(before.data_packets_sent),
            data_packets_received: self
                .data_packets_received
                .saturating_sub(before.data_packets_received),
            retransmits: self.retransmits.saturating_sub(before.retransmits),
            bytes_retransmitted: self
                .bytes_retransmitted
                .saturating_sub(before.bytes_retransmitted),
        }
    }
}

/// What only TCP has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFacts {
    /// Smoothed round-trip time, µs; 0 while there is none.
    pub rtt_us: u32,
    /// Its variation, µs.
    pub rttvar_us: u32,
    /// Time for which the peer's receive window held sending up, jiffies.
    pub window_limited: u32,
    /// The peer's window is closed now.
    pub zero_window: bool,
    /// This end sent a reset.
    pub reset_sent: bool,
    /// The peer sent one.
    pub reset_received: bool,
    /// Error at the end, errno; 0 for an orderly one.
    pub error: u32,
    /// It ended before it was established.
    pub failed: bool,
}

/// One conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversation {
    /// What it is found by.
    pub id: FlowId,
    /// The process that used it first.
    pub process: Option<ProcessKey>,
    /// Protocol.
    pub transport: Transport,
    /// This end.
    pub local: Endpoint,
    /// The other.
    pub remote: Endpoint,
    /// IPv6 socket (an IPv4-mapped address is IPv4 all the same).
    pub netns: u32,
    /// Who began it.
    pub role: Role,
    /// TCP state; for UDP 0.
    pub state: u8,
    /// Begun, boot-time ns; 0 when older than the agent.
    pub first_ns: u64,
    /// Established, boot-time ns; 0 when unknown or never.
    pub established_ns: u64,
    /// Latest sign of life, boot-time ns: UDP, its latest message.
    pub last_ns: u64,
    /// Numbers.
    pub totals: Totals,
    /// TCP only.
    pub tcp: Option<TcpFacts>,
    /// Process at the other end, when that is on this host.
    pub local_peer: Option<ProcessKey>,
    /// Name that the remote address was asked by.
    pub remote_name: Option<Box<str>>,
}

impl Conversation {
    /// From the kernel's record.
    pub fn from_record(flow: &Flow) -> Conversation {
        let udp = flow.protocol == UDP;
        let ended = flow.old_state != 0;
        // States before established: SYN_SENT 2.
        let failed = ended && flow.old_state == 2;
        let fin = u64::from(flow.signs & sign::FIN_RECEIVED != 0);
        let tcp = TcpFacts {
            // `TCP_INFO` shows both so (net/ipv4/tcp.c, tcp_get_info).
            rtt_us: flow.srtt_us >> 3,
            rttvar_us: flow.mdev_us >> 2,
            window_limited: flow.window_limited,
            zero_window: !ended && flow.state == 1 && flow.send_window == 0,
            reset_sent: flow.signs & sign::RESET_SENT != 0,
            reset_received: flow.signs & sign::RESET_RECEIVED != 0,
            error: if ended { flow.error } else { 0 },
            failed,
        };
        let local = Endpoint { addr: flow.local_addr, port: flow.local_port };
        let remote = Endpoint { addr: flow.remote_addr, port: flow.remote_port };
        Conversation {
            id: FlowId { cookie: flow.cookie, peer: udp.then_some(remote) },
            process: process(flow.header.tgid, flow.header.start_ns),
            transport: if udp { Transport::Udp } else { Transport::Tcp },
            local,
            remote,
            netns: flow.netns,
            role: match flow.role {
                role::CONNECTED => Role::Client,
                role::ACCEPTED => Role::Server,
                _ => Role::Unknown,
            },
            state: if udp { 0 } else { flow.state },
            first_ns: flow.first_ns,
            established_ns: flow.established_ns,
            last_ns: flow.header.boot_ns,
            totals: Totals {
                bytes_sent: flow.bytes_sent,
                bytes_received: flow.bytes_received.saturating_sub(fin),
                packets_sent: flow.segments_out.into(),
                packets_received: flow.segments_in.into(),
                data_packets_sent: flow.data_segments_out.into(),
                data_packets_received: flow.data_segments_in.into(),
                retransmits: flow.retransmits.into(),
                bytes_retransmitted: flow.bytes_retransmitted,
            },
            tcp: (!udp).then_some(tcp),
            local_peer: None,
            remote_name: None,
        }
    }

    /// From an entry of the kernel's map of UDP conversations.
    pub fn from_datagrams(key: &DatagramKey, counted: &Datagrams) -> Conversation {
        let port = u16::try_from(key.remote_port).unwrap_or(0);
        let remote = Endpoint { addr: key.remote_addr, port };
        Conversation {
            id: FlowId { cookie: key.cookie, peer: Some(remote) },
            process: process(counted.tgid, counted.start_ns),
            transport: Transport::Udp,
            local: Endpoint { addr: counted.local_addr, port: counted.local_port },
            remote,
            netns: counted.netns,
            role: match counted.began {
                1 => Role::Client,
                2 => Role::Server,
                _ => Role::Unknown,
            },
            state: 0,
            first_ns: counted.first_ns,
            established_ns: 0,
            last_ns: counted.last_ns,
            totals: Totals {
                bytes_sent: counted.bytes_sent,
                bytes_received: counted.bytes_received,
                packets_sent: counted.sent,
                packets_received: counted.received,
                data_packets_sent: counted.sent,
                data_packets_received: counted.received,
                ..Totals::default()
            },
            tcp: None,
            local_peer: None,
            remote_name: None,
        }
    }

    /// State as shown.
    pub fn state_name(&self) -> &'static str {
        match self.transport {
            Transport::Udp if self.remote.is_unknown() => "unconnected",
            Transport::Udp => "open",
            Transport::Tcp => STATES.get(usize::from(self.state)).copied().unwrap_or(STATES[0]),
        }
    }

    /// `network.type`.
    pub fn network_type(&self) -> &'static str {
        let ip = if self.remote.is_unknown() { self.local.ip() } else { self.remote.ip() };
        if ip.is_ipv4() { "ipv4" } else { "ipv6" }
    }

    /// Who began it; where nobody saw that, by the ports, and then `true`: a guess. The end with a
    /// port that servers have (below 1024, or much lower than the other) is the server.
    pub fn guessed_role(&self) -> (Role, bool) {
        let (local, remote) = (self.local.port, self.remote.port);
        // First of the ephemeral ports by default (ip_local_port_range).
        const EPHEMERAL: u16 = 32_768;
        let serves = |port: u16| port != 0 && port < EPHEMERAL;
        match self.role {
            Role::Unknown if serves(local) && !serves(remote) => (Role::Server, true),
            Role::Unknown if serves(remote) && !serves(local) => (Role::Client, true),
            role => (role, false),
        }
    }

    /// Time from connect to established, ns: seen from this end, when it connected.
    pub fn connect_ns(&self) -> Option<u64> {
        let begun = self.role == Role::Client && self.first_ns != 0 && self.established_ns != 0;
        begun.then(|| self.established_ns.saturating_sub(self.first_ns))
    }
}

fn process(tgid: u32, start_ns: u64) -> Option<ProcessKey> {
    (tgid != 0).then_some(ProcessKey { tgid, start_ns })
}
