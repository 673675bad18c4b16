//! The table of functions that the runtime needs for stack traces (debug/gosym of the Go library): it
//! is there when symbols are not.

use super::ReadAt;
use super::elf::{Elf, SEGMENT_EXECUTE, SEGMENT_WRITE, Section, bytes, long, rows, word};
use hashbrown::HashMap;

/// A function of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// Where it is loaded; relative to the load address for position-independent executables.
    pub address: u64,
    /// Where its code begins in the file.
    pub offset: u64,
    /// Bytes up to the next function.
    pub size: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// 1.16 and 1.17: addresses of 8 bytes.
    Addresses,
    /// 1.18 and later: offsets of 4 bytes from the first function.
    Offsets,
}

impl Format {
    fn of(magic: u32) -> Option<Format> {
        match magic {
            0xffff_fffa => Some(Format::Addresses),
            0xffff_fff0 | 0xffff_fff1 => Some(Format::Offsets),
            _ => None,
        }
    }
}

/// Functions at most: the largest programs have some hundred thousand.
const MAX_FUNCTIONS: u64 = 2 << 20;

/// Names that are looked up at most.
const MAX_FOUND: usize = 64;

/// Bytes of names: the largest programs have some ten million.
const MAX_NAMES: u64 = 128 << 20;

/// Longest name; those with types in them may be longer, and are not looked for.
const MAX_NAME: usize = 512;

const CHUNK: usize = 128 * 1024;

/// Bytes of a segment searched for the table where no section tells.
const SEARCHED: u64 = 64 << 20;

/// The table's header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    format: Format,
    /// Offset in the file.
    offset: u64,
    address: u64,
    count: u64,
    names: u64,
    names_end: u64,
    functions: u64,
    /// Address of the first function; 0 where the header does not say.
    text: u64,
}

impl Table {
    pub(super) fn find(elf: &Elf, file: &mut impl ReadAt) -> Option<Table> {
        let named = [".gopclntab", ".data.rel.ro.gopclntab"];
        let section = named.iter().find_map(|name| elf.section(name));
        let read =
            |section: &Section, file: &mut _| Table::read(file, section.offset, section.address);
        section.and_then(|section| read(section, file)).or_else(|| Table::search(elf, file))
    }

    fn read(file: &mut impl ReadAt, offset: u64, address: u64) -> Option<Table> {
        let head = bytes(file, offset, 72);
        let format = Format::of(word(&head, 0)?)?;
        // Two zeros, the smallest instruction of x86-64, the size of a pointer.
        if head.get(4..8)? != [0, 0, 1, 8] {
            return None;
        }
        let field = |index: usize| long(&head, 8 + 8 * index);
        let (text, names, names_end, functions) = match format {
            Format::Addresses => (0, field(2)?, field(3)?, field(6)?),
            Format::Offsets => (field(2)?, field(3)?, field(4)?, field(7)?),
        };
        let count = field(0)?;
        let sensible = count > 0
            && count <= MAX_FUNCTIONS
            && names < names_end
            && names_end - names <= MAX_NAMES
            && functions > names;
        sensible.then_some(Table {
            format,
            offset,
            address,
            count,
            names,
            names_end,
            functions,
            text,
        })
    }

    /// Looks for the header in what is loaded: external linkers put it among other data.
    fn search(elf: &Elf, file: &mut impl ReadAt) -> Option<Table> {
        for segment in elf.loads().filter(|segment| segment.flags & SEGMENT_EXECUTE == 0) {
            let size = segment.file_size.min(SEARCHED);
            let mut done = 0;
            while done < size {
                let want = usize::try_from(size - done).unwrap_or(CHUNK).min(CHUNK);
                let at = segment.offset.checked_add(done)?;
                let chunk = bytes(file, at, want);
                // The header is aligned to 16 bytes or more, so it is never cut by a chunk's end.
                let places = chunk.chunks_exact(16).enumerate();
                for (index, row) in places {
                    if row.get(4..8) != Some(&[0, 0, 1, 8]) {
                        continue;
                    }
                    let within = done + 16 * index as u64;
                    let offset = segment.offset.checked_add(within)?;
                    let found = Table::read(file, offset, segment.address.checked_add(within)?);
                    if found.is_some() {
                        return found;
                    }
                }
                if chunk.len() < want {
                    break;
                }
                done += want as u64;
            }
        }
        None
    }

    /// Functions whose names are `wanted`, at most [`MAX_FOUND`].
    pub(super) fn functions(
        &self,
        elf: &Elf,
        file: &mut impl ReadAt,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Vec<(Vec<u8>, Function)> {
        let names = self.wanted_names(file, wanted);
        let (text, mut found) = (self.text(elf, file), Vec::new());
        let (mut entries, mut records) = (Window::default(), Window::default());
        for index in 0..self.count {
            if found.len() >= names.len().min(MAX_FOUND) {
                break;
            }
            let Some((address, record)) = self.entry(file, &mut entries, text, index) else {
                break;
            };
            // In front of the name stands the function's address again.
            let name_at =
                record.saturating_add(if self.format == Format::Addresses { 8 } else { 4 });
            let name = records.get(file, name_at, 4).and_then(|field| word(field, 0));
            let Some(name) = name.and_then(|name| names.get(&name)) else { continue };
            let Some((end, _)) = self.entry(file, &mut entries, text, index + 1) else { break };
            if let Some(offset) = elf.offset(address) {
                let size = end.saturating_sub(address);
                found.push((name.clone(), Function { address, offset, size }));
            }
        }
        found
    }

    /// Address of a function, and where its record is in the file. The entry behind the last one has
    /// the address of the end.
    fn entry(
        &self,
        file: &mut impl ReadAt,
        window: &mut Window,
        text: u64,
        index: u64,
    ) -> Option<(u64, u64)> {
        let start = self.offset.checked_add(self.functions)?;
        let (address, record) = match self.format {
            Format::Addresses => {
                let place = start.checked_add(index.checked_mul(16)?)?;
                let last = index == self.count;
                let row = window.get(file, place, if last { 8 } else { 16 })?;
                (long(row, 0)?, if last { 0 } else { long(row, 8)? })
            }
            Format::Offsets => {
                let place = start.checked_add(index.checked_mul(8)?)?;
                let last = index == self.count;
                let row = window.get(file, place, if last { 4 } else { 8 })?;
                let record = if last { 0 } else { u64::from(word(row, 4)?) };
                (text.checked_add(u64::from(word(row, 0)?))?, record)
            }
        };
        Some((address, start.checked_add(record)?))
    }

    /// Names by where they begin among all names.
    fn wanted_names(
        &self,
        file: &mut impl ReadAt,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> HashMap<u32, Vec<u8>> {
        let mut found = HashMap::new();
        let Some(mut at) = self.offset.checked_add(self.names) else { return found };
        let begin = at;
        let Some(end) = self.offset.checked_add(self.names_end) else { return found };
        while at < end && found.len() < MAX_FOUND {
            let want = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let chunk = bytes(file, at, want);
            // Up to the last whole name; a name that fills a chunk is none that anybody looks for.
            let whole = memchr::memrchr(0, &chunk).map_or(chunk.len(), |last| last + 1);
            let mut start = 0;
            for stop in memchr::memchr_iter(0, chunk.get(..whole).unwrap_or_default()) {
                let name = chunk.get(start..stop).unwrap_or_default();
                if name.len() <= MAX_NAME
                    && wanted(name)
                    && let Ok(place) = u32::try_from(at - begin + start as u64)
                {
                    found.insert(place, name.to_vec());
                }
                start = stop + 1;
            }
            if whole == 0 {
                break;
            }
            at += whole as u64;
        }
        found
    }

    /// Address that offsets of functions count from.
    fn text(&self, elf: &Elf, file: &mut impl ReadAt) -> u64 {
        if self.text != 0 || self.format == Format::Addresses {
            return self.text;
        }
        let code = elf.section(".text").map(|section| section.address);
        self.module_text(elf, file).or(code).unwrap_or(0)
    }

    /// `runtime.firstmoduledata.text`: since 1.26 the header leaves it out, and with C code linked in
    /// it is not where the section begins. The struct begins with the address of the table.
    fn module_text(&self, elf: &Elf, file: &mut impl ReadAt) -> Option<u64> {
        // pcHeader, six slices, findfunctab, minpc, maxpc (runtime/symtab.go, 1.18 to 1.26).
        const MIN_PC: u64 = 8 + 6 * 24 + 8;
        const TEXT: u64 = MIN_PC + 16;
        let module = match elf.section(".go.module") {
            Some(section) => section.address,
            None => self.search_module(elf, file)?,
        };
        let first = elf.pointer(file, module.checked_add(MIN_PC)?)?;
        let text = elf.pointer(file, module.checked_add(TEXT)?)?;
        (text != 0 && text <= first).then_some(text)
    }

    fn search_module(&self, elf: &Elf, file: &mut impl ReadAt) -> Option<u64> {
        for segment in elf.loads().filter(|segment| segment.flags & SEGMENT_WRITE != 0) {
            let count = segment.file_size.min(SEARCHED) / 8;
            let mut place = segment.address;
            let found = rows(file, segment.offset, count, 8, |row| {
                let here = place;
                place = place.saturating_add(8);
                (long(row, 0) == Some(self.address)).then_some(here)
            });
            if found.is_some() {
                return found;
            }
        }
        const RELATIVE: u32 = 8;
        elf.relocations(file, |place, kind, _, addend| {
            (kind == RELATIVE && addend == self.address).then_some(place)
        })
    }
}

/// A part of a file that is read from front to back, mostly.
#[derive(Default)]
struct Window {
    start: u64,
    data: Vec<u8>,
}

impl Window {
    fn get(&mut self, file: &mut impl ReadAt, offset: u64, len: usize) -> Option<&[u8]> {
        let inside = |window: &Window| {
            let within = usize::try_from(offset.checked_sub(window.start)?).ok()?;
            let end = within.checked_add(len)?;
            (end <= window.data.len()).then_some((within, end))
        };
        let range = match inside(self) {
            Some(range) => range,
            None => {
                self.start = offset;
                self.data.resize(CHUNK, 0);
                let filled = file.read_at(offset, &mut self.data);
                self.data.truncate(filled);
                inside(self)?
            }
        };
        self.data.get(range.0..range.1)
    }
}
