//! One conversation as a log record: `network.flow.end`, or `network.flow.interval` while it lives.

use super::conversation::Conversation;
use super::table::{Change, FlowChange};
use crate::process::Resource;
use crate::span::{Attribute, LogRecord, Value};

/// OTLP severity numbers INFO and WARN.
const INFO: u8 = 9;
const WARN: u8 = 13;

/// Names of the errors that end connections (include/uapi/asm-generic/errno.h).
const ERRORS: [(u32, &str); 15] = [
    (1, "EPERM"),
    (13, "EACCES"),
    (32, "EPIPE"),
    (71, "EPROTO"),
    (90, "EMSGSIZE"),
    (92, "ENOPROTOOPT"),
    (100, "ENETDOWN"),
    (101, "ENETUNREACH"),
    (103, "ECONNABORTED"),
    (104, "ECONNRESET"),
    (105, "ENOBUFS"),
    (110, "ETIMEDOUT"),
    (111, "ECONNREFUSED"),
    (112, "EHOSTDOWN"),
    (113, "EHOSTUNREACH"),
];

/// `error.type` of an errno: its name; without one (0: the program gave up) `_OTHER`.
pub fn error_name(errno: u32) -> &'static str {
    let found = ERRORS.iter().find(|(number, _)| *number == errno);
    found.map_or("_OTHER", |(_, name)| name)
}

/// Times of a record.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Unix time minus boot time, ns.
    pub offset: i64,
    /// Now, unix ns.
    pub unix_ns: u64,
}

impl Times {
    fn unix(&self, boot_ns: u64) -> u64 {
        boot_ns.saturating_add_signed(self.offset)
    }
}

/// Makes the record, and gives it to `give`.
pub fn record(
    change: &FlowChange,
    resource: &Resource,
    times: Times,
    give: impl FnOnce(&LogRecord<'_>),
) {
    let conversation = &change.conversation;
    let (local, remote) =
        (conversation.local.ip().to_string(), conversation.remote.ip().to_string());
    let peer = conversation.remote_name.as_deref().unwrap_or(&remote);
    let body = format!(
        "{} {} {}:{} {}: {} bytes sent, {} received",
        conversation.transport.name(),
        conversation.role.name(),
        peer,
        conversation.remote.port,
        conversation.state_name(),
        conversation.totals.bytes_sent,
        conversation.totals.bytes_received,
    );
    let attributes = attributes(change, &local, &remote, times);
    let failed = conversation.tcp.is_some_and(|tcp| tcp.failed || tcp.error != 0);
    give(&LogRecord {
        event_name: match change.change {
            Change::End => "network.flow.end",
            Change::Interval => "network.flow.interval",
        },
        unix_ns: times.unix(conversation.last_ns),
        observed_unix_ns: times.unix_ns,
        severity: if failed { WARN } else { INFO },
        body: &body,
        attributes: &attributes,
        cause: None,
        trace_flags: 0,
        resource,
    });
}

fn attributes<'a>(
    change: &'a FlowChange,
    local: &'a str,
    remote: &'a str,
    times: Times,
) -> Vec<Attribute<'a>> {
    let conversation = &change.conversation;
    let (role, is_guess) = conversation.guessed_role();
    let int = |value: u64| Value::Int(i64::try_from(value).unwrap_or(i64::MAX));
    let mut all = vec![
        ("network.transport", Value::Str(conversation.transport.name())),
        ("network.type", Value::Str(conversation.network_type())),
        ("network.local.address", Value::Str(local)),
        ("network.local.port", int(conversation.local.port.into())),
        ("kernspan.flow.role", Value::Str(role.name())),
        ("kernspan.flow.netns", int(conversation.netns.into())),
        ("kernspan.flow.bytes_sent", int(conversation.totals.bytes_sent)),
        ("kernspan.flow.bytes_received", int(conversation.totals.bytes_received)),
        ("kernspan.flow.packets_sent", int(conversation.totals.packets_sent)),
        ("kernspan.flow.packets_received", int(conversation.totals.packets_received)),
    ];
    if is_guess {
        all.push(("kernspan.flow.role_guessed", Value::Bool(true)));
    }
    if !conversation.remote.is_unknown() {
        all.push(("network.peer.address", Value::Str(remote)));
        all.push(("network.peer.port", int(conversation.remote.port.into())));
    }
    let name = conversation.remote_name.as_deref();
    all.extend(name.map(|name| ("kernspan.flow.peer.name", Value::Str(name))));
    let peer = conversation.local_peer;
    all.extend(peer.map(|peer| ("kernspan.flow.peer.pid", int(peer.tgid.into()))));
    if conversation.first_ns != 0 {
        all.push(("kernspan.flow.start_time_unix_nano", int(times.unix(conversation.first_ns))));
    }
    tcp_attributes(conversation, &mut all);
    all
}

fn tcp_attributes(conversation: &Conversation, all: &mut Vec<Attribute<'_>>) {
    let Some(tcp) = conversation.tcp else { return };
    let int = |value: u64| Value::Int(i64::try_from(value).unwrap_or(i64::MAX));
    let totals = &conversation.totals;
    all.extend([
        ("kernspan.tcp.state", Value::Str(conversation.state_name())),
        ("kernspan.tcp.data_segments_sent", int(totals.data_packets_sent)),
        ("kernspan.tcp.data_segments_received", int(totals.data_packets_received)),
        ("kernspan.tcp.retransmits", int(totals.retransmits)),
        ("kernspan.tcp.bytes_retransmitted", int(totals.bytes_retransmitted)),
        ("kernspan.tcp.window_limited_jiffies", int(tcp.window_limited.into())),
        ("kernspan.tcp.zero_window", Value::Bool(tcp.zero_window)),
        ("kernspan.tcp.reset_sent", Value::Bool(tcp.reset_sent)),
        ("kernspan.tcp.reset_received", Value::Bool(tcp.reset_received)),
    ]);
    if tcp.rtt_us != 0 {
        all.push(("kernspan.tcp.rtt_us", int(tcp.rtt_us.into())));
        all.push(("kernspan.tcp.rttvar_us", int(tcp.rttvar_us.into())));
    }
    if let Some(connect) = conversation.connect_ns() {
        all.push(("kernspan.tcp.connect_ns", int(connect)));
    }
    if tcp.failed || tcp.error != 0 {
        all.push(("error.type", Value::Str(error_name(tcp.error))));
        all.push(("kernspan.tcp.failed", Value::Bool(tcp.failed)));
    }
}
