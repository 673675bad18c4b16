//! `cargo xtask deb`: a Debian package, by dpkg-deb.

use crate::command::{self, command};
use crate::{build, paths};
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const MAINTAINER: &str = "kernspan maintainers <kernspan@localhost>";

/// Files of the tree that go in: from, to, mode.
const FILES: [(&str, &str, u32); 11] = [
    ("README.md", "usr/share/doc/kernspan/README.md", 0o644),
    ("deploy/collector/config.yaml", "usr/share/doc/kernspan/examples/collector.yaml", 0o644),
    ("deploy/jaeger/config.yaml", "usr/share/doc/kernspan/examples/jaeger.yaml", 0o644),
    ("deploy/prometheus/prometheus.yml", "usr/share/doc/kernspan/examples/prometheus.yml", 0o644),
    ("deploy/debian/copyright", "usr/share/doc/kernspan/copyright", 0o644),
    ("deploy/debian/lintian-overrides", "usr/share/lintian/overrides/kernspan", 0o644),
    ("deploy/debian/environment", "etc/kernspan/environment", 0o600),
    ("deploy/debian/kernspan.yaml", "etc/kernspan/kernspan.yaml", 0o600),
    ("deploy/debian/postinst", "DEBIAN/postinst", 0o755),
    ("deploy/debian/prerm", "DEBIAN/prerm", 0o755),
    ("deploy/debian/postrm", "DEBIAN/postrm", 0o755),
];

/// What the package's unit has in place of the plain one's: its program, and a file of options.
const UNIT: [(&str, &str); 3] = [
    (
        "/usr/local/bin/kernspan run --listen 127.0.0.1:9464",
        "/usr/bin/kernspan run --config /etc/kernspan/kernspan.yaml",
    ),
    ("# With --config FILE above, the file is read again; without, this would end it.\n", ""),
    ("#ExecReload=", "ExecReload="),
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
    /// Have lintian look at it (`apt-get install lintian`), which may have nothing to say.
    #[arg(long)]
    check: bool,
}

/// Builds the package and says where it is.
pub fn run(options: &Options) -> Result<()> {
    let binary = build::agent(options.built.as_deref())?;
    let version = env!("CARGO_PKG_VERSION");
    let default = || directory().join(format!("kernspan_{version}_amd64.deb"));
    let package = options.output.clone().unwrap_or_else(default);
    make(&binary, version, "xz", &package)?;
    if options.check {
        let mut lintian = command("lintian", ["--fail-on", "error,warning"]);
        command::run(lintian.arg("--allow-root").arg(&package))?;
    }
    println!("deb: {}", package.display());
    Ok(())
}

/// Where packages lie.
pub fn directory() -> PathBuf {
    paths::target().join("debian")
}

/// Makes the package of a binary, under a version, compressed in this way (`none`: not).
pub fn make(binary: &Path, version: &str, compression: &str, package: &Path) -> Result<()> {
    let tree = directory().join("tree");
    let _ = fs::remove_dir_all(&tree);
    fill(&tree, binary, version)?;
    let mut dpkg = command("dpkg-deb", ["--root-owner-group"]);
    dpkg.arg(format!("-Z{compression}")).arg("--build");
    command::run(dpkg.arg(&tree).arg(package))?;
    fs::remove_dir_all(&tree)?;
    Ok(())
}

fn fill(tree: &Path, binary: &Path, version: &str) -> Result<()> {
    for (from, to, mode) in FILES {
        let bytes = fs::read(paths::root().join(from)).with_context(|| from.to_owned())?;
        write(tree, to, &bytes, mode)?;
    }
    let mut unit = fs::read_to_string(paths::root().join("deploy/systemd/kernspan.service"))?;
    for (plain, here) in UNIT {
        ensure!(unit.contains(plain), "the unit has no `{plain}`");
        unit = unit.replace(plain, here);
    }
    write(tree, "usr/lib/systemd/system/kernspan.service", unit.as_bytes(), 0o644)?;
    write(tree, "usr/bin/kernspan", &fs::read(binary)?, 0o755)?;
    command::run(command("strip", ["--strip-all"]).arg(tree.join("usr/bin/kernspan")))?;
    changelog(tree, version)?;
    let settings = FILES.iter().filter(|(_, to, _)| to.starts_with("etc/"));
    let settings: String = settings.map(|(_, to, _)| format!("/{to}\n")).collect();
    write(tree, "DEBIAN/conffiles", settings.as_bytes(), 0o644)?;
    write(tree, "DEBIAN/control", control(tree, version)?.as_bytes(), 0o644)
}

/// The project's changes, and Debian's form of saying which version this is.
fn changelog(tree: &Path, version: &str) -> Result<()> {
    let changes = paths::root().join("CHANGELOG.md");
    let mut date = command("date", ["--utc", "--rfc-email", "--reference"]);
    let date = command::output(date.arg(&changes))?;
    let entry = format!(
        "kernspan ({version}) stable; urgency=medium\n\n  * What has changed is in NEWS.gz.\n\n \
         -- {MAINTAINER}  {date}"
    );
    for (name, bytes) in [("changelog", entry.into_bytes()), ("NEWS", fs::read(changes)?)] {
        let to = format!("usr/share/doc/kernspan/{name}");
        write(tree, &to, &bytes, 0o644)?;
        command::run(command("gzip", ["--best", "--no-name"]).arg(tree.join(&to)))?;
    }
    Ok(())
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
fn control(tree: &Path, version: &str) -> Result<String> {
    let libc = command::output(&mut command("getconf", ["GNU_LIBC_VERSION"]))?;
    let libc = libc.trim().strip_prefix("glibc ").context("no GNU C library")?.to_owned();
    let size = fs::metadata(tree.join("usr/bin/kernspan"))?.len().div_ceil(1024);
    Ok(format!(
        "Package: kernspan\nVersion: {version}\nArchitecture: amd64\nSection: admin\n\
         Priority: optional\nMaintainer: {MAINTAINER}\n\
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
