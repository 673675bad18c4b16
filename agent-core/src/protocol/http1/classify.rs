//! Is it HTTP/1? Asked of the first bytes of a turn, before anything is known of the connection.

/// Longest method that is believed. The longest registered one has 17 bytes.
pub(super) const MAX_METHOD: usize = 32;

/// Longest start line waited for: what common servers allow for a head line (nginx, Apache), and a
/// peer that never ends its line must not be waited for without end.
const MAX_LINE: usize = 8 * 1024;

/// Answer of [`classify`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// A whole request line or status line of HTTP/1.x.
    Yes,
    /// No such line begins like this.
    No,
    /// A prefix of such a line.
    NeedMore,
}

/// Says whether `first`, the first bytes of a turn, begin an HTTP/1.x message (RFC 9112, 3 and 4).
///
/// Stricter than the parser: a target with spaces, or one that is no path, `*`, URI or (CONNECT)
/// authority, is `No`, so that text protocols with a verb in front are not taken for HTTP.
pub fn classify(first: &[u8]) -> Likeness {
    let line = skip_newlines(first);
    let likeness = if line.starts_with(b"HTTP/") {
        status_line(line)
    } else if b"HTTP/".starts_with(line) {
        Likeness::NeedMore
    } else {
        request_line(line)
    };
    match likeness {
        Likeness::NeedMore if first.len() >= MAX_LINE => Likeness::No,
        other => other,
    }
}

/// Empty lines before a message are ignored (RFC 9112, 2.2).
pub(super) fn skip_newlines(bytes: &[u8]) -> &[u8] {
    let text = bytes.iter().position(|b| !matches!(b, b'\r' | b'\n'));
    text.and_then(|at| bytes.get(at..)).unwrap_or_default()
}

fn status_line(line: &[u8]) -> Likeness {
    let mut rest = line;
    for byte in *b"HTTP/1." {
        match take(&mut rest) {
            None => return Likeness::NeedMore,
            Some(b) if b == byte => {}
            Some(_) => return Likeness::No,
        }
    }
    let shape: [fn(u8) -> bool; 5] = [
        |b| b.is_ascii_digit(),
        |b| b == b' ',
        |b| (b'1'..=b'9').contains(&b),
        |b| b.is_ascii_digit(),
        |b| b.is_ascii_digit(),
    ];
    for fits in shape {
        match take(&mut rest) {
            None => return Likeness::NeedMore,
            Some(b) if fits(b) => {}
            Some(_) => return Likeness::No,
        }
    }
    match take(&mut rest) {
        None => Likeness::NeedMore,
        Some(b'\n') => Likeness::Yes,
        Some(b' ' | b'\r') => reason(rest),
        Some(_) => Likeness::No,
    }
}

fn reason(rest: &[u8]) -> Likeness {
    for &b in rest {
        match b {
            b'\n' => return Likeness::Yes,
            b'\t' | b'\r' | b' '.. => {}
            _ => return Likeness::No,
        }
    }
    Likeness::NeedMore
}

fn request_line(line: &[u8]) -> Likeness {
    let end = line.iter().position(|&b| !is_token(b));
    let Some((method, rest)) = end.and_then(|end| line.split_at_checked(end)) else {
        return if line.len() <= MAX_METHOD { Likeness::NeedMore } else { Likeness::No };
    };
    let Some(after) = rest.strip_prefix(b" ") else { return Likeness::No };
    if method.is_empty() || method.len() > MAX_METHOD {
        return Likeness::No;
    }
    let end = after.iter().position(|&b| b <= b' ' || b == 0x7f);
    let (target, rest) = after.split_at_checked(end.unwrap_or(after.len())).unwrap_or_default();
    if !is_target(method, target, end.is_some()) {
        return Likeness::No;
    }
    match rest.strip_prefix(b" ") {
        Some(version) => version_end(version),
        None if rest.is_empty() => Likeness::NeedMore,
        None => Likeness::No,
    }
}

/// RFC 9112, 3.2: the four forms of a target, or a prefix of one.
fn is_target(method: &[u8], target: &[u8], complete: bool) -> bool {
    match target.first() {
        None => !complete,
        Some(b'/') => true,
        Some(b'*') => target.len() == 1,
        Some(_) if method == b"CONNECT" => is_authority(target),
        Some(b) if b.is_ascii_alphabetic() => is_uri(target, complete),
        Some(_) => false,
    }
}

fn is_authority(target: &[u8]) -> bool {
    target.iter().all(|b| b.is_ascii_alphanumeric() || b"-._~:[]@%".contains(b))
}

fn is_uri(target: &[u8], complete: bool) -> bool {
    let scheme = target.iter().position(|&b| b == b':');
    match scheme.and_then(|at| target.split_at_checked(at)) {
        Some((scheme, rest)) => {
            let opened = rest.starts_with(b"://") || (!complete && b"://".starts_with(rest));
            scheme.len() <= 16 && opened
        }
        None => !complete && target.len() <= 16 && target.iter().all(u8::is_ascii_alphanumeric),
    }
}

fn version_end(version: &[u8]) -> Likeness {
    let mut rest = version;
    for byte in *b"HTTP/1." {
        match take(&mut rest) {
            None => return Likeness::NeedMore,
            Some(b) if b == byte => {}
            Some(_) => return Likeness::No,
        }
    }
    match rest {
        [] => Likeness::NeedMore,
        [digit, tail @ ..] if digit.is_ascii_digit() => match tail {
            [b'\n', ..] | [b'\r', b'\n', ..] => Likeness::Yes,
            [] | [b'\r'] => Likeness::NeedMore,
            _ => Likeness::No,
        },
        _ => Likeness::No,
    }
}

fn take(rest: &mut &[u8]) -> Option<u8> {
    let (first, tail) = rest.split_first()?;
    *rest = tail;
    Some(*first)
}

/// `tchar` of RFC 9110, 5.6.2.
pub(super) fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_decide() {
        use Likeness::{NeedMore, No, Yes};
        for (why, input, expected) in [
            ("origin form", &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], Yes),
            ("bare line feed", b"GET / HTTP/1.0\n", Yes),
            ("absolute form", b"GET http://a.example/x HTTP/1.1\r\n", Yes),
            ("asterisk form", b"OPTIONS * HTTP/1.1\r\n", Yes),
            ("authority form", b"CONNECT a.example:443 HTTP/1.1\r\n", Yes),
            ("registered but rare method", b"PROPFIND /dav HTTP/1.1\r\n", Yes),
            ("unknown method", b"FOO /x HTTP/1.1\r\n", Yes),
            ("empty line before", b"\r\nGET / HTTP/1.1\r\n", Yes),
            ("status line", b"HTTP/1.1 200 OK\r\n", Yes),
            ("status line without a reason", b"HTTP/1.0 404\r\n", Yes),
            ("nothing", b"", NeedMore),
            ("part of a method", b"PO", NeedMore),
            ("H of HEAD or HTTP", b"H", NeedMore),
            ("part of a version", b"GET / HTT", NeedMore),
            ("part of a status", b"HTTP/1.1 2", NeedMore),
            ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", No),
            ("HTTP/2 status", b"HTTP/2 200\r\n", No),
            ("HTTP/0.9", b"GET /\r\n", No),
            ("TLS client hello", b"\x16\x03\x01\x02\x00\x01\x00", No),
            ("Redis", b"*1\r\n$4\r\nPING\r\n", No),
            ("Redis inline", b"GET key\r\n", No),
            ("memcached", b"get key\r\n", No),
            ("SQL", b"SELECT * FROM t WHERE a = 'b'", No),
            ("SMTP", b"HELO example.org\r\n", No),
            ("SMTP banner", b"220 mail.example.org ESMTP\r\n", No),
            ("PostgreSQL start-up", b"\x00\x00\x00\x08\x04\xd2\x16\x2f", No),
            ("MySQL greeting", b"\x4a\x00\x00\x00\x0a8.0.36\x00", No),
            ("SSH", b"SSH-2.0-OpenSSH_9.2p1\r\n", No),
            ("SIP", b"OPTIONS sip:a@b.example SIP/2.0\r\n", No),
            ("RTSP", b"OPTIONS rtsp://a.example/x RTSP/1.0\r\n", No),
            ("NUL in the target", b"GET /\0 HTTP/1.1\r\n", No),
            ("long token without a space", &[b'a'; 40], No),
        ] {
            assert_eq!(classify(input), expected, "{why}");
        }
    }

    #[test]
    fn every_prefix_of_a_start_line_needs_more() {
        for line in [
            &b"GET /a?b=c HTTP/1.1\r\n"[..],
            b"GET http://a.example/ HTTP/1.1\r\n",
            b"CONNECT [::1]:443 HTTP/1.1\r\n",
            b"HTTP/1.1 200 OK\r\n",
        ] {
            for end in 0..line.len() {
                let prefix = &line[..end];
                assert_eq!(classify(prefix), Likeness::NeedMore, "{:?}", prefix.escape_ascii());
            }
        }
    }

    #[test]
    fn a_line_without_end_is_given_up() {
        let mut line = b"GET /".to_vec();
        line.resize(MAX_LINE, b'a');
        assert_eq!(classify(&line), Likeness::No);
    }
}
