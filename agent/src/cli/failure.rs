//! How a command can fail, and the exit code that says whose fault it was.

use crate::config::Problems;

/// A command that did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Every mistake in flags and file.
    #[error(transparent)]
    Configuration(#[from] Problems),
    /// The operator can mend it: a missing capability, an address in use, a kernel on which no
    /// feature can be loaded, a file that is no recording. One clear sentence.
    #[error("{0}")]
    Operator(String),
    /// Anything else.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

impl Failure {
    /// 2 for what the operator can mend, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Configuration(_) | Failure::Operator(_) => 2,
            Failure::Other(_) => 1,
        }
    }
}
