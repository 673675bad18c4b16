//! Any bytes as a DNS answer.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agent_core::fuzzing::dns(bytes));
