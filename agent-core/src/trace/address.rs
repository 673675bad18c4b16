//! Hosts, ports and forwarded addresses in header values (RFC 9110 section 7.2, RFC 7239).

/// Name or address, and the port if one was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Host<'a> {
    pub(super) name: &'a [u8],
    pub(super) port: Option<u16>,
}

/// `user@host:port`, `[v6]:port`: None when there is no host in it.
pub(super) fn split_authority(authority: &[u8]) -> Option<Host<'_>> {
    let authority = authority.trim_ascii();
    let host = match authority.iter().rposition(|byte| *byte == b'@') {
        Some(at) => authority.get(at + 1..)?,
        None => authority,
    };
    let (name, rest) = match host {
        [b'[', inner @ ..] => {
            let end = inner.iter().position(|byte| *byte == b']')?;
            (inner.get(..end)?, inner.get(end + 1..)?)
        }
        _ => {
            let end = host.iter().position(|byte| *byte == b':').unwrap_or(host.len());
            host.split_at_checked(end)?
        }
    };
    let port = match rest {
        [b':', digits @ ..] => port(digits),
        _ => None,
    };
    (!name.is_empty()).then_some(Host { name, port })
}

fn port(digits: &[u8]) -> Option<u16> {
    let digits = std::str::from_utf8(digits).ok()?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// The value of `parameter` in the first element of a `Forwarded` header.
pub(super) fn forwarded<'a>(text: &'a [u8], parameter: &[u8]) -> Option<&'a [u8]> {
    let first = text.split(|byte| *byte == b',').next()?;
    first.split(|byte| *byte == b';').find_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (key, value) = (pair.get(..equals)?.trim_ascii(), pair.get(equals + 1..)?.trim_ascii());
        key.eq_ignore_ascii_case(parameter).then(|| unquoted(value))
    })
}

fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        value => value,
    }
}

/// The address in a forwarded client (`192.0.2.1:80`, `"[2001:db8::1]:80"`, `2001:db8::1`); None
/// for `unknown` and for names that hide one (`_hidden`).
pub(super) fn client_of(node: &[u8]) -> Option<&[u8]> {
    let node = unquoted(node.trim_ascii());
    let colons = node.iter().filter(|byte| **byte == b':').count();
    let address = match node {
        [b'[', ..] => split_authority(node)?.name,
        _ if colons > 1 => node,
        _ => split_authority(node)?.name,
    };
    let hidden = address.first() == Some(&b'_') || address.eq_ignore_ascii_case(b"unknown");
    (!hidden).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_split_into_host_and_port() {
        for (why, text, expected) in [
            ("name", "shop.example", Some(("shop.example", None))),
            ("with port", "shop.example:8080", Some(("shop.example", Some(8080)))),
            ("v6", "[2001:db8::1]", Some(("2001:db8::1", None))),
            ("v6 with port", "[::1]:81", Some(("::1", Some(81)))),
            ("credentials go", "user:pass@shop:1", Some(("shop", Some(1)))),
            ("port too large", "shop:70000", Some(("shop", None))),
            ("port with a sign", "shop:+80", Some(("shop", None))),
            ("empty", "", None),
            ("only a port", ":80", None),
            ("open bracket", "[::1", None),
        ] {
            let split = split_authority(text.as_bytes());
            let expected = expected.map(|(name, port)| Host { name: name.as_bytes(), port });
            assert_eq!(split, expected, "{why}");
        }
    }

    #[test]
    fn the_first_hop_counts() {
        let header = br#"For="[2001:db8::1]:4711";Proto=https;host=shop.example, for=10.0.0.1"#;
        let of = |name: &str| forwarded(header, name.as_bytes());
        assert_eq!(of("for").and_then(client_of), Some(b"2001:db8::1".as_slice()));
        assert_eq!(of("proto"), Some(b"https".as_slice()));
        assert_eq!(of("host"), Some(b"shop.example".as_slice()));
        assert_eq!(of("by"), None);
    }

    #[test]
    fn hidden_clients_are_none() {
        for (node, expected) in [
            ("unknown", None),
            ("_secret", None),
            ("192.0.2.1:80", Some("192.0.2.1")),
            ("2001:db8::1", Some("2001:db8::1")),
        ] {
            assert_eq!(client_of(node.as_bytes()), expected.map(str::as_bytes), "{node}");
        }
    }
}
