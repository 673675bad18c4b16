//! A file to its functions that are probed.

use super::go;
use super::library::{BLIND, INSIDE, LIBRARIES, Library};
use agent_common::tls::Site;
use agent_core::elf::{Elf, Image};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// A file for good: its inode may be used again, hence the times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileKey {
    /// Device.
    pub device: u64,
    /// Inode.
    pub inode: u64,
    modified: i64,
    changed: i64,
}

impl FileKey {
    /// Of an open file.
    pub fn of(file: &File) -> Option<FileKey> {
        let meta = file.metadata().ok()?;
        meta.is_file().then(|| FileKey {
            device: meta.dev(),
            inode: meta.ino(),
            modified: meta.mtime_nsec() ^ meta.mtime() << 30,
            changed: meta.ctime_nsec() ^ meta.ctime() << 30,
        })
    }
}

/// What a file turned out to be.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Libraries in it that are covered.
    pub covered: Vec<&'static str>,
    /// Libraries in it that are known and not covered.
    pub blind: Vec<&'static str>,
    /// Where to put a probe: offset in the file, and what is there. Each offset once.
    pub sites: Vec<(u64, Site)>,
}

impl Findings {
    /// Go's TLS cannot be probed here: it is named like any other that is not covered.
    pub fn without_go(&mut self) {
        self.sites.retain(|(_, site)| !site.is_go());
        if self.covered.contains(&go::NAME) {
            self.covered.retain(|library| *library != go::NAME);
            self.blind.push(go::NAME);
        }
    }
}

/// Looks into a file that is, or may be, a library or a program.
pub fn examine(file: &File, path: &Path) -> Findings {
    let mut findings = Findings::default();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let blind = BLIND.iter().filter(|blind| name.starts_with(blind.file));
    findings.blind.extend(blind.map(|blind| blind.name));
    let Some(elf) = Elf::parse(Pieces(file)) else { return findings };
    for library in LIBRARIES {
        look_for(library, &elf, &mut findings);
    }
    if elf.is_program() {
        go::look(file, &elf, &mut findings);
    }
    if findings.covered.is_empty() && elf.is_program() {
        let marks = INSIDE.map(|inside| inside.mark);
        let found = elf.contains(&marks);
        let inside = INSIDE.iter().filter(|inside| found.contains(&inside.mark));
        findings.blind.extend(inside.map(|inside| inside.name));
    }
    findings.sites.sort_unstable_by_key(|(offset, _)| *offset);
    findings.sites.dedup_by_key(|(offset, _)| *offset);
    findings
}

fn look_for(library: &Library, elf: &Elf<Pieces<'_>>, findings: &mut Findings) {
    if elf.exported(library.marks).len() < library.marks.len() {
        return;
    }
    let names: Vec<&str> = library.functions.iter().map(|function| function.symbol).collect();
    let found = elf.exported(&names);
    let sites = library.functions.iter().filter_map(|function| {
        let offset = *found.get(function.symbol)?;
        Some((cheapest(offset, &elf.bytes(offset, 16)), function.site))
    });
    findings.sites.extend(sites);
    findings.covered.push(library.name);
}

/// `endbr64`.
const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];

/// The place of a function's first instruction that costs least to probe, with arguments and stack as
/// at its entry.
///
/// The kernel carries out `push` and its like itself; anything else is stepped through (measured: 0.5
/// and 8.9 µs). `endbr64` changes nothing: what follows it serves as well.
fn cheapest(offset: u64, code: &[u8]) -> u64 {
    match code.strip_prefix(&ENDBR64) {
        Some([0x50..=0x57, ..] | [0x41, 0x50..=0x57, ..]) => offset + ENDBR64.len() as u64,
        _ => offset,
    }
}

/// An open file, read where it is needed: it may shrink while it is read.
#[derive(Clone, Copy)]
pub struct Pieces<'a>(&'a File);

impl Image for Pieces<'_> {
    fn read(&self, offset: u64, len: usize) -> Option<Vec<u8>> {
        let size = self.0.metadata().ok()?.len();
        // Before memory is taken: a length in a forged file may be anything.
        if offset.checked_add(len as u64)? > size {
            return None;
        }
        let mut bytes = vec![0; len];
        self.0.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::cheapest;

    #[test]
    fn endbr64_is_skipped_only_before_a_push() {
        for (why, code, expected) in [
            ("push rbx behind it", &[0xf3, 0x0f, 0x1e, 0xfa, 0x53][..], 104),
            ("push r12 behind it", &[0xf3, 0x0f, 0x1e, 0xfa, 0x41, 0x54], 104),
            ("something else behind it", &[0xf3, 0x0f, 0x1e, 0xfa, 0x48, 0x83], 100),
            ("none", &[0x53, 0x48], 100),
            ("no code", &[], 100),
        ] {
            assert_eq!(cheapest(100, code), expected, "{why}");
        }
    }
}
