//! Which protocol first bytes belong to.

use crate::protocol::http1::{self, Likeness};
use smallvec::SmallVec;
use std::ops::Range;

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// HTTP/1.x.
    Http1,
    /// TLS.
    Tls,
    /// HTTP/2 in clear.
    Http2,
    /// Left HTTP/1 by Upgrade or CONNECT.
    Upgraded,
    /// None that is known.
    Unknown,
    /// The agent itself is at one end.
    Own,
}

/// What bytes at the beginning of a turn tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// This protocol.
    Is(Kind),
    /// None.
    Nothing,
    /// Too few bytes.
    NeedMore,
}

/// First bytes of an HTTP/2 connection (RFC 9113 section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Judges `bytes`, the first of a turn in which calls have moved `len` bytes so far.
pub(super) fn judge(bytes: &[u8], len: u64) -> Judgement {
    if bytes.is_empty() {
        return Judgement::NeedMore;
    }
    if is_tls(bytes) {
        return Judgement::Is(Kind::Tls);
    }
    if bytes.starts_with(PREFACE) || is_http2_frames(bytes, len) {
        return Judgement::Is(Kind::Http2);
    }
    // `P` alone may become POST as well as the preface.
    if bytes.len() > 2 && PREFACE.starts_with(bytes) {
        return Judgement::NeedMore;
    }
    match http1::classify(bytes) {
        Likeness::Yes => Judgement::Is(Kind::Http1),
        Likeness::No => Judgement::Nothing,
        Likeness::NeedMore => Judgement::NeedMore,
    }
}

/// Those of `bytes` by which they are judged to be TLS or HTTP/2, `len` as for [`judge`]: headers,
/// never content.
pub(crate) fn shape(bytes: &[u8], len: u64) -> SmallVec<[Range<usize>; 4]> {
    let mut ranges = SmallVec::new();
    match judge(bytes, len) {
        Judgement::Is(Kind::Tls) => ranges.push(0..TLS_HEADER),
        Judgement::Is(Kind::Http2) => {
            let mut at = 0;
            if bytes.starts_with(PREFACE) {
                at = PREFACE.len();
                ranges.push(0..at);
            }
            while let Some(frame_len) = bytes.get(at..).and_then(frame) {
                ranges.push(at..at + FRAME_HEADER);
                at = at.saturating_add(usize::try_from(frame_len).unwrap_or(usize::MAX));
            }
        }
        _ => {}
    }
    ranges
}

/// Bytes of a TLS record header.
const TLS_HEADER: usize = 5;

/// A TLS record header: alert, handshake or application data, version 3.0 to 3.4, and a length
/// that the version allows (RFC 5246 section 6.2.3: 2^14 + 2048).
fn is_tls(bytes: &[u8]) -> bool {
    let [kind, 3, minor, high, low, ..] = *bytes else { return false };
    let len = u16::from_be_bytes([high, low]);
    (0x15..=0x17).contains(&kind) && minor <= 4 && (1..=(1 << 14) + 2048).contains(&len)
}

/// Bytes of an HTTP/2 frame header.
const FRAME_HEADER: usize = 9;

/// HTTP/2 frames from the first byte on: either at least two in a row, or one or more that end
/// exactly where the calls do. One header alone would be met by too many other bytes.
fn is_http2_frames(bytes: &[u8], len: u64) -> bool {
    let mut at = 0u64;
    let mut seen = 0;
    while let Some(frame_len) = usize::try_from(at).ok().and_then(|at| frame(bytes.get(at..)?)) {
        seen += 1;
        at += frame_len;
        if seen == 2 || at == len {
            return true;
        }
    }
    false
}

/// Length of the frame that `bytes` begin with, header included, if its type allows its length,
/// flags and stream (RFC 9113 section 6).
fn frame(bytes: &[u8]) -> Option<u64> {
    let [l2, l1, l0, kind, flags, s3, s2, s1, s0, ..] = *bytes else { return None };
    let len = u32::from_be_bytes([0, l2, l1, l0]);
    let stream = u32::from_be_bytes([s3, s2, s1, s0]);
    let (lengths, connection, allowed_flags) = match kind {
        0 => (0..=16384, Some(false), 0x09),
        1 => (1..=16384, Some(false), 0x2d),
        2 => (5..=5, Some(false), 0),
        3 => (4..=4, Some(false), 0),
        4 => (0..=600, Some(true), 0x01),
        6 => (8..=8, Some(true), 0x01),
        7 => (8..=16384, Some(true), 0),
        8 => (4..=4, None, 0),
        9 => (1..=16384, Some(false), 0x04),
        _ => return None,
    };
    let stream_fits = stream >> 31 == 0 && connection.is_none_or(|c| c == (stream == 0));
    let length_fits = lengths.contains(&len) && (kind != 4 || len.is_multiple_of(6));
    (stream_fits && length_fits && flags & !allowed_flags == 0)
        .then_some(u64::from(len) + FRAME_HEADER as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes() {
        let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc";
        let window = b"\0\0\x04\x08\0\0\0\0\0\0\0\xff\xff";
        let headers_and_data = b"\0\0\x03\x01\x04\0\0\0\x01abc\0\0\x02\0\x01\0\0\0\x01hi";
        let is = Judgement::Is;
        for (why, bytes, len, expected) in [
            ("TLS client hello", &hello[..], 517, is(Kind::Tls)),
            ("TLS application data", b"\x17\x03\x03\x00\x45xx", 74, is(Kind::Tls)),
            ("TLS of an absurd length", b"\x17\x03\x03\xff\xffxx", 74, Judgement::Nothing),
            ("HTTP/2 preface", PREFACE, 24, is(Kind::Http2)),
            ("half a preface", &PREFACE[..10], 10, Judgement::NeedMore),
            ("HTTP/2 window update", window, 13, is(Kind::Http2)),
            ("two HTTP/2 frames", headers_and_data, 500, is(Kind::Http2)),
            ("one frame that ends elsewhere", &headers_and_data[..12], 500, Judgement::Nothing),
            ("zeros", &[0; 64], 64, Judgement::Nothing),
            ("request", b"GET / HTTP/1.1\r\n", 16, is(Kind::Http1)),
            ("no bytes", b"", 0, Judgement::NeedMore),
            ("binary", b"\x00\x01\x02\x03", 4, Judgement::Nothing),
        ] {
            assert_eq!(judge(bytes, len), expected, "{why}");
        }
    }
}
