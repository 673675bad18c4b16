//! Names of users, out of the host's `/etc/passwd`.

use agent_core::process::proc;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Bytes read of the file: a hundred thousand users.
const MAX_FILE: u64 = 8 * 1024 * 1024;

/// How often a change of the file is looked for.
const RECHECK: Duration = Duration::from_secs(10);

/// The host's users by number. Users of network directories are not in the file: no name.
pub(super) struct UserNames {
    path: PathBuf,
    names: HashMap<u32, String>,
    modified: Option<SystemTime>,
    checked: Option<Instant>,
}

impl UserNames {
    /// The file of the first process's root, which is the host's also from within a container
    /// that sees the host's processes; else our own.
    pub(super) fn of_host(proc_root: &Path) -> Self {
        let host = proc_root.join("1/root/etc/passwd");
        let path = if host.exists() { host } else { PathBuf::from("/etc/passwd") };
        Self::of_file(path)
    }

    pub(super) fn of_file(path: PathBuf) -> Self {
        UserNames { path, names: HashMap::new(), modified: None, checked: None }
    }

    /// The name of a user, empty when there is none.
    pub(super) fn name(&mut self, uid: u32) -> &str {
        if self.checked.is_none_or(|checked| checked.elapsed() > RECHECK) {
            self.checked = Some(Instant::now());
            self.reload();
        }
        self.names.get(&uid).map_or("", String::as_str)
    }

    fn reload(&mut self) {
        let Ok(file) = File::open(&self.path) else { return };
        let modified = file.metadata().and_then(|metadata| metadata.modified()).ok();
        if modified.is_some() && modified == self.modified {
            return;
        }
        let mut bytes = Vec::new();
        if file.take(MAX_FILE).read_to_end(&mut bytes).is_ok() {
            self.names = proc::users(&String::from_utf8_lossy(&bytes));
            self.modified = modified;
        }
    }
}
