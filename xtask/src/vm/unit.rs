//! systemd in a guest, with the unit in deploy, then with the Debian package.

use super::{kernels, run};
use crate::{build, deb, paths};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the boot and all of it may take: a minute and a half where nothing else runs.
pub(super) const LIMIT: Duration = Duration::from_secs(360);

/// Boots systemd and examines the service, and what dpkg makes of it.
pub(super) fn examine(limit: Duration) -> Result<()> {
    let built = std::env::var_os("KERNSPAN_BIN").map(PathBuf::from);
    let agent = build::agent(built.as_deref())?;
    let [first, second] = packages(&agent)?;
    let kernels = kernels::choose(&["6.12".to_owned()])?;
    let kernel = kernels.first().context("no kernel 6.12")?;
    let script = format!(
        "export KERNSPAN_VM_KERNEL='{}'\nexec sh '{}' '{}' '{}' '{}'",
        paths::cache("kernels").join(kernel.series).display(),
        paths::root().join("tests/vm/systemd.sh").display(),
        agent.display(),
        first.display(),
        second.display()
    );
    let output = run(kernel, &script, limit)?;
    print!("{}", output.text);
    ensure!(output.status == 0, "kernspan.service: the examination ended with {}", output.status);
    Ok(())
}

/// Two packages of one binary, the second of which is newer to dpkg.
fn packages(agent: &Path) -> Result<[PathBuf; 2]> {
    let version = env!("CARGO_PKG_VERSION");
    let make = |version: &str| {
        let package = deb::directory().join(format!("test_{version}.deb"));
        deb::make(agent, version, "none", &package).map(|()| package)
    };
    Ok([make(version)?, make(&format!("{version}+1"))?])
}
