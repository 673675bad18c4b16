//! What stands in place of captured bytes: nothing of their content, but all by which the
//! connection stage and the protocol judge bytes that they do not read.
//!
//! Bytes that are no beginning of HTTP/1 become filler that is none; a beginning that needs more
//! bytes, filler that needs more; the shape of TLS records, HTTP/2 frames and status lines stays.

use crate::connection::{PREFACE, shape};
use crate::protocol::http1::{Likeness, classify};

/// No start line, TLS record or HTTP/2 frame begins with it.
const NOTHING: u8 = b'?';

/// A token character: one may begin a method.
const TOKEN: u8 = b'x';

/// Longest text that may be a method alone, as [`classify`] has it; a longer beginning of a start
/// line has a target.
const METHOD: usize = 32;

/// Status line up to and with the byte behind the status (RFC 9112 section 4).
const STATUS: usize = 13;

/// Adds filler for `captured`, the first bytes of a call that moved `len`.
pub(super) fn put(captured: &[u8], len: u64, to: &mut Vec<u8>) {
    let start = to.len();
    to.resize(start + captured.len(), NOTHING);
    let filled = to.get_mut(start..).unwrap_or_default();
    let newlines = captured.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    keep(captured, filled, 0..newlines);
    let text = captured.get(newlines..).unwrap_or_default();
    if PREFACE.starts_with(captured) {
        return filled.copy_from_slice(captured);
    }
    match classify(captured) {
        Likeness::NeedMore => beginning(filled),
        Likeness::Yes if text.starts_with(b"HTTP/") => {
            keep(captured, filled, newlines..newlines + STATUS);
            let end = memchr::memchr(b'\n', text).map_or(captured.len(), |at| newlines + at);
            keep(captured, filled, end.saturating_sub(1).max(newlines + STATUS)..end + 1);
        }
        Likeness::Yes | Likeness::No => {}
    }
    for range in shape(captured, len) {
        keep(captured, filled, range);
    }
}

/// Filler for what was taken for a head and is none: only its lines stay.
pub(super) fn lines(bytes: &mut [u8]) {
    for byte in bytes.iter_mut().filter(|b| !matches!(b, b'\r' | b'\n')) {
        *byte = NOTHING;
    }
}

/// Makes `text` the beginning of a start line.
pub(super) fn beginning(bytes: &mut [u8]) {
    let newlines = bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    let text = bytes.get_mut(newlines..).unwrap_or_default();
    text.fill(TOKEN);
    if text.len() > METHOD
        && let Some(after) = text.get_mut(1..3)
    {
        after.copy_from_slice(b" /");
    }
}

fn keep(captured: &[u8], filled: &mut [u8], range: std::ops::Range<usize>) {
    if let (Some(from), Some(to)) = (captured.get(range.clone()), filled.get_mut(range)) {
        to.copy_from_slice(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filler_is_judged_like_what_it_replaces() {
        for (bytes, expected) in [
            (&b"hunter2"[..], "xxxxxxx"),
            (b"hunter2 is a secret", "???????????????????"),
            (b"GET /secret HT", "xxxxxxxxxxxxxx"),
            (b"GET /a/secret/in/a/long/path HTTP/1.", "x /xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
            (b"GET /secret HTTP/1.1\r\n", "??????????????????????"),
            (b"\r\nGE", "\r\nxx"),
            (b"HTTP/1.1 200 hunter2\r\nA: b", "HTTP/1.1 200 ??????\u{3f}\r\n????"),
            (b"HTTP/1.1 204\r\n", "HTTP/1.1 204\r\n"),
            (b"HTTP/1.1 204\n", "HTTP/1.1 204\n"),
            (b"\x17\x03\x03\0\x0bhunter2", "\x17\x03\x03\0\x0b???????"),
            (b"PRI * HTT", "PRI * HTT"),
            (b"", ""),
        ] {
            let mut filled = Vec::new();
            put(bytes, bytes.len() as u64, &mut filled);
            assert_eq!(String::from_utf8_lossy(&filled), expected);
            let likeness = classify(bytes);
            if likeness != Likeness::Yes || bytes.starts_with(b"HTTP/") {
                assert_eq!(classify(&filled), likeness, "{expected}");
            }
        }
    }
}
