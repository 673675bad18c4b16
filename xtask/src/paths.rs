//! Where things lie: the tree, the build directory, the cache outside the tree.

use std::env;
use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// The build directory of the workspace (`CARGO_TARGET_DIR`, else `target`).
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The agent as `cargo xtask build` leaves it.
pub fn agent() -> PathBuf {
    target().join("release/kernspan")
}

/// A directory for what is fetched or built once, kept by version:
/// `$KERNSPAN_CACHE`, `$XDG_CACHE_HOME/kernspan` or `~/.cache/kernspan`.
pub fn cache(subject: &str) -> PathBuf {
    let base = env::var_os("KERNSPAN_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .unwrap_or_else(|| home().join(".cache"))
            .join("kernspan")
    });
    base.join(subject)
}

fn home() -> PathBuf {
    env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from)
}

/// A program of the machine, looked for where Debian installs programs, then on `PATH`.
/// Version managers put shims of python3 and node first on `PATH`; tests need Debian's.
pub fn program(name: &str) -> Option<PathBuf> {
    let debian = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    debian
        .into_iter()
        .chain(env::split_paths(&path))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}
