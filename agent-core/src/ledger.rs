//! Counts of every stage in its own unit: what came in, is held, went out, and was lost, by cause.
//!
//! A stage owns plain `u64`s (no atomics on the hot path) in its own struct and reports them as
//! [`Entry`]s when asked. For each stage `came_in = went_out + held + Σ lost` holds.

/// One number of one stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Stage, for example `connection`.
    pub stage: &'static str,
    /// Unit, for example `records`.
    pub unit: &'static str,
    /// Side of the account.
    pub side: Side,
    /// Number.
    pub count: u64,
}

/// Side of a stage's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Came into the stage.
    In,
    /// Went out of it.
    Out,
    /// Still inside.
    Held,
    /// Lost, for this cause.
    Lost(&'static str),
    /// Beside the account: a count that explains (for example connections by protocol).
    Info(&'static str),
}

impl Side {
    /// Label as exported.
    pub fn label(self) -> &'static str {
        match self {
            Side::In => "in",
            Side::Out => "out",
            Side::Held => "held",
            Side::Lost(cause) | Side::Info(cause) => cause,
        }
    }
}
