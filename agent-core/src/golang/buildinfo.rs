//! The version of the toolchain (debug/buildinfo of the Go library).
//!
//! `\xff Go buildinf:`, the size of a pointer, flags; then, since 1.18, texts in place behind 32 bytes
//! in all, before that a pointer to a string (address and length).

use super::ReadAt;
use super::elf::{Elf, SEGMENT_WRITE, bytes, long};
use std::fmt;

const MAGIC: &[u8] = b"\xff Go buildinf:";
const IN_PLACE: u8 = 2;
const BIG_ENDIAN: u8 = 1;

/// The magic number is at a multiple of this.
const ALIGN: usize = 16;

/// Without a section of that name: bytes searched at the beginning of the writable segment, where
/// linkers put it.
const SEARCHED: usize = 256 * 1024;

/// Longest version.
const MAX_VERSION: usize = 128;

/// Version of a Go toolchain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 1.
    pub major: u16,
    /// 26 of `go1.26.8`.
    pub minor: u16,
    /// 8 of `go1.26.8`.
    pub patch: u16,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl Version {
    /// Reads `go1.26.8`, with anything behind it (`X:boringcrypto`, `-custom`), `go1.27rc1`, and
    /// `devel go1.27-…`.
    pub fn parse(text: &str) -> Option<Version> {
        let rest = text.strip_prefix("devel ").unwrap_or(text).strip_prefix("go")?;
        let mut parts = rest.splitn(3, '.');
        let number = |part: &str| {
            let end = part.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(part.len());
            part.get(..end)?.parse::<u16>().ok()
        };
        let major = number(parts.next()?)?;
        let second = parts.next()?;
        let minor = number(second)?;
        // Behind `1.27rc1` and `1.27-abc` no patch number follows.
        let whole = second.bytes().all(|byte| byte.is_ascii_digit());
        let patch = parts.next().filter(|_| whole).and_then(number).unwrap_or(0);
        Some(Version { major, minor, patch })
    }
}

pub(super) fn version(elf: &Elf, file: &mut impl ReadAt) -> Option<Version> {
    let offset = match elf.section(".go.buildinfo") {
        Some(section) => section.offset,
        None => search(elf, file)?,
    };
    let head = bytes(file, offset, 32 + 2 + MAX_VERSION);
    if !head.starts_with(MAGIC) {
        return None;
    }
    let flags = *head.get(15)?;
    let text = if flags & IN_PLACE != 0 {
        let (len, text) = varint(head.get(32..)?)?;
        text.get(..usize::try_from(len).ok()?.min(MAX_VERSION))?.to_vec()
    } else {
        if flags & BIG_ENDIAN != 0 || head.get(14) != Some(&8) {
            return None;
        }
        pointed_at(elf, file, elf_address(elf, offset)?)?
    };
    Version::parse(std::str::from_utf8(&text).ok()?)
}

/// The string behind the pointer at `address` + 16.
fn pointed_at(elf: &Elf, file: &mut impl ReadAt, address: u64) -> Option<Vec<u8>> {
    let string = elf.pointer(file, address.checked_add(16)?)?;
    let text = elf.pointer(file, string)?;
    let len = long(&bytes(file, elf.offset(string.checked_add(8)?)?, 8), 0)?;
    let len = usize::try_from(len).ok().filter(|len| *len <= MAX_VERSION)?;
    Some(bytes(file, elf.offset(text)?, len))
}

fn elf_address(elf: &Elf, offset: u64) -> Option<u64> {
    let segment = elf.loads().find(|segment| {
        offset.checked_sub(segment.offset).is_some_and(|within| within < segment.file_size)
    })?;
    segment.address.checked_add(offset - segment.offset)
}

fn search(elf: &Elf, file: &mut impl ReadAt) -> Option<u64> {
    for segment in elf.loads().filter(|segment| segment.flags & SEGMENT_WRITE != 0) {
        let len = usize::try_from(segment.file_size).unwrap_or(SEARCHED).min(SEARCHED);
        let data = bytes(file, segment.offset, len);
        let mut places = memchr::memmem::find_iter(&data, MAGIC);
        if let Some(at) = places.find(|at| at % ALIGN == 0) {
            return segment.offset.checked_add(at as u64);
        }
    }
    None
}

/// A number of 7 bits a byte, low ones first; and what follows.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (index, byte) in bytes.iter().enumerate().take(9) {
        number |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return bytes.get(index + 1..).map(|rest| (number, rest));
        }
    }
    None
}
