//! Any bytes as a process's cgroups.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agent_core::fuzzing::cgroup(bytes));
