//! Stage 1: kernel programs loaded and attached, rings drained.
//!
//! - [`plan`]: which hook each feature prefers, in one table.
//! - [`load`]: picks, loads, attaches, and reports what was picked and why.
//! - [`btf`], [`offsets`]: the running kernel's struct layout.
//! - [`misses`]: what the kernel did not show to the programs.
//! - [`patch`]: the one instruction that depends on the kernel.
//! - [`run_time`]: what the programs take of the watched ones' time.
//! - [`control`]: what is said to the running programs: verdicts, selections; and their counters.

pub mod btf;
pub mod control;
pub mod load;
pub mod misses;
pub mod offsets;
pub mod patch;
pub mod plan;
pub mod run_time;

/// The kernel object: all programs and maps.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("KERNSPAN_OBJECT_PATH"));
