//! Scenarios: what programs do, and what must come out.

mod execs;
mod goroutines;
mod headers;
mod joins;
mod limits;
mod measures;
mod orders;
mod sampling;
mod script;
mod spans;
mod takeover;
mod threads;
