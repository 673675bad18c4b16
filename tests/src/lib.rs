//! The vocabulary of the end-to-end scenarios: the agent's binary against real programs.
//!
//! A scenario (`tests/tests/*.rs`, one behaviour a file) starts programs that know nothing of
//! tracing, starts `kernspan` beside them, and compares what it reports with what the programs
//! themselves logged. What judges a report lies here, in plain functions over plain data, each
//! with tests of its own that make it fail: a judge that cannot say no proves nothing.
//!
//! | module | subject |
//! |---|---|
//! | [`scenario`] | permission to run, one at a time; temporary files; how much to do |
//! | [`process`] | child processes that end with their owner |
//! | [`agent`] | the binary under test |
//! | [`nginx`], [`python`], [`golang`], [`https`], [`jvm`], [`start`], [`netns`], [`overlay`], [`client`] | the programs beside it |
//! | [`servers`], [`clients`] | the matrix of those that people run |
//! | [`collector`], [`jaeger`], [`certificates`] | real receivers of OTLP |
//! | [`otlp`], [`recording`] | what the agent wrote, typed |
//! | [`counts`], [`links`], [`execs`], [`shapes`], [`streams`], [`delivery`], [`ledger`], [`series`] | the judges |
//! | [`sys`], [`uring`], [`case`] | calls and logs of the workloads in `src/bin` |
//!
//! Run with `cargo test -p kernspan-tests` as root. Variables: `KERNSPAN_BIN` (the binary, default
//! `target/release/kernspan`), `KERNSPAN_CACHE` (where `cargo xtask setup` puts what it builds),
//! `KERNSPAN_SCALE=full` (the counts of the closing figures),
//! `KERNSPAN_REQUIRE=1` (a scenario that cannot run fails instead of being skipped).

pub mod agent;
pub mod api_server;
pub mod budget;
pub mod case;
pub mod certificates;
pub mod cgroup;
pub mod client;
pub mod clients;
pub mod collector;
pub mod contexts;
pub mod counts;
pub mod delivery;
pub mod doctor;
pub mod execs;
pub mod golang;
pub mod http;
pub mod https;
pub mod jaeger;
pub mod jvm;
pub mod ledger;
pub mod links;
pub mod netns;
pub mod nginx;
pub mod otlp;
pub mod overlay;
pub mod podman;
pub mod process;
pub mod prometheus;
pub mod python;
pub mod recording;
pub mod scenario;
pub mod series;
pub mod servers;
pub mod shapes;
pub mod start;
pub mod streams;
pub mod sys;
pub mod uring;
