//! `kernspan flows`: what is asked for.

use super::args::FlowsArgs;
use super::read::Read;
use crate::config::{Problems, problem::Wrong, value};
use agent_core::flow::Conversation;
use agent_core::flow::conversation::state_names;
use std::cmp::Reverse;
use std::time::Duration;

/// What to list, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flows {
    /// Only these processes; all when empty.
    pub processes: Vec<Process>,
    /// Only with one of these ports at either end; all when empty.
    pub ports: Vec<u16>,
    /// Only in one of these states; all when empty.
    pub states: Vec<String>,
    /// Only with one of these addresses or names at either end; all when empty.
    pub addresses: Vec<String>,
    /// Order.
    pub sort: Sort,
    /// JSON instead of text.
    pub json: bool,
    /// Again after this time.
    pub watch: Option<Duration>,
}

/// A process, as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Process {
    /// By number.
    Pid(u32),
    /// By the name of its task or service.
    Name(String),
}

/// What rows are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Process number, then remote address.
    #[default]
    Process,
    /// Most bytes sent first.
    Sent,
    /// Most bytes received first.
    Received,
    /// Longest round trip first.
    Rtt,
    /// Most retransmits first.
    Retransmits,
    /// Oldest first.
    Age,
    /// Remote address.
    Remote,
}

/// How each is typed.
const SORTS: [(&str, Sort); 7] = [
    ("process", Sort::Process),
    ("sent", Sort::Sent),
    ("received", Sort::Received),
    ("rtt", Sort::Rtt),
    ("retransmits", Sort::Retransmits),
    ("age", Sort::Age),
    ("remote", Sort::Remote),
];

impl Sort {
    /// Puts conversations in order. Those that older than all know come first by age.
    pub fn sort<T>(self, rows: &mut [T], of: impl Fn(&T) -> &Conversation) {
        rows.sort_by_key(|row| {
            let flow = of(row);
            let tcp = flow.tcp.unwrap_or_default();
            let first = match self {
                Sort::Process | Sort::Remote => 0,
                Sort::Sent => flow.totals.bytes_sent,
                Sort::Received => flow.totals.bytes_received,
                Sort::Rtt => tcp.rtt_us.into(),
                Sort::Retransmits => flow.totals.retransmits,
                Sort::Age => u64::MAX - flow.first_ns,
            };
            let process = match self {
                Sort::Process => flow.process.map_or(u32::MAX, |process| process.tgid),
                _ => 0,
            };
            (Reverse(first), process, flow.remote.addr, flow.remote.port, flow.local.port)
        });
    }
}

/// Reads the texts.
///
/// # Errors
/// All that are wrong.
pub fn understand(asked: FlowsArgs) -> Result<Flows, Problems> {
    let mut problems = Problems::default();
    let mut read = Read { problems: &mut problems };
    let flows = Flows {
        processes: asked.process.into_iter().map(process).collect(),
        ports: read.all("port", &asked.port, value::port),
        states: read.all("state", &asked.state, state),
        addresses: asked.address,
        sort: read.one("sort", &asked.sort, sort).unwrap_or_default(),
        json: asked.json,
        watch: read.one("watch", &asked.watch, watch),
    };
    problems.or(flows)
}

fn process(text: String) -> Process {
    text.parse().map_or(Process::Name(text), Process::Pid)
}

fn state(text: &str) -> Result<String, Wrong> {
    let choices: Vec<(&str, &str)> = state_names().map(|name| (name, name)).collect();
    value::choice(text, "is no state", &choices).map(str::to_owned)
}

fn sort(text: &str) -> Result<Sort, Wrong> {
    value::choice(text, "is no column", &SORTS)
}

fn watch(text: &str) -> Result<Duration, Wrong> {
    value::duration_within(text, Duration::from_millis(100), Duration::from_secs(3600), "2s")
}
