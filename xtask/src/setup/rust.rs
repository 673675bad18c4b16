//! Programs that cargo installs, by version.

use super::{Level, announce};
use crate::command::{self, command, output};
use anyhow::Result;
use std::env;
use std::ffi::OsString;
use std::path::Path;

const BPF_LINKER: &str = "0.13.0";
const CARGO_FUZZ: &str = "0.13.2";
const CARGO_DENY: &str = "0.20.2";
const LLVM: &str = "/usr/lib/llvm-22";

/// Installs bpf-linker, and for tests cargo-fuzz and cargo-deny.
pub fn install(level: Level) -> Result<()> {
    install_bpf_linker()?;
    if level >= Level::Test {
        cargo_install("cargo-fuzz", CARGO_FUZZ, "fuzzing; a minute", &["--locked"])?;
        let extra = ["--locked", "--no-default-features"];
        cargo_install("cargo-deny", CARGO_DENY, "licences and sources; 3 minutes", &extra)?;
    }
    Ok(())
}

fn install_bpf_linker() -> Result<()> {
    if version_is("bpf-linker", BPF_LINKER) {
        return Ok(());
    }
    announce(&format!("bpf-linker {BPF_LINKER}"), "links the kernel object; about a minute")?;
    let arguments = ["install", "bpf-linker", "--version", BPF_LINKER, "--no-default-features"];
    let mut cargo = command("cargo", arguments);
    cargo.args(["--features", "llvm-22", "--force", "--quiet"]);
    cargo.env("PATH", path_after(&Path::new(LLVM).join("bin")));
    cargo.env("RUSTFLAGS", format!("-L native={LLVM}/lib"));
    command::run(cargo.env_remove("CARGO_TARGET_DIR"))
}

/// `cargo install NAME --version VERSION` unless `NAME --version` names that version.
fn cargo_install(name: &str, version: &str, why: &str, extra: &[&str]) -> Result<()> {
    if version_is(name, version) {
        return Ok(());
    }
    announce(&format!("{name} {version}"), why)?;
    let mut cargo = command("cargo", ["install", name, "--version", version, "--force", "--quiet"]);
    command::run(cargo.args(extra).env_remove("CARGO_TARGET_DIR"))
}

/// Whether `program --version` names this version.
fn version_is(program: &str, version: &str) -> bool {
    output(&mut command(program, ["--version"]))
        .is_ok_and(|text| text.split_whitespace().any(|word| word == version))
}

fn path_after(first: &Path) -> OsString {
    let rest = env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(first.to_path_buf()).chain(env::split_paths(&rest));
    // Only a directory with a colon in its name cannot be joined; then PATH alone must do.
    env::join_paths(all).unwrap_or(rest)
}
