//! Programs that run, as `kernspan doctor` shows them: grouped by service.

use super::group::{self, Alike, Group, label};
use super::page::{Page, cut_characters};
use super::table::Table;
use agent_core::traffic::{Bytes, Class};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Groups shown without `--all`.
const MOST_SHOWN: usize = 30;

/// Longest name of a pod (a DNS name).
const MOST_POD: usize = 253;

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
    /// Filters of the agent that leave it out.
    pub left_out: Vec<&'static str>,
    /// Of a program in Go: whether the agent reads its goroutines.
    pub goroutines: Option<Coverage>,
    /// Of a program that publishes its trace context by thread (OTEP 4947): whether the agent reads that.
    pub thread_context: Option<Coverage>,
}

/// Whether something is read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Coverage {
    /// It is.
    pub read: bool,
    /// Why not; or what is missing although it is.
    pub why: Option<String>,
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

impl Program {
    /// In what it is like others.
    pub fn alike(&self) -> Alike {
        let mut tls = self.tls.clone();
        tls.sort();
        Alike {
            service: self.text("service.name").to_owned(),
            runtime: self.runtime(),
            place: self.place(),
            tls,
            io_uring: self.io_uring,
            left_out: self.left_out.clone(),
            goroutines: self.goroutines.clone(),
            thread_context: self.thread_context.clone(),
        }
    }

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
            ("", "", uid) => parts.push(format!("pod {}", label(uid))),
            (namespace, pod, _) => {
                let pod = cut_characters(pod, MOST_POD);
                parts.push(format!("pod {}/{pod}", label(namespace)));
            }
        }
        let id = self.text("container.id");
        match (self.text("k8s.container.name"), id.get(..12).unwrap_or(id)) {
            ("", "") => {}
            ("", id) => parts.push(format!("container {id}")),
            (name, _) => parts.push(format!("container {}", label(name))),
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
            "left_out": self.left_out,
            "goroutines": self.goroutines.as_ref().map(Coverage::to_json),
            "thread_context": self.thread_context.as_ref().map(Coverage::to_json),
        })
    }
}

impl Coverage {
    fn to_json(&self) -> Value {
        json!({"read": self.read, "why": self.why})
    }
}

impl Seen {
    /// All of `other`.
    pub fn merge(&mut self, other: &Seen) {
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
        group::groups(&self.programs)
    }

    /// For people: a service a line, with what it uses below it.
    pub fn write(&self, page: &mut Page, all: bool) {
        page.heading(&match &self.source {
            Source::Agent(address) => {
                format!("Programs, in the last {} s, by the agent at {address}", self.seconds)
            }
            Source::Own => format!("Programs, in {} s of watching", self.seconds),
            Source::Nobody => {
                "Programs, by what /proc says: nobody has watched their bytes".to_owned()
            }
        });
        for remark in &self.remarks {
            page.line("  ", remark);
        }
        self.write_filters(page);
        let groups = self.groups();
        let shown: Vec<_> = groups
            .iter()
            .filter(|group| all || group.is_remarkable() || group.seen.bytes.total() > 0)
            .take(if all { usize::MAX } else { MOST_SHOWN })
            .collect();
        if !shown.is_empty() {
            let table = Table::of(&shown, self.source != Source::Nobody, page);
            page.blank();
            table.head(page);
            for group in &shown {
                table.row(page, group);
                group.details().iter().for_each(|detail| page.line("      ", detail));
            }
        }
        let more: usize = groups.iter().map(|group| group.pids.len()).sum::<usize>()
            - shown.iter().map(|group| group.pids.len()).sum::<usize>();
        if more > 0 {
            page.blank();
            page.line(
                "  ",
                &format!("and {more} more processes that show nothing of this (--all)"),
            );
        }
    }

    fn write_filters(&self, page: &mut Page) {
        if self.filters.is_empty() {
            return;
        }
        page.line("  the agent's filters: ", &self.filters.join(", "));
        if self.filters.iter().any(|filter| filter.starts_with("--port ")) {
            page.line("  ", "of each process, connections without one of these ports are left out");
        }
        let left_out = self.programs.iter().filter(|program| !program.left_out.is_empty()).count();
        if left_out > 0 {
            page.line("  ", &format!("they leave out {left_out} processes (--all shows each)"));
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
pub fn percent(percent: f64, of: u64) -> String {
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
