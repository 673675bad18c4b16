//! Segments, gaps and ends built from bytes, played to the HTTP/1 parser.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agent_core::fuzzing::http1(bytes));
