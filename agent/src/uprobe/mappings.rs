//! Executable mappings as they are made, by any process: programs that start, libraries that they load.
//!
//! The kernel tells of them through perf's side channel (`PERF_RECORD_MMAP2`), at the mapping itself: no
//! polling, and nothing is missed that lives only for a moment.

use super::find::Mapping;
use super::sys::MappingRing;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

const PERF_RECORD_LOST: u32 = 2;
const PERF_RECORD_MMAP2: u32 = 10;

/// Rings of all CPUs.
pub struct Mappings {
    rings: Vec<MappingRing>,
    /// Mappings that the kernel had no room for.
    pub lost: u64,
}

impl Mappings {
    /// Watches every CPU that is in use.
    ///
    /// # Errors
    /// The kernel's, when it offers none of it.
    pub fn open() -> io::Result<Mappings> {
        let cpus = aya::util::online_cpus().map_err(|(_, error)| error)?;
        let rings = cpus.into_iter().filter_map(|cpu| i32::try_from(cpu).ok());
        let rings: io::Result<Vec<_>> = rings.map(MappingRing::open).collect();
        Ok(Mappings { rings: rings?, lost: 0 })
    }

    /// Waits for one, at most so long.
    pub fn wait(&self, at_most: Duration) {
        let mut fds: Vec<_> = self
            .rings
            .iter()
            .map(|ring| PollFd::from_borrowed_fd(ring.as_fd(), PollFlags::IN))
            .collect();
        let timeout = Timespec {
            tv_sec: at_most.as_secs() as i64,
            tv_nsec: i64::from(at_most.subsec_nanos()),
        };
        // An interrupted wait is a short one.
        let _ = poll(&mut fds, Some(&timeout));
    }

    /// Takes what came.
    pub fn take(&mut self) -> Vec<Mapping> {
        let mut taken = Vec::new();
        let lost = &mut self.lost;
        for ring in &mut self.rings {
            ring.drain(|record| match u32_at(record, 0) {
                Some(PERF_RECORD_MMAP2) => taken.extend(mapping(record)),
                Some(PERF_RECORD_LOST) => *lost += u64_at(record, 16).unwrap_or(0),
                _ => {}
            });
        }
        taken
    }
}

/// `struct { header; u32 pid, tid; u64 addr, len, pgoff; u32 maj, min; u64 ino, ino_generation; u32 prot,
/// flags; char filename[]; }`.
fn mapping(record: &[u8]) -> Option<Mapping> {
    let (address, len) = (u64_at(record, 16)?, u64_at(record, 24)?);
    let (major, minor, inode) = (u32_at(record, 40)?, u32_at(record, 44)?, u64_at(record, 48)?);
    let name = record.get(72..)?.split(|byte| *byte == 0).next()?;
    let name = std::str::from_utf8(name).ok()?;
    (inode != 0 && name.starts_with('/')).then(|| Mapping {
        pid: u32_at(record, 8).unwrap_or(0),
        range: format!("{address:x}-{:x}", address.wrapping_add(len)),
        inode: (format!("{major:02x}:{minor:02x}"), inode),
        path: PathBuf::from(name),
    })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::mapping;

    #[test]
    fn every_prefix_of_a_record_is_no_mapping_and_never_a_panic() {
        let mut record = vec![0; 72];
        record[48] = 7;
        record.extend_from_slice(b"/usr/bin/true\0\0\0");
        let found = mapping(&record).unwrap();
        assert_eq!((found.inode.1, found.path.to_str()), (7, Some("/usr/bin/true")));
        for end in 0..72 {
            assert_eq!(mapping(&record[..end]), None, "{end}");
        }
    }
}
