use anyhow::{Result, bail};
use clap::Args;
use std::process::ExitCode;
use std::time::Duration;
#[derive(Debug, Args)]
pub struct Options {}
pub fn run_cli(_: &Options) -> Result<ExitCode> {
    bail!("vm: not yet")
}
pub fn test(_: Duration, _: impl FnMut(&str, Result<()>)) -> Result<()> {
    bail!("vm: not yet")
}
