//! Size classes: a record takes a slot of the smallest class that holds its bytes.

use agent_common::{
    counter,
    record::{Payload, flag as record_flag},
    settings::feature,
};

use crate::{
    emit::{count, reserve, wakeup},
    kernel::user::{copy_flat, copy_scratch},
    settings::enabled,
    tls::Beginning,
};

const FIXED: usize = size_of::<Payload>();

/// Writes with the smallest class that holds `want`, copied from one user buffer. Here and below:
/// `beginning` gets the first bytes, for [`crate::tls::passes`], unless it is null.
#[inline(always)]
pub fn flat(record: &mut Payload, want: u32, address: u64, beginning: *mut Beginning) {
    match want {
        0..=128 => class_flat::<128>(record, want, address, beginning),
        129..=256 => class_flat::<256>(record, want, address, beginning),
        257..=512 => class_flat::<512>(record, want, address, beginning),
        513..=1024 => class_flat::<1024>(record, want, address, beginning),
        _ => class_flat::<4096>(record, if want > 4096 { 4096 } else { want }, address, beginning),
    }
}

/// The same from a gathered scratch room.
#[inline(always)]
pub fn gathered(record: &mut Payload, have: u32, room: *const u8, beginning: *mut Beginning) {
    match have {
        0..=256 => class_gathered::<256>(record, have, room, beginning),
        257..=1024 => class_gathered::<1024>(record, have, room, beginning),
        _ => class_gathered::<4096>(record, if have > 4096 { 4096 } else { have }, room, beginning),
    }
}

#[inline(always)]
fn class_flat<const ROOM: usize>(
    record: &mut Payload,
    len: u32,
    address: u64,
    beginning: *mut Beginning,
) {
    write::<ROOM>(record, len, beginning, |to| match ROOM {
        128 => copy_flat::<128>(to, len, address),
        256 => copy_flat::<256>(to, len, address),
        512 => copy_flat::<512>(to, len, address),
        1024 => copy_flat::<1024>(to, len, address),
        _ => copy_flat::<4096>(to, len, address),
    });
}

#[inline(always)]
fn class_gathered<const ROOM: usize>(
    record: &mut Payload,
    len: u32,
    room: *const u8,
    beginning: *mut Beginning,
) {
    write::<ROOM>(record, len, beginning, |to| match ROOM {
        256 => copy_scratch::<256>(to, len, room),
        1024 => copy_scratch::<1024>(to, len, room),
        _ => copy_scratch::<4096>(to, len, room),
    });
}

#[inline(always)]
pub fn bare(record: &mut Payload) {
    write::<0>(record, 0, core::ptr::null_mut(), |_| true);
}

#[inline(always)]
pub fn unreachable(record: &mut Payload) {
    count(counter::UNREACHABLE_CALLS, 1);
    count(counter::UNREACHABLE_BYTES, u64::from(record.header.total_len));
    record.header.flags |= record_flag::UNREACHABLE;
    bare(record);
}

/// Reserves a slot for the record and `ROOM` bytes, fills both, submits.
#[inline(always)]
fn write<const ROOM: usize>(
    record: &mut Payload,
    len: u32,
    beginning: *mut Beginning,
    fill: impl FnOnce(*mut u8) -> bool,
) {
    let Some((sequence, mut slot)) = reserve(record.cookie, FIXED + ROOM) else { return };
    record.header.seq = sequence;
    let start = slot.as_mut_ptr();
    // SAFETY: the slot holds FIXED + ROOM bytes and is 8-byte aligned; the verifier checks both.
    unsafe {
        let filled = fill(start.add(FIXED));
        record.header.captured_len = if filled { len } else { 0 };
        if !filled {
            count(counter::FAULTS, 1);
            record.header.flags |= record_flag::UNREACHABLE;
        }
        if ROOM > 0 && enabled(feature::TLS) && filled && !beginning.is_null() {
            beginning.write(start.add(FIXED).cast::<Beginning>().read());
        }
        start.cast::<Payload>().write(*record);
    }
    slot.submit(wakeup(record.cookie));
}
