//! TCP receives: when the bytes arrived that a program reads.

use super::{Moment, SocketState, extend, newer};
use crate::{
    emit::now,
    kernel::sock::{Sock, Tcp, state},
};

/// Arrivals remembered; a power of two. When more wait unread the newest slot is extended, so that
/// its time is late, never early.
pub(super) const ARRIVALS: u32 = 4;

/// When data became readable, slot by slot. `end` is written after `ns`, and read before it, so that a
/// reader never takes an older time for newer bytes. Two arrays: of pairs, a third would be padding.
#[repr(C)]
pub struct Arrivals {
    /// When.
    pub ns: [u64; ARRIVALS as usize],
    /// Sequence number of the next byte expected after it.
    end: [u32; ARRIVALS as usize],
}

/// Position and times of a receive.
pub struct Received {
    pub position: u64,
    pub first: Moment,
    pub last: Moment,
}

impl SocketState {
    /// Data became readable: everything before `end`.
    #[inline(always)]
    pub fn arrive(&mut self, end: u32) {
        let arrived = self.arrived;
        let newest = (arrived.wrapping_sub(1) % ARRIVALS) as usize;
        let waiting = arrived.wrapping_sub(self.taken);
        if arrived != 0 && self.arrivals.end[newest] == end {
            return;
        }
        let ns = now();
        if waiting >= ARRIVALS {
            self.arrivals.ns[newest] = ns;
            self.arrivals.end[newest] = end;
            return;
        }
        let slot = (arrived % ARRIVALS) as usize;
        self.arrivals.ns[slot] = ns;
        self.arrivals.end[slot] = end;
        self.arrived = arrived.wrapping_add(1);
    }

    /// `len` bytes were read.
    #[inline(always)]
    pub fn end_receive(&mut self, sock: Sock, tcp: Tcp, len: u32) -> Received {
        let after = next_read(sock, tcp);
        let start = after.wrapping_sub(len);
        let mut first = Moment { ns: 0, is_true: false };
        let mut last = Moment { ns: 0, is_true: false };
        let (arrived, mut taken) = (self.arrived, self.taken);
        let mut step = 0;
        let mut index = taken;
        while step < ARRIVALS {
            if index == arrived {
                break;
            }
            let slot = (index % ARRIVALS) as usize;
            let (end, ns) = (self.arrivals.end[slot], self.arrivals.ns[slot]);
            if !first.is_true && newer(end, start) {
                first = Moment { ns, is_true: true };
            }
            if !newer(after, end) {
                last = Moment { ns, is_true: true };
                if end == after {
                    taken = index.wrapping_add(1);
                }
                break;
            }
            index = index.wrapping_add(1);
            taken = index;
            step += 1;
        }
        self.taken = taken;
        let position = extend(self.receive_position, start);
        self.receive_position = position + u64::from(len);
        Received { position, first, last }
    }
}

/// Sequence number of the next byte to be read. A read that takes data and the FIN leaves
/// `copied_seq` one too high.
#[inline(always)]
pub fn next_read(sock: Sock, tcp: Tcp) -> u32 {
    let copied = tcp.copied_seq();
    let finished = match sock.state() {
        state::TIME_WAIT | state::CLOSE_WAIT | state::LAST_ACK | state::CLOSING => true,
        // A connection that was reset has no FIN.
        state::CLOSE => sock.fin_received(),
        _ => false,
    };
    if finished && copied == tcp.rcv_nxt() { copied.wrapping_sub(1) } else { copied }
}
