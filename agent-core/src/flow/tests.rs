//! Tables of conversations, names and metrics.

mod dns;
mod metrics;
mod table;
