//! `struct msghdr` and its `struct iov_iter`: where a send takes its bytes from. Exact whoever
//! calls: the kernel copies from there and nowhere else.

use agent_common::settings::feature;

use super::{load, pages::Extent, probe, word};
use crate::settings::{enabled, offset};

/// What a send has left to copy.
#[derive(Clone, Copy)]
pub struct Outgoing {
    /// [`FLAT`]: user address of the next byte. Else: kernel address of the `struct iovec` or
    /// `struct bio_vec` array.
    pub address: u64,
    /// [`FLAT`]; or how many pieces the array has, and how far into the first one the bytes begin (see
    /// [`Outgoing::count`]); 0 when the bytes are in no memory that is known (in-kernel senders); or
    /// [`UNSURE`].
    pub pieces: u32,
    /// Bytes.
    pub left: u32,
}

/// [`Outgoing::pieces`] of a send from one piece.
pub const FLAT: u32 = u32::MAX;
/// [`Outgoing::pieces`] when it is not known which call this is of.
pub const UNSURE: u32 = u32::MAX - 1;

/// Bit of [`Outgoing::pieces`]: they are pages (`struct bio_vec`), else the program's memory.
const PAGES: u32 = 1 << 31;
/// The number of pieces stands above this bit, in six bits: no more are looked at anyway.
const COUNT_SHIFT: u32 = 24;
const MOST_PIECES: u64 = 63;

impl Outgoing {
    pub const UNSURE: Outgoing = Outgoing { address: 0, pieces: UNSURE, left: 0 };

    /// The array is one of pages.
    #[inline(always)]
    pub fn is_pages(self) -> bool {
        self.pieces & PAGES != 0
    }

    /// Pieces in the array.
    #[inline(always)]
    pub fn count(self) -> u64 {
        u64::from(self.pieces >> COUNT_SHIFT) & MOST_PIECES
    }

    /// Bytes of the first piece that were sent before.
    #[inline(always)]
    pub fn skip(self) -> u64 {
        u64::from(self.pieces) & ((1 << COUNT_SHIFT) - 1)
    }
}

/// Reads the iterator of a `struct msghdr`, before the first copy or between two.
#[inline(always)]
pub fn outgoing(message: *const u8) -> Outgoing {
    let kind = u64::from(load::<u8>(message, offset!(iter_type)));
    let done: u64 = load(message, offset!(iter_offset));
    let left = load::<u64>(message, offset!(iter_count)) as u32;
    // As a number: a typed pointer may not be calculated with.
    let address = word(message as u64 + offset!(iter_pieces));
    if kind == offset!(iter_is_ubuf) {
        return Outgoing { address: address + done, pieces: FLAT, left };
    }
    let is_pages = enabled(feature::PAGES) && kind == offset!(iter_is_bvec);
    if !is_pages && kind != offset!(iter_is_iovec) || done >= 1 << COUNT_SHIFT {
        return Outgoing { address, pieces: 0, left };
    }
    let count: u64 = load(message, offset!(iter_segments));
    let count = if count < MOST_PIECES { count as u32 } else { MOST_PIECES as u32 };
    let pieces = count << COUNT_SHIFT | done as u32 | if is_pages { PAGES } else { 0 };
    Outgoing { address, pieces, left }
}

/// The first extent of a message that is pages, when it is one.
#[inline(always)]
pub fn first_extent(message: *const u8) -> Option<Extent> {
    let kind = u64::from(load::<u8>(message, offset!(iter_type)));
    let vector = word(message as u64 + offset!(iter_pieces));
    (kind == offset!(iter_is_bvec)).then(|| probe(vector))
}
