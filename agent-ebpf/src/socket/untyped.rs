//! Where state lives when the verifier knows no sockets: in a hash by the socket's address. What socket
//! storage does by itself is done here: an entry goes with its socket, and an address that another
//! socket has taken over gives no state of the one before.

use agent_common::counter;
use aya_ebpf::helpers::generated::bpf_map_update_elem;

use super::{SocketState, flag};
use crate::{
    emit::{count, next_of, this_cpu},
    kernel::sock::Sock,
    maps::{BLANK_SOCKET, SOCKETS_BY_ADDRESS},
};

/// `BPF_NOEXIST` (include/uapi/linux/bpf.h): another CPU may have made it just now.
const ONLY_NEW: u64 = 1;

/// Marks numbers that are given here, of sockets without a cookie: the kernel counts from 1.
const OWN: u64 = 1 << 63;
/// Bits of the number; the CPU stands above.
const NUMBER_BITS: u32 = 48;

#[inline(always)]
pub(super) fn stored(sock: Sock, create: bool) -> Option<&'static mut SocketState> {
    let key = sock.0 as u64;
    if let Some(state) = at(key) {
        return Some(state);
    }
    if !create {
        return None;
    }
    let blank = BLANK_SOCKET.get_ptr(0)?;
    // SAFETY: the map's key and value have these types. From one map into another: the state is too
    // long for the stack.
    unsafe {
        let map = (&raw const SOCKETS_BY_ADDRESS).cast_mut().cast();
        bpf_map_update_elem(map, (&raw const key).cast(), blank.cast(), ONLY_NEW);
    }
    let made = at(key);
    if made.is_some() {
        count(counter::UNTYPED_SOCKETS, 1);
    }
    made
}

#[inline(always)]
fn at(address: u64) -> Option<&'static mut SocketState> {
    // SAFETY: a live map value. One that is evicted meanwhile is another socket's: the map is far
    // larger than what is used at one moment, and evicts what was not used for longest.
    unsafe { SOCKETS_BY_ADDRESS.get_ptr_mut(address)?.as_mut() }
}

/// The kernel's cookie, else a number of our own.
#[inline(always)]
pub(super) fn new_cookie(sock: Sock) -> u64 {
    match sock.cookie() {
        0 => OWN | u64::from(this_cpu()) << NUMBER_BITS | next_of(counter::OWN_COOKIES),
        cookie => cookie,
    }
}

/// The cookie under which a socket is reported, 0 when it was not seen.
#[inline(always)]
pub fn known_cookie(sock: Sock) -> u64 {
    at(sock.0 as u64).map_or(0, |state| if state.has(flag::READY) { state.cookie } else { 0 })
}

/// The socket ends, or begins: what is kept of one at this address is no longer true.
#[inline(always)]
pub fn forget(sock: Sock) {
    if crate::UNTYPED && SOCKETS_BY_ADDRESS.remove(sock.0 as u64).is_ok() {
        count(counter::UNTYPED_ENDS, 1);
    }
}
