//! TCP sends in progress: when each began, at which position, and from where.

use agent_common::{counter, settings::feature};

use super::{Moment, SocketState, extend, newer};
use crate::{
    emit::{count, now},
    kernel::{
        iterator::{self, Outgoing},
        sock::Tcp,
        user::{Layout, Pieces},
    },
    settings::enabled,
};

/// Threads that may send at once and still get exact positions.
pub(super) const SENDS: usize = 2;

/// A send in progress on a TCP socket. Written under the socket's lock.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Send {
    /// When its first byte entered the socket.
    pub first_ns: u64,
    /// Sequence number of that byte.
    pub sequence: u32,
    /// Thread, 0 when the slot is free.
    pub tid: u32,
    /// Where its bytes are, and how many it wants to send.
    pub outgoing: Outgoing,
}

/// How a turn of the send loop stands to the call that a slot is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The same call, and its bytes lie in the stream without a gap.
    Same,
    /// The same call, with bytes of another thread between its own.
    Mixed,
    /// Another call: the slot was left behind.
    Other,
}

impl Send {
    /// What a call has sent of its own since its slot was taken is what it has less to send, and
    /// as far has the place moved where its bytes are.
    #[inline(always)]
    fn turn(&self, sequence: u32, outgoing: Outgoing) -> Turn {
        let had = self.outgoing;
        let own = had.left.wrapping_sub(outgoing.left);
        let moved = sequence.wrapping_sub(self.sequence);
        let same_place = match outgoing.pieces {
            iterator::FLAT => outgoing.address == had.address.wrapping_add(u64::from(own)),
            _ => own != 0 || outgoing.address == had.address,
        };
        if own > had.left || moved < own || !same_place {
            Turn::Other
        } else if moved == own {
            Turn::Same
        } else {
            Turn::Mixed
        }
    }

    #[inline(always)]
    fn source(&self) -> Source {
        let outgoing = self.outgoing;
        let (vector, count, skip) = (outgoing.address, outgoing.count(), outgoing.skip());
        match outgoing.pieces {
            0 => Source::Nowhere,
            iterator::UNSURE => Source::Registers,
            iterator::FLAT => Source::Iterator(Pieces::One(vector)),
            _ if enabled(feature::PAGES) && outgoing.is_pages() => {
                Source::Iterator(Pieces::Pages { vector, count, skip })
            }
            _ => Source::Iterator(Pieces::Many { vector, count, skip, layout: Layout::Kernel }),
        }
    }
}

/// Position and time of a send.
pub struct Sent {
    pub position: u64,
    pub first: Moment,
    pub raced: bool,
    pub source: Source,
}

/// How to find the bytes of a call.
#[derive(Clone, Copy)]
pub enum Source {
    /// They are in no memory that may be read.
    Nowhere,
    /// The message iterator said where, when the send began.
    Iterator(Pieces),
    /// The registers of the system call may tell.
    Registers,
}

impl SocketState {
    /// A send begins to fill the socket (its lock is held). Fires again in the same call for each
    /// turn of its loop: the first counts.
    #[inline(always)]
    pub fn begin_send(&mut self, tid: u32, sequence: u32, outgoing: Outgoing) {
        let slot = self.slot_to_take(tid);
        if slot.tid == tid {
            // Without a source nothing tells the turns of a call from the next call.
            let known = enabled(feature::SEND_SOURCE);
            let turn = if known { slot.turn(sequence, outgoing) } else { Turn::Same };
            if turn == Turn::Mixed {
                slot.outgoing.pieces = iterator::UNSURE;
            }
            if turn != Turn::Other {
                return;
            }
        }
        // Without an owner while it changes: the end of another thread's send reads it unlocked.
        // SAFETY: a live slot; volatile so that the order stays.
        unsafe {
            (&raw mut slot.tid).write_volatile(0);
            (&raw mut slot.outgoing).write_volatile(outgoing);
        }
        slot.first_ns = now();
        // SAFETY: as above.
        unsafe {
            (&raw mut slot.sequence).write_volatile(sequence);
            (&raw mut slot.tid).write_volatile(tid);
        }
    }

    /// A send ended with nothing sent.
    #[inline(always)]
    pub fn cancel_send(&mut self, tid: u32) {
        let (slot, _) = self.slots(tid);
        if slot.tid == tid {
            slot.tid = 0;
        }
    }

    /// When the send of this thread that ends now began, where that is known, whatever it sent.
    #[inline(always)]
    pub fn end_send_of(&mut self, tid: u32) -> Option<u64> {
        let (slot, _) = self.slots(tid);
        let is_own = slot.tid == tid;
        if is_own {
            slot.tid = 0;
        }
        is_own.then_some(slot.first_ns)
    }

    /// The slot of a thread that begins: its own, else a free one, else the older one. So two threads
    /// never take each other's.
    #[inline(always)]
    fn slot_to_take(&mut self, tid: u32) -> &mut Send {
        let [one, two] = &mut self.sends;
        if one.tid == tid {
            return one;
        }
        if two.tid == tid || one.tid != 0 && (two.tid == 0 || two.first_ns < one.first_ns) {
            return two;
        }
        one
    }

    /// The slot of a thread that ends, if it has one, and the other.
    #[inline(always)]
    fn slots(&mut self, tid: u32) -> (&mut Send, &Send) {
        let [one, two] = &mut self.sends;
        if one.tid == tid { (one, two) } else { (two, one) }
    }

    /// A send of `len` bytes ended.
    #[inline(always)]
    pub fn end_send(&mut self, tid: u32, tcp: Tcp, len: u32) -> Sent {
        let write_seq = tcp.write_seq();
        let sent_before = self.send_position as u32;
        let (slot, other) = self.slots(tid);
        let other = *other;
        let mut sequence = write_seq.wrapping_sub(len);
        let mut first = Moment { ns: 0, is_true: false };
        let mut raced = false;
        let end = slot.sequence.wrapping_add(len);
        // The slot may be stale: a send of this thread that began unseen by the end hook (filters,
        // in-kernel senders). It is this send's when it ends where the stream does, or when another
        // thread's send is known to follow it.
        let followed = (other.tid != 0 && other.sequence == end) || newer(sent_before, end);
        let mut source = Source::Registers;
        // For its buffer a slot must fit exactly: one of a call that moved bytes unseen never does,
        // since they lie between its beginning and this send's end.
        let fits = end == write_seq || (other.tid != 0 && other.sequence == end);
        if enabled(feature::SEND_SOURCE) && slot.tid == tid && fits {
            let noted = slot.source();
            let left = slot.outgoing.left;
            // SAFETY: a live slot; volatile, so that it is asked again whose it is: another
            // thread's send may have taken it over in between.
            let still = unsafe { (&raw const slot.tid).read_volatile() } == tid;
            // A call cannot have sent more than it had left when its slot was taken.
            if still && len <= left {
                source = noted;
            }
        }
        if slot.tid == tid && (end == write_seq || followed) {
            sequence = slot.sequence;
            first = Moment { ns: slot.first_ns, is_true: true };
        } else if enabled(feature::SEND_TIME) {
            raced = true;
            count(counter::RACED_SENDS, 1);
        }
        if slot.tid == tid {
            slot.tid = 0;
        }
        let position = extend(self.send_position, sequence);
        let after = position + u64::from(len);
        if after > self.send_position {
            self.send_position = after;
        }
        Sent { position, first, raced, source }
    }
}
