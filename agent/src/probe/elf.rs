//! Sections of an ELF-64 file, little-endian: code of the kernel objects, type information in a file
//! that an operator names. Every index and length is checked.

use std::ops::Range;

/// `SHT_PROGBITS`, `SHF_EXECINSTR` (elf.h).
const PROGBITS: u32 = 1;
const EXECUTABLE: u64 = 4;

/// Length of a section header that is understood.
const HEADER: usize = 64;

struct Section {
    name: usize,
    kind: u32,
    flags: u64,
    bytes: Range<usize>,
}

/// Byte ranges of the sections that hold code.
pub fn code(file: &[u8]) -> Vec<(usize, usize)> {
    let is_code = |one: &Section| one.kind == PROGBITS && one.flags & EXECUTABLE != 0;
    sections(file).filter(is_code).map(|one| (one.bytes.start, one.bytes.end)).collect()
}

/// Content of the first section of this name.
pub fn section<'a>(file: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    file.get(place(file, name)?)
}

/// Where that lies in the file.
pub fn place(file: &[u8], name: &[u8]) -> Option<Range<usize>> {
    let names = sections(file).nth(half(file, 62)?)?.bytes;
    let names = file.get(names)?;
    let is_named = |one: &Section| {
        let rest = names.get(one.name..).and_then(|text| text.strip_prefix(name));
        rest.is_some_and(|rest| rest.first() == Some(&0))
    };
    Some(sections(file).find(is_named)?.bytes)
}

/// Those that lie within the file; none of bytes that are no such file.
fn sections(file: &[u8]) -> impl Iterator<Item = Section> {
    let table = || {
        let start = usize::try_from(long(file, 40)?).ok().filter(|start| *start < file.len())?;
        let size = half(file, 58).filter(|size| *size >= HEADER)?;
        Some((start, size, half(file, 60)?))
    };
    let (start, size, count) = table().unwrap_or((0, 0, 0));
    (0..count).map_while(move |index| {
        let at = start.checked_add(index * size)?;
        let begin = usize::try_from(long(file, at + 24)?).ok()?;
        let len = usize::try_from(long(file, at + 32)?).ok()?;
        let end = begin.checked_add(len)?;
        // What takes no room in the file (.bss) keeps its number, and has no bytes.
        let bytes = if end <= file.len() { begin..end } else { 0..0 };
        Some(Section {
            name: word(file, at)? as usize,
            kind: word(file, at + 4)?,
            flags: long(file, at + 8)?,
            bytes,
        })
    })
}

fn half(file: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_le_bytes(bytes(file, at)?)))
}

fn word(file: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes(file, at)?))
}

fn long(file: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes(file, at)?))
}

fn bytes<const LEN: usize>(file: &[u8], at: usize) -> Option<[u8; LEN]> {
    file.get(at..at.checked_add(LEN)?)?.try_into().ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{code, section};

    /// An ELF file with these sections (place of the name, content), and their names behind them.
    pub fn file(names: &[u8], sections: &[(u32, &[u8])]) -> Vec<u8> {
        let mut file = vec![0; 64];
        file[..4].copy_from_slice(b"\x7fELF");
        let mut table = Vec::new();
        for (name, content) in sections.iter().copied().chain([(0, names)]) {
            let mut header = [0; 64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[4..8].copy_from_slice(&1_u32.to_le_bytes());
            header[24..32].copy_from_slice(&(file.len() as u64).to_le_bytes());
            header[32..40].copy_from_slice(&(content.len() as u64).to_le_bytes());
            table.extend(header);
            file.extend(content);
        }
        let (start, count) = (file.len() as u64, sections.len() as u16);
        file[40..48].copy_from_slice(&start.to_le_bytes());
        file[58..60].copy_from_slice(&64_u16.to_le_bytes());
        file[60..62].copy_from_slice(&(count + 1).to_le_bytes());
        file[62..64].copy_from_slice(&count.to_le_bytes());
        file.extend(table);
        file
    }

    #[test]
    fn a_section_is_found_by_its_whole_name() {
        let whole = file(b"\0.BTF.ext\0.BTF\0", &[(1, b"one"), (10, b"two")]);
        assert_eq!(section(&whole, b".BTF"), Some(&b"two"[..]));
        assert_eq!(section(&whole, b".BTF.ext"), Some(&b"one"[..]));
        assert_eq!(section(&whole, b".text"), None);
        assert!(code(&whole).is_empty());
    }

    #[test]
    fn damage_is_no_panic() {
        let whole = file(b"\0.BTF\0", &[(1, b"content")]);
        for len in 0..whole.len() {
            let _ = section(&whole[..len], b".BTF");
        }
        for at in 0..whole.len() {
            for value in [0, 0x7f, 0xff] {
                let mut broken = whole.clone();
                broken[at] = value;
                let _ = (section(&broken, b".BTF"), code(&broken));
            }
        }
    }
}
