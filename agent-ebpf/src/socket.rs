//! State kept with each observed socket, and what is worked out from it: positions, true times,
//! how much to capture.
//!
//! The state lives in socket storage. Programs on several CPUs may touch it at once without a
//! lock; each field says who writes it and why a race is harmless.

use agent_common::{
    counter,
    settings::{feature, socket_verdict},
};
use aya_ebpf::{bindings::BPF_SK_STORAGE_GET_F_CREATE, helpers::generated::bpf_sk_storage_get};

use crate::{
    emit::{count, now},
    filter,
    kernel::{
        iterator::{self, Outgoing},
        sock::{Sock, Stream, Tcp, state},
        user::Pieces,
    },
    maps::{SOCKETS, UNIX_SENDS, VERDICT_GENERATION, VERDICTS},
    settings::{enabled, setting},
};

/// Bits of [`SocketState::flags`].
pub mod flag {
    /// The state is set up.
    pub const READY: u32 = 1 << 0;
    /// The connection record went out.
    pub const KNOWN: u32 = 1 << 1;
    /// … and named everything (unix: the peer's cookie).
    pub const COMPLETE: u32 = 1 << 2;
    /// Capture nothing: userspace's verdict.
    pub const MUTED: u32 = 1 << 3;
    /// Capture every call as far as the largest class goes.
    pub const FULL: u32 = 1 << 4;
    /// Not watched at all: a filter, or the agent is at one end.
    pub const LEFT_OUT: u32 = 1 << 5;
    /// This end called connect.
    pub const CONNECTED: u32 = 1 << 6;
    /// This end was accepted.
    pub const ACCEPTED: u32 = 1 << 7;
    /// The peer's end was reported.
    pub const END_SEEN: u32 = 1 << 8;
    /// The last call went out (else in); meaningless without [`TURNED`].
    pub const SENDING: u32 = 1 << 9;
    /// There was a call.
    pub const TURNED: u32 = 1 << 10;
}

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
        let Outgoing { address, pieces, .. } = self.outgoing;
        match pieces {
            0 => Source::Nowhere,
            iterator::UNSURE => Source::Registers,
            iterator::FLAT => Source::Iterator(Pieces::One(address)),
            count => Source::Iterator(Pieces::Many {
                vector: address,
                count: u64::from(count),
                in_kernel: true,
            }),
        }
    }
}

/// Data became readable. `end` is written after `ns`, and read before it, so that a reader never
/// takes an older time for newer bytes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Arrival {
    /// When.
    pub ns: u64,
    /// Sequence number of the next byte expected after it.
    pub end: u64,
}

/// Arrivals remembered; a power of two. When more wait unread the newest slot is extended, so that
/// its time is late, never early.
const ARRIVALS: u32 = 4;

/// Threads that may send at once and still get exact positions.
const SENDS: u32 = 2;

/// What is asked of every call comes first, and fills the first cache line (56 bytes: the kernel
/// puts 8 of its own before them); the second has the sends, the third the arrivals.
#[repr(C)]
pub struct SocketState {
    /// Socket cookie. Written once.
    pub cookie: u64,
    /// 64-bit position of the last known byte sent. Written by senders; they agree on it.
    pub send_position: u64,
    /// The same for bytes received.
    pub receive_position: u64,
    /// Bits of [`flag`]. A lost update costs one repeated record or one late verdict.
    pub flags: u32,
    /// Verdict generation last looked at.
    pub generation: u32,
    /// Bytes of the running turn's head not captured yet. A race costs or gives some bytes.
    pub head_left: u32,
    /// Arrivals written. Only the socket's owner (its lock, or its softirq) writes it.
    pub arrived: u32,
    /// Arrivals fully read. Only readers write it.
    pub taken: u32,
    /// Local port of a connection of the agent, else 0: when a socket closes the kernel has
    /// already taken its port back. Written once.
    pub own_port: u16,
    /// 1 once there was a sendmmsg or recvmmsg. Never taken back, and no bit of `flags`: an update
    /// lost there would lose the end of such a call.
    pub messages: u16,
    /// Whether the process that used it last is selected.
    pub judged: filter::Judged,
    pub sends: [Send; SENDS as usize],
    /// TCP: ring of arrivals. Unix: slot 0 holds the first, slot 1 the last unread arrival.
    pub arrivals: [Arrival; ARRIVALS as usize],
}

/// A true time, or when it is not known.
#[derive(Clone, Copy)]
pub struct Moment {
    pub ns: u64,
    pub is_true: bool,
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

/// Position and times of a receive.
pub struct Received {
    pub position: u64,
    pub first: Moment,
    pub last: Moment,
}

/// State of a socket; made when `create` and there is none. `None` without memory, or for a socket
/// that is not watched.
#[inline(always)]
pub fn get(sock: Sock, stream: Stream, create: bool) -> Option<&'static mut SocketState> {
    let flags = if create { u64::from(BPF_SK_STORAGE_GET_F_CREATE) } else { 0 };
    // SAFETY: the map is socket storage of `SocketState`; the verifier checks that this is a
    // socket. The value outlives the program's run (RCU).
    let state = unsafe {
        let map = (&raw const SOCKETS).cast_mut().cast();
        bpf_sk_storage_get(map, sock.0.cast_mut().cast(), core::ptr::null_mut(), flags)
            .cast::<SocketState>()
            .as_mut()
    };
    let Some(state) = state else {
        if create {
            count(counter::NO_STORAGE, 1);
        }
        return None;
    };
    if state.flags & flag::READY == 0 {
        state.cookie = sock.cookie();
        let left_out = filter::leaves_out(sock, stream);
        state.flags |= flag::READY | if left_out { flag::LEFT_OUT } else { 0 };
    }
    Some(state)
}

impl SocketState {
    #[inline(always)]
    pub fn has(&self, flags: u32) -> bool {
        self.flags & flags != 0
    }

    /// Takes up userspace's verdict on this socket, if any verdict is new. Muted it stays.
    #[inline(always)]
    pub fn refresh_verdict(&mut self) {
        let Some(generation) = VERDICT_GENERATION.get(0).copied() else { return };
        if generation == self.generation {
            return;
        }
        self.generation = generation;
        // SAFETY: the value is copied out.
        match unsafe { VERDICTS.get(self.cookie) }.copied() {
            Some(socket_verdict::MUTE) => self.flags |= flag::MUTED,
            Some(socket_verdict::FULL) => self.flags |= flag::FULL,
            _ => {}
        }
    }

    /// Notes a call in a direction; true when the direction turned with it. Then a new message's
    /// head may begin.
    #[inline(always)]
    pub fn turn(&mut self, sending: bool) -> bool {
        let want = flag::TURNED | if sending { flag::SENDING } else { 0 };
        if self.flags & (flag::TURNED | flag::SENDING) == want {
            return false;
        }
        self.flags = (self.flags & !flag::SENDING) | want;
        self.head_left = setting!(head_bytes);
        true
    }

    /// How many of `len` bytes to capture.
    #[inline(always)]
    pub fn allowance(&mut self, len: u32) -> u32 {
        if self.has(flag::FULL) {
            return len;
        }
        let head = self.head_left;
        let later = setting!(later_bytes);
        let most = if head > later { head } else { later };
        let allowed = if len < most { len } else { most };
        self.head_left = head.saturating_sub(allowed);
        allowed
    }

    // --- TCP sends ---

    /// A send begins to fill the socket (its lock is held). Fires again in the same call for each
    /// turn of its loop: the first counts.
    #[inline(always)]
    pub fn begin_send(&mut self, tid: u32, sequence: u32, outgoing: Option<Outgoing>) {
        let slot = &mut self.sends[(tid % SENDS) as usize];
        if slot.tid == tid {
            let turn = outgoing.map_or(Turn::Same, |outgoing| slot.turn(sequence, outgoing));
            if turn == Turn::Mixed {
                slot.outgoing.pieces = iterator::UNSURE;
            }
            if turn != Turn::Other {
                return;
            }
        }
        let outgoing = outgoing.unwrap_or(Outgoing::UNSURE);
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
        let slot = &mut self.sends[(tid % SENDS) as usize];
        if slot.tid == tid {
            slot.tid = 0;
        }
    }

    /// A send of `len` bytes ended.
    #[inline(always)]
    pub fn end_send(&mut self, tid: u32, tcp: Tcp, len: u32) -> Sent {
        let write_seq = tcp.write_seq();
        let other = self.sends[((tid + 1) % SENDS) as usize];
        let slot = &mut self.sends[(tid % SENDS) as usize];
        let mut sequence = write_seq.wrapping_sub(len);
        let mut first = Moment { ns: 0, is_true: false };
        let mut raced = false;
        let end = slot.sequence.wrapping_add(len);
        // The slot may be stale: a send of this thread that began unseen by the end hook (filters,
        // in-kernel senders). It is this send's when it ends where the stream does, or when another
        // thread's send is known to follow it.
        let followed =
            (other.tid != 0 && other.sequence == end) || newer(self.send_position as u32, end);
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

    // --- TCP receives ---

    /// Data became readable: everything before `end`.
    #[inline(always)]
    pub fn arrive(&mut self, end: u32) {
        let arrived = self.arrived;
        let newest = &mut self.arrivals[(arrived.wrapping_sub(1) % ARRIVALS) as usize];
        let waiting = arrived.wrapping_sub(self.taken);
        if arrived != 0 && newest.end == u64::from(end) {
            return;
        }
        let ns = now();
        if waiting >= ARRIVALS {
            newest.ns = ns;
            newest.end = u64::from(end);
            return;
        }
        self.arrivals[(arrived % ARRIVALS) as usize] = Arrival { ns, end: u64::from(end) };
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
            let arrival = self.arrivals[(index % ARRIVALS) as usize];
            let end = arrival.end as u32;
            if !first.is_true && newer(end, start) {
                first = Moment { ns: arrival.ns, is_true: true };
            }
            if !newer(after, end) {
                last = Moment { ns: arrival.ns, is_true: true };
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

    // --- unix ---

    /// Data for this socket was queued by the running thread. Ignored when the reader already took
    /// it: its read came first, and the time would be taken for the next message's.
    #[inline(always)]
    pub fn arrive_unix(&mut self, sock: Sock) {
        if sock.drained() {
            return;
        }
        let ns = now();
        if self.arrivals[0].ns == 0 {
            self.arrivals[0].ns = ns;
        }
        self.arrivals[1].ns = ns;
    }

    /// `len` bytes were read.
    #[inline(always)]
    pub fn end_receive_unix(&mut self, sock: Sock, len: u32) -> Received {
        let (first, last) = (self.arrivals[0].ns, self.arrivals[1].ns);
        // What is left arrived at the latest with the last arrival.
        self.arrivals[0].ns = if sock.drained() { 0 } else { last };
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

/// Sequence number of the next byte to be read. A read that takes data and the FIN leaves
/// `copied_seq` one too high.
#[inline(always)]
pub fn next_read(sock: Sock, tcp: Tcp) -> u32 {
    let copied = tcp.copied_seq();
    let finished = matches!(
        sock.state(),
        state::TIME_WAIT | state::CLOSE | state::CLOSE_WAIT | state::LAST_ACK | state::CLOSING
    );
    if finished && copied == tcp.rcv_nxt() { copied.wrapping_sub(1) } else { copied }
}

/// The 64-bit position nearest to `base` whose low half is `sequence`.
#[inline(always)]
pub fn extend(base: u64, sequence: u32) -> u64 {
    if base == 0 {
        // First sight. One turn up, so that bytes before it have a position as well.
        return (1 << 32) | u64::from(sequence);
    }
    let step = sequence.wrapping_sub(base as u32) as i32;
    base.wrapping_add(step as i64 as u64)
}

/// `a` lies behind `b` in sequence space.
#[inline(always)]
fn newer(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}
