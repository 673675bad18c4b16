//! Containers of one image: overlays above one layer, each the root of its processes.

use crate::process::{Process, output};
use crate::scenario::Scenario;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A container's root. Unmounted when dropped.
#[derive(Debug)]
pub struct Container {
    root: PathBuf,
    name: String,
    dir: PathBuf,
}

impl Container {
    /// Mounts a root above `image`. `None` where the kernel has no overlayfs.
    ///
    /// # Panics
    /// When it cannot be mounted.
    pub fn of(scenario: &Scenario, image: &Path, name: &str) -> Option<Container> {
        let systems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        let has_overlay = systems.lines().any(|line| line.ends_with("\toverlay"));
        // Where it is a module, this is how it gets loaded.
        let loaded = || Command::new("modprobe").arg("overlay").status();
        if !has_overlay && !loaded().is_ok_and(|status| status.success()) {
            return None;
        }
        let parts = ["upper", "work", "root"].map(|part| scenario.path(&format!("{name}-{part}")));
        for part in &parts {
            std::fs::create_dir(part).expect("a directory");
        }
        let [upper, work, root] = parts;
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            image.display(),
            upper.display(),
            work.display()
        );
        output(Command::new("mount").args(["-t", "overlay", "none", "-o", &options]).arg(&root));
        Some(Container { root, name: name.to_owned(), dir: scenario.dir().to_owned() })
    }

    /// Its root, seen from outside.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Starts a program in it, in a mount namespace of its own.
    pub fn start(&self, program: &str, arguments: &[&str]) -> Process {
        let mut command = Command::new("unshare");
        command.args(["--mount", "chroot"]).arg(&self.root).arg(program).args(arguments);
        let number = std::fs::read_dir(&self.dir).map_or(0, Iterator::count);
        Process::start(command, &self.dir, &format!("{}-{number}", self.name))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Lazily: a program that is still ending holds it.
        let _ = Command::new("umount").arg("-l").arg(&self.root).output();
    }
}
