//! `struct msghdr` and its `struct iov_iter`: where a send takes its bytes from. Exact whoever
//! calls: the kernel copies from there and nowhere else.

use super::{load, word};
use crate::settings::offset;

/// What a send has left to copy.
#[derive(Clone, Copy)]
pub struct Outgoing {
    /// [`FLAT`]: user address of the next byte. Else: kernel address of the `struct iovec` array.
    pub address: u64,
    /// [`FLAT`], or length of the array; 0 when the bytes are not in user memory (sendfile, splice,
    /// registered buffers, in-kernel senders); or [`UNSURE`].
    pub pieces: u32,
    /// Bytes.
    pub left: u32,
}

/// [`Outgoing::pieces`] of a send from one piece.
pub const FLAT: u32 = u32::MAX;
/// [`Outgoing::pieces`] when it is not known which call this is of.
pub const UNSURE: u32 = u32::MAX - 1;

impl Outgoing {
    pub const UNSURE: Outgoing = Outgoing { address: 0, pieces: UNSURE, left: 0 };
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
    let mut pieces = 0;
    // In the middle of a piece the array does not say where the bytes begin.
    if kind == offset!(iter_is_iovec) && done == 0 {
        let count: u64 = load(message, offset!(iter_segments));
        pieces = if count < u64::from(UNSURE) { count as u32 } else { 0 };
    }
    Outgoing { address, pieces, left }
}
