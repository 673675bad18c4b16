//! Processes that are alike in one, and what is said of them.

use super::page::cut_characters;
use super::programs::{Coverage, Program, Seen, Tls, size};
use agent_core::traffic::Class;
use std::collections::BTreeMap;

/// Longest label: what Kubernetes takes as a namespace's or container's name.
const MOST_LABEL: usize = 63;

/// Protocols named for one service, of the dozen that the agent knows by name; and the longest name.
const MOST_PROTOCOLS: usize = 12;
const MOST_PROTOCOL: usize = 32;

/// Longest reason, and longest name of a library, in characters.
const MOST_REASON: usize = 300;
const MOST_LIBRARY: usize = 64;

/// In what they are alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alike {
    /// `service.name`.
    pub service: String,
    /// Language and runtime.
    pub runtime: String,
    /// Container and pod.
    pub place: String,
    /// TLS libraries that are used.
    pub tls: Vec<Tls>,
    /// An io_uring is open.
    pub io_uring: bool,
    /// See [`Program`].
    pub left_out: Vec<&'static str>,
    /// See [`Program`].
    pub goroutines: Option<Coverage>,
    /// See [`Program`].
    pub thread_context: Option<Coverage>,
}

/// Processes of one service in one place that are alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// In what.
    pub alike: Alike,
    /// Its processes.
    pub pids: Vec<u32>,
    /// What was seen of them.
    pub seen: Seen,
}

/// The most bytes first.
pub fn groups(programs: &[Program]) -> Vec<Group> {
    let mut groups = BTreeMap::<Alike, Group>::new();
    for program in programs {
        let group = groups.entry(program.alike()).or_default();
        group.pids.push(program.pid);
        if let Some(seen) = &program.seen {
            group.seen.merge(seen);
        }
    }
    let mut groups: Vec<Group> =
        groups.into_iter().map(|(alike, group)| Group { alike, ..group }).collect();
    groups
        .sort_by_key(|group| std::cmp::Reverse((group.seen.bytes.total(), group.is_remarkable())));
    groups
}

impl Group {
    /// Worth a line although it moved nothing.
    pub fn is_remarkable(&self) -> bool {
        let is_lacking = |coverage: &Coverage| !coverage.read || coverage.why.is_some();
        let alike = &self.alike;
        alike.io_uring
            || !alike.tls.is_empty()
            || alike.thread_context.is_some()
            || alike.goroutines.as_ref().is_some_and(is_lacking)
    }

    /// Service, runtime and TLS, for the table.
    pub fn cells(&self) -> [String; 3] {
        let tls: Vec<_> = self
            .alike
            .tls
            .iter()
            .map(|tls| match tls.blind {
                None => tls.library.clone(),
                Some(_) => format!("not {}", tls.library),
            })
            .collect();
        [self.alike.service.clone(), or_dash(&self.alike.runtime), or_dash(&tls.join(", "))]
    }

    /// What stands below its row.
    pub fn details(&self) -> Vec<String> {
        let mut details = Vec::new();
        if !self.alike.left_out.is_empty() {
            details.push(format!("left out by the agent's {}", self.alike.left_out.join(", ")));
        }
        if !self.alike.place.is_empty() {
            details.push(format!("in {}", self.alike.place));
        }
        for tls in &self.alike.tls {
            if let Some(why) = &tls.blind {
                let library = cut_characters(&tls.library, MOST_LIBRARY);
                details.push(format!("{library}: {}", cut_characters(why, MOST_REASON)));
            }
        }
        if self.alike.io_uring {
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
        self.runtimes(&mut details);
        let unparsed = self.seen.unparsed();
        if !unparsed.is_empty() {
            details.push(format!("speaks {}", named(&unparsed)));
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
    /// What is read of goroutines and published contexts.
    fn runtimes(&self, details: &mut Vec<String>) {
        let Alike { goroutines, thread_context, .. } = &self.alike;
        let mut push = |subject: &str, coverage: &Option<Coverage>| {
            let Some(Coverage { read, why }) = coverage else { return };
            let why = why.as_deref().map(|why| cut_characters(why, MOST_REASON));
            details.push(match (read, why) {
                (true, None) => format!("{subject}: read"),
                (true, Some(why)) => format!("{subject}: read, but {why}"),
                (false, Some(why)) => format!("{subject}: not read: {why}"),
                (false, None) => format!("{subject}: not read"),
            });
        };
        push("goroutines", goroutines);
        push("trace context published by its threads (OTEP 4947)", thread_context);
    }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// A name as long as it may be.
pub fn label(text: &str) -> String {
    cut_characters(text, MOST_LABEL)
}

/// Protocols by name; the rest are counted.
fn named(protocols: &[&str]) -> String {
    let shown = protocols.iter().take(MOST_PROTOCOLS);
    let mut names: Vec<_> = shown.map(|name| cut_characters(name, MOST_PROTOCOL)).collect();
    if protocols.len() > MOST_PROTOCOLS {
        names.push(format!("and {} more", protocols.len() - MOST_PROTOCOLS));
    }
    names.join(", ")
}
