//! Conversations: who talks to whom over TCP and UDP, how much and how well.
//!
//! ```text
//! flow ring ─ decode ─┬─ ends ───────► FlowTable ─► FlowChange ─► FlowMetrics, log records
//!                     └─ DNS answers ► dns ─► Names ─┘
//! iterator, UDP map ──── living ones ─┘
//! ```
//!
//! - [`record`]: bytes of the flow ring and the iterator to records.
//! - [`conversation`]: one of them, as it is shown. [`table`]: all of them, bounded.
//! - [`dns`]: answers that programs received. [`names`]: which name an address was asked by.
//! - [`metrics`]: sums by service, bounded. [`log`]: one conversation as a log record.

pub mod conversation;
pub mod dns;
pub mod log;
pub mod metrics;
pub mod names;
mod places;
pub mod record;
pub mod table;

#[cfg(test)]
mod tests;

pub use conversation::{Conversation, Endpoint, Role, Totals, Transport};
pub use metrics::{FlowMetrics, PeerLabels};
pub use names::Names;
pub use table::{Change, FlowChange, FlowTable, TableConfig};
