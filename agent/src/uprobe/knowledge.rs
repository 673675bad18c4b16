//! What has been found out of libraries, shared with who asks for it.

use super::target::FileKey;
use crate::runtime::context::ContextCounts;
use agent_core::ledger::{Entry, Side};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Names of libraries in use that are not covered, at most.
const MAX_BLIND: usize = 1024;

/// A process that uses a library which is not covered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uncovered {
    /// Process.
    pub pid: u32,
    /// Library.
    pub library: &'static str,
    /// Its file.
    pub path: PathBuf,
    /// The same, for good.
    pub file: Option<FileKey>,
    /// What is in the way.
    pub why: Why,
}

/// Why a library is not covered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nobody knows how it is read, or not in this build of it.
    Unknown,
    /// Too many files carry probes: it is tried again.
    TooMany,
    /// The kernel's word, who refused the probes: it is tried again.
    Refused(String),
}

impl fmt::Display for Why {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Unknown => to.write_str("not known how to read it"),
            Why::TooMany => to.write_str("too many files carry probes, tried again"),
            Why::Refused(reason) => write!(to, "refused by the kernel, tried again: {reason}"),
        }
    }
}

/// What is known of libraries.
#[derive(Clone, Debug, Default)]
pub struct Knowledge {
    /// Files with probes, each with the libraries in it. By path, as their processes see it, device and
    /// inode: the same path is another file in each container.
    pub covered: BTreeMap<(PathBuf, u64, u64), Vec<&'static str>>,
    /// Libraries in use that are not covered.
    pub uncovered: Vec<Uncovered>,
    /// Files looked into.
    pub examined: u64,
    /// Files whose probes the kernel refused at first.
    pub refused: u64,
    /// Files left out at first because too many carried probes already.
    pub over_limit: u64,
    /// Files in which all that goes into buffers is probed now, since a program has some of its own.
    pub for_buffers: u64,
    /// Sockets and objects that the kernel side has forgotten to make room.
    pub forgotten: u64,
    /// Mappings that the kernel had no room to tell of.
    pub lost: u64,
    /// Programs that publish trace contexts.
    pub contexts: ContextCounts,
}

/// Shared with who asks.
#[derive(Clone, Default)]
pub struct Shared(Arc<Mutex<Knowledge>>);

impl Shared {
    /// As of now.
    pub fn get(&self) -> Knowledge {
        self.lock().clone()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Knowledge> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names a process that uses what is not covered, once.
    pub(super) fn name(&self, uncovered: Uncovered) {
        let mut known = self.lock();
        if known.uncovered.len() < MAX_BLIND && !known.uncovered.contains(&uncovered) {
            tracing::info!(
                "process {} uses {}, whose traffic is not seen in clear ({}: {})",
                uncovered.pid,
                uncovered.library,
                uncovered.path.display(),
                uncovered.why
            );
            known.uncovered.push(uncovered);
        }
    }

    /// The account.
    pub fn ledger(&self) -> Vec<Entry> {
        let known = self.lock();
        let files =
            |what, count| Entry { stage: "tls", unit: "files", side: Side::Info(what), count };
        let publishers = |what, count| Entry {
            stage: "thread_context",
            unit: "processes",
            side: Side::Info(what),
            count,
        };
        vec![
            files("examined", known.examined),
            files("probed", known.covered.len() as u64),
            files("refused", known.refused),
            files("over_limit", known.over_limit),
            files("probed_for_buffers", known.for_buffers),
            files("lost_mappings", known.lost),
            Entry {
                stage: "tls",
                unit: "processes",
                side: Side::Info("with_uncovered_library"),
                count: known.uncovered.len() as u64,
            },
            Entry {
                stage: "tls",
                unit: "entries",
                side: Side::Info("forgotten_for_room"),
                count: known.forgotten,
            },
            publishers("found", known.contexts.found),
            publishers("refused", known.contexts.refused),
        ]
    }
}
