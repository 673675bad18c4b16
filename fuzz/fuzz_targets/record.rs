//! Bytes of a ring or a recording, decoded.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agent_core::fuzzing::record(bytes));
