//! Reads who processes are, from /proc, and what the host is.
//!
//! - [`ProcessReader`]: the facts of one process, of one that has just called exec, of all.
//! - [`UsageReader`]: what processes use.
//! - [`host_facts`]: what is the same for all of them.
//!
//! That a process is gone is normal here, and no error.

mod count;
mod host;
pub mod io_uring;
mod proc_dir;
mod read;
mod scan;
mod usage;
mod user;

pub use count::ReadCounts;
pub use host::host_facts;
pub use read::ProcessReader;
pub use usage::UsageReader;

#[cfg(test)]
mod tests;
