//! Conversations as the kernel shows them: those that live, UDP counts, and who they belong to.
//!
//! - [`list`]: reads the iterator. [`datagrams`]: reads the map of UDP conversations.
//! - [`table`]: rows for `kernspan flows`. [`watched`]: the selection of processes.

pub mod datagrams;
pub mod list;
pub mod table;
pub mod watched;
