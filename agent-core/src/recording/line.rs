//! What of a head's line is kept. Everything else becomes filler of the same length.
//!
//! The scrubbed form of a line's beginning is the beginning of its scrubbed form, so a line may be
//! written as it comes.

use crate::redact;

/// Header fields whose values parser, linker or spans need. All others are filler.
pub const KEPT_HEADERS: [&str; 19] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "expect",
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "x-request-id",
    "user-agent",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
];

/// Further ones with this beginning.
const KEPT_PREFIX: &[u8] = b"x-forwarded-";

/// Longest name that is kept while its colon has not come; a longer one is no name.
const MAX_NAME: usize = 64;

/// Filler of a line: a byte that may stand in any value.
const FILLER: u8 = b'x';

/// A field's value that framing needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(Option<u64>),
    Chunked(bool),
    None,
}

/// Scrubs a start line, or the beginning of one: the secrets in its target.
pub(super) fn start_line(line: &mut [u8]) {
    if line.starts_with(b"HTTP/") {
        return;
    }
    let Some(at) = memchr::memchr(b' ', line) else { return };
    let target = at + 1;
    let end = match memchr::memrchr(b' ', line) {
        Some(last) if last > at => last,
        _ => line.len(),
    };
    let Some(target) = line.get_mut(target..end) else { return };
    let query = memchr::memchr(b'?', target).map_or(target.len(), |mark| mark + 1);
    let userinfo = redact::userinfo_ranges(target);
    let secrets = redact::secret_value_ranges(target.get(query..).unwrap_or_default())
        .map(|range| query + range.start..query + range.end);
    let ranges: Vec<_> = userinfo.chain(secrets).collect();
    redact::fill(target, ranges);
}

/// Scrubs a field line, or the beginning of one. `keep` says whether the value of the latest name
/// is kept, for the lines that continue it.
pub(super) fn field(line: &mut [u8], complete: bool, keep: &mut bool) -> Framing {
    let folded = matches!(line.first(), Some(b' ' | b'\t'));
    if folded {
        if !*keep {
            fill(line);
        }
        return Framing::None;
    }
    let Some(colon) = memchr::memchr(b':', line) else {
        let name = line.iter().all(|&b| b.is_ascii_graphic()) && line.len() <= MAX_NAME;
        if complete || !name {
            fill(line);
        }
        return Framing::None;
    };
    let (name, value) = line.split_at_mut(colon);
    let name = name.trim_ascii_end();
    *keep = is_kept(name);
    let value = value.get_mut(1..).unwrap_or_default();
    if !*keep {
        let blank = value.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        fill(value.get_mut(blank..).unwrap_or_default());
        return Framing::None;
    }
    framing(name, value.trim_ascii())
}

/// Scrubs a chunk-size line, or the beginning of one; the size.
pub(super) fn chunk_size(line: &mut [u8]) -> Option<u64> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let (size, extension) = line.split_at_mut(digits);
    // The first byte behind the size ends it and stays: blank, semicolon or line end.
    fill(extension.get_mut(1..).unwrap_or_default());
    u64::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()
}

fn framing(name: &[u8], value: &[u8]) -> Framing {
    if name.eq_ignore_ascii_case(b"content-length") {
        let text = std::str::from_utf8(value).ok();
        return Framing::Length(text.and_then(|text| text.parse().ok()));
    }
    if name.eq_ignore_ascii_case(b"transfer-encoding") {
        let last = value.rsplit(|&b| b == b',').next().unwrap_or_default().trim_ascii();
        return Framing::Chunked(last.eq_ignore_ascii_case(b"chunked"));
    }
    Framing::None
}

fn is_kept(name: &[u8]) -> bool {
    KEPT_HEADERS.iter().any(|kept| name.eq_ignore_ascii_case(kept.as_bytes()))
        || name.get(..KEPT_PREFIX.len()).is_some_and(|head| head.eq_ignore_ascii_case(KEPT_PREFIX))
}

/// Fills all but line ends: where lines end is framing.
fn fill(bytes: &mut [u8]) {
    for byte in bytes.iter_mut().filter(|b| !matches!(b, b'\r' | b'\n')) {
        *byte = FILLER;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_lines() {
        for (why, line, expected) in [
            ("no query", "GET /a HTTP/1.1\r\n", "GET /a HTTP/1.1\r\n"),
            ("secret", "GET /a?q=1&token=abc HTTP/1.1\r\n", "GET /a?q=1&token=xxx HTTP/1.1\r\n"),
            ("credentials", "GET http://u:pw@h/ HTTP/1.1\r\n", "GET http://x:xx@h/ HTTP/1.1\r\n"),
            ("cut", "GET /a?token=ab", "GET /a?token=xx"),
            ("response", "HTTP/1.1 200 token=abc\r\n", "HTTP/1.1 200 token=abc\r\n"),
        ] {
            let mut bytes = line.as_bytes().to_vec();
            start_line(&mut bytes);
            assert_eq!(String::from_utf8(bytes).unwrap(), expected, "{why}");
        }
    }

    #[test]
    fn fields() {
        for (why, line, expected, framing) in [
            ("kept", "Host: a.example\r\n", "Host: a.example\r\n", Framing::None),
            (
                "secret",
                "Authorization: Basic a:b\r\n",
                "Authorization: xxxxxxxxx\r\n",
                Framing::None,
            ),
            ("prefix", "x-forwarded-proto: s\r\n", "x-forwarded-proto: s\r\n", Framing::None),
            (
                "length",
                "content-LENGTH: 12\r\n",
                "content-LENGTH: 12\r\n",
                Framing::Length(Some(12)),
            ),
            (
                "two lengths",
                "Content-Length: 1,2\r\n",
                "Content-Length: 1,2\r\n",
                Framing::Length(None),
            ),
            (
                "chunked",
                "Transfer-Encoding: gzip, Chunked\r\n",
                "Transfer-Encoding: gzip, Chunked\r\n",
                Framing::Chunked(true),
            ),
            ("no name", "just a secret\r\n", "xxxxxxxxxxxxx\r\n", Framing::None),
            ("cookie", "Cookie:a=b\r\n", "Cookie:xxx\r\n", Framing::None),
        ] {
            let mut bytes = line.as_bytes().to_vec();
            assert_eq!(field(&mut bytes, true, &mut false), framing, "{why}");
            assert_eq!(String::from_utf8(bytes).unwrap(), expected, "{why}");
        }
    }

    #[test]
    fn the_beginning_of_a_field_is_scrubbed_like_the_whole() {
        for line in ["Authorization: Basic abc\r\n", "Host: a\r\n", "Cookie:a=b\r\n"] {
            let mut whole = line.as_bytes().to_vec();
            field(&mut whole, true, &mut false);
            for end in 0..line.len() {
                let mut part = line.as_bytes()[..end].to_vec();
                field(&mut part, false, &mut false);
                assert_eq!(part, whole[..end], "{end} bytes of {line}");
            }
        }
    }

    #[test]
    fn chunk_sizes() {
        let mut line = b"1f;secret=1\r\n".to_vec();
        assert_eq!(chunk_size(&mut line), Some(31));
        assert_eq!(line, b"1f;xxxxxxxx\r\n");
        assert_eq!(chunk_size(&mut b"\r\n".to_vec()), None);
    }
}
