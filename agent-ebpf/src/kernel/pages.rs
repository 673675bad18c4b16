//! Pages: where the bytes behind a `struct page` lie, and gathering them.
//!
//! On x86-64 physical memory is mapped in one piece, and so is the array of its `struct page`s; where
//! both begin is random for each boot, and found out by userspace when it starts (`page_test_…`).

use agent_common::settings::{MAX_CAPTURE, PageBases};

use super::{
    probe,
    user::{Room, bounded},
};
use crate::{maps::PAGE_BASES, settings::offset};

/// `struct bio_vec`, and `skb_frag_t`, which has the same layout; userspace checks both.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Extent {
    /// Address of the `struct page`; of memory that no processor may read, with bit 0 set.
    pub page: u64,
    pub len: u32,
    pub offset: u32,
}

/// `PAGE_SHIFT`.
const PAGE_SHIFT: u64 = 12;

/// More pages than any machine has (64 TiB): beyond lies no `struct page`.
const MOST_PAGES: u64 = 1 << 34;

/// Most extents that are looked at: as many as fill the largest class with whole pages, and some
/// that are cut.
const MAX_EXTENTS: u64 = 8;

/// Where pages lie, `None` until it is known.
#[inline(always)]
pub fn bases() -> Option<PageBases> {
    let bases = *PAGE_BASES.get(0)?;
    (bases.memory != 0).then_some(bases)
}

impl Extent {
    /// Address of its first byte.
    #[inline(always)]
    pub fn address(self, bases: PageBases) -> Option<u64> {
        if self.page & 1 != 0 || self.page < bases.pages {
            return None;
        }
        let number = (self.page - bases.pages).checked_div(offset!(page_size))?;
        if number >= MOST_PAGES {
            return None;
        }
        Some(bases.memory + (number << PAGE_SHIFT) + u64::from(self.offset))
    }
}

/// Gathers `struct bio_vec[count]` at `vector` into a scratch room, from `skip` bytes into the first
/// one, up to `want` bytes. Gives the room and the bytes in it; fewer than `want` on a fault, or beyond
/// [`MAX_EXTENTS`].
#[inline(always)]
pub fn gather(
    room: Room,
    vector: u64,
    count: u64,
    skip: u64,
    want: u32,
) -> Option<(*const u8, u32)> {
    let bases = bases()?;
    let want = u64::from(want);
    let mut skip = skip;
    let mut have: u64 = 0;
    let mut index = 0;
    while index < MAX_EXTENTS {
        if index >= count || have >= want {
            break;
        }
        let extent: Extent = probe(vector + index * size_of::<Extent>() as u64);
        let len = u64::from(extent.len).saturating_sub(skip);
        let Some(address) = extent.address(bases) else { break };
        let len = if len < want - have { len } else { want - have };
        if len > 0 {
            let Some(added) = room.append(have, len, address + skip) else { break };
            have += added;
        }
        skip = 0;
        index += 1;
    }
    Some((room.start(), have as u32))
}

impl Room {
    /// Copies `len` bytes of kernel memory behind the first `have`. Gives how many, `None` on a fault
    /// or when there is no room.
    #[inline(always)]
    pub fn append(self, have: u64, len: u64, from: u64) -> Option<u64> {
        let at = bounded(have + 1, i64::from(MAX_CAPTURE))?;
        let len = bounded(len, i64::from(MAX_CAPTURE))?;
        // SAFETY: the room holds twice MAX_CAPTURE, and offset and length were bounded to MAX_CAPTURE
        // each; the helper copies fault-free from any kernel address.
        let failed = unsafe {
            aya_ebpf::helpers::generated::bpf_probe_read_kernel(
                self.0.add(at as usize).cast(),
                len,
                from as *const _,
            )
        };
        (failed == 0).then_some(u64::from(len))
    }

    /// Where its bytes begin. The first is left free, so that one bound serves offset and length.
    #[inline(always)]
    pub fn start(self) -> *const u8 {
        // SAFETY: one byte into the room.
        unsafe { self.0.add(1) }
    }
}
