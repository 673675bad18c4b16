//! Texts with secrets: arguments, queries, paths, URLs.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agent_core::fuzzing::redact(bytes));
