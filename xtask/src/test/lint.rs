//! Formatting, lints, licences and sources, promises.

use super::libtest::Tally;
use crate::command::{self, command};
use crate::setup::toolchain;
use crate::{paths, promises};
use anyhow::Result;

/// Runs every lint; each counts as one test.
pub fn run(tally: &mut Tally) {
    tally.check("rustfmt", cargo(&["fmt", "--all", "--check"]));
    for workspace in ["agent-ebpf", "fuzz"] {
        let manifest = paths::root().join(workspace).join("Cargo.toml");
        if manifest.is_file() {
            let manifest = manifest.to_string_lossy().into_owned();
            let arguments = ["fmt", "--manifest-path", &manifest, "--check"];
            tally.check(&format!("rustfmt {workspace}"), cargo(&arguments));
        }
    }
    tally.check(
        "clippy",
        cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]),
    );
    tally.check("clippy agent-ebpf", clippy_kernel());
    tally.check("deny", cargo(&["deny", "check", "bans", "licenses", "sources"]));
    tally.check("promises", promises::run());
}

fn cargo(arguments: &[&str]) -> Result<()> {
    command::run(&mut command("cargo", arguments))
}

/// The kernel side by its own compiler. Where that has no clippy (Debian's), it is built instead.
fn clippy_kernel() -> Result<()> {
    let toolchain = toolchain::get()?;
    let directory = paths::root().join("agent-ebpf");
    let cargo = || {
        let mut cargo = toolchain.cargo();
        cargo.current_dir(&directory).env("CARGO_TARGET_DIR", directory.join("target"));
        cargo
    };
    if command::succeeds(cargo().args(["clippy", "--version"])) {
        command::run(cargo().args(["clippy", "--release", "--quiet", "--", "-D", "warnings"]))
    } else {
        command::run(cargo().args(["build", "--release"]))
    }
}
