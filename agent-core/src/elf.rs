//! Functions of an ELF file: where they lie in it, by name. 64-bit little-endian.
//!
//! The file belongs to a watched program, which may have made it by hand: every offset is checked, every
//! table read is bounded, and what cannot be read is absent. Format: System V ABI, ELF-64; `.gnu.hash`
//! as glibc reads it (elf/dl-lookup.c).

pub mod boringssl;
mod frames;
mod hash;
mod pointers;
mod table;
pub mod thread_local;

use std::collections::HashMap;
use table::FUNCTIONS;

/// A file that is read piece by piece.
pub trait Image {
    /// `len` bytes at `offset`; `None` when the file does not have them.
    fn read(&self, offset: u64, len: usize) -> Option<Vec<u8>>;
}

impl Image for &[u8] {
    fn read(&self, offset: u64, len: usize) -> Option<Vec<u8>> {
        let start = usize::try_from(offset).ok()?;
        self.get(start..start.checked_add(len)?).map(<[u8]>::to_vec)
    }
}

/// More than any linker writes; the kernel takes at most 64 KiB of program headers.
const MAX_SEGMENTS: u16 = 1024;
/// Sections that are looked at.
const MAX_SECTIONS: u16 = 4096;
/// Longest note section.
const MAX_NOTE: u64 = 4096;
/// Longest build id kept: SHA-1 has 20 bytes.
const MAX_BUILD_ID: usize = 64;

/// Bytes looked through for marks, and how many at once.
const MAX_SEARCHED: u64 = 512 << 20;
const PIECE: u64 = 1 << 20;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PT_NOTE: u32 = 4;
const PT_TLS: u32 = 7;
const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
const PF_X: u32 = 1;
const PF_W: u32 = 2;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const EM_X86_64: u16 = 62;
const SHT_SYMTAB: u32 = 2;
const SHT_DYNSYM: u32 = 11;
const SHT_GNU_HASH: u32 = 0x6fff_fff6;
const NT_GNU_BUILD_ID: u32 = 3;

/// An ELF file whose headers have been read.
pub struct Elf<I> {
    image: I,
    kind: u16,
    segments: Vec<Segment>,
    sections: Vec<Section>,
}

#[derive(Clone, Copy)]
struct Segment {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    size: u64,
    memory: u64,
    align: u64,
}

#[derive(Clone, Copy)]
pub(crate) struct Section {
    kind: u32,
    offset: u64,
    size: u64,
    link: u32,
}

/// Functions by name: their offsets in the file.
pub type Functions = HashMap<String, u64>;

impl<I: Image> Elf<I> {
    /// Reads the headers. `None` for anything but an x86-64 program or library.
    pub fn parse(image: I) -> Option<Elf<I>> {
        let header = image.read(0, 64)?;
        let kind = u16_at(&header, 16)?;
        let known = header.starts_with(b"\x7fELF\x02\x01\x01")
            && matches!(kind, ET_EXEC | ET_DYN)
            && u16_at(&header, 18)? == EM_X86_64;
        if !known {
            return None;
        }
        let (segments, sections) = (segments(&image, &header)?, sections(&image, &header));
        Some(Elf { image, kind, segments, sections: sections.unwrap_or_default() })
    }

    /// A program, not a library: it names its loader, or needs none.
    pub fn is_program(&self) -> bool {
        self.kind == ET_EXEC || self.segments.iter().any(|segment| segment.kind == PT_INTERP)
    }

    /// GNU build id, empty when there is none.
    pub fn build_id(&self) -> Vec<u8> {
        let notes = self.segments.iter().filter(|segment| segment.kind == PT_NOTE);
        let ids = notes.filter_map(|note| {
            let len = usize::try_from(note.size.min(MAX_NOTE)).ok()?;
            build_id(&self.image.read(note.offset, len)?)
        });
        ids.into_iter().next().unwrap_or_default()
    }

    /// Which of `names` the file offers to others.
    pub fn exported(&self, names: &[&str]) -> Functions {
        let by_hash = self.section(SHT_GNU_HASH).zip(self.section(SHT_DYNSYM));
        let Some((hash, symbols)) = by_hash else {
            // Older linkers, and some tools, leave `.gnu.hash` out.
            return self.named_in(SHT_DYNSYM, &|name| names.contains(&name));
        };
        let Some(strings) = self.linked(symbols) else { return Functions::new() };
        let found = names.iter().filter_map(|name| {
            let wanted = (*name, FUNCTIONS);
            let (_, value) = hash::find(&self.image, hash, symbols, strings, wanted)?;
            Some(((*name).to_owned(), self.file_offset(value)?))
        });
        found.collect()
    }

    /// Index and value of an exported symbol of these types, by hash. `None` where there is no table for
    /// that.
    fn exported_entry(&self, name: &str, types: &[u8]) -> Option<Option<(u32, u64)>> {
        let (hash, symbols) = self.section(SHT_GNU_HASH).zip(self.section(SHT_DYNSYM))?;
        let strings = self.linked(symbols)?;
        Some(hash::find(&self.image, hash, symbols, strings, (name, types)))
    }

    /// The functions of the full symbol table whose names `wanted` takes; none in a stripped file.
    pub fn functions(&self, wanted: &dyn Fn(&str) -> bool) -> Functions {
        self.named_in(SHT_SYMTAB, wanted)
    }

    /// Which of `marks` occur in what a program cannot write: code and constants.
    pub fn contains<'m>(&self, marks: &[&'m [u8]]) -> Vec<&'m [u8]> {
        let longest = marks.iter().map(|mark| mark.len()).max().unwrap_or(0);
        let mut found = Vec::new();
        self.walk(
            |segment| segment.flags & PF_W == 0,
            longest,
            |_, piece| {
                let here = |mark: &&&[u8]| memchr::memmem::find(piece, mark).is_some();
                found.extend(marks.iter().filter(here).copied());
            },
        );
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Addresses at which `mark` lies in code and constants; no more than `most`.
    pub(crate) fn places(&self, mark: &[u8], most: usize) -> Vec<u64> {
        let mut found = Vec::new();
        self.walk(
            |segment| segment.flags & PF_W == 0,
            mark.len(),
            |address, piece| {
                let places = memchr::memmem::find_iter(piece, mark);
                found.extend(places.filter_map(|at| address.checked_add(at as u64)).take(most));
            },
        );
        found.sort_unstable();
        found.dedup();
        found.truncate(most);
        found
    }

    /// Shows what these segments have of the file, piece by piece with their addresses. A piece begins with
    /// the last `overlap` bytes of the one before: what is looked for may lie across.
    fn walk(
        &self,
        wanted: impl Fn(&Segment) -> bool,
        overlap: usize,
        mut show: impl FnMut(u64, &[u8]),
    ) {
        let mut left = MAX_SEARCHED;
        let loaded = |segment: &&Segment| segment.kind == PT_LOAD && wanted(segment);
        for segment in self.segments.iter().filter(loaded) {
            let (mut at, end) = (segment.offset, segment.offset.saturating_add(segment.size));
            while at < end && left > 0 {
                let len = PIECE.min(end - at);
                let Some(piece) = self.image.read(at, len as usize) else { break };
                // An address too high to be one stands for itself: nothing is found by it.
                show(segment.address.saturating_add(at - segment.offset), &piece);
                if len < PIECE {
                    break;
                }
                at += len - overlap as u64;
                left = left.saturating_sub(len);
            }
        }
    }

    /// It has a full symbol table.
    pub fn has_symbols(&self) -> bool {
        self.section(SHT_SYMTAB).is_some()
    }

    /// The bytes at a file offset, as many of `len` as there are.
    pub fn bytes(&self, offset: u64, len: usize) -> Vec<u8> {
        (0..=len).rev().find_map(|len| self.image.read(offset, len)).unwrap_or_default()
    }

    fn named_in(&self, kind: u32, wanted: &dyn Fn(&str) -> bool) -> Functions {
        let Some(symbols) = self.section(kind) else { return Functions::new() };
        let Some(strings) = self.linked(symbols) else { return Functions::new() };
        let found = table::find(&self.image, symbols, strings, wanted);
        let placed = found.into_iter().filter_map(|(name, value)| {
            let offset = self.file_offset(value)?;
            Some((name, offset))
        });
        placed.collect()
    }

    /// Where in the file the code at a virtual address is.
    pub fn file_offset(&self, address: u64) -> Option<u64> {
        let code = |segment: &&Segment| segment.kind == PT_LOAD && segment.flags & PF_X != 0;
        self.segments.iter().filter(code).find_map(|segment| {
            let within = address.checked_sub(segment.address)?;
            if within >= segment.size { None } else { segment.offset.checked_add(within) }
        })
    }

    fn section(&self, kind: u32) -> Option<Section> {
        self.sections.iter().copied().find(|section| section.kind == kind)
    }

    fn linked(&self, section: Section) -> Option<Section> {
        self.sections.get(usize::try_from(section.link).ok()?).copied()
    }
}

fn segments(image: &impl Image, header: &[u8]) -> Option<Vec<Segment>> {
    let (start, count) = (u64_at(header, 32)?, u16_at(header, 56)?.min(MAX_SEGMENTS));
    if u16_at(header, 54)? != 56 {
        return None;
    }
    let table = image.read(start, usize::from(count) * 56)?;
    let entries = table.chunks_exact(56).map(|entry| {
        Some(Segment {
            kind: u32_at(entry, 0)?,
            flags: u32_at(entry, 4)?,
            offset: u64_at(entry, 8)?,
            address: u64_at(entry, 16)?,
            size: u64_at(entry, 32)?,
            memory: u64_at(entry, 40)?,
            align: u64_at(entry, 48)?,
        })
    });
    entries.collect()
}

fn sections(image: &impl Image, header: &[u8]) -> Option<Vec<Section>> {
    let (start, count) = (u64_at(header, 40)?, u16_at(header, 60)?.min(MAX_SECTIONS));
    if u16_at(header, 58)? != 64 {
        return None;
    }
    let table = image.read(start, usize::from(count) * 64)?;
    let entries = table.chunks_exact(64).map(|entry| {
        Some(Section {
            kind: u32_at(entry, 4)?,
            offset: u64_at(entry, 24)?,
            size: u64_at(entry, 32)?,
            link: u32_at(entry, 40)?,
        })
    });
    entries.collect()
}

/// The build id among notes: name size, description size, type, then both, padded to 4.
fn build_id(notes: &[u8]) -> Option<Vec<u8>> {
    let padded = |len: u32| usize::try_from(len).ok()?.checked_next_multiple_of(4);
    let mut rest = notes;
    loop {
        let (name, description) = (u32_at(rest, 0)?, u32_at(rest, 4)?);
        let kind = u32_at(rest, 8)?;
        let start = 12_usize.checked_add(padded(name)?)?;
        let len = usize::try_from(description).ok()?;
        let id = rest.get(start..start.checked_add(len)?)?;
        if kind == NT_GNU_BUILD_ID && rest.get(12..16) == Some(b"GNU\0") && len <= MAX_BUILD_ID {
            return Some(id.to_vec());
        }
        rest = rest.get(start.checked_add(padded(description)?)?..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Vec<u8> {
        std::fs::read("/proc/self/exe").unwrap()
    }

    #[test]
    fn functions_of_this_very_program_are_found_where_they_lie() {
        let bytes = own();
        let elf = Elf::parse(bytes.as_slice()).unwrap();
        assert!(elf.is_program() && elf.has_symbols());
        let found = elf.functions(&|name| name == "main");
        let [offset] = found.values().copied().collect::<Vec<_>>()[..] else { panic!("{found:?}") };
        assert_eq!(elf.bytes(offset, 8).len(), 8);
    }

    #[test]
    fn exports_of_a_library_are_found_by_hash_and_imports_are_not() {
        let Some(path) = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/libc.so.6"]
            .into_iter()
            .find(|path| std::path::Path::new(path).exists())
        else {
            return;
        };
        let bytes = std::fs::read(path).unwrap();
        let elf = Elf::parse(bytes.as_slice()).unwrap();
        let names = ["read", "write", "no_such_function", "SSL_read"];
        let found = elf.exported(&names);
        assert!(found.contains_key("read") && found.contains_key("write"), "{found:?}");
        assert_eq!(found.len(), 2, "{found:?}");
        // The same by reading all of the table.
        assert_eq!(elf.named_in(SHT_DYNSYM, &|name| names.contains(&name)), found);
        assert!(!elf.build_id().is_empty());
    }

    #[test]
    fn marks_are_found_across_pieces_and_absent_ones_are_not() {
        let bytes = own();
        let elf = Elf::parse(bytes.as_slice()).unwrap();
        let absent: Vec<u8> =
            b"on tsil a ni dnuof eb reven lliw siht".iter().rev().copied().collect();
        assert_eq!(elf.contains(&[b"GLIBC_2", &absent]), [b"GLIBC_2"]);
    }

    #[test]
    fn damaged_files_are_absent_functions_and_never_a_panic() {
        let bytes = own();
        for at in (0..4096).step_by(7) {
            let mut broken = bytes[..bytes.len().min(200_000)].to_vec();
            broken[at % 4096] ^= 0xff;
            if let Some(elf) = Elf::parse(broken.as_slice()) {
                let _ = (elf.exported(&["main"]), elf.functions(&|_| true), elf.build_id());
            }
        }
    }
}
