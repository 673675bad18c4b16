//! One exported symbol by its name, through `.gnu.hash`: a few reads whatever the size of the table.

use super::{Image, Section, table, u32_at, u64_at};

/// Longest chain that is followed: linkers make about one chain a symbol.
const MAX_CHAIN: u32 = 4096;

/// Index and value of the symbol with this name and one of these types.
pub(super) fn find(
    image: &impl Image,
    hash: Section,
    symbols: Section,
    strings: Section,
    (name, types): (&str, &[u8]),
) -> Option<(u32, u64)> {
    let header = image.read(hash.offset, 16)?;
    let (buckets, first) = (u32_at(&header, 0)?, u32_at(&header, 4)?);
    let (words, shift) = (u32_at(&header, 8)?, u32_at(&header, 12)?);
    if buckets == 0 || words == 0 {
        return None;
    }
    let wanted = gnu_hash(name);
    let filter = hash.offset.checked_add(16)?;
    let word = image.read(filter.checked_add(8 * u64::from(wanted / 64 % words))?, 8)?;
    let bits = 1_u64 << (wanted % 64) | 1_u64 << (wanted.checked_shr(shift).unwrap_or(0) % 64);
    if u64_at(&word, 0)? & bits != bits {
        return None;
    }
    let table = filter.checked_add(8 * u64::from(words))?;
    let chains = table.checked_add(4 * u64::from(buckets))?;
    let start = image.read(table.checked_add(4 * u64::from(wanted % buckets))?, 4)?;
    let start = u32_at(&start, 0)?;
    for index in start.max(first)..start.max(first).checked_add(MAX_CHAIN)? {
        let chain = image.read(chains.checked_add(4 * u64::from(index.checked_sub(first)?))?, 4)?;
        let chain = u32_at(&chain, 0)?;
        if chain | 1 == wanted | 1
            && let Some(value) = table::named(image, symbols, strings, index, (name, types))
        {
            return Some((index, value));
        }
        if chain & 1 == 1 {
            return None;
        }
    }
    None
}

/// `dl_new_hash` (glibc elf/dl-new-hash.h).
fn gnu_hash(name: &str) -> u32 {
    name.bytes().fold(5381, |hash: u32, byte| hash.wrapping_mul(33).wrapping_add(u32::from(byte)))
}
