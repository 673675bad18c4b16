//! Formatting, lints, licences and sources, promises.

use super::libtest::Tally;
use super::{Deadline, stacks};
use crate::command::{self, command};
use crate::setup::toolchain;
use crate::{build, paths, promises};
use anyhow::{Result, ensure};
use std::process::Command;

/// Runs every lint; each counts as one test.
pub fn run(deadline: Deadline, tally: &mut Tally) {
    let cargo = |arguments: &[&str]| within(&mut command("cargo", arguments), deadline);
    tally.check("rustfmt", cargo(&["fmt", "--all", "--check"]));
    for workspace in ["agent-ebpf", "fuzz"] {
        let manifest = paths::root().join(workspace).join("Cargo.toml");
        if manifest.is_file() {
            let manifest = manifest.to_string_lossy().into_owned();
            let arguments = ["fmt", "--manifest-path", &manifest, "--check"];
            tally.check(&format!("rustfmt {workspace}"), cargo(&arguments));
        }
    }
    tally.check("clippy agent-ebpf", clippy_kernel(deadline));
    tally.check("clippy", clippy(deadline));
    tally.check("kernel stacks", build::kernel_object().and_then(|object| stacks::check(&object)));
    tally.check("deny", cargo(&["deny", "check", "bans", "licenses", "sources"]));
    tally.check("promises", promises::run());
}

fn clippy(deadline: Deadline) -> Result<()> {
    let arguments = ["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
    let mut cargo = command("cargo", arguments);
    within(cargo.env("KERNSPAN_OBJECT", build::kernel_object()?), deadline)
}

/// The kernel side by its own compiler. Where that has no clippy (Debian's), it is built instead.
fn clippy_kernel(deadline: Deadline) -> Result<()> {
    let toolchain = toolchain::get()?;
    let directory = paths::root().join("agent-ebpf");
    let cargo = || {
        let mut cargo = toolchain.cargo();
        cargo.current_dir(&directory).env("CARGO_TARGET_DIR", directory.join("target"));
        cargo
    };
    let mut check = cargo();
    if command::succeeds(cargo().args(["clippy", "--version"])) {
        check.args(["clippy", "--release", "--quiet", "--", "-D", "warnings"]);
    } else {
        check.args(["build", "--release"]);
    }
    within(&mut check, deadline)
}

fn within(command: &mut Command, deadline: Deadline) -> Result<()> {
    let status = command::lines(command, deadline.left(), |line| println!("{line}"))?;
    ensure!(status.success(), "ended with {status}");
    Ok(())
}
