//! Trace context, `tracestate`, addresses in headers, first bytes of protocols.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agent_core::fuzzing::wire(bytes));
