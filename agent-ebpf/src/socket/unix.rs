//! Unix streams: own byte counters, and a send takes effect in the sender's own call.

use super::{Moment, Received, Sent, SocketState, Source};
use crate::{emit::now, kernel::sock::Sock, maps::UNIX_SENDS};

impl SocketState {
    /// Data for this socket was queued by the running thread. Ignored when the reader already took
    /// it: its read came first, and the time would be taken for the next message's.
    #[inline(always)]
    pub fn arrive_unix(&mut self, sock: Sock) {
        if sock.drained() {
            return;
        }
        let ns = now();
        if self.arrivals.ns[0] == 0 {
            self.arrivals.ns[0] = ns;
        }
        self.arrivals.ns[1] = ns;
    }

    /// `len` bytes were read.
    #[inline(always)]
    pub fn end_receive_unix(&mut self, sock: Sock, len: u32) -> Received {
        let (first, last) = (self.arrivals.ns[0], self.arrivals.ns[1]);
        // What is left arrived at the latest with the last arrival.
        self.arrivals.ns[0] = if sock.drained() { 0 } else { last };
        let position = self.receive_position;
        self.receive_position = position + u64::from(len);
        Received {
            position,
            first: Moment { ns: first, is_true: first != 0 },
            last: Moment { ns: last, is_true: first != 0 },
        }
    }

    /// A send of `len` bytes ended.
    #[inline(always)]
    pub fn end_send_unix(&mut self, sock: Sock, thread: u64, len: u32) -> Sent {
        let mut first_ns = 0;
        // SAFETY: the value is copied out; only this thread writes its entry.
        if let Some(noted) = unsafe { UNIX_SENDS.get(thread) }.copied() {
            if noted.receiver == sock.peer_cookie() {
                first_ns = noted.ns;
            }
            let _ = UNIX_SENDS.remove(thread);
        }
        let position = self.send_position;
        self.send_position = position + u64::from(len);
        let first = Moment { ns: first_ns, is_true: first_ns != 0 };
        Sent { position, first, raced: false, source: Source::Registers }
    }
}
