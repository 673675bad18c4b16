//! Texts of `/proc` and of `/etc/passwd`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agent_core::fuzzing::proc(bytes));
