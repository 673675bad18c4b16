//! One process's directory in /proc. It stays that process's: once the process is gone, reads
//! fail, also when its number is in use again.

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, openat, readlinkat, statat};
use rustix::io::{Errno, read};
use std::os::fd::OwnedFd;
use std::path::Path;

pub(super) struct ProcDir(OwnedFd);

impl ProcDir {
    pub(super) fn open(root: &Path, tgid: u32) -> Result<ProcDir, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, root.join(tgid.to_string()), flags, Mode::empty()).map(ProcDir)
    }

    /// Reads at most `limit` bytes of a file into `buffer`.
    pub(super) fn read(&self, name: &str, limit: usize, buffer: &mut Vec<u8>) -> Result<(), Errno> {
        let file = openat(&self.0, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        buffer.resize(limit, 0);
        let mut filled = 0;
        while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
            match read(&file, room) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(error) => {
                    buffer.clear();
                    return Err(error);
                }
            }
        }
        buffer.truncate(filled);
        Ok(())
    }

    /// Number of entries of a directory. Linux 6.2 and later tell it as the size of `fd`, where older
    /// ones say 0 (fs/proc/fd.c).
    pub(super) fn entries(&self, name: &str) -> Result<u64, Errno> {
        let told = statat(&self.0, name, AtFlags::empty())?.st_size;
        if let Ok(told @ 1..) = u64::try_from(told) {
            return Ok(told);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let entries = Dir::new(openat(&self.0, name, flags, Mode::empty())?)?;
        let names = entries.filter_map(Result::ok);
        Ok(names.filter(|entry| !entry.file_name().to_bytes().starts_with(b".")).count() as u64)
    }

    /// Target of a link.
    pub(super) fn link(&self, name: &str) -> Result<String, Errno> {
        let target = readlinkat(&self.0, name, Vec::new())?;
        Ok(String::from_utf8_lossy(target.as_bytes()).into_owned())
    }
}
