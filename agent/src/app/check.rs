//! `kernspan config check`: what can be said of a configuration without using it.

use super::outputs;
use crate::cli::{self, Failure};
use crate::config::{Output, Settings};

/// Says that nothing is wrong, when nothing is.
///
/// # Errors
/// The operator's: OTLP's settings, together with the environment's.
pub fn run(file: &str, settings: &Settings) -> Result<(), Failure> {
    if settings.outputs.contains(&Output::Otlp) {
        outputs::resolve(settings)?;
    }
    cli::print(&format!("{file}: nothing is wrong\n"))
        .map_err(|error| anyhow::Error::new(error).context("standard output").into())
}
