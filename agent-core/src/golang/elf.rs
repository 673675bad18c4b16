//! ELF-64, little endian, as far as it is needed (System V ABI, chapters 4 and 5).

use super::ReadAt;

const EXECUTABLE: u16 = 2;
const SHARED: u16 = 3;
const X86_64: u16 = 62;

/// Program and section headers at most: linkers make tens.
const MAX_SEGMENTS: u16 = 64;
const MAX_SECTIONS: u16 = 1024;

/// Bytes of section names.
const MAX_NAMES: usize = 64 * 1024;

/// Relocations looked at: a large position-independent program has some hundred thousand.
const MAX_RELOCATIONS: u64 = 4 << 20;

/// Symbols looked at: the largest programs have a million.
const MAX_SYMBOLS: u64 = 2 << 20;

/// Bytes read at once.
const CHUNK: usize = 96 * 1024;

pub(super) const LOAD: u32 = 1;
pub(super) const TLS: u32 = 7;
pub(super) const SEGMENT_EXECUTE: u32 = 1;
pub(super) const SEGMENT_WRITE: u32 = 2;

const SECTION_RELA: u32 = 4;
const SECTION_SYMBOLS: u32 = 2;

#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) kind: u32,
    pub(super) flags: u32,
    pub(super) offset: u64,
    pub(super) address: u64,
    pub(super) file_size: u64,
    pub(super) memory_size: u64,
    pub(super) align: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Section {
    name: Vec<u8>,
    kind: u32,
    link: u32,
    pub(super) address: u64,
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// The headers of a file.
#[derive(Debug)]
pub(super) struct Elf {
    kind: u16,
    machine: u16,
    pub(super) segments: Vec<Segment>,
    pub(super) sections: Vec<Section>,
}

/// A number of `N` bytes at `at`, little endian.
pub(super) fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(N)?)?;
    Some(field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

pub(super) fn half(bytes: &[u8], at: usize) -> Option<u16> {
    number::<2>(bytes, at).and_then(|number| u16::try_from(number).ok())
}

pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    number::<4>(bytes, at).and_then(|number| u32::try_from(number).ok())
}

pub(super) fn long(bytes: &[u8], at: usize) -> Option<u64> {
    number::<8>(bytes, at)
}

/// `len` bytes at `offset`, or fewer where the file ends.
pub(super) fn bytes(file: &mut impl ReadAt, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let len = file.read_at(offset, &mut bytes);
    bytes.truncate(len);
    bytes
}

impl Elf {
    /// Reads the headers. `None` for anything but an executable or a shared object of this kind.
    pub(super) fn read(file: &mut impl ReadAt) -> Option<Elf> {
        let header = bytes(file, 0, 64);
        if header.get(..6)? != b"\x7fELF\x02\x01" {
            return None;
        }
        let kind = half(&header, 16)?;
        if ![EXECUTABLE, SHARED].contains(&kind) {
            return None;
        }
        let count = half(&header, 56)?.min(MAX_SEGMENTS);
        let table = bytes(file, long(&header, 32)?, usize::from(count) * 56);
        let segments = table.chunks_exact(56).filter_map(segment).collect();
        let mut elf = Elf { kind, machine: half(&header, 18)?, segments, sections: Vec::new() };
        elf.read_sections(file, &header);
        Some(elf)
    }

    /// Sections are not needed to run: a file may have none.
    fn read_sections(&mut self, file: &mut impl ReadAt, header: &[u8]) -> Option<()> {
        let count = half(header, 60)?.min(MAX_SECTIONS);
        let table = bytes(file, long(header, 40)?, usize::from(count) * 64);
        let names_at = usize::from(half(header, 62)?) * 64;
        let names_offset = long(&table, names_at + 24)?;
        let names_len = usize::try_from(long(&table, names_at + 32)?).ok()?.min(MAX_NAMES);
        let names = bytes(file, names_offset, names_len);
        self.sections = table.chunks_exact(64).filter_map(|row| section(row, &names)).collect();
        Some(())
    }

    pub(super) fn is_x86_64(&self) -> bool {
        self.machine == X86_64
    }

    /// It is loaded where the kernel likes.
    pub(super) fn is_relocated(&self) -> bool {
        self.kind == SHARED
    }

    pub(super) fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name.as_bytes())
    }

    pub(super) fn loads(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(|segment| segment.kind == LOAD)
    }

    /// Address of what is at the beginning of the file.
    pub(super) fn base(&self) -> u64 {
        let first = self.loads().min_by_key(|segment| segment.address);
        first.map_or(0, |segment| segment.address.saturating_sub(segment.offset))
    }

    /// Offset in the file of what is loaded at `address`.
    pub(super) fn offset(&self, address: u64) -> Option<u64> {
        let segment = self.loads().find(|segment| {
            address.checked_sub(segment.address).is_some_and(|within| within < segment.file_size)
        })?;
        segment.offset.checked_add(address - segment.address)
    }

    /// A pointer in the file's image: as written there, else as a relocation would write it.
    pub(super) fn pointer(&self, file: &mut impl ReadAt, address: u64) -> Option<u64> {
        let written = long(&bytes(file, self.offset(address)?, 8), 0)?;
        if written != 0 || !self.is_relocated() {
            return Some(written);
        }
        const RELATIVE: u32 = 8;
        self.relocation(file, |place, kind, _| place == address && kind == RELATIVE)
    }

    /// Addend of the first relocation for which `wanted` (place, type, symbol) holds.
    pub(super) fn relocation(
        &self,
        file: &mut impl ReadAt,
        mut wanted: impl FnMut(u64, u32, u32) -> bool,
    ) -> Option<u64> {
        self.relocations(file, |place, kind, symbol, addend| {
            wanted(place, kind, symbol).then_some(addend)
        })
    }

    /// The first that `find` (place, type, symbol, addend) makes of relocations.
    pub(super) fn relocations<T>(
        &self,
        file: &mut impl ReadAt,
        mut find: impl FnMut(u64, u32, u32, u64) -> Option<T>,
    ) -> Option<T> {
        let mut left = MAX_RELOCATIONS;
        for section in self.sections.iter().filter(|section| section.kind == SECTION_RELA) {
            let count = (section.size / 24).min(left);
            left -= count;
            let found = rows(file, section.offset, count, 24, |row| {
                let info = long(row, 8)?;
                find(long(row, 0)?, info as u32, (info >> 32) as u32, long(row, 16)?)
            });
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Value of a symbol of the file's symbol table, which a stripped file does not have.
    pub(super) fn symbol(&self, file: &mut impl ReadAt, name: &str) -> Option<u64> {
        let symbols = self.sections.iter().find(|section| section.kind == SECTION_SYMBOLS)?;
        let strings = self.sections.get(symbols.link as usize)?;
        let at = find_text(file, strings.offset, strings.size, name.as_bytes())?;
        let at = u32::try_from(at).ok()?;
        rows(file, symbols.offset, (symbols.size / 24).min(MAX_SYMBOLS), 24, |row| {
            if word(row, 0)? == at { long(row, 8) } else { None }
        })
    }
}

/// The first of `count` rows of `size` bytes for which `find` gives something.
pub(super) fn rows<T>(
    file: &mut impl ReadAt,
    offset: u64,
    count: u64,
    size: usize,
    mut find: impl FnMut(&[u8]) -> Option<T>,
) -> Option<T> {
    let at_once = CHUNK / size;
    let mut done = 0;
    while done < count {
        let want = usize::try_from(count - done).unwrap_or(usize::MAX).min(at_once);
        let place = offset.checked_add(done.checked_mul(size as u64)?)?;
        let chunk = bytes(file, place, want * size);
        if let Some(found) = chunk.chunks_exact(size).find_map(&mut find) {
            return Some(found);
        }
        if chunk.len() < want * size {
            return None;
        }
        done += want as u64;
    }
    None
}

/// Longest string table that is searched.
const MAX_STRINGS: u64 = 256 << 20;

/// Where in a table of NUL-terminated texts one of them begins.
fn find_text(file: &mut impl ReadAt, offset: u64, size: u64, text: &[u8]) -> Option<u64> {
    let mut needle = vec![0];
    needle.extend_from_slice(text);
    needle.push(0);
    let mut done = 0;
    let size = size.min(MAX_STRINGS);
    while done < size {
        let want = usize::try_from(size - done).unwrap_or(CHUNK).min(CHUNK);
        let chunk = bytes(file, offset.checked_add(done)?, want);
        if let Some(at) = memchr::memmem::find(&chunk, &needle) {
            return Some(done + at as u64 + 1);
        }
        if chunk.len() <= needle.len() {
            return None;
        }
        done += (chunk.len() - needle.len()) as u64;
    }
    None
}

fn segment(row: &[u8]) -> Option<Segment> {
    Some(Segment {
        kind: word(row, 0)?,
        flags: word(row, 4)?,
        offset: long(row, 8)?,
        address: long(row, 16)?,
        file_size: long(row, 32)?,
        memory_size: long(row, 40)?,
        align: long(row, 48)?,
    })
}

fn section(row: &[u8], names: &[u8]) -> Option<Section> {
    let name = names.get(word(row, 0)? as usize..).unwrap_or_default();
    let end = memchr::memchr(0, name).unwrap_or(name.len());
    Some(Section {
        name: name.get(..end).unwrap_or_default().to_vec(),
        kind: word(row, 4)?,
        link: word(row, 40)?,
        address: long(row, 16)?,
        offset: long(row, 24)?,
        size: long(row, 32)?,
    })
}
