//! An SDK that publishes its trace context by thread (OTEP 4947): Datadog's for Python is the first that is
//! released with it. Kept outside the tree by version.

use super::{Level, announce};
use crate::command::{self, command};
use crate::paths;
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;

const DDTRACE: &str = "4.16.0";

/// Debian's interpreter, as in the tests.
const PYTHON: &str = "/usr/bin/python3";

fn directory() -> PathBuf {
    paths::cache("ddtrace").join(DDTRACE)
}

/// Installs it for the test of published contexts. Where there is no pip, that test goes without, and says
/// so.
pub fn install(level: Level) -> Result<()> {
    if level < Level::Test || directory().join("ddtrace/__init__.py").is_file() {
        return Ok(());
    }
    // Any pip serves: it is told for which interpreter.
    let pip = ["python3", PYTHON]
        .into_iter()
        .find(|python| command::succeeds(&mut command(python, ["-m", "pip", "--version"])));
    let Some(pip) = pip else {
        println!("setup: no pip, so no SDK that publishes thread contexts: a test skips it");
        return Ok(());
    };
    announce(&format!("ddtrace {DDTRACE}"), "a test of published thread contexts; 60 MB")?;
    let print = "import sys; print('%d.%d' % sys.version_info[:2])";
    let version = command::output(&mut command(PYTHON, ["-c", print]))?;
    // Whole or not at all: a run that was cut off leaves nothing that looks complete.
    let unfinished = paths::cache("ddtrace").join("unfinished");
    let _ = fs::remove_dir_all(&unfinished);
    let mut install = command(pip, ["-m", "pip", "install", "--quiet", "--only-binary=:all:"]);
    install.args(["--python-version", version.trim(), "--target"]).arg(&unfinished);
    command::run(install.arg(format!("ddtrace=={DDTRACE}")))?;
    fs::rename(&unfinished, directory()).context("the SDK's directory")
}
