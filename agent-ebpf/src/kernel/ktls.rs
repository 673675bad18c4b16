//! `struct tls_context`: sockets on which the kernel itself does TLS.

use agent_common::settings::MISSING;

use super::{probe, probe_field, sock::Tcp, user::read_user};
use crate::settings::offset;

/// `"tls"`, the name of the protocol (net/tls/tls_main.c).
const NAME: u32 = u32::from_le_bytes(*b"tls\0");

/// Bits of the byte with `tx_conf` and `rx_conf`; all 0 (`TLS_BASE`): the program does it, or nobody.
const SENDS: u8 = 0x07;
const RECEIVES: u8 = 0x38;

/// `SOL_TLS` (include/linux/socket.h).
const SOL_TLS: u32 = 282;

/// What a TLS record of data says of itself (RFC 8446, section 5.1).
const DATA: u8 = 23;

/// Which directions the kernel encrypts.
#[derive(Clone, Copy)]
pub struct Directions {
    pub sends: bool,
    pub receives: bool,
    /// The kernel's types say where that stands; otherwise both are believed.
    pub is_known: bool,
}

/// `None` where the protocol upon the socket is not TLS.
#[inline(always)]
pub fn directions(tcp: Tcp) -> Option<Directions> {
    let (protocol, context) = tcp.upper();
    if protocol == 0 || probe_field::<u32>(protocol, offset!(tcp_ulp_name)) != NAME {
        return None;
    }
    if offset!(tls_conf) as u32 == MISSING {
        return Some(Directions { sends: true, receives: true, is_known: false });
    }
    let conf: u8 = if context == 0 { 0 } else { probe(context + offset!(tls_conf)) };
    Some(Directions { sends: conf & SENDS != 0, receives: conf & RECEIVES != 0, is_known: true })
}

/// The message of a sendmsg or recvmsg at `address` (`struct user_msghdr`, or a 32-bit program's) is said
/// to be no data. The kernel has said so by the end of a receive.
#[inline(always)]
pub fn is_control(address: u64, compat: bool) -> bool {
    let (control, len) = if compat {
        let pair = read_user::<[u32; 2]>(address + 16).unwrap_or_default();
        (u64::from(pair[0]), u64::from(pair[1]))
    } else {
        let pair = read_user::<[u64; 2]>(address + 32).unwrap_or_default();
        (pair[0], pair[1])
    };
    // `struct cmsghdr`: length, level, type; the data follow.
    let header = if compat { 12 } else { 16 };
    if control == 0 || len <= header {
        return false;
    }
    let level = read_user::<u32>(control + header - 8).unwrap_or_default();
    level == SOL_TLS && read_user::<u8>(control + header) != Some(DATA)
}
