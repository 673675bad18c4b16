//! Stage 3: records to ordered bytes per connection, to what its protocol says.
//!
//! One [`Shard`] per payload ring. It owns its connections: no locks, no clock, no I/O. Records
//! go in, [`crate::message::Signal`]s and verdicts for the kernel come out.
//!
//! - [`shard`]: the entry; counts, opens, closes and evicts connections.
//! - `table`: connections by socket cookie, bounded.
//! - `flow`: one connection: records to inputs of its protocol, in stream order.
//! - `stream`: where one direction stands, and what a record's position means.
//! - `held`: copies of records that came before those they follow.
//! - `classify`: which protocol first bytes belong to.
//! - `undecided`: a connection whose protocol is not known yet.
//! - `sink`: what the protocol finds, on its way out.
//! - `work`: what the connections of a shard share.
//! - `own`: the agent's own endpoints, which are never reported.
//! - `sequence`: lost records, seen in the sequence numbers of each CPU.
//! - [`counts`]: the account of this stage.

mod classify;
pub mod counts;
mod flow;
mod held;
mod over;
mod own;
mod published;
mod sequence;
pub mod shard;
mod sink;
mod stream;
mod table;
#[cfg(test)]
pub(crate) mod tests;
mod undecided;
mod work;

pub use classify::Kind;
pub(crate) use classify::{PREFACE, shape};
pub use counts::{Census, KindCounts};
pub use own::{OwnEndpoint, PRODUCT_TOKEN};
pub use shard::{Shard, ShardConfig, ShardOutput};
