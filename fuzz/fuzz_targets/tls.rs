//! A TLS handshake in pieces, to the reader of its hellos.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agent_core::fuzzing::tls(bytes));
