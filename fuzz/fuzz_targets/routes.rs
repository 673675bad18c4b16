//! Any texts as paths, and as templates.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agent_core::fuzzing::routes(bytes));
