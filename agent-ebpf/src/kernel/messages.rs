//! sendmmsg and recvmmsg: which message of the array an event belongs to.
//!
//! The kernel moves the messages in order and gives one event each, those that move nothing
//! included; registers name the array only. So progress is kept by thread. It must never run ahead
//! or behind: that would take bytes from another message's buffers. Where the message is not
//! certain there is none, and the call counts as unreachable.
//!
//! A call ends with its last message, with an error, and without any event
//! - after a send that moved less than its message holds: its lengths are added up to see that;
//! - when recvmmsg's time is over: calls with a time limit are not followed.

use agent_common::settings::feature;

use super::user::{add_up, message, read_user};
use crate::{
    maps::{MESSAGES, Progress},
    settings::enabled,
};

/// `sizeof(struct mmsghdr)`, and of a 32-bit program's.
const MMSGHDR_LEN: u64 = 64;
const COMPAT_MMSGHDR_LEN: u64 = 32;

/// `offsetof(struct mmsghdr, msg_len)`: the kernel writes there what a message moved, before it
/// turns to the next one.
const MSG_LEN: u64 = 56;
const COMPAT_MSG_LEN: u64 = 28;

/// What an event tells of the call.
#[derive(Clone, Copy)]
pub struct Moved {
    /// Process and thread.
    pub thread: u64,
    /// Cookie of the socket.
    pub cookie: u64,
    /// Bytes.
    pub len: u32,
    /// Out, else in.
    pub sending: bool,
}

/// Finds the message of the running event, and notes that it is through. Gives its `struct iovec`
/// array and their number.
#[inline(always)]
pub fn pass(moved: Moved, array: u64, count: u32, compat: bool) -> Option<(u64, u64)> {
    let (index, certain) = place(moved, array, count, compat);
    let header = array + u64::from(index) * header_len(compat);
    let (vector, pieces) = message(header, compat).unwrap_or((0, 0));
    let mut certain = certain && (vector != 0 || moved.len == 0);
    let mut ended = index + 1 >= count;
    if moved.sending {
        match add_up(vector, pieces, compat) {
            Some(total) if total > u64::from(moved.len) => ended = true,
            Some(total) => certain = certain && total == u64::from(moved.len),
            None => certain = false,
        }
    }
    if ended && certain {
        forget(moved.thread);
    } else {
        let next = if ended { index } else { index + 1 };
        let progress = Progress {
            array,
            cookie: moved.cookie,
            count,
            next,
            moved: moved.len,
            certain: u32::from(certain),
        };
        // The map evicts when it is full; it holds calls in progress only.
        let _ = MESSAGES.insert(moved.thread, progress, 0);
    }
    certain.then_some((vector, pieces))
}

#[inline(always)]
fn header_len(compat: bool) -> u64 {
    if compat && enabled(feature::COMPAT) { COMPAT_MMSGHDR_LEN } else { MMSGHDR_LEN }
}

/// The next message of the call in progress, or the first of a new one; and whether that is sure.
#[inline(always)]
fn place(moved: Moved, array: u64, count: u32, compat: bool) -> (u32, bool) {
    // SAFETY: the value is copied out; only this thread writes its entry.
    let Some(known) = unsafe { MESSAGES.get(moved.thread) }.copied() else { return (0, true) };
    if known.array != array || known.cookie != moved.cookie || known.count != count {
        return (0, true);
    }
    if known.certain == 0 {
        return (0, false);
    }
    let before = array + u64::from(known.next.wrapping_sub(1)) * header_len(compat);
    match read_user::<u32>(before + if compat { COMPAT_MSG_LEN } else { MSG_LEN }) {
        Some(len) if len == known.moved => (known.next, true),
        // Another call: this one would have left its length there.
        Some(_) => (0, true),
        None => (0, false),
    }
}

/// A call of this thread failed: it ends here.
#[inline(always)]
pub fn forget(thread: u64) {
    let _ = MESSAGES.remove(thread);
}
