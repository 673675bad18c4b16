//! Bytes of a program or library, to the reader of its functions.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agent_core::fuzzing::elf(bytes));
