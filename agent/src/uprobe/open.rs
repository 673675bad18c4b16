//! Opening what other processes name, which may be anything: a pipe that nobody writes to, a device, a link out
//! of a container. What is found is looked at before it is opened, and only a regular file is.

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, open, openat, openat2};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A place in a tree of directories, found and not opened: no driver has been asked yet.
const FOUND: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// The regular file at a path of the agent's own.
pub fn regular(path: &Path) -> Option<File> {
    readable(openat(CWD, path, FOUND, Mode::empty()).ok()?)
}

/// The regular file that the process sees at `path`. `inode`: what it is expected to be, which decides where
/// the kernel cannot keep links within the process's root.
pub fn seen_by(pid: u32, path: &Path, inode: u64) -> Option<File> {
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    let root = open(root, FOUND | OFlags::DIRECTORY, Mode::empty()).ok()?;
    within(&root, path, inode, true)
}

fn within(root: &OwnedFd, path: &Path, inode: u64, confined: bool) -> Option<File> {
    let path = path.strip_prefix("/").ok()?;
    let found = match confined {
        true => openat2(root, path, FOUND, Mode::empty(), ResolveFlags::IN_ROOT),
        false => Err(Errno::NOSYS),
    };
    match found {
        Ok(found) => readable(found),
        // Before 5.6, or behind a filter of system calls that does not know it.
        Err(Errno::NOSYS | Errno::PERM) => {
            let found = openat(root, path, FOUND, Mode::empty()).ok()?;
            (fstat(&found).ok()?.st_ino == inode).then(|| readable(found)).flatten()
        }
        Err(_) => None,
    }
}

/// Opens what has been found, when it is a regular file.
fn readable(found: OwnedFd) -> Option<File> {
    let is_file = FileType::from_raw_mode(fstat(&found).ok()?.st_mode) == FileType::RegularFile;
    let path = is_file.then(|| format!("/proc/self/fd/{}", found.as_raw_fd()))?;
    // A lease on the file is not waited for.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    open(path, flags, Mode::empty()).ok().map(File::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uprobe::find::{Mapping, of_process};
    use rustix::fs::mkfifoat;
    use std::io::Read;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::process::{Command, Stdio};
    use std::sync::mpsc;
    use std::time::Duration;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("kernspan-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// As of a mapping that is gone: its path is all that is left.
    fn gone(path: &Path) -> Mapping {
        let inode = path.metadata().map_or(7, |meta| meta.ino());
        Mapping {
            pid: std::process::id(),
            range: "1000-2000".to_owned(),
            inode: ("fd:01".to_owned(), inode),
            path: path.to_owned(),
        }
    }

    /// Opens in a thread of its own, which may wait for ever.
    fn opened(path: &Path) -> Option<File> {
        let (mapping, (to, from)) = (gone(path), mpsc::channel());
        std::thread::spawn(move || to.send(mapping.open()));
        from.recv_timeout(Duration::from_secs(10)).expect("nobody is waited for")
    }

    #[test]
    fn pipes_and_devices_at_a_librarys_path_are_left_alone() {
        let dir = directory("open-kinds");
        let [pipe, device, file, link] =
            ["pipe", "device", "file", "link"].map(|name| dir.join(name));
        mkfifoat(CWD, &pipe, 0o600.into()).unwrap();
        symlink("/dev/zero", &device).unwrap();
        std::fs::write(&file, b"library").unwrap();
        symlink(&file, &link).unwrap();
        assert!(opened(&pipe).is_none(), "a pipe");
        assert!(opened(&device).is_none(), "a link to a device");
        assert!(opened(&dir).is_none(), "a directory");
        assert!(opened(&dir.join("none")).is_none(), "nothing");
        for path in [&file, &link] {
            let mut text = String::new();
            opened(path).expect("a file").read_to_string(&mut text).unwrap();
            assert_eq!(text, "library");
        }
        assert!(regular(&pipe).is_none() && regular(&file).is_some());
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn links_stay_within_the_processs_root() {
        let dir = directory("open-root");
        let (root, outside) = (dir.join("root"), dir.join("outside"));
        std::fs::create_dir(&root).unwrap();
        std::fs::write(&outside, b"outside").unwrap();
        std::fs::write(root.join("inside"), b"inside").unwrap();
        symlink("/inside", root.join("absolute")).unwrap();
        symlink(&outside, root.join("escape")).unwrap();
        symlink("../outside", root.join("upwards")).unwrap();
        let inode = root.join("inside").metadata().unwrap().ino();
        let fd = open(&root, FOUND | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let inode_of = |name: &str, confined| {
            let file = within(&fd, Path::new(name), inode, confined)?;
            Some(file.metadata().unwrap().ino())
        };
        assert_eq!(inode_of("/absolute", true), Some(inode));
        for name in ["/escape", "/upwards", "relative"] {
            assert_eq!(inode_of(name, true), None, "{name}");
            assert_eq!(inode_of(name, false), None, "{name}, by its inode");
        }
        assert_eq!(inode_of("/inside", false), Some(inode));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    /// A file that has been deleted is opened as long as it is mapped, and another at its path is not taken for it.
    #[test]
    fn a_deleted_file_is_opened_while_it_is_mapped() {
        let dir = directory("open-deleted");
        let program = dir.join("program");
        // By another process: one that a test starts meanwhile would inherit the open copy, and it could not be run.
        let copied = Command::new("cp").arg("/bin/cat").arg(&program).status().unwrap();
        assert!(copied.success());
        let inode = program.metadata().unwrap().ino();
        let mut child =
            Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // It has begun once it answers.
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        std::fs::remove_file(&program).unwrap();
        mkfifoat(CWD, &program, 0o600.into()).unwrap();
        let mappings = of_process(child.id());
        let mapping = mappings.iter().find(|mapping| mapping.inode.1 == inode).expect("its code");
        let is_root = rustix::process::geteuid().is_root();
        let opened = mapping.open().map(|file| file.metadata().unwrap().ino());
        // `map_files` is for root alone.
        assert_eq!(opened, is_root.then_some(inode));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(mapping.open().is_none(), "its process has gone");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
