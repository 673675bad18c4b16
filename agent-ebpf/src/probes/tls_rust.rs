//! Methods of rustls's cipher traits: entry and return.
//!
//! `MessageEncrypter::encrypt` and `MessageDecrypter::decrypt` are called through trait objects, so they
//! are functions of their own in every build. Their arguments: result, object, message, record number.
//! Rust fixes no layout, so nothing is taken for granted: what stands where it is expected has to be what
//! it should be (a pointer, a length, a content type, a version), and the lengths of plaintext and record
//! have to differ by what the cipher adds. A call that does not fit is counted, and nothing of it is
//! reported.

use agent_common::{record::Payload, tls::Site};
use aya_ebpf::{
    EbpfContext,
    helpers::generated::bpf_get_attach_cookie,
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};

use super::tls::{Asked, report};
use crate::{
    emit::now,
    filter,
    kernel::{
        registers::{Called, Returned},
        stack,
        task::current_ids,
        user::read_user,
    },
    maps::{RUST_CALLS, RUST_OBJECTS},
    rust_tls::{
        Maker, RustCall, RustObject, Text, note, object, origin, plain, remember, report_pieces,
        socket_of, unmatched, wait,
    },
    tls::{ObjectKey, socket},
};

/// `ContentType::ApplicationData`, by rustls's numbers.
const APPLICATION_DATA: u64 = 3;
/// `ChangeCipherSpec` (RFC 8446 section 5.1), the first of both counts.
const FIRST_KIND: u8 = 20;
/// Lowest address that is one: below lie lengths.
const LOWEST: u64 = 1 << 20;
/// Longest plaintext of a record (RFC 8446 section 5.1), and what a cipher may add.
const MAX_PLAIN: u64 = 1 << 14;
const MAX_ADDED: u64 = 256;

#[uprobe]
#[inline(always)]
fn rust_entry(ctx: ProbeContext) -> u32 {
    stack::stay_on_the_tasks();
    // SAFETY: the context is the program's own.
    let site = Site(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) });
    entered(site, Called::of(&ctx));
    0
}

#[uretprobe]
#[inline(always)]
fn rust_return(ctx: RetProbeContext) -> u32 {
    stack::stay_on_the_tasks();
    left(Returned::of(&ctx));
    0
}

#[inline(always)]
fn entered(site: Site, called: Called) {
    let (tgid, _, thread) = current_ids();
    if filter::is_own(tgid) || !filter::selects_now(tgid) {
        return;
    }
    let words = read_user::<[u64; 5]>(called.argument(2)).unwrap_or([0; 5]);
    let text = if site.receives() { record(&words) } else { plaintext(&words) };
    let Some(text) = text else { return note(tgid, false) };
    let (handle, number) = (called.argument(1), called.argument(3));
    let key = ObjectKey { tgid: u64::from(tgid), handle };
    let mut cookie = match object(key) {
        Some(known) if known.next == number => socket_of(known),
        _ => 0,
    };
    if cookie == 0 && site.receives() {
        cookie = origin(thread, text);
    }
    let call = RustCall {
        stack: called.stack,
        site,
        result: called.argument(0),
        handle,
        number,
        began_ns: now(),
        text,
        cookie,
    };
    let _ = RUST_CALLS.insert(thread, call, 0);
}

#[inline(always)]
fn left(returned: Returned) {
    let (tgid, _, thread) = current_ids();
    // SAFETY: a live map value that only this thread uses.
    let call = unsafe { RUST_CALLS.get_ptr_mut(thread).and_then(|call| call.as_mut()) };
    let Some(call) = call else { return };
    // The return took its address off the stack.
    if call.stack == 0 || returned.stack.wrapping_sub(8) != call.stack {
        return;
    }
    call.stack = 0;
    let Some(words) = read_user::<[u64; 8]>(call.result) else { return note(tgid, false) };
    let key = ObjectKey { tgid: u64::from(tgid), handle: call.handle };
    if returned.value != call.result {
        return note(tgid, false);
    }
    let fits = if call.site.receives() {
        decrypted(key, call, &words)
    } else {
        encrypted(key, call, &words)
    };
    note(tgid, fits);
}

/// One record has become plaintext.
#[inline(always)]
fn decrypted(key: ObjectKey, call: &mut RustCall, words: &[u64; 8]) -> bool {
    let len = call.text.len;
    let from = call.text.address;
    // In place: at its beginning, or behind the explicit nonce of TLS 1.2.
    let Some((address, plain_len, kind)) = find(words, |address, plain_len| {
        let added = len.wrapping_sub(plain_len);
        matches!(address.wrapping_sub(from), 0..=16) && added >= 16 && added <= len
    }) else {
        // An error: the record is none of this object's, which expects the same again.
        return true;
    };
    match object(key) {
        Some(known) if known.next == call.number => {
            known.next += 1;
            known.cookie = call.cookie;
        }
        _ => {
            let new = RustObject {
                next: call.number.wrapping_add(1),
                born: call.began_ns,
                cookie: call.cookie,
                room: 0,
            };
            let _ = RUST_OBJECTS.insert(key, new, 0);
        }
    }
    let Some(socket) = (if call.cookie == 0 { None } else { socket(call.cookie) }) else {
        if kind == APPLICATION_DATA {
            unmatched(plain_len);
        }
        return true;
    };
    if kind == APPLICATION_DATA && plain_len > 0 {
        let (call, len) = (plain(call, address), plain_len as u32);
        report(&call, call.cookie, socket, len, Asked::Nobody, &mut Payload::default());
    } else {
        // A later time is better than that of a handshake's bytes.
        socket.first_ns = 0;
    }
    true
}

/// Plaintext has become one record.
#[inline(always)]
fn encrypted(key: ObjectKey, call: &mut RustCall, words: &[u64; 8]) -> bool {
    let len = call.text.len;
    let Some((address, total, kind)) =
        find(words, |_, total| matches!(total.wrapping_sub(len), 16 | 17 | 21 | 22 | 24 | 29))
    else {
        return false;
    };
    // Since 0.23 room is left for the header.
    let prefix = if matches!(total - len, 21 | 22 | 29) { 5 } else { 0 };
    let known = match object(key) {
        Some(known) if known.next == call.number => {
            known.next += 1;
            known
        }
        _ => {
            let new = RustObject {
                next: call.number.wrapping_add(1),
                born: call.began_ns,
                cookie: 0,
                room: 0,
            };
            let _ = RUST_OBJECTS.insert(key, new, 0);
            let Some(known) = object(key) else { return true };
            known
        }
    };
    let maker = Maker { handle: call.handle, born: known.born };
    if known.cookie == 0 {
        let kind = FIRST_KIND + kind as u8;
        remember(key.tgid, maker, kind, address + prefix, total - prefix);
    }
    if call.text.kind != APPLICATION_DATA || len == 0 {
        return true;
    }
    if known.cookie == 0 {
        wait(known, call);
        return true;
    }
    let Some(socket) = (if call.cookie == 0 { None } else { socket(call.cookie) }) else {
        unmatched(len);
        return true;
    };
    if call.text.count == 0 {
        let (call, len) = (plain(call, call.text.address), len as u32);
        report(&call, call.cookie, socket, len, Asked::Nobody, &mut Payload::default());
    } else {
        report_pieces(call, call.cookie, maker);
    }
    true
}

// --- layouts ---

/// `OutboundPlainMessage` of 0.23: an enum of one or several slices, then type and version;
/// `BorrowedPlainMessage` before: a slice, then both.
#[inline(always)]
fn plaintext(words: &[u64; 5]) -> Option<Text> {
    let [first, second, third, fourth, last] = *words;
    let text = if first >= LOWEST
        && let Some(kind) = kind_of(third)
    {
        Text { address: first, count: 0, skip: 0, len: second, kind }
    } else {
        let kind = kind_of(last)?;
        if first == 0 {
            Text { address: second, count: 0, skip: 0, len: third, kind }
        } else {
            let len = fourth.wrapping_sub(third);
            Text { address: first, count: second, skip: third, len, kind }
        }
    };
    let known = (text.address >= LOWEST || text.len == 0) && text.len <= MAX_PLAIN;
    known.then_some(text)
}

/// `InboundOpaqueMessage` of 0.23: a slice, then type and version; `OpaqueMessage` before: a vector,
/// then both.
#[inline(always)]
fn record(words: &[u64; 5]) -> Option<Text> {
    let [first, second, third, fourth, _] = *words;
    let (address, len, kind) = if first >= LOWEST
        && let Some(kind) = kind_of(third)
    {
        (first, second, kind)
    } else {
        (if second >= LOWEST { second } else { first }, third, kind_of(fourth)?)
    };
    let known = address >= LOWEST && len <= MAX_PLAIN + MAX_ADDED;
    known.then_some(Text { address, count: 0, skip: 0, len, kind })
}

/// The content type in a word that holds it and a protocol version: TLS 1.2 or 1.3. Which comes first is
/// the compiler's choice.
#[inline(always)]
fn kind_of(word: u64) -> Option<u64> {
    let is_version = |version: u64| matches!(version & 0xffff, 4 | 5);
    if word & 0xff <= APPLICATION_DATA && is_version(word >> 16) {
        Some(word & 0xff)
    } else if is_version(word) && word >> 32 & 0xff <= APPLICATION_DATA {
        Some(word >> 32 & 0xff)
    } else {
        None
    }
}

/// Address, length and content type in a result: of a slice or a vector, with type and version behind
/// the length.
#[inline(always)]
fn find(words: &[u64; 8], fits: impl Fn(u64, u64) -> bool) -> Option<(u64, u64, u64)> {
    macro_rules! at {
        ($($index:literal)*) => { $(
            if words[$index] <= MAX_PLAIN + MAX_ADDED
                && let Some(kind) = kind_of(words[$index + 1])
            {
                let (near, far) = (words[$index - 1], if $index > 1 { words[$index - 2] } else { 0 });
                let address = if near >= LOWEST { near } else { far };
                if address >= LOWEST && fits(address, words[$index]) {
                    return Some((address, words[$index], kind));
                }
            }
        )* };
    }
    at!(1 2 3 4 5 6);
    None
}
