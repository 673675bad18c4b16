//! Any bytes as what a process says of itself, and as a rule for its name.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agent_core::fuzzing::names(bytes));
