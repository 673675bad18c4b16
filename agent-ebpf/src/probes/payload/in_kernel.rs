//! Receives that no registers explain (io_uring): their bytes are taken from the packets as the kernel
//! copies them, and wait by thread for the end of the call.
//!
//! The program here taxes each packet that is received, so it is attached only while a process has use
//! for it: userspace is told of each io_uring that is made, and of each receive that would have needed
//! it.
//!
//! | program | hook |
//! |---|---|
//! | `packet_tracepoint` | `skb_copy_datagram_iovec`: before a packet's bytes are copied out |
//! | `ring_tracepoint` | `io_uring_create` |

use agent_common::{
    counter,
    record::Header,
    settings::{InKernelUser, MAX_CAPTURE, feature, packets_state, socket_verdict},
};
use aya_ebpf::{
    bindings::{BPF_NOEXIST, BPF_RB_FORCE_WAKEUP},
    helpers::generated::bpf_map_update_elem,
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};

use crate::{
    emit::count,
    filter,
    kernel::{
        atomic,
        packet::Packet,
        registers,
        sock::{Sock, Stream},
        task::{Task, current_ids},
        user::{Room, bounded},
    },
    maps::{IN_KERNEL_USERS, NOTICES, PACKETS_STATE, SCRATCH, TAKEN, Taken, VERDICTS},
    settings::enabled,
};

/// Scratch room of [`packet_tracepoint`].
const SCRATCH_SLOT: u32 = 10;

/// `skb_copy_datagram_iovec(const struct sk_buff *skb, int len)`: in the receiver's context, TCP with
/// the socket's lock held.
#[btf_tracepoint(function = "skb_copy_datagram_iovec")]
fn packet_tracepoint(ctx: BtfTracePointContext) -> i32 {
    let len = ctx.arg::<i32>(1);
    if enabled(feature::PACKETS) && len > 0 {
        take(Packet(ctx.arg::<*const u8>(0)), len as u32);
    }
    0
}

/// `io_uring_create(int fd, void *ctx, u32 sq_entries, u32 cq_entries, u32 flags)`.
#[btf_tracepoint(function = "io_uring_create")]
fn ring_tracepoint(_ctx: BtfTracePointContext) -> i32 {
    let (tgid, _, _) = current_ids();
    if !filter::is_own(tgid) {
        count(counter::RINGS_MADE, 1);
        notify(tgid);
    }
    0
}

// --- while the packet is copied ---

#[inline(always)]
fn take(packet: Packet, len: u32) {
    let task = Task::current();
    if registers::receives(task) || packet.socket() == 0 {
        return;
    }
    let (tgid, _, thread) = current_ids();
    if filter::is_own(tgid) || !filter::selects_now(tgid) {
        return;
    }
    let sock = packet.sock();
    let Some(stream) = sock.stream() else { return };
    if is_muted(sock, stream) {
        return;
    }
    let Some((place, sequence)) = place(packet, sock, stream, len) else { return };
    let Some(taken) = entry(thread) else { return };
    if !taken.goes_on(packet, stream, place, sequence) {
        taken.begin(packet, place, sequence);
    }
    taken.add(packet, place, len);
}

/// The socket's own state cannot be asked here (before 6.10 the verifier knows no socket behind a
/// packet). On unix sockets the packet's is the sender's.
#[inline(always)]
fn is_muted(sock: Sock, stream: Stream) -> bool {
    if stream != Stream::Tcp {
        return false;
    }
    // SAFETY: the value is copied out.
    unsafe { VERDICTS.get(sock.known_cookie()) }.copied() == Some(socket_verdict::MUTE)
}

/// Where in the packet the bytes begin, and for TCP with which sequence number. `None` when that is not
/// the next to be read: a look ahead (MSG_PEEK) beyond this packet.
#[inline(always)]
fn place(packet: Packet, sock: Sock, stream: Stream, len: u32) -> Option<(u32, u32)> {
    let (place, sequence) = match stream {
        Stream::Tcp => {
            let next = sock.tcp()?.copied_seq();
            (next.wrapping_sub(packet.sequence()), next)
        }
        Stream::Unix => (packet.consumed(), 0),
        // Its packets do not say where in the stream they lie.
        Stream::Mptcp => return None,
    };
    let whole = packet.len();
    (place < whole && len <= whole - place).then_some((place, sequence))
}

/// The thread's entry, made when there is none.
#[inline(always)]
fn entry(thread: u64) -> Option<&'static mut Taken> {
    if let Some(taken) = existing(thread) {
        return Some(taken);
    }
    // A map's value as the first one: nothing that is as long fits the stack. Its bytes do not matter.
    let blank = SCRATCH.get_ptr_mut(SCRATCH_SLOT)?;
    // SAFETY: both maps are live, the key is on the stack; the blank is as long as the value.
    unsafe {
        let map = (&raw const TAKEN).cast_mut().cast();
        let key = (&raw const thread).cast_mut().cast();
        bpf_map_update_elem(map, key, blank.cast(), u64::from(BPF_NOEXIST));
    }
    let taken = existing(thread)?;
    taken.moved = 0;
    Some(taken)
}

#[inline(always)]
fn existing(thread: u64) -> Option<&'static mut Taken> {
    // SAFETY: only this thread's programs touch its entry, one after the other.
    unsafe { TAKEN.get_ptr_mut(thread)?.as_mut() }
}

impl Taken {
    /// The packet's bytes follow those that are noted, in the same call.
    #[inline(always)]
    fn goes_on(&self, packet: Packet, stream: Stream, place: u32, sequence: u32) -> bool {
        if self.moved == 0 || self.socket != packet.socket() {
            return false;
        }
        match stream {
            Stream::Tcp => sequence == self.sequence.wrapping_add(self.moved),
            // The first packet again: what is noted was a look ahead.
            _ => self.packet != packet.0 as u64 || self.offset != place,
        }
    }

    #[inline(always)]
    fn begin(&mut self, packet: Packet, place: u32, sequence: u32) {
        self.socket = packet.socket();
        self.packet = packet.0 as u64;
        self.offset = place;
        self.sequence = sequence;
        self.moved = 0;
        self.have = 0;
    }

    #[inline(always)]
    fn add(&mut self, packet: Packet, place: u32, len: u32) {
        // What follows a gap would not be adjacent.
        if self.have == self.moved && self.have < MAX_CAPTURE {
            let room = Room((&raw mut self.room).cast());
            let have = u64::from(self.have);
            self.have += packet.copy(place, len, room, have, &mut self.found) as u32;
        }
        self.moved = self.moved.saturating_add(len);
    }
}

// --- at the call's end ---

/// What the running receive of `len` bytes took from packets of `socket`; it must begin with
/// `sequence`, which is 0 but for TCP. (No option: of one that is none the compiler moves a register about
/// that holds nothing, and the verifier minds what it last held.)
#[inline(always)]
pub fn taken(header: &Header, thread: u64, socket: u64, sequence: u32, len: u32) -> Option<u32> {
    let taken = existing(thread)?;
    let fits = taken.moved == len && taken.socket == socket && taken.sequence == sequence;
    taken.moved = 0;
    let have = bounded(u64::from(taken.have), i64::from(MAX_CAPTURE))?;
    if !fits {
        return None;
    }
    count(counter::PACKET_RECEIVES, 1);
    if let Some(user) = user(header) {
        // SAFETY: a live map value.
        unsafe { atomic::add(&raw mut user.packet_calls, 1) };
    }
    Some(have)
}

/// Where those bytes are.
#[inline(always)]
pub fn taken_room(thread: u64) -> Option<*const u8> {
    let taken = existing(thread)?;
    // SAFETY: within the entry's room.
    Some(unsafe { (&raw const taken.room).cast::<u8>().add(1) })
}

/// A receive of the running thread ended that is not followed to its end.
#[inline(always)]
pub fn forget() {
    if !enabled(feature::PACKETS) {
        return;
    }
    let (_, _, thread) = current_ids();
    if let Some(taken) = existing(thread) {
        taken.moved = 0;
    }
}

/// Bytes of a call could not be reached: noted with the process. Packets are asked for where they have
/// the bytes.
#[inline(always)]
pub fn unreachable(header: &Header, in_packets: bool) {
    if let Some(user) = user(header) {
        // SAFETY: live map values.
        unsafe {
            atomic::add(&raw mut user.unreachable_calls, 1);
            atomic::add(&raw mut user.unreachable_bytes, u64::from(header.total_len));
        }
    }
    if in_packets && enabled(feature::PACKETS) && state() != packets_state::ATTACHED {
        count(counter::PACKETS_MISSED, 1);
        if state() == packets_state::DETACHED {
            set_state(packets_state::ASKED);
            notify(header.tgid);
        }
    }
}

/// The process's entry, made when there is none.
#[inline(always)]
fn user(header: &Header) -> Option<&'static mut InKernelUser> {
    if let Some(user) = IN_KERNEL_USERS.get_ptr_mut(header.tgid) {
        // SAFETY: a live map value; its numbers are added to atomically.
        let user = unsafe { &mut *user };
        if user.start_ns == header.start_ns {
            return Some(user);
        }
    }
    let blank = InKernelUser { start_ns: header.start_ns, ..InKernelUser::default() };
    let _ = IN_KERNEL_USERS.insert(header.tgid, blank, 0);
    // SAFETY: as above.
    unsafe { IN_KERNEL_USERS.get_ptr_mut(header.tgid)?.as_mut() }
}

#[inline(always)]
fn state() -> u32 {
    PACKETS_STATE.get(0).copied().unwrap_or(packets_state::ATTACHED)
}

#[inline(always)]
fn set_state(state: u32) {
    if let Some(place) = PACKETS_STATE.get_ptr_mut(0) {
        // SAFETY: a live map value.
        unsafe { place.write_volatile(state) };
    }
}

/// Wakes userspace with the number of a process. A full ring already has it awake.
#[inline(always)]
fn notify(tgid: u32) {
    if let Some(mut slot) = NOTICES.reserve_bytes(size_of::<u32>(), 0) {
        // SAFETY: the slot is as long.
        unsafe { slot.as_mut_ptr().cast::<u32>().write(tgid) };
        slot.submit(u64::from(BPF_RB_FORCE_WAKEUP));
    }
}
