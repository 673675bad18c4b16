//! A cgroup of version 2 for a scenario's programs.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// A cgroup below others of the scenario's, all removed when dropped.
#[derive(Debug)]
pub struct Cgroup {
    /// Its directory.
    pub path: PathBuf,
    depth: usize,
}

impl Cgroup {
    /// `below` a directory of this test process's own. `None` where no cgroup can be made.
    pub fn make(below: &str) -> Option<Cgroup> {
        let root = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
        let root = root.into_iter().find(|root| root.join("cgroup.procs").exists())?;
        let path = root.join(format!("kernspan-tests-{}", std::process::id())).join(below);
        std::fs::create_dir_all(&path).ok()?;
        let depth = below.split('/').count();
        Some(Cgroup { path, depth })
    }

    /// The one directly above.
    pub fn parent(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// Moves a process into it.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn take(&self, pid: u32) {
        std::fs::write(self.path.join("cgroup.procs"), pid.to_string()).expect("a process moved");
    }

    /// Words to start a command by, in it from its first instruction on.
    pub fn wrap(&self) -> Vec<String> {
        let script = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", self.path.display());
        ["/bin/sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A cgroup can go once its last process has been reaped.
        for _ in 0..100 {
            let mut directories = self.path.ancestors().take(self.depth + 1);
            if directories.all(|directory| std::fs::remove_dir(directory).is_ok()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
