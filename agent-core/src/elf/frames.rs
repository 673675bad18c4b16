//! Where functions begin, also in a stripped file: the table by which exceptions find their frames
//! (`.eh_frame_hdr`; Linux Standard Base, Core, 10.6.2).

use super::{Elf, Image, PT_GNU_EH_FRAME, u32_at};

/// Most functions of a file: 16 MiB while it is looked into. Envoy has 210,000.
const MAX_FUNCTIONS: u32 = 1 << 20;

/// Version 1; where `.eh_frame` is, the number of entries (`udata4`), and the entries themselves
/// (`sdata4`, relative to this table): what linkers write.
const HEADER: [u8; 4] = [1, 0x1b, 0x03, 0x3b];

/// Addresses at which functions begin, ascending. `None` where the file has no such table.
pub(super) fn begins<I: Image>(elf: &Elf<I>) -> Option<Vec<u64>> {
    let table = elf.segments.iter().find(|segment| segment.kind == PT_GNU_EH_FRAME)?;
    let header = elf.image.read(table.offset, 12)?;
    let count = u32_at(&header, 8)?;
    if !header.starts_with(&HEADER) || count > MAX_FUNCTIONS {
        return None;
    }
    let entries = elf.image.read(table.offset.checked_add(12)?, count as usize * 8)?;
    let begins = entries.chunks_exact(8).map(|entry| {
        let distance = u32_at(entry, 0)?.cast_signed();
        table.address.checked_add_signed(i64::from(distance))
    });
    let begins: Vec<u64> = begins.collect::<Option<_>>()?;
    begins.is_sorted().then_some(begins)
}
