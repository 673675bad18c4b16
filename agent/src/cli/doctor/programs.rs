//! Programs that run, as `kernspan doctor` shows them: grouped by service.

use super::{clean, line};
use agent_core::traffic::{Bytes, Class};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Groups shown without `--all`.
const MOST_SHOWN: usize = 30;

/// Where what is said of bytes comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// Nobody has watched: only what /proc says is known.
    #[default]
    Nobody,
    /// The agent that answers there.
    Agent(String),
    /// Probes of its own.
    Own,
}

/// All programs that were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Programs {
    /// Who has watched.
    pub source: Source,
    /// For how long, at most a minute.
    pub seconds: u64,
    /// Why nobody has, or what else is to be said of the source.
    pub remarks: Vec<String>,
    /// Filters of the agent, as they were given.
    pub filters: Vec<String>,
    /// Hooks that the agent has not, with the reason.
    pub off: Vec<(String, String)>,
    /// Records that the agent has lost for want of room in its rings.
    pub records_lost: u64,
    /// Sockets whose plaintext the agent had no room for.
    pub tls_sockets_without_room: u64,
    /// Each of them.
    pub programs: Vec<Program>,
}

/// A process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// Its number.
    pub pid: u32,
    /// What is known of it, by the names of OpenTelemetry's resource attributes.
    pub attributes: Map<String, Value>,
    /// TLS libraries that it uses.
    pub tls: Vec<Tls>,
    /// It has an io_uring open.
    pub io_uring: bool,
    /// What was seen of it; nothing where nobody has watched.
    pub seen: Option<Seen>,
}

/// A TLS library.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tls {
    /// As shown.
    pub library: String,
    /// Why its plaintext is not read; nothing where it is.
    pub blind: Option<String>,
}

/// What was seen of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Bytes of the last minute, by class.
    pub bytes: Bytes,
    /// Protocols that they were of.
    pub protocols: BTreeSet<String>,
    /// Receives that were read from packets (io_uring).
    pub packet_receives: u64,
    /// Calls whose bytes were in no memory that is known, since the process began.
    pub unreachable_calls: u64,
}

/// Processes of one service in one place that are alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// `service.name`.
    pub service: String,
    /// Language and runtime.
    pub runtime: String,
    /// Container and pod.
    pub place: String,
    /// TLS libraries that are used.
    pub tls: Vec<Tls>,
    /// One of them has an io_uring open.
    pub io_uring: bool,
    /// Its processes.
    pub pids: Vec<u32>,
    /// What was seen of them.
    pub seen: Seen,
}

impl Program {
    fn text(&self, key: &str) -> &str {
        self.attributes.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    fn runtime(&self) -> String {
        let (name, version) =
            (self.text("process.runtime.name"), self.text("process.runtime.version"));
        let language = self.text("telemetry.sdk.language");
        match (name, version, language) {
            ("", _, language) => language.to_owned(),
            (name, "", _) => name.to_owned(),
            // Go says its own name in its version.
            (name, version, _) if version.starts_with(name) => version.to_owned(),
            (name, version, _) => format!("{name} {version}"),
        }
    }

    fn place(&self) -> String {
        let mut parts = Vec::new();
        match (self.text("k8s.namespace.name"), self.text("k8s.pod.name"), self.text("k8s.pod.uid"))
        {
            ("", "", "") => {}
            ("", "", uid) => parts.push(format!("pod {uid}")),
            (namespace, pod, _) => parts.push(format!("pod {namespace}/{pod}")),
        }
        let id = self.text("container.id");
        match (self.text("k8s.container.name"), id.get(..12).unwrap_or(id)) {
            ("", "") => {}
            ("", id) => parts.push(format!("container {id}")),
            (name, _) => parts.push(format!("container {name}")),
        }
        parts.join(", ")
    }

    fn to_json(&self) -> Value {
        let tls = self.tls.iter().map(
            |tls| json!({"library": tls.library, "read": tls.blind.is_none(), "why": tls.blind}),
        );
        json!({
            "pid": self.pid,
            "service": self.text("service.name"),
            "resource": self.attributes,
            "tls": tls.collect::<Vec<_>>(),
            "io_uring": self.io_uring,
            "seen": self.seen.as_ref().map(Seen::to_json),
        })
    }
}

impl Seen {
    fn merge(&mut self, other: &Seen) {
        self.bytes.merge(&other.bytes);
        self.protocols.extend(other.protocols.iter().cloned());
        // An agent says them: they may be anything.
        self.packet_receives = self.packet_receives.saturating_add(other.packet_receives);
        self.unreachable_calls = self.unreachable_calls.saturating_add(other.unreachable_calls);
    }

    /// Bytes of streams: what shares are shares of.
    pub fn streams(&self) -> u64 {
        self.bytes.total().saturating_sub(self.bytes.of(Class::Datagrams))
    }

    /// Share of a class, in hundredths.
    pub fn percent(&self, class: Class) -> f64 {
        match self.streams() {
            0 => 0.0,
            all => 100.0 * self.bytes.of(class) as f64 / all as f64,
        }
    }

    /// Protocols that are known and not parsed.
    pub fn unparsed(&self) -> Vec<&str> {
        let parsed = |name: &&str| !matches!(*name, "HTTP/1" | "TLS");
        self.protocols.iter().map(String::as_str).filter(parsed).collect()
    }

    fn to_json(&self) -> Value {
        let of = |with: &dyn Fn(Class) -> Value| {
            Value::Object(
                Class::ALL
                    .map(|class| (class.name().to_owned(), with(class)))
                    .into_iter()
                    .collect(),
            )
        };
        json!({
            "bytes": of(&|class| json!(self.bytes.of(class))),
            "total_bytes": self.bytes.total(),
            "percent": of(&|class| match class {
                Class::Datagrams => Value::Null,
                class => json!((self.percent(class) * 100.0).round() / 100.0),
            }),
            "protocols": self.protocols,
            "packet_receives": self.packet_receives,
            "unreachable_calls": self.unreachable_calls,
        })
    }
}

impl Programs {
    /// Those that are alike in one, the most bytes first.
    pub fn groups(&self) -> Vec<Group> {
        let mut groups = BTreeMap::<_, Group>::new();
        for program in &self.programs {
            let service = program.text("service.name").to_owned();
            let (runtime, place) = (program.runtime(), program.place());
            let mut tls = program.tls.clone();
            tls.sort();
            let key = (service, runtime, place, tls, program.io_uring);
            let group = groups.entry(key).or_default();
            group.pids.push(program.pid);
            if let Some(seen) = &program.seen {
                group.seen.merge(seen);
            }
        }
        let mut groups: Vec<Group> = groups
            .into_iter()
            .map(|((service, runtime, place, tls, io_uring), group)| Group {
                service,
                runtime,
                place,
                tls,
                io_uring,
                ..group
            })
            .collect();
        groups.sort_by_key(|group| {
            std::cmp::Reverse((group.seen.bytes.total(), group.is_remarkable()))
        });
        groups
    }

    /// For people: a service a line, with what it uses below it.
    pub fn write(&self, text: &mut String, all: bool) {
        text.push_str(&match &self.source {
            Source::Agent(address) => {
                format!("\nPrograms, in the last {} s, by the agent at {address}\n", self.seconds)
            }
            Source::Own => format!("\nPrograms, in {} s of watching\n", self.seconds),
            Source::Nobody => {
                "\nPrograms, by what /proc says: nobody has watched their bytes\n".to_owned()
            }
        });
        for remark in &self.remarks {
            line(text, "  ", remark);
        }
        if !self.filters.is_empty() {
            line(text, "  the agent is told to leave out others than: ", &self.filters.join(", "));
        }
        let groups = self.groups();
        let shown: Vec<_> = groups
            .iter()
            .filter(|group| all || group.is_remarkable() || group.seen.bytes.total() > 0)
            .take(if all { usize::MAX } else { MOST_SHOWN })
            .collect();
        if !shown.is_empty() {
            let watched = self.source != Source::Nobody;
            let bytes = if watched { "     BYTES  DECO  ENCR  UNKN  UNRE" } else { "" };
            let _ = writeln!(
                text,
                "\n  {:<22} {:>4}  {:<16} {:<18}{bytes}",
                "SERVICE", "N", "RUNTIME", "TLS"
            );
            shown.iter().for_each(|group| group.write(text, watched));
        }
        let more: usize = groups.iter().map(|group| group.pids.len()).sum::<usize>()
            - shown.iter().map(|group| group.pids.len()).sum::<usize>();
        if more > 0 {
            line(
                text,
                "\n  ",
                &format!("and {more} more processes that show nothing of this (--all)"),
            );
        }
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let (kind, address) = match &self.source {
            Source::Nobody => ("none", None),
            Source::Agent(address) => ("agent", Some(address)),
            Source::Own => ("own", None),
        };
        json!({
            "source": {"kind": kind, "address": address, "seconds": self.seconds},
            "remarks": self.remarks,
            "filters": self.filters,
            "records_lost": self.records_lost,
            "tls_sockets_without_room": self.tls_sockets_without_room,
            "processes": self.programs.iter().map(Program::to_json).collect::<Vec<_>>(),
        })
    }
}

impl Group {
    /// Worth a line although it moved nothing.
    fn is_remarkable(&self) -> bool {
        self.io_uring || !self.tls.is_empty()
    }

    fn write(&self, text: &mut String, watched: bool) {
        let tls: Vec<_> = self
            .tls
            .iter()
            .map(|tls| match tls.blind {
                None => tls.library.clone(),
                Some(_) => format!("not {}", tls.library),
            })
            .collect();
        let mut row = format!(
            "  {:<22} {:>4}  {:<16} {:<18}",
            cut(&self.service, 22),
            self.pids.len(),
            cut(or_dash(&self.runtime), 16),
            cut(or_dash(&tls.join(", ")), 18),
        );
        if watched {
            let _ = write!(row, " {:>9}", size(self.seen.bytes.total()));
            for class in [Class::Decoded, Class::Encrypted, Class::Unknown, Class::Unreachable] {
                let _ =
                    write!(row, " {:>5}", percent(self.seen.percent(class), self.seen.streams()));
            }
        }
        line(text, "", &row);
        for detail in self.details() {
            line(text, "      ", &detail);
        }
    }

    fn details(&self) -> Vec<String> {
        let mut details = Vec::new();
        if !self.place.is_empty() {
            details.push(format!("in {}", self.place));
        }
        for tls in &self.tls {
            if let Some(why) = &tls.blind {
                details.push(format!("{}: {why}", tls.library));
            }
        }
        if self.io_uring {
            let read = self.seen.packet_receives;
            let unread = self.seen.unreachable_calls;
            details.push(match (read, unread) {
                (0, 0) => "io_uring".to_owned(),
                (read, 0) => format!("io_uring: {read} receives read from packets"),
                (read, unread) => {
                    format!("io_uring: {read} receives read from packets, {unread} calls not read")
                }
            });
        }
        let unparsed = self.seen.unparsed();
        if !unparsed.is_empty() {
            details.push(format!("speaks {}", unparsed.join(", ")));
        }
        for (class, what) in
            [(Class::Shed, "of requests that were shed"), (Class::Datagrams, "over UDP")]
        {
            let bytes = self.seen.bytes.of(class);
            if bytes > 0 {
                details.push(format!("{} {what}", size(bytes)));
            }
        }
        details
    }
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// At most so many characters.
fn cut(text: &str, most: usize) -> String {
    let text = clean(text);
    match text.char_indices().nth(most) {
        None => text,
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// `812 B`, `1.2 kB`, `12 MB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = "";
    for next in UNITS {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if value < 9.95 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// Nothing is no share; a little is not nothing, and nearly all is not all.
fn percent(percent: f64, of: u64) -> String {
    match percent {
        _ if of == 0 => "-".to_owned(),
        0.0 => "0".to_owned(),
        percent if percent < 1.0 => "<1".to_owned(),
        100.0 => "100".to_owned(),
        percent => format!("{:.0}", percent.floor()),
    }
}

#[cfg(test)]
#[path = "programs_tests.rs"]
pub(super) mod tests;
