//! Rows of `kernspan flows`: conversations with who they belong to, as text and as JSON.

use crate::cli::flows::{Flows, Process};
use crate::process::ProcessReader;
use agent_core::flow::Conversation;
use agent_core::process::identify;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt::Write;

/// Who a process is, for people.
#[derive(Clone, Debug, Default)]
pub struct Who {
    /// Task name.
    pub comm: String,
    /// Service, as in spans.
    pub service: String,
}

/// Who processes are, read once each.
#[derive(Default)]
pub struct Directory {
    reader: ProcessReader,
    known: HashMap<u32, Who>,
}

impl Directory {
    /// Who `tgid` is; empty when it is gone.
    pub fn who(&mut self, tgid: u32) -> &Who {
        let Directory { reader, known } = self;
        known.entry(tgid).or_insert_with(|| {
            let Some(facts) = reader.facts_of_number(tgid) else { return Who::default() };
            let service = identify(&facts).service.unwrap_or_default();
            Who { comm: facts.comm, service }
        })
    }

    /// Numbers of processes are reused: to be read again.
    pub fn forget(&mut self) {
        self.known.clear();
    }
}

/// One row.
pub struct Row {
    /// The conversation.
    pub flow: Conversation,
    /// Whose.
    pub who: Who,
}

/// What was asked for of all conversations, in the order asked for.
pub fn rows(all: Vec<Conversation>, asked: &Flows, directory: &mut Directory) -> Vec<Row> {
    let mut rows: Vec<Row> = all
        .into_iter()
        .map(|flow| {
            let who = flow.process.map(|process| directory.who(process.tgid).clone());
            Row { flow, who: who.unwrap_or_default() }
        })
        .filter(|row| row.is_asked_for(asked))
        .collect();
    asked.sort.sort(&mut rows, |row| &row.flow);
    rows
}

impl Row {
    fn is_asked_for(&self, asked: &Flows) -> bool {
        let Row { flow, who } = self;
        let any = |empty: bool, found: bool| empty || found;
        let process = asked.processes.iter().any(|process| match process {
            Process::Pid(pid) => flow.process.is_some_and(|process| process.tgid == *pid),
            Process::Name(name) => who.comm == *name || who.service == *name,
        });
        let ports = [flow.local.port, flow.remote.port];
        let ips = [flow.local.ip().to_string(), flow.remote.ip().to_string()];
        let address = asked.addresses.iter().any(|asked| {
            ips.contains(asked) || flow.remote_name.as_deref() == Some(asked.as_str())
        });
        any(asked.processes.is_empty(), process)
            && any(asked.ports.is_empty(), asked.ports.iter().any(|port| ports.contains(port)))
            && any(asked.states.is_empty(), asked.states.iter().any(|s| s == flow.state_name()))
            && any(asked.addresses.is_empty(), address)
    }

    /// Whether the kernel side has counted what this conversation moved.
    fn is_counted(&self) -> bool {
        self.flow.tcp.is_some() || self.flow.first_ns != 0
    }

    /// As JSON; times are of the boot clock, ages relative to `now_ns`.
    pub fn to_json(&self, now_ns: u64) -> Value {
        let Row { flow, who } = self;
        let (role, is_guess) = flow.guessed_role();
        let totals = &flow.totals;
        let counted = |number: u64| if self.is_counted() { json!(number) } else { Value::Null };
        let mut value = json!({
            "pid": flow.process.map(|process| process.tgid),
            "comm": who.comm,
            "service": who.service,
            "transport": flow.transport.name(),
            "state": flow.state_name(),
            "role": role.name(),
            "role_guessed": is_guess,
            "netns": flow.netns,
            "cookie": flow.id.cookie,
            "local": {"address": flow.local.ip().to_string(), "port": flow.local.port},
            "remote": {
                "address": flow.remote.ip().to_string(),
                "port": flow.remote.port,
                "name": flow.remote_name,
                "pid": flow.local_peer.map(|peer| peer.tgid),
            },
            "bytes_sent": counted(totals.bytes_sent),
            "bytes_received": counted(totals.bytes_received),
            "packets_sent": counted(totals.packets_sent),
            "packets_received": counted(totals.packets_received),
            "age_seconds": (flow.first_ns != 0)
                .then(|| now_ns.saturating_sub(flow.first_ns) as f64 / 1e9),
        });
        if let (Some(tcp), Some(map)) = (flow.tcp, value.as_object_mut()) {
            let mut set = |name: &str, value: Value| map.insert(name.to_owned(), value);
            set("data_segments_sent", json!(totals.data_packets_sent));
            set("data_segments_received", json!(totals.data_packets_received));
            set("retransmits", json!(totals.retransmits));
            set("bytes_retransmitted", json!(totals.bytes_retransmitted));
            set("rtt_us", json!(tcp.rtt_us));
            set("rttvar_us", json!(tcp.rttvar_us));
            set("zero_window", json!(tcp.zero_window));
            set("window_limited_jiffies", json!(tcp.window_limited));
            set("connect_us", json!(flow.connect_ns().map(|ns| ns / 1000)));
        }
        value
    }

    fn cells(&self, now_ns: u64) -> [String; 10] {
        let Row { flow, who } = self;
        let (role, is_guess) = flow.guessed_role();
        let arrow = match role.name() {
            "client" => "→",
            "server" => "←",
            _ => "–",
        };
        let bytes = |number| if self.is_counted() { size(number) } else { "?".to_owned() };
        let peer = match (&flow.remote_name, flow.remote.is_unknown()) {
            (_, true) => "*".to_owned(),
            (Some(name), _) => format!("{name}:{}", flow.remote.port),
            (None, _) => place(flow.remote.ip(), flow.remote.port),
        };
        let peer = match flow.local_peer {
            Some(process) => format!("{peer} ({})", process.tgid),
            None => peer,
        };
        let process = flow.process.map_or("?".to_owned(), |process| process.tgid.to_string());
        let name = if who.service.is_empty() { &who.comm } else { &who.service };
        let tcp = flow.tcp.unwrap_or_default();
        [
            format!("{} {process}", clean(name)),
            format!("{} {}", flow.transport.name(), flow.state_name()),
            place(flow.local.ip(), flow.local.port),
            format!("{arrow}{}", if is_guess { "?" } else { "" }),
            clean(&peer),
            bytes(flow.totals.bytes_sent),
            bytes(flow.totals.bytes_received),
            if tcp.rtt_us > 0 { time(tcp.rtt_us.into()) } else { String::new() },
            if flow.tcp.is_some() { flow.totals.retransmits.to_string() } else { String::new() },
            match flow.first_ns {
                0 => String::new(),
                first => time(now_ns.saturating_sub(first) / 1000),
            },
        ]
    }
}

const HEADS: [&str; 10] =
    ["PROCESS", "STATE", "LOCAL", "", "REMOTE", "SENT", "RECEIVED", "RTT", "RETRANS", "AGE"];

/// First of the columns that hold numbers.
const NUMBERS: usize = 5;

/// All rows as an aligned table, with what cannot be seen below it.
pub fn to_text(rows: &[Row], notes: &[String], now_ns: u64) -> String {
    let cells: Vec<[String; 10]> = rows.iter().map(|row| row.cells(now_ns)).collect();
    let width = |column: usize| {
        let of = |row: &[String; 10]| row.get(column).map_or(0, |cell| cell.chars().count());
        let head = HEADS.get(column).map_or(0, |head| head.len());
        cells.iter().map(of).max().unwrap_or(0).max(head)
    };
    let widths: Vec<usize> = (0..HEADS.len()).map(width).collect();
    let mut text = String::new();
    let mut line = |cells: &[String; 10]| {
        let mut row = String::new();
        for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            // Writing to a String cannot fail.
            let _ = match column {
                NUMBERS.. => write!(row, "{cell:>width$}  "),
                _ => write!(row, "{cell:<width$}  "),
            };
        }
        text.push_str(row.trim_end());
        text.push('\n');
    };
    line(&HEADS.map(str::to_owned));
    cells.iter().for_each(line);
    for note in notes {
        let _ = writeln!(text, "note: {note}");
    }
    text
}

/// All rows as one JSON object.
pub fn to_json(rows: &[Row], notes: &[String], now_ns: u64) -> Value {
    let flows: Vec<Value> = rows.iter().map(|row| row.to_json(now_ns)).collect();
    json!({ "flows": flows, "notes": notes })
}

fn place(ip: std::net::IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(ip, port).to_string()
}

/// Bytes, short.
fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1}{name}", bytes as f64 / *unit as f64),
        None => bytes.to_string(),
    }
}

/// Microseconds, short.
fn time(us: u64) -> String {
    match us {
        0..1000 => format!("{us}µs"),
        1000..1_000_000 => format!("{:.1}ms", us as f64 / 1e3),
        1_000_000..120_000_000 => format!("{:.1}s", us as f64 / 1e6),
        120_000_000..7_200_000_000 => format!("{}m", us / 60_000_000),
        _ => format!("{}h", us / 3_600_000_000),
    }
}

/// Without what a terminal would obey.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '·' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::{clean, size, time};

    #[test]
    fn numbers_are_short() {
        for (bytes, expected) in [(0, "0"), (1023, "1023"), (1536, "1.5K"), (3 << 30, "3.0G")] {
            assert_eq!(size(bytes), expected);
        }
        for (us, expected) in
            [(7, "7µs"), (1500, "1.5ms"), (90_000_000, "90.0s"), (600_000_000, "10m")]
        {
            assert_eq!(time(us), expected);
        }
        assert_eq!(clean("a\u{1b}[2Jb"), "a·[2Jb");
    }
}
