//! Who a process is: facts about it, and the OpenTelemetry resource made of them.
//!
//! Facts come in as events of their own (read from /proc by `agent`, or out of a recording), so
//! that this stage needs no file system and replays.

use crate::event::ProcessKey;
use std::sync::Arc;

/// What is known of a process. Kept in recordings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessFacts {
    /// The process.
    pub key: ProcessKey,
    /// Parent process number.
    pub parent_tgid: u32,
    /// Boot-time ns from which on these facts hold (start, or the latest exec).
    pub since_ns: u64,
    /// Path of the executable (`/proc/PID/exe`), or the file name given to exec.
    pub executable: String,
    /// Task name.
    pub comm: String,
    /// Argument vector, secrets already redacted.
    pub args: Vec<String>,
    /// Working directory, empty when unknown.
    pub working_directory: String,
    /// Only the `OTEL_*` variables that names need.
    pub environment: Vec<(String, String)>,
    /// Lines of `/proc/PID/cgroup`.
    pub cgroup: String,
    /// Effective user number.
    pub user_id: u32,
    /// Its name, empty when unknown.
    pub user_name: String,
    /// Number inside its own pid namespace, 0 when the same.
    pub vpid: u32,
}

/// What is the same for all processes of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// `host.name`.
    pub name: String,
    /// `host.id` (`/etc/machine-id`), empty when unknown.
    pub id: String,
    /// `host.arch` in OpenTelemetry's words: `amd64`, `arm64`.
    pub arch: String,
    /// `os.version`: kernel release.
    pub kernel: String,
    /// Boot id (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
    /// Version of the agent.
    pub agent_version: String,
}

/// An interned OpenTelemetry resource.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    /// Small number, unique in one run: what encoders group by.
    pub id: u32,
    /// `service.name`, for people.
    pub service: String,
    /// All attributes, sorted by key.
    pub attributes: Vec<(String, ResourceValue)>,
}

/// Value of a resource attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResourceValue {
    /// Text.
    Str(String),
    /// Integer.
    Int(i64),
    /// List of texts.
    List(Vec<String>),
}

/// Resource shared between stages.
pub type SharedResource = Arc<Resource>;
