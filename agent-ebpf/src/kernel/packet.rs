//! `struct sk_buff`: the bytes of a received packet, or of a message on a unix socket.

use agent_common::settings::MAX_CAPTURE;

use super::{
    cast, load,
    pages::{Extent, bases},
    probe, probe_field,
    sock::Sock,
    user::Room,
};
use crate::settings::offset;

/// A packet known to the verifier.
#[derive(Clone, Copy)]
pub struct Packet(pub *const u8);

/// `TCPHDR_SYN` (include/net/tcp.h): it takes a sequence number before the first byte.
const SYN: u8 = 2;

/// `MAX_SKB_FRAGS` of most kernels; what lies beyond is a gap.
const MAX_EXTENTS: u64 = 17;

/// Most extents that bytes are copied from: as many as fill the largest class with packets of usual
/// size, and more.
const MOST_COPIED: u64 = 6;

impl Packet {
    /// Address of the socket that it is charged to: TCP the receiver's, unix the sender's. 0 when there
    /// is none.
    #[inline(always)]
    pub fn socket(self) -> u64 {
        load(self.0, offset!(skb_sk))
    }

    /// The same, to be read.
    #[inline(always)]
    pub fn sock(self) -> Sock {
        Sock(cast(self.socket(), offset!(type_tcp_sock)))
    }

    /// Its bytes.
    #[inline(always)]
    pub fn len(self) -> u32 {
        load(self.0, offset!(skb_len))
    }

    /// TCP: sequence number of its first byte.
    #[inline(always)]
    pub fn sequence(self) -> u32 {
        // `seq` is the first field of struct tcp_skb_cb.
        let control = self.0 as u64 + offset!(skb_cb);
        let sequence: u32 = probe(control);
        let flags: u8 = probe_field(control, offset!(tcp_cb_flags));
        if flags & SYN == 0 { sequence } else { sequence.wrapping_add(1) }
    }

    /// Unix: bytes of it that were read before.
    #[inline(always)]
    pub fn consumed(self) -> u32 {
        probe_field(self.0 as u64 + offset!(skb_cb), offset!(unix_cb_consumed))
    }

    /// Copies bytes from `from` on behind the first `have` of a room. Gives how many; fewer where a part cannot be read.
    #[inline(always)]
    pub fn copy(self, from: u32, len: u32, room: Room, have: u64, found: &mut Found) -> u64 {
        let free = u64::from(MAX_CAPTURE).saturating_sub(have);
        let want = if u64::from(len) < free { u64::from(len) } else { free };
        let mut from = u64::from(from);
        let mut got: u64 = 0;
        let linear = u64::from(self.len().wrapping_sub(load::<u32>(self.0, offset!(skb_data_len))));
        if from < linear {
            let here = linear - from;
            let take = if here < want { here } else { want };
            let data: u64 = load(self.0, offset!(skb_data));
            let Some(added) = room.append(have, take, data + from) else { return 0 };
            got = added;
            from = 0;
        } else {
            from -= linear;
        }
        if got >= want {
            return got;
        }
        got + self.copy_extents(from, room, have + got, want - got, found)
    }

    /// The same for what lies outside the packet's own memory.
    #[inline(always)]
    fn copy_extents(self, from: u64, room: Room, have: u64, want: u64, found: &mut Found) -> u64 {
        let Some(bases) = bases() else { return 0 };
        let head: u64 = load(self.0, offset!(skb_head));
        let shared = head + u64::from(load::<u32>(self.0, offset!(skb_end)));
        let count = u64::from(probe_field::<u8>(shared, offset!(skb_shared_nr_frags)));
        let extents = shared + offset!(skb_shared_frags);
        found.find(extents, count, from);
        // Read back: for the verifier it does not depend any more on how many were looked at.
        // SAFETY: a live value.
        let Found { extent: mut at, left: mut rest, skip: mut from } =
            unsafe { (&raw const *found).read_volatile() };
        let (mut got, mut index) = (0, 0);
        while index < MOST_COPIED {
            if rest == 0 || got >= want {
                break;
            }
            let extent: Extent = probe(at);
            let here = u64::from(extent.len).saturating_sub(from);
            let take = if here < want - got { here } else { want - got };
            let Some(address) = extent.address(bases) else { break };
            let Some(added) = room.append(have + got, take, address + from) else { break };
            got += added;
            from = 0;
            at += size_of::<Extent>() as u64;
            rest -= 1;
            index += 1;
        }
        got
    }
}

/// The extent that a place of a packet lies in. Kept in a map.
#[repr(C)]
pub struct Found {
    /// Its address.
    pub extent: u64,
    /// Extents from there on.
    pub left: u64,
    /// Bytes of it before the place.
    pub skip: u64,
}

impl Found {
    #[inline(always)]
    fn find(&mut self, extents: u64, count: u64, from: u64) {
        let (mut from, mut index) = (from, 0);
        while index < MAX_EXTENTS {
            if index >= count {
                break;
            }
            let extent: Extent = probe(extents + index * size_of::<Extent>() as u64);
            if from < u64::from(extent.len) {
                break;
            }
            from -= u64::from(extent.len);
            index += 1;
        }
        let extent = extents + index * size_of::<Extent>() as u64;
        let found = Found { extent, left: count.saturating_sub(index), skip: from };
        // SAFETY: a live value; volatile, so that it is written.
        unsafe { (&raw mut *self).write_volatile(found) };
    }
}
