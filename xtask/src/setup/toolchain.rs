//! The compiler of the kernel object. It needs the library's source and unstable flags, which the
//! stable toolchain lacks; there are two ways to get both.

use super::{announce, debian};
use crate::command::{self, command, output, succeeds};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;
use std::process::Command;

/// bpf-linker is built with this LLVM; the compiler's must not be newer.
const LLVM: u32 = 22;

/// Toolchains tried in order: what is there, then the one this was developed with.
const NIGHTLIES: [&str; 2] = ["nightly", "nightly-2026-05-20"];

/// Debian's compiler, recent enough for this, with the source of its library.
const DEBIAN: [&str; 2] = ["rustc-web", "rust-web-src"];

/// A compiler that can build the kernel object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Toolchain {
    /// A rustup toolchain with the `rust-src` component.
    Rustup(String),
    /// Debian's `/usr/bin/rustc`, told to accept unstable flags.
    Debian,
}

impl Toolchain {
    /// `cargo` with this compiler. Variables that cargo or rustup set for this program, and flags
    /// meant for the host's code, would change what is built: they are removed.
    pub fn cargo(&self) -> Command {
        let mut cargo = match self {
            Toolchain::Rustup(name) => command("rustup", ["run", name, "cargo"]),
            Toolchain::Debian => {
                let mut cargo = command("cargo", [] as [&str; 0]);
                cargo.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
                cargo
            }
        };
        for name in ["CARGO", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER"] {
            cargo.env_remove(name);
        }
        if matches!(self, Toolchain::Rustup(_)) {
            cargo.env_remove("RUSTC").env_remove("RUSTUP_TOOLCHAIN");
        }
        cargo
    }
}

/// The compiler that is ready now, if any.
pub fn find() -> Option<Toolchain> {
    let rustup = NIGHTLIES.into_iter().find(|name| usable(name) && has_source(name));
    rustup
        .map(|name| Toolchain::Rustup(name.to_owned()))
        .or_else(|| debian_is_ready().then_some(Toolchain::Debian))
}

/// The compiler that is ready now.
///
/// # Errors
/// When there is none.
pub fn get() -> Result<Toolchain> {
    find().context("no compiler for the kernel object: run `cargo xtask setup`")
}

/// Makes one ready.
///
/// # Errors
/// When every way fails.
pub fn install() -> Result<()> {
    if find().is_some() {
        return Ok(());
    }
    let why = "the kernel object is built with the library's source";
    for name in NIGHTLIES.into_iter().filter(|name| usable(name)) {
        announce(&format!("rust-src for {name}"), why)?;
        let arguments = ["component", "add", "rust-src", "--toolchain", name];
        match command::run(&mut command("rustup", arguments)) {
            Ok(()) if has_source(name) => return Ok(()),
            Ok(()) => {}
            Err(error) => eprintln!("setup: {error:#}; trying the next way"),
        }
    }
    announce(&DEBIAN.join(" "), why)?;
    debian::fetch(&DEBIAN)?;
    if find().is_some() {
        return Ok(());
    }
    let nightly = NIGHTLIES[1];
    bail!(
        "no compiler for the kernel object: install one with `rustup toolchain install {nightly} --component rust-src`"
    )
}

/// Whether a rustup toolchain is installed and its LLVM is no newer than bpf-linker's.
fn usable(name: &str) -> bool {
    // Auto-installation, where it is on, must not fetch a toolchain because of a question.
    let mut version = command("rustup", ["run", name, "rustc", "-vV"]);
    output(version.env("RUSTUP_AUTO_INSTALL", "0"))
        .is_ok_and(|text| llvm_major(&text).is_some_and(|major| major <= LLVM))
}

fn has_source(name: &str) -> bool {
    let mut sysroot = command("rustup", ["run", name, "rustc", "--print", "sysroot"]);
    output(&mut sysroot).is_ok_and(|path| source_in(path.trim()))
}

fn debian_is_ready() -> bool {
    let mut version = Command::new("/usr/bin/rustc");
    let recent = output(version.arg("-vV"))
        .is_ok_and(|text| llvm_major(&text).is_some_and(|major| major <= LLVM));
    let mut sysroot = Command::new("/usr/bin/rustc");
    recent
        && output(sysroot.args(["--print", "sysroot"])).is_ok_and(|path| source_in(path.trim()))
        && succeeds(&mut command("cargo", ["--version"]))
}

fn source_in(sysroot: &str) -> bool {
    let library = Path::new(sysroot).join("lib/rustlib/src/rust/library/core/src/lib.rs");
    fs::exists(library).unwrap_or(false)
}

/// `LLVM version: 22.1.4` in `rustc -vV`.
fn llvm_major(version: &str) -> Option<u32> {
    let line = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    line.split('.').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compilers_llvm_is_read() {
        let version = "rustc 1.97.0-nightly\nrelease: 1.97.0-nightly\nLLVM version: 22.1.4\n";
        assert_eq!(llvm_major(version), Some(22));
        assert_eq!(llvm_major("rustc 1.97.0"), None);
    }

    #[test]
    fn debians_compiler_is_told_to_accept_unstable_flags() {
        let cargo = Toolchain::Debian.cargo();
        let set: Vec<_> = cargo.get_envs().filter(|(_, value)| value.is_some()).collect();
        assert_eq!(set.len(), 2, "{set:?}");
    }
}
