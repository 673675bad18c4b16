//! `cargo xtask deb`: a Debian package, by dpkg-deb.

use crate::command::{self, command};
use crate::{build, paths};
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Files of the tree that go in: from, to, mode.
const FILES: [(&str, &str, u32); 7] = [
    ("LICENSE", "usr/share/doc/kernspan/copyright", 0o644),
    ("README.md", "usr/share/doc/kernspan/README.md", 0o644),
    ("deploy/collector/config.yaml", "usr/share/doc/kernspan/examples/collector.yaml", 0o644),
    ("deploy/debian/environment", "etc/kernspan/environment", 0o600),
    ("deploy/debian/postinst", "DEBIAN/postinst", 0o755),
    ("deploy/debian/prerm", "DEBIAN/prerm", 0o755),
    ("deploy/debian/postrm", "DEBIAN/postrm", 0o755),
];

/// What to make.
#[derive(Debug, Args)]
pub struct Options {
    /// Use this binary instead of building one.
    #[arg(long)]
    built: Option<PathBuf>,
    /// The package [default: target/debian/kernspan_VERSION_amd64.deb].
    #[arg(long)]
    output: Option<PathBuf>,
}

/// Builds the package and says where it is.
pub fn run(options: &Options) -> Result<()> {
    let binary = build::agent(options.built.as_deref())?;
    let directory = paths::target().join("debian");
    let default = || directory.join(format!("kernspan_{}_amd64.deb", env!("CARGO_PKG_VERSION")));
    let package = options.output.clone().unwrap_or_else(default);
    let tree = directory.join("tree");
    let _ = fs::remove_dir_all(&tree);
    fill(&tree, &binary)?;
    let mut dpkg = command("dpkg-deb", ["--root-owner-group", "--build"]);
    command::run(dpkg.arg(&tree).arg(&package))?;
    fs::remove_dir_all(&tree)?;
    println!("deb: {}", package.display());
    Ok(())
}

fn fill(tree: &Path, binary: &Path) -> Result<()> {
    for (from, to, mode) in FILES {
        let bytes = fs::read(paths::root().join(from)).with_context(|| from.to_owned())?;
        write(tree, to, &bytes, mode)?;
    }
    let unit = fs::read_to_string(paths::root().join("deploy/systemd/kernspan.service"))?;
    let here = unit.replace("/usr/local/bin/kernspan", "/usr/bin/kernspan");
    ensure!(here != unit, "the unit does not start /usr/local/bin/kernspan");
    write(tree, "usr/lib/systemd/system/kernspan.service", here.as_bytes(), 0o644)?;
    write(tree, "usr/bin/kernspan", &fs::read(binary)?, 0o755)?;
    command::run(command("strip", ["--strip-all"]).arg(tree.join("usr/bin/kernspan")))?;
    write(tree, "DEBIAN/conffiles", b"/etc/kernspan/environment\n", 0o644)?;
    write(tree, "DEBIAN/control", control(tree)?.as_bytes(), 0o644)
}

fn write(tree: &Path, to: &str, bytes: &[u8], mode: u32) -> Result<()> {
    let path = tree.join(to);
    let parent = path.parent().context("no directory")?;
    fs::create_dir_all(parent)?;
    // Whatever the umask: dpkg gives new directories the modes that they have here.
    for directory in parent.ancestors().take_while(|directory| directory.starts_with(tree)) {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    }
    fs::write(&path, bytes).with_context(|| path.display().to_string())?;
    fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    Ok(())
}

/// What it needs is the C library that it was linked against, or a newer one.
fn control(tree: &Path) -> Result<String> {
    let libc = command::output(&mut command("getconf", ["GNU_LIBC_VERSION"]))?;
    let libc = libc.trim().strip_prefix("glibc ").context("no GNU C library")?.to_owned();
    let size = fs::metadata(tree.join("usr/bin/kernspan"))?.len().div_ceil(1024);
    let version = env!("CARGO_PKG_VERSION");
    Ok(format!(
        "Package: kernspan\nVersion: {version}\nArchitecture: amd64\nSection: admin\n\
         Priority: optional\nMaintainer: kernspan maintainers <kernspan@localhost>\n\
         Installed-Size: {size}\nDepends: libc6 (>= {libc}), libgcc-s1\n\
         Description: traces, metrics and security events of unchanged programs\n \
         Watches from the Linux kernel with eBPF and sends spans, request metrics and\n \
         events over OTLP: no SDK, no restart, no change to the programs.\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_everybodys_to_enter() -> Result<()> {
        let place = std::env::temp_dir().join(format!("kernspan-deb-{}", std::process::id()));
        let tree = place.join("tree");
        // As a umask of 077 makes them.
        let made = tree.join("usr/share");
        fs::create_dir_all(&made)?;
        for directory in [&place, &tree, &tree.join("usr"), &made] {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
        }
        let written = write(&tree, "usr/share/doc/file", b"x", 0o644);
        let mode = |path: &Path| Ok(fs::metadata(path)?.permissions().mode() & 0o777);
        let modes: Result<Vec<u32>> =
            [&place, &tree, &tree.join("usr"), &made].into_iter().map(|path| mode(path)).collect();
        fs::remove_dir_all(&place)?;
        written?;
        assert_eq!(modes?, [0o700, 0o755, 0o755, 0o755]);
        Ok(())
    }
}
