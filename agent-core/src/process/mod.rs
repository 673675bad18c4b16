//! Who a process is: facts about it, and the OpenTelemetry resource made of them.
//!
//! Facts come in as events of their own (read from /proc by `agent`, or out of a recording), so
//! that this stage needs no file system and replays.
//!
//! ```text
//! fork, exec, exit records ─┐
//! facts from /proc ─────────┴─► table ── facts at a time ──► exec (attributes of process.exec)
//!                                 └───── resource (name, container) ──► SharedResource
//! ```

mod container;
mod exec;
mod facts;
mod interner;
pub mod kubernetes;
mod name;
pub mod proc;
mod resource;
mod service;
mod table;
mod usage;

pub use container::{Place, PodUid, container_id, place};
pub use exec::{ExecContent, exec_attributes};
pub use facts::{
    HostFacts, MAX_ARGS, MAX_ARGS_BYTES, ProcessFacts, START_TICK_NS, split_args, start_tick,
};
pub use name::{Identity, Mistake, NameRule, NameRules, Naming, Runtime, hosts_code, identify};
use name::{is_named_after, needs_parent};
pub use resource::{
    KEPT_ENVIRONMENT, Resource, ResourceValue, SharedResource, resource_attributes,
};
pub use service::{KeptServiceName, ServiceName};
pub use table::ProcessTable;
pub use usage::Usage;
