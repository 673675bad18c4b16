//! What an API server says: lists of pods, lines of a watch, owners, errors.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agent_core::fuzzing::kubernetes(bytes));
