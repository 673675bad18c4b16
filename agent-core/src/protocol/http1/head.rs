//! A message head, parsed in place: start line, the few fields that framing needs, and the texts
//! that are kept. RFC 9112, 2 to 5.
//!
//! Works on any prefix of a head: what stands in it completely is known.

use super::classify::{MAX_METHOD, is_token};
use super::fields::Fields;
use memchr::{memchr, memrchr};

/// Start line of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestLine<'a> {
    pub(super) method: &'a [u8],
    pub(super) target: &'a [u8],
    /// HTTP/1.`minor`.
    pub(super) minor: u8,
}

/// Start line of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StatusLine {
    pub(super) status: u16,
    pub(super) minor: u8,
}

/// A head, as far as the bytes go.
#[derive(Debug)]
pub(super) enum Scan<'a, L> {
    /// Start line, fields, and the head's length with the empty line.
    Complete(L, Fields<'a>, usize),
    /// The bytes end within the head; the lines that are complete.
    Partial(L, Fields<'a>),
    /// The bytes end within the start line.
    NoLine,
    /// Not a head.
    Invalid,
}

pub(super) fn request(bytes: &[u8]) -> Scan<'_, RequestLine<'_>> {
    scan(bytes, request_line)
}

pub(super) fn response(bytes: &[u8]) -> Scan<'_, StatusLine> {
    scan(bytes, status_line)
}

fn scan<'a, L>(bytes: &'a [u8], start_line: fn(&'a [u8]) -> Option<L>) -> Scan<'a, L> {
    let Some((line, mut at)) = line(bytes, 0) else { return Scan::NoLine };
    let Some(start) = start_line(line) else { return Scan::Invalid };
    let mut fields = Fields::default();
    while let Some((text, next)) = line_with_folds(bytes, at) {
        at = next;
        if text.is_empty() {
            return Scan::Complete(start, fields, at);
        }
        fields.add(text);
    }
    Scan::Partial(start, fields)
}

/// The line at `at` without its end (CRLF, or LF alone: RFC 9112, 2.2), and where the next begins.
fn line(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let rest = bytes.get(at..)?;
    let end = memchr(b'\n', rest)?;
    let text = rest.get(..end)?;
    Some((text.strip_suffix(b"\r").unwrap_or(text), at + end + 1))
}

/// As [`line`], with the lines that continue it (obs-fold: RFC 9112, 5.2).
fn line_with_folds(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let (mut text, mut next) = line(bytes, at)?;
    while !text.is_empty() && matches!(bytes.get(next), Some(b' ' | b'\t')) {
        let (more, after) = line(bytes, next)?;
        text = bytes.get(at..next + more.len())?;
        next = after;
    }
    Some((text, next))
}

/// Length of the head in `bytes` with its empty line; nothing before `from` ends it.
pub(super) fn end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += memchr(b'\n', bytes.get(at..)?)? + 1;
        match bytes.get(at..)? {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
}

/// `method SP target SP HTTP/1.x`. Spaces in the target are invalid, but some clients send them
/// and some servers answer: the version is what stands behind the last space.
fn request_line(line: &[u8]) -> Option<RequestLine<'_>> {
    let method_end = memchr(b' ', line)?;
    let target_end = memrchr(b' ', line)?;
    let method = line.get(..method_end)?;
    let target = line.get(method_end + 1..target_end)?;
    let minor = version(line.get(target_end + 1..)?)?;
    let valid = !method.is_empty()
        && method.len() <= MAX_METHOD
        && method.iter().all(|&b| is_token(b))
        && !target.is_empty()
        && target.iter().all(|&b| b >= b' ' && b != 0x7f);
    valid.then_some(RequestLine { method, target, minor })
}

fn status_line(line: &[u8]) -> Option<StatusLine> {
    let (version_text, rest) = line.split_at_checked(8)?;
    let minor = version(version_text)?;
    let (status, reason) = rest.strip_prefix(b" ")?.split_at_checked(3)?;
    let status = decimal(status)?;
    let valid = status >= 100 && matches!(reason.first(), None | Some(b' '));
    valid.then_some(StatusLine { status: status as u16, minor })
}

fn version(text: &[u8]) -> Option<u8> {
    match text.strip_prefix(b"HTTP/1.")? {
        [digit @ b'0'..=b'9'] => Some(digit - b'0'),
        _ => None,
    }
}

/// Digits only, no sign, no overflow.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    (!text.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line_of(bytes: &[u8]) -> Option<(Vec<u8>, Vec<u8>, u8)> {
        match request(bytes) {
            Scan::Complete(l, ..) | Scan::Partial(l, _) => {
                Some((l.method.to_vec(), l.target.to_vec(), l.minor))
            }
            Scan::NoLine | Scan::Invalid => None,
        }
    }

    #[test]
    fn request_lines() {
        let is = |m: &str, t: &str, v| Some((m.as_bytes().to_vec(), t.as_bytes().to_vec(), v));
        for (why, input, expected) in [
            ("plain", &b"GET /a HTTP/1.1\r\n"[..], is("GET", "/a", 1)),
            ("line feed alone", b"GET /a HTTP/1.0\n", is("GET", "/a", 0)),
            ("space in the target", b"GET /a b HTTP/1.1\r\n", is("GET", "/a b", 1)),
            ("any token", b"x-Y!z /a HTTP/1.1\r\n", is("x-Y!z", "/a", 1)),
            ("no version", b"GET /a\r\n", None),
            ("HTTP/2", b"PRI * HTTP/2.0\r\n", None),
            ("control character", b"GET /\x01 HTTP/1.1\r\n", None),
            ("no target", b"GET HTTP/1.1\r\n", None),
            ("empty target", b"GET  HTTP/1.1\r\n", None),
            ("method no token", b"G(T / HTTP/1.1\r\n", None),
        ] {
            assert_eq!(line_of(input), expected, "{why}");
        }
    }

    #[test]
    fn status_lines() {
        for (why, input, expected) in [
            ("plain", &b"HTTP/1.1 200 OK\r\n"[..], Some((200, 1))),
            ("no reason", b"HTTP/1.0 404\r\n", Some((404, 0))),
            ("empty reason", b"HTTP/1.1 301 \r\n", Some((301, 1))),
            ("four digits", b"HTTP/1.1 2000 OK\r\n", None),
            ("below 100", b"HTTP/1.1 099 x\r\n", None),
            ("sign", b"HTTP/1.1 +20 x\r\n", None),
            ("HTTP/2", b"HTTP/2.0 200 OK\r\n", None),
        ] {
            let found = match response(input) {
                Scan::Complete(l, ..) | Scan::Partial(l, _) => Some((l.status, l.minor)),
                Scan::NoLine | Scan::Invalid => None,
            };
            assert_eq!(found, expected, "{why}");
        }
    }

    #[test]
    fn the_end_is_found_wherever_the_search_begins() {
        for head in [&b"A b HTTP/1.1\r\nX: y\r\n\r\n"[..], b"A b HTTP/1.1\nX: y\n\n"] {
            for from in 0..head.len() - 4 {
                assert_eq!(end(head, from), Some(head.len()), "from {from}");
            }
            assert_eq!(end(&head[..head.len() - 1], 0), None);
            assert!(matches!(request(head), Scan::Complete(_, _, len) if len == head.len()));
        }
    }
}
