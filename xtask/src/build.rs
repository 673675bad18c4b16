//! The kernel object, then the agent with it inside.

use crate::command::{self, command};
use crate::paths;
use crate::setup::toolchain;
use anyhow::{Context, Result, ensure};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds both; the agent's path.
pub fn run() -> Result<PathBuf> {
    let object = kernel_object()?;
    let mut cargo = command("cargo", ["build", "--release", "--package", "agent"]);
    command::run(cargo.env("KERNSPAN_OBJECT", &object))?;
    let agent = paths::agent();
    ensure!(agent.is_file(), "{} was not built", agent.display());
    Ok(agent)
}

/// The agent: this file, or else a new build.
pub fn agent(built: Option<&Path>) -> Result<PathBuf> {
    match built {
        Some(path) => path.canonicalize().with_context(|| path.display().to_string()),
        None => run(),
    }
}

/// Builds the kernel side in its own workspace; the object's path. The agent embeds the file that
/// the environment variable `KERNSPAN_OBJECT` names.
pub fn kernel_object() -> Result<PathBuf> {
    let directory = paths::root().join("agent-ebpf");
    let target = directory.join("target");
    let mut cargo = toolchain::get()?.cargo();
    cargo.args(["build", "--release"]).current_dir(&directory).env("CARGO_TARGET_DIR", &target);
    command::run(&mut cargo).context("the kernel object cannot be built")?;
    let object = target.join("bpfel-unknown-none/release/kernspan");
    ensure!(object.is_file(), "{} was not built", object.display());
    Ok(object)
}

/// Builds, then becomes the agent.
pub fn exec(arguments: &[String]) -> Result<()> {
    let agent = run()?;
    let error = Command::new(&agent).args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", agent.display()))
}
