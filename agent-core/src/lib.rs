//! The pure stages of kernspan. No tokio, no aya, no file system, no clock: time comes in with the
//! records, so a recorded stream replays to the same result.
//!
//! ```text
//! ring bytes ─ event ─► Event ─ connection ─► Chunk ─ protocol ─► Started / Finished
//!                         │                                               │
//!                         └── process (facts, names) ───────┐             ▼
//!                                                           └──► trace (order, join, link)
//!                                                                         │
//!                                            output ◄── span, log ◄───────┘
//!                                              │
//!                                             otlp (bytes grouped by resource)
//! ```
//!
//! Conversations ([`flow`]) go beside this: flow ring, iterator and UDP map to metrics and log records.
//!
//! A stage may name the stages before it, never those after it.

#![forbid(unsafe_code)]

pub mod elf;
pub mod event;
pub mod golang;
pub mod id;
pub mod ledger;
pub mod process;
pub mod redact;
mod slab;

pub mod connection;
pub mod message;
pub mod protocol;

pub mod histogram;
pub mod metric;
mod retired;
pub mod span;

pub mod request;
pub mod route;
pub mod trace;

pub mod flow;
pub mod traffic;

pub mod otlp;
pub mod recording;

#[doc(hidden)]
pub mod fuzzing;

#[doc(hidden)]
pub mod testing;
