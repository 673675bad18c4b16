//! One scenario at a time: permission, temporary directory, scale.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A scenario that may run. Holds the machine-wide lock: two agents and their loads side by side
/// would only test the scheduler.
#[derive(Debug)]
pub struct Scenario {
    dir: TempDir,
    _lock: File,
}

impl Scenario {
    /// Begins `name`, or prints `SKIP name: reason` and returns `None` when this machine lacks
    /// root, the agent's binary, or one of `programs`.
    ///
    /// # Panics
    /// When it cannot run and `KERNSPAN_REQUIRE` is set.
    pub fn begin(name: &str, programs: &[&str]) -> Option<Scenario> {
        let reason = missing_agent().or_else(|| missing(programs));
        Scenario::begin_unless(name, reason)
    }

    /// The same for what needs no agent: the workloads' own tests.
    pub fn begin_without_agent(name: &str, programs: &[&str]) -> Option<Scenario> {
        Scenario::begin_unless(name, missing(programs))
    }

    fn begin_unless(name: &str, reason: Option<String>) -> Option<Scenario> {
        if let Some(reason) = reason {
            skip(name, &reason);
            return None;
        }
        let lock = File::create(std::env::temp_dir().join("kernspan-scenarios.lock"))
            .expect("the lock file can be made");
        lock.lock().expect("the lock can be taken");
        let dir = tempfile::Builder::new().prefix("kernspan-").tempdir().expect("a directory");
        // Programs that drop root (nginx workers, the replaying user) read files in it.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755))
            .expect("its mode can be set");
        Some(Scenario { dir, _lock: lock })
    }

    /// A path inside the scenario's own directory, gone at its end.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file into the scenario's directory, readable by all.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).expect("a file in the scenario's directory");
        path
    }
}

/// Prints why `name` does not run.
///
/// # Panics
/// When `KERNSPAN_REQUIRE` is set: a skip then counts as a failure.
pub fn skip(name: &str, reason: &str) {
    assert!(std::env::var_os("KERNSPAN_REQUIRE").is_none(), "{name} must run, but: {reason}");
    say(&format!("SKIP {name}: {reason}"));
}

/// Prints a line past the test harness, which shows what `println!` prints only on failure: skips
/// and figures belong into the log of every run.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// `quick` normally, `full` with `KERNSPAN_SCALE=full`.
pub fn scaled(quick: u64, full: u64) -> u64 {
    if std::env::var("KERNSPAN_SCALE").is_ok_and(|scale| scale == "full") { full } else { quick }
}

/// The agent's binary: `KERNSPAN_BIN`, else `target/release/kernspan` of this workspace.
pub fn binary() -> PathBuf {
    std::env::var_os("KERNSPAN_BIN").map_or_else(default_binary, PathBuf::from)
}

fn default_binary() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace.join("target"), PathBuf::from);
    target.join("release/kernspan")
}

/// A directory of the tests crate, for example `workloads`.
pub fn crate_dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn missing_agent() -> Option<String> {
    let binary = binary();
    if !rustix::process::geteuid().is_root() {
        return Some("not root".to_owned());
    }
    (!binary.is_file()).then(|| format!("no agent at {}", binary.display()))
}

fn missing(programs: &[&str]) -> Option<String> {
    let absent: Vec<_> = programs.iter().copied().filter(|p| find_program(p).is_none()).collect();
    (!absent.is_empty()).then(|| format!("not installed: {}", absent.join(", ")))
}

/// Where a program lies, looked for where Debian puts them, and where Go's own archive is unpacked.
pub fn find_program(name: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/go/bin"]
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.is_file())
}

/// A program that `cargo xtask setup` built: `CACHE/SUBJECT/VERSION/NAME`, the cache being
/// `$KERNSPAN_CACHE`, `$XDG_CACHE_HOME/kernspan` or `~/.cache/kernspan`.
pub fn tool(subject: &str, name: &str) -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let cache = variable("KERNSPAN_CACHE")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("kernspan")))
        .or_else(|| Some(variable("HOME")?.join(".cache/kernspan")))?;
    let versions = std::fs::read_dir(cache.join(subject)).ok()?;
    let programs = versions.filter_map(|version| Some(version.ok()?.path().join(name)));
    programs.filter(|program| program.is_file()).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named() {
        assert_eq!(missing(&["sh"]), None);
        assert_eq!(
            missing(&["sh", "no-such-program"]).as_deref(),
            Some("not installed: no-such-program")
        );
    }

    #[test]
    fn the_directory_goes_with_the_scenario() {
        let scenario = Scenario::begin_without_agent("directory", &[]).unwrap();
        let file = scenario.file("x", b"x");
        assert!(file.exists());
        drop(scenario);
        assert!(!file.exists());
    }
}
