//! The kernel object, then the agent with it inside.

use crate::command::{self, command};
use crate::paths;
use crate::setup::toolchain;
use anyhow::{Context, Result, ensure};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Of the packages that set-up installs for the linker of kernel objects.
const STRIP: &str = "llvm-strip-22";

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
    // How the agent is built is not for programs that a verifier reads.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PROFILE_")) {
            cargo.env_remove(name);
        }
    }
    command::run(&mut cargo).context("the kernel object cannot be built")?;
    let object = target.join("bpfel-unknown-none/release/kernspan");
    ensure!(object.is_file(), "{} was not built", object.display());
    stripped(&object)
}

/// The object and its twin without debug information: type information (BTF) stays, which is all
/// that kernels read, and four fifths of the bytes go, which the agent would carry along.
fn stripped(object: &Path) -> Result<PathBuf> {
    let directory = object.with_file_name("stripped");
    std::fs::create_dir_all(&directory)?;
    for name in ["kernspan", "kernspan-untyped"] {
        let (new, to) = (directory.join(format!("{name}.new")), directory.join(name));
        let mut strip = command(STRIP, ["--strip-debug"]);
        command::output(strip.arg(object.with_file_name(name)).arg("-o").arg(&new))?;
        // What is as it was keeps its time, by which cargo judges whether the agent is to be built.
        if std::fs::read(&new)? == std::fs::read(&to).unwrap_or_default() {
            std::fs::remove_file(&new)?;
        } else {
            std::fs::rename(&new, &to)?;
        }
    }
    Ok(directory.join("kernspan"))
}

/// Builds, then becomes the agent.
pub fn exec(arguments: &[String]) -> Result<()> {
    let agent = run()?;
    let error = Command::new(&agent).args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", agent.display()))
}
