//! Sheds whole requests where they begin: when a ring is nearly full, when the CPU budget is spent,
//! when a process has used up its rate. Positions are kept all the while, so that what comes next
//! is in its place.
//!
//! The order, of whole requests always: of a process that nears its rate a growing share, beyond it all;
//! a share of all, while the CPU budget is spent; from a ring that is three quarters full on a growing
//! share, of one that is full to seven eighths all. What ring 0 carries, and the ends of connections,
//! are never shed. Which requests make up a share is drawn by their position, so that both ends of a
//! connection shed the same ones.
//!
//! Which call begins a request is known by the role of this end: a turn to sending where it asks, to
//! receiving where it answers. A socket whose role is not known is not shed. Of a connection with a TLS
//! library that is watched it is the plaintext that is shed, never a handshake.

use agent_common::{
    counter,
    record::{Header, Payload, SHED_REPEAT_NS, Shed, flag as record_flag, kind},
    settings::{feature, lot},
};

use crate::{
    emit::{count, header, reserve, waiting, wakeup},
    maps::{ALLOWANCES, Allowance, BUDGET},
    settings::{enabled, setting},
    socket::{SocketState, flag},
    tls::TlsSocket,
};

/// Values of [`SocketState::shed`] and [`TlsSocket::shed`].
pub mod state {
    /// What is seen is captured.
    pub const KEEPS: u8 = 0;
    /// The running request is shed.
    pub const SHEDS: u8 = 1;
    /// The running request is captured, those before it were shed: its first record says so.
    pub const RESUMES: u8 = 2;
}

/// Bytes of a ring that are left to records of requests under way.
const KEPT_FREE: u64 = 16 << 10;

/// One request, in the unit of [`Allowance::tokens`].
const TOKEN: u64 = 1_000_000_000;

/// The direction turned with the call of `record`: when a request begins with it, decides whether it
/// is shed.
#[inline(always)]
pub fn begin(socket: &mut SocketState, sending: bool, record: &Payload) {
    let role = if sending { flag::CONNECTED | flag::ASKS } else { flag::ACCEPTED | flag::ANSWERS };
    if socket.has(role) {
        decide(&mut socket.shed, socket.cookie, lot(record.position), &record.header);
    }
}

/// The same of plaintext, whose positions begin at 0 on every connection: the client's port tells them
/// apart, and both ends know it.
#[inline(always)]
pub fn begin_plain(socket: &mut TlsSocket, sending: bool, record: &Payload) {
    let Some(port) = socket.asker(sending) else { return };
    let lot = lot(record.position.wrapping_add(u64::from(port) << 16));
    decide(&mut socket.shed, record.cookie, lot, &record.header);
}

/// A request with this lot begins with the record that `header` is of.
#[inline(always)]
fn decide(shed: &mut u8, cookie: u64, lot: u32, header: &Header) {
    let (tgid, now) = (header.tgid, header.boot_ns);
    let cause = if overflows(cookie, lot) {
        counter::SHED_RING
    } else if enabled(feature::CPU_BUDGET) && BUDGET.get(0).is_some_and(|shed| lot < *shed) {
        counter::SHED_CPU
    } else if enabled(feature::PROCESS_RATE) && !spends(tgid, now, lot) {
        counter::SHED_RATE
    } else {
        return spare(shed);
    };
    *shed = state::SHEDS;
    count(cause, 1);
    tell(cookie, header);
}

/// What begins now is not asked whether it is shed.
#[inline(always)]
pub fn spare(shed: &mut u8) {
    if *shed == state::SHEDS {
        *shed = state::RESUMES;
    }
}

/// The call of `record` belongs to a request that is shed. The first that does not says so.
#[inline(always)]
pub fn takes(shed: &mut u8, record: &mut Payload) -> bool {
    match *shed {
        state::KEEPS => false,
        state::SHEDS => {
            // The end of a stream costs nothing to tell.
            let bytes = record.header.total_len > 0;
            if bytes {
                count(counter::SHED_CALLS, 1);
            } else {
                record.header.flags |= record_flag::SHED;
            }
            bytes
        }
        _ => {
            *shed = state::KEEPS;
            record.header.flags |= record_flag::SHED;
            false
        }
    }
}

/// The flag of a record that says how the socket ends.
#[inline(always)]
pub fn mark(socket: &SocketState) -> u16 {
    if socket.shed == state::KEEPS { 0 } else { record_flag::SHED }
}

/// The socket's ring is nearly full.
#[inline(always)]
pub fn is_crowded(cookie: u64) -> bool {
    waiting(cookie) > u64::from(setting!(ring_limit))
}

/// The socket's ring is so full that a request with this lot has no room in it.
#[inline(always)]
fn overflows(cookie: u64, lot: u32) -> bool {
    let waiting = waiting(cookie);
    let limit = u64::from(setting!(ring_limit));
    if waiting <= limit {
        return false;
    }
    let (over, span) = (waiting - limit, u64::from(setting!(ring_span)));
    over >= span || u64::from(lot) < (over << 32) / (span | 1)
}

/// Takes a token of a process's bucket, which holds a second's worth. False when it is empty, or less
/// than half full and the lot falls on this request.
#[inline(always)]
fn spends(tgid: u32, now: u64, lot: u32) -> bool {
    let rate = u64::from(setting!(process_rate));
    let most = rate * TOKEN;
    let Some(allowance) = allowance(tgid, now, most) else { return true };
    let since = now.saturating_sub(allowance.refilled_ns);
    let tokens = if since >= TOKEN { most } else { allowance.tokens + since * rate };
    let tokens = if tokens > most { most } else { tokens };
    allowance.refilled_ns = now;
    let half = most / 2;
    // Without the lowest bits there is room for 32 more. (Never 0, which the compiler must see.)
    let share = if tokens < half { ((half - tokens) >> 18 << 32) / (half >> 18 | 1) } else { 0 };
    let enough = tokens >= TOKEN && u64::from(lot) >= share;
    allowance.tokens = if enough { tokens - TOKEN } else { tokens };
    enough
}

/// Counts a shed request of the process, and tells userspace of it now and then: its threads may
/// work for requests that nobody saw.
#[inline(always)]
fn tell(cookie: u64, of: &Header) {
    let now = of.boot_ns;
    let Some(allowance) = allowance(of.tgid, now, u64::from(setting!(process_rate)) * TOKEN) else {
        return;
    };
    allowance.shed += 1;
    if now.saturating_sub(allowance.told_ns) < SHED_REPEAT_NS {
        return;
    }
    // In a full ring it would be lost, and counted as a record of traffic that was: later is as good.
    let room = u64::from(setting!(ring_limit)) + 2 * u64::from(setting!(ring_span));
    if waiting(cookie) + KEPT_FREE > room {
        return;
    }
    let Some((sequence, mut slot)) = reserve(cookie, size_of::<Shed>()) else { return };
    allowance.told_ns = now;
    let record = Shed {
        header: Header {
            tgid: of.tgid,
            tid: of.tid,
            start_ns: of.start_ns,
            ..header(kind::SHED, sequence, now)
        },
        requests: allowance.shed,
    };
    // SAFETY: the slot is as long as the record and 8-byte aligned; the verifier checks both.
    unsafe { slot.as_mut_ptr().cast::<Shed>().write(record) };
    slot.submit(wakeup(cookie));
}

#[inline(always)]
fn allowance(tgid: u32, now: u64, tokens: u64) -> Option<&'static mut Allowance> {
    if ALLOWANCES.get_ptr_mut(tgid).is_none() {
        let full = Allowance { tokens, refilled_ns: now, shed: 0, told_ns: 0 };
        // Another CPU may have been first: what it put there is as good.
        let _ = ALLOWANCES.insert(tgid, full, 0);
    }
    // SAFETY: a live value of the map; racing writers are harmless, see `Allowance`.
    ALLOWANCES.get_ptr_mut(tgid).map(|allowance| unsafe { &mut *allowance })
}
