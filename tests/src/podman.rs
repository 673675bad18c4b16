//! Containers by podman and runc, in a storage and cgroups of the scenario's own.

use crate::process::{Process, output};
use crate::scenario::Scenario;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Podman with nothing of the machine's. What it made is removed when dropped.
#[derive(Debug)]
pub struct Podman {
    dir: PathBuf,
    parent: String,
}

impl Podman {
    /// For a scenario.
    pub fn new(scenario: &Scenario) -> Podman {
        let parent = format!("kernspan-{}", std::process::id());
        Podman { dir: scenario.path("podman"), parent }
    }

    fn command(&self) -> Command {
        let at = |name: &str| self.dir.join(name);
        let mut podman = Command::new("podman");
        podman.arg("--root").arg(at("root")).arg("--runroot").arg(at("run"));
        // It tells other podmans what runs.
        podman.arg("--tmpdir").arg(at("tmp")).args(["--storage-driver", "vfs"]);
        podman.args(["--runtime", "runc", "--cgroup-manager", "cgroupfs"]);
        podman
    }

    /// `podman run` with these options; what follows is for the caller to add. Limits are what every
    /// machine can give.
    pub fn run(&self, options: &[&str]) -> Command {
        let mut podman = self.command();
        podman.args(["run", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"]);
        podman.args(["--cgroup-parent", &format!("/{}", self.parent)]).args(options);
        podman
    }

    /// Takes an image out of an archive.
    ///
    /// # Panics
    /// When it is none.
    pub fn load(&self, archive: &Path) {
        output(self.command().args(["load", "--quiet", "--input"]).arg(archive));
    }

    /// Starts what [`Podman::run`] was completed to.
    pub fn start(&self, command: Command, name: &str) -> Process {
        let parent = self.dir.parent().unwrap_or(&self.dir);
        Process::start(command, parent, name)
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.command().args(["rm", "--all", "--force", "--time", "0"]).output();
        let roots = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        let roots = roots.map(|root| root.path()).chain([PathBuf::from("/sys/fs/cgroup")]);
        roots.for_each(|root| remove(&root.join(&self.parent)));
    }
}

/// A cgroup and those in it: directories, which only go when nobody is in them.
fn remove(cgroup: &Path) {
    for inner in std::fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if inner.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&inner.path());
        }
    }
    let _ = std::fs::remove_dir(cgroup);
}
