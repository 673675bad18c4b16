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

/// Scrubs a head, or the beginning of one. False when it does not begin with a start line.
pub(super) fn head(bytes: &mut [u8]) -> bool {
    let mut keep = false;
    for (index, line) in bytes.split_inclusive_mut(|&b| b == b'\n').enumerate() {
        let complete = line.ends_with(b"\n");
        if index > 0 {
            field(line, complete, &mut keep);
        } else if is_start_line(line) {
            start_line(line);
        } else {
            return false;
        }
    }
    true
}

/// A start line by its form alone, as the parser takes it.
fn is_start_line(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let version = line.len().checked_sub(9).and_then(|at| line.get(at..));
    line.starts_with(b"HTTP/1.") || version.is_some_and(|v| v.starts_with(b" HTTP/1."))
}

/// Scrubs a start line, or the beginning of one: the secrets in its target.
fn start_line(line: &mut [u8]) {
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
    let path = target.get(..query).unwrap_or_default();
    let path: Vec<_> =
        redact::userinfo_ranges(path).chain(redact::path_secret_ranges(path)).collect();
    let secrets = redact::secret_value_ranges(target.get(query..).unwrap_or_default())
        .map(|range| query + range.start..query + range.end);
    let ranges: Vec<_> = path.into_iter().chain(secrets).collect();
    redact::fill(target, ranges);
}

/// Scrubs a field line, or the beginning of one. `keep` says whether the value of the latest name
/// is kept, for the lines that continue it.
fn field(line: &mut [u8], complete: bool, keep: &mut bool) {
    let folded = matches!(line.first(), Some(b' ' | b'\t'));
    if folded {
        if !*keep {
            fill(line);
        }
        return;
    }
    let Some(colon) = memchr::memchr(b':', line) else {
        let name = line.iter().all(|&b| b.is_ascii_graphic()) && line.len() <= MAX_NAME;
        if complete || !name {
            fill(line);
        }
        return;
    };
    let (name, value) = line.split_at_mut(colon);
    let name = name.trim_ascii_end();
    *keep = is_kept(name);
    let value = value.get_mut(1..).unwrap_or_default();
    if !*keep {
        let blank = value.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        fill(value.get_mut(blank..).unwrap_or_default());
    } else if names_host(name) {
        let secrets: Vec<_> = redact::field_userinfo_ranges(value).collect();
        redact::fill(value, secrets);
    }
}

/// Values that may hold `user:password@host`.
fn names_host(name: &[u8]) -> bool {
    let hosts: [&[u8]; 3] = [b"host", b"forwarded", b"x-forwarded-host"];
    hosts.iter().any(|host| name.eq_ignore_ascii_case(host))
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
            (
                "session",
                "GET /a;jsessionid=A1/b?q HTTP/1.1\r\n",
                "GET /a;jsessionid=xx/b?q HTTP/1.1\r\n",
            ),
            ("response", "HTTP/1.1 200 token=abc\r\n", "HTTP/1.1 200 token=abc\r\n"),
        ] {
            let mut bytes = line.as_bytes().to_vec();
            start_line(&mut bytes);
            assert_eq!(String::from_utf8(bytes).unwrap(), expected, "{why}");
        }
    }

    #[test]
    fn fields() {
        for (why, line, expected) in [
            ("kept", "Host: a.example\r\n", "Host: a.example\r\n"),
            ("secret", "Authorization: Basic a:b\r\n", "Authorization: xxxxxxxxx\r\n"),
            ("prefix", "x-forwarded-proto: s\r\n", "x-forwarded-proto: s\r\n"),
            ("credentials", "HOST: u:pw@a.example:8\r\n", "HOST: x:xx@a.example:8\r\n"),
            (
                "forwarded credentials",
                "Forwarded: for=a;host=\"u:pw@b\";proto=http\r\n",
                "Forwarded: for=a;host=\"x:xx@b\";proto=http\r\n",
            ),
            ("no host", "User-Agent: a@b\r\n", "User-Agent: a@b\r\n"),
            ("no name", "just a secret\r\n", "xxxxxxxxxxxxx\r\n"),
            ("cookie", "Cookie:a=b\r\n", "Cookie:xxx\r\n"),
            ("name before its colon", "Cook", "Cook"),
            ("value that is cut", "Cookie: a=", "Cookie: xx"),
            (
                "folded secret",
                "Cookie: a=\r\n b\r\nHost: c\r\n d\r\n",
                "Cookie: xx\r\nxx\r\nHost: c\r\n d\r\n",
            ),
        ] {
            let mut bytes = format!("GET / HTTP/1.1\r\n{line}").into_bytes();
            assert!(head(&mut bytes), "{why}");
            assert_eq!(String::from_utf8_lossy(&bytes[16..]), expected, "{why}");
        }
    }

    #[test]
    fn what_has_no_start_line_is_no_head() {
        assert!(!head(&mut b"secret: a\r\n".to_vec()));
    }
}
