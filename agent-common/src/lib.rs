//! The wire format between the kernel side and userspace: plain data, no code that runs.
//!
//! Every type here is `repr(C)` without hidden padding (proved by the `IntoBytes` derive), so no
//! uninitialised kernel byte can cross, and the userspace side can borrow it from a ring checked
//! for length and alignment only.
//!
//! - [`record`]: what the kernel writes into the rings.
//! - [`settings`]: what userspace tells the kernel side, as constants in its code and small maps.
//! - [`runtime`]: where a Go program keeps its goroutines, and how a record names one.
//! - [`counter`]: what the kernel side counts, and under which index.
//! - [`tls`]: what a probe on a function of a TLS library is told.

#![no_std]
#![forbid(unsafe_code)]

pub mod counter;
pub mod record;
pub mod runtime;
pub mod settings;
pub mod tls;
