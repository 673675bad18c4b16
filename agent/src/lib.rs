//! Everything of kernspan that touches the world.
//!
//! ```text
//! probe (load, attach, rings) ─► agent-core stages ─► export (OTLP), console, json
//!   process (/proc) ───────────────┘
//! cli, config ─► app: builds every stage once, connects them, stops them
//! ```

#![deny(unsafe_code)]

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod export;
pub mod flow;
pub mod kubernetes;
pub mod probe;
pub mod process;
pub mod runtime;
pub mod telemetry;
pub mod uprobe;
