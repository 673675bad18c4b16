//! Executables of watched programs: headers, build information, function table, instructions.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agent_core::fuzzing::golang(bytes));
