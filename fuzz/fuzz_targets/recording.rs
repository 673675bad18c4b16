//! A recording made by a stranger, read and replayed.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agent_core::fuzzing::recording(bytes));
