//! Stage 1: kernel programs loaded and attached, rings drained.
//!
//! - [`plan`]: which hook each feature prefers, in one table.
//! - [`load`]: picks, loads, attaches, and reports what was picked and why. [`attach`]: one program;
//!   [`returns`], [`sys`]: returns of functions in which many threads wait.
//! - [`in_kernel`], [`page_test`]: bytes that no registers explain; attached when needed.
//! - [`attached`]: the loaded programs, shared.
//! - [`running`]: what the running kernel offers. [`btf`], [`elf`], [`offsets`]: its struct layout.
//! - [`misses`]: what the kernel did not show to the programs.
//! - [`patch`]: the one instruction that depends on the kernel.
//! - [`run_time`]: what the programs take of the watched ones' time.
//! - [`control`]: what is said to the running programs: verdicts, selections; and their counters.

pub mod attach;
pub mod attached;
pub mod btf;
pub mod control;
pub mod elf;
pub mod in_kernel;
pub mod load;
pub mod misses;
pub mod offsets;
pub mod page_test;
pub mod patch;
pub mod plan;
pub mod returns;
pub mod run_time;
pub mod running;
pub mod sys;

/// The two kernel objects. Each has all maps, and the programs of one side of the plan
/// ([`plan::Side`]).
#[derive(Clone, Copy, Debug)]
pub struct Objects<'a> {
    /// For kernels whose verifier knows types.
    pub typed: &'a [u8],
    /// For others.
    pub untyped: &'a [u8],
}

/// Those inside this binary.
pub static OBJECTS: Objects<'static> = Objects {
    typed: aya::include_bytes_aligned!(env!("KERNSPAN_OBJECT_PATH")),
    untyped: aya::include_bytes_aligned!(env!("KERNSPAN_UNTYPED_PATH")),
};
