//! MPTCP: positions by the connection's own sequence numbers (RFC 8684, section 3.3.1), which both ends
//! know, as TCP's. What TCP's socket tells of itself is not there, so what was read is counted here.

use super::{Moment, Received, Sent, SocketState, Source, extend};
use crate::kernel::sock::Sock;

impl SocketState {
    /// A send of `len` bytes ended.
    #[inline(always)]
    pub fn end_send_mptcp(&mut self, sock: Sock, len: u32) -> Sent {
        self.find_read(sock, 0);
        let start = (sock.mptcp_next_sent() as u32).wrapping_sub(len);
        let position = extend(self.send_position, start);
        self.send_position = position + u64::from(len);
        let first = Moment { ns: 0, is_true: false };
        Sent { position, first, raced: false, source: Source::Registers }
    }

    /// `len` bytes were read.
    #[inline(always)]
    pub fn end_receive_mptcp(&mut self, sock: Sock, len: u32) -> Received {
        self.find_read(sock, len);
        self.send_position = extend(self.send_position, sock.mptcp_next_sent() as u32);
        let position = self.receive_position;
        self.receive_position = position + u64::from(len);
        let never = Moment { ns: 0, is_true: false };
        Received { position, first: never, last: never }
    }

    /// At first sight: the sequence number of the first byte ever, and what was read before the `len`
    /// bytes that were read just now. A kernel that does not count that (before 6.17) is believed to be
    /// at the beginning; one that does not count what it received either (6.1), to have nothing unread.
    /// What is believed in vain leaves the ends apart.
    #[inline(always)]
    fn find_read(&mut self, sock: Sock, len: u32) {
        if self.receive_position == 0 {
            let next = match sock.mptcp_first_received() {
                0 => sock.mptcp_next_received() as u32,
                first => {
                    let consumed = sock.mptcp_read().unwrap_or(u64::from(len));
                    first.wrapping_add(consumed) as u32
                }
            };
            self.receive_position = extend(0, next.wrapping_sub(len));
        }
    }
}
