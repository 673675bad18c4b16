//! Symbol tables: 24 bytes an entry, names in a string table.

use super::budget::Budgeted;
use super::{Image, Section, u16_at, u32_at, u64_at};

/// Bytes of an entry.
const ENTRY: usize = 24;
/// Entries read at once.
const PIECE: u64 = 8192;
/// Matches kept.
const MAX_FOUND: usize = 4096;
/// Entries that are read one by one, in a file without `.gnu.hash`.
const MAX_SEARCHED: u64 = 4096;
/// Longest name.
const MAX_NAME: usize = 1024;

/// `STT_FUNC` and `STT_GNU_IFUNC` (elf.h).
pub(super) const FUNCTIONS: &[u8] = &[2, 10];
/// `STT_TLS`: its value is an offset, and may be 0.
pub(super) const TLS_VARIABLES: &[u8] = &[6];

/// Value of entry `index` if it is the symbol with this name and one of these types, and defined here.
pub(super) fn named(
    image: &impl Image,
    symbols: Section,
    strings: Section,
    index: u32,
    (name, types): (&str, &[u8]),
) -> Option<u64> {
    let at = u64::from(index) * ENTRY as u64;
    if at >= symbols.size {
        return None;
    }
    let entry = image.read(symbols.offset.checked_add(at)?, ENTRY)?;
    let (start, value) = defined(&entry, types)?;
    let text = image.read(strings.offset.checked_add(start)?, name.len() + 1)?;
    let same = text.strip_suffix(&[0])? == name.as_bytes();
    same.then_some(value)
}

/// Index and value of the symbol with this name and one of these types, by looking at all.
pub(super) fn find_entry(
    image: &impl Image,
    symbols: Section,
    strings: Section,
    name: &str,
    types: &[u8],
) -> Option<(u32, u64)> {
    let count = u32::try_from((symbols.size / ENTRY as u64).min(MAX_SEARCHED)).ok()?;
    (0..count).find_map(|index| {
        let value = named(image, symbols, strings, index, (name, types))?;
        Some((index, value))
    })
}

/// Names and values of the functions whose names `wanted` takes.
pub(super) fn find(
    image: &Budgeted<impl Image>,
    symbols: Section,
    strings: Section,
    wanted: &dyn Fn(&str) -> bool,
) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    let len = usize::try_from(strings.size).unwrap_or(usize::MAX);
    let Some(text) = image.read(strings.offset, len) else { return found };
    let count = symbols.size / ENTRY as u64;
    let mut first = 0;
    while first < count && found.len() < MAX_FOUND {
        let here = PIECE.min(count - first);
        let at = symbols.offset.saturating_add(first * ENTRY as u64);
        let Some(piece) = image.read(at, here as usize * ENTRY) else { break };
        for entry in piece.chunks_exact(ENTRY) {
            let Some((start, value)) = defined(entry, FUNCTIONS) else { continue };
            let Some(name) = name_at(&text, start) else { continue };
            // Any number of symbols may share a long one.
            if !image.spend(name.len() as u64) {
                return found;
            }
            if wanted(name) && found.len() < MAX_FOUND {
                found.push((name.to_owned(), value));
            }
        }
        first += here;
    }
    found
}

/// Place of the name, and value, of a symbol of one of these types that is defined here.
fn defined(entry: &[u8], types: &[u8]) -> Option<(u64, u64)> {
    let (name, info, section) = (u32_at(entry, 0)?, *entry.get(4)?, u16_at(entry, 6)?);
    let value = u64_at(entry, 8)?;
    let kind = info & 0xf;
    let placed = value != 0 || TLS_VARIABLES.contains(&kind);
    (types.contains(&kind) && section != 0 && placed).then_some((u64::from(name), value))
}

fn name_at(text: &[u8], start: u64) -> Option<&str> {
    let rest = text.get(usize::try_from(start).ok()?..)?;
    let rest = rest.get(..MAX_NAME).unwrap_or(rest);
    let end = memchr::memchr(0, rest)?;
    std::str::from_utf8(rest.get(..end)?).ok()
}
