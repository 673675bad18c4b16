//! Packages from the machine's own Debian sources.

use super::Level;
use crate::command;
use anyhow::{Context, Result, ensure};
use rustix::process::geteuid;
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

/// (level that needs it, package, what it is for)
const PACKAGES: &[(Level, &str, &str)] = &[
    (Level::Demo, "gcc", "C parts of dependencies, and test programs"),
    (Level::Demo, "libc6-dev", "headers for these"),
    (Level::Demo, "llvm-22-dev", "bpf-linker, the linker of the kernel object"),
    (Level::Demo, "libpolly-22-dev", "bpf-linker"),
    (Level::Demo, "llvm-22", "llvm-strip, for kernel objects"),
    (Level::Demo, "zlib1g-dev", "bpf-linker"),
    (Level::Demo, "ca-certificates", "fetching crates"),
    (Level::Demo, "nginx-light", "a program to watch"),
    (Level::Demo, "python3", "a program to watch"),
    (Level::Demo, "curl", "a program to watch"),
    (Level::Test, "g++", "the fuzzing engine"),
    (Level::Test, "nodejs", "a program to watch"),
    (Level::Test, "lighttpd", "a program to watch, with several TLS libraries"),
    (Level::Test, "lighttpd-mod-openssl", "lighttpd with OpenSSL"),
    (Level::Test, "lighttpd-mod-gnutls", "lighttpd with GnuTLS"),
    (Level::Test, "lighttpd-mod-nss", "lighttpd with NSS"),
    (Level::Test, "lighttpd-mod-mbedtls", "lighttpd with mbedTLS, which is not covered"),
    (Level::Test, "openjdk-17-jdk-headless", "the JVM's own TLS, which is not covered; 116 MB"),
    (Level::Test, "wget", "a client with GnuTLS"),
    (Level::Test, "apache2-bin", "a program to watch"),
    (Level::Test, "haproxy", "a program to watch"),
    (Level::Test, "caddy", "a program to watch, in Go"),
    (Level::Test, "gunicorn", "a program to watch"),
    (Level::Test, "python3-setproctitle", "gunicorn's and celery's titles"),
    (Level::Test, "uvicorn", "a program to watch"),
    (Level::Test, "celery", "a program to name"),
    (Level::Test, "supervisor", "a program that names others"),
    (Level::Test, "redis-server", "a program to name"),
    (Level::Test, "puma", "a program to watch, with Ruby"),
    (Level::Test, "php8.2-fpm", "a program to watch"),
    (Level::Test, "php8.2-cli", "a program to name"),
    (Level::Test, "tomcat10-common", "a program to watch"),
    (Level::Test, "python3-requests", "a client"),
    (Level::Test, "python3-httpx", "a client"),
    (Level::Test, "python3-aiohttp", "a client"),
    (Level::Test, "hey", "a load generator, in Go"),
    (Level::Test, "postgresql-15", "STARTTLS of its own"),
    (Level::Test, "apache2-utils", "ab, a load generator"),
    (Level::Test, "wrk", "a load generator"),
    (Level::Test, "prometheus", "what scrapes /metrics; 100 MB"),
    (Level::Test, "liburing-dev", "io_uring test programs"),
    (Level::Test, "bpftool", "what an ended agent may have left in the kernel"),
    (Level::Test, "iproute2", "network namespaces"),
    (Level::Test, "nftables", "loss and refusals in a namespace of a test"),
    (Level::Test, "util-linux", "unshare, setpriv"),
    (Level::Test, "buildah", "the image"),
    (Level::Test, "podman", "containers, also of the image"),
    (Level::Test, "runc", "the runtime of these"),
    (Level::Test, "openssl", "certificates for the export tests"),
    (Level::Test, "qemu-system-x86", "other kernels"),
    (Level::Test, "qemu-system-common", "virtiofsd, the host's files in a virtual machine"),
    (Level::Test, "systemd", "the unit in deploy, in a virtual machine"),
    (Level::Test, "busybox-static", "first program of kernels without built-in virtio-fs"),
];

/// Installs the packages that are missing.
///
/// # Errors
/// When packages are missing and this is not root, or apt-get fails.
pub fn install(level: Level) -> Result<()> {
    let missing = missing(level)?;
    if missing.is_empty() {
        return Ok(());
    }
    for (package, why) in &missing {
        super::announce(package, why)?;
    }
    let names: Vec<_> = missing.iter().map(|(package, _)| *package).collect();
    fetch(&names)
}

/// Updates the lists and installs packages, without starting their services.
pub fn fetch(packages: &[&str]) -> Result<()> {
    ensure!(geteuid().is_root(), "installing {} needs root", packages.join(", "));
    let _no_services = NoServices::hold()?;
    command::run(&mut apt_get(&["update", "-qq"]))?;
    let mut install = apt_get(&["install", "-qq", "-y", "--no-install-recommends"]);
    command::run(install.args(packages))
}

fn apt_get(arguments: &[&str]) -> Command {
    let mut apt = command::command("apt-get", arguments);
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    apt
}

fn missing(level: Level) -> Result<Vec<(&'static str, &'static str)>> {
    let wanted = || {
        let of_level = PACKAGES.iter().filter(move |(needed_by, _, _)| *needed_by <= level);
        of_level.map(|(_, package, why)| (*package, *why))
    };
    let mut query =
        command::command("dpkg-query", ["-W", "-f", "${binary:Package} ${db:Status-Status}\n"]);
    query.args(wanted().map(|(package, _)| package));
    // It fails when one is unknown, and still lists the others.
    let listed = query.output().context("dpkg-query is missing: set-up supports Debian")?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let installed = installed(&listed);
    Ok(wanted().filter(|(package, _)| !installed.contains(package)).collect())
}

/// Names of the installed packages; `zlib1g-dev:amd64 installed` counts as `zlib1g-dev`.
fn installed(listed: &str) -> HashSet<&str> {
    listed
        .lines()
        .filter_map(|line| line.strip_suffix(" installed"))
        .map(|name| name.split_once(':').map_or(name, |(package, _)| package))
        .collect()
}

/// Keeps packages from starting their services while it lives (`policy-rc.d`, Debian Policy 9.3.3).
/// A policy that the machine has already is left alone.
struct NoServices(Option<PathBuf>);

impl NoServices {
    fn hold() -> Result<NoServices> {
        let path = PathBuf::from("/usr/sbin/policy-rc.d");
        if path.exists() {
            return Ok(NoServices(None));
        }
        fs::write(&path, "#!/bin/sh\nexit 101\n").context("cannot write policy-rc.d")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(NoServices(Some(path)))
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(error) = self.0.as_ref().and_then(|path| fs::remove_file(path).err()) {
            eprintln!("setup: cannot remove policy-rc.d: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_installed_counts_with_and_without_architecture() {
        let listed =
            "wrk installed\nzlib1g-dev:amd64 installed\ncpio not-installed\nnginx config-files\n";
        let mut names: Vec<_> = installed(listed).into_iter().collect();
        names.sort_unstable();
        assert_eq!(names, ["wrk", "zlib1g-dev"]);
    }
}
