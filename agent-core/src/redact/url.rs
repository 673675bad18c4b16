//! Secrets in URLs: values of secret query keys, and user names and passwords.

use super::name::{Place, is_secret};
use super::replace;
use std::borrow::Cow;
use std::ops::Range;

/// A URL query (what follows `?`, for `url.query`) with the values of secret keys replaced by
/// [`super::REDACTED`]; the keys stay. Borrowed when there is nothing to hide.
pub fn query(query: &str) -> Cow<'_, str> {
    replace(query, secret_value_ranges(query.as_bytes()))
}

/// A URL with user name and password replaced, each by [`super::REDACTED`], as semantic
/// conventions ask of `url.full`. Its query is left alone.
pub fn url_userinfo(url: &str) -> Cow<'_, str> {
    replace(url, userinfo_ranges(url.as_bytes()))
}

/// Where the values of secret keys lie in a query, ascending, none empty.
///
/// A key starts at the beginning and behind `&`, `;`, `?` and `#` (the last three because servers
/// differ, and because values hold whole URLs); a secret value ends at `&` only.
pub fn secret_value_ranges(query: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || next_secret_value(query, &mut at))
}

fn next_secret_value(query: &[u8], at: &mut usize) -> Option<Range<usize>> {
    loop {
        let rest = query.get(*at..).filter(|rest| !rest.is_empty())?;
        let key_len = rest.iter().position(|byte| matches!(byte, b'=' | b'&' | b';' | b'?' | b'#'));
        let key_end = *at + key_len?;
        let key = query.get(*at..key_end).unwrap_or_default();
        let value = key_end + 1;
        if query.get(key_end) != Some(&b'=') {
            *at = value;
        } else if is_secret(key, Place::Query) {
            *at = find(query, value, |byte| byte == b'&');
            if *at > value {
                return Some(value..*at);
            }
        } else {
            *at = find(query, value, |byte| matches!(byte, b'&' | b';' | b'?' | b'#'));
        }
    }
}

/// Where user name and password lie in `scheme://user:password@host`, each if not empty.
pub fn userinfo_ranges(url: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let authority = memchr::memmem::find(url, b"://").map(|at| at + 3);
    authority.and_then(|start| userinfo(url, start)).into_iter().flatten()
}

/// The same for an authority that starts at `start`. It ends at `/`, `?`, `#` or a byte that no
/// URL has (it may stand in a longer text); the last `@` in it ends the credentials.
pub(super) fn userinfo(
    text: &[u8],
    start: usize,
) -> Option<impl Iterator<Item = Range<usize>> + use<>> {
    let end = find(text, start, |byte| {
        matches!(byte, b'/' | b'?' | b'#' | b' ' | b'"' | b'\'' | b'<' | b'>' | b'\\' | b'`')
            || byte.is_ascii_control()
    });
    let at_sign = memchr::memrchr(b'@', text.get(start..end)?)? + start;
    let colon = memchr::memchr(b':', text.get(start..at_sign)?).map(|colon| colon + start);
    let user = start..colon.unwrap_or(at_sign);
    let password = colon.map_or(at_sign, |colon| colon + 1)..at_sign;
    Some([user, password].into_iter().filter(|range| !range.is_empty()))
}

/// Where user names and passwords lie in a header value that names hosts: `user:password@host` of
/// `Host` and `X-Forwarded-Host`, `host=user:password@host;proto=…` of `Forwarded`, each if not
/// empty.
pub fn field_userinfo_ranges(value: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = if memchr::memchr(b'@', value).is_some() { 0 } else { value.len() };
    let ends = |byte: u8| matches!(byte, b',' | b';') || byte.is_ascii_whitespace();
    let elements = std::iter::from_fn(move || {
        let start = find(value, at, |byte| !ends(byte));
        at = find(value, start, ends);
        (start < at).then_some(start..at)
    });
    elements.filter_map(|element| element_userinfo(value, element)).flatten()
}

/// The same in one element of such a list.
fn element_userinfo(
    value: &[u8],
    element: Range<usize>,
) -> Option<impl Iterator<Item = Range<usize>> + use<>> {
    let text = value.get(element.clone())?;
    let named = memchr::memchr(b'=', text).map_or(0, |equals| equals + 1);
    let quote = usize::from(text.get(named) == Some(&b'"'));
    let ranges = userinfo(text, named + quote)?;
    Some(ranges.map(move |range| element.start + range.start..element.start + range.end))
}

/// A URL's path with the values of secret parameters (`;jsessionid=…`) replaced by
/// [`super::REDACTED`]. Borrowed when there is nothing to hide.
pub fn path(path: &str) -> Cow<'_, str> {
    replace(path, path_secret_ranges(path.as_bytes()))
}

/// Where the values of secret parameters lie in a path (RFC 3986 section 3.3: `;name=value`),
/// ascending, none empty.
pub fn path_secret_ranges(path: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let name = at + memchr::memchr(b';', path.get(at..)?)? + 1;
            let equals = find(path, name, |byte| matches!(byte, b'=' | b';' | b'/'));
            at = equals;
            if path.get(equals) != Some(&b'=') {
                continue;
            }
            at = find(path, equals, |byte| matches!(byte, b';' | b'/'));
            let secret = is_secret(path.get(name..equals)?, Place::Query);
            if secret && at > equals + 1 {
                return Some(equals + 1..at);
            }
        }
    })
}

/// First place from `from` on whose byte is `wanted`, else the end.
pub(super) fn find(text: &[u8], from: usize, wanted: impl Fn(u8) -> bool) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    rest.iter().position(|&byte| wanted(byte)).map_or(text.len(), |at| from + at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::fill;
    use proptest::prelude::*;

    #[test]
    fn values_of_secret_keys_are_redacted_and_keys_stay() {
        let cases = [
            ("nothing to hide", "q=shoes&page=2", "q=shoes&page=2"),
            ("empty", "", ""),
            ("one", "token=abc", "token=REDACTED"),
            ("between others", "a=1&password=p%40ss&b=2", "a=1&password=REDACTED&b=2"),
            (
                "signed URL",
                "X-Amz-Signature=0f&X-Amz-Date=1",
                "X-Amz-Signature=REDACTED&X-Amz-Date=1",
            ),
            ("azure", "sv=1&sig=a%2Bb%3D", "sv=1&sig=REDACTED"),
            ("value with =", "token=YWJj==", "token=REDACTED"),
            ("value with ;", "sig=abc;def&x=1", "sig=REDACTED&x=1"),
            ("; as separator", "a=1;token=abc", "a=1;token=REDACTED"),
            ("URL in a value", "next=https://h/?token=abc", "next=https://h/?token=REDACTED"),
            ("twice", "token=a&token=b", "token=REDACTED&token=REDACTED"),
            ("no value", "token&a=1", "token&a=1"),
            ("empty value", "token=&a=1", "token=&a=1"),
            ("not UTF-8 free", "name=é&secret=ü&x=é", "name=é&secret=REDACTED&x=é"),
            ("already done", "token=REDACTED", "token=REDACTED"),
        ];
        for (why, input, expected) in cases {
            assert_eq!(query(input), expected, "{why}");
        }
    }

    #[test]
    fn nothing_to_hide_is_borrowed() {
        assert!(matches!(query("q=shoes"), Cow::Borrowed(_)));
        assert!(matches!(url_userinfo("http://h/"), Cow::Borrowed(_)));
    }

    #[test]
    fn credentials_of_a_url_are_redacted() {
        let cases = [
            ("none", "https://host/a@b", "https://host/a@b"),
            ("both", "https://u:p@host/", "https://REDACTED:REDACTED@host/"),
            ("user only", "https://u@host", "https://REDACTED@host"),
            ("password only", "redis://:p@host", "redis://:REDACTED@host"),
            ("@ in the password", "ftp://u:p@q@host/", "ftp://REDACTED:REDACTED@host/"),
            ("no authority", "/path?mail=a:b@c", "/path?mail=a:b@c"),
            ("in the query", "http://h/?u=a:b@c", "http://h/?u=a:b@c"),
            ("empty", "http://@h", "http://@h"),
        ];
        for (why, input, expected) in cases {
            assert_eq!(url_userinfo(input), expected, "{why}");
        }
    }

    #[test]
    fn sessions_in_a_path_are_redacted() {
        for (why, input, expected) in [
            ("none", "/a/b.html", "/a/b.html"),
            ("at the end", "/a;jsessionid=AB12.node1", "/a;jsessionid=REDACTED"),
            ("in the middle", "/a;jsessionid=AB12/b", "/a;jsessionid=REDACTED/b"),
            ("another parameter", "/a;v=1.2;sid=abc;x=1", "/a;v=1.2;sid=REDACTED;x=1"),
            ("value with =", "/a;token=ab==/c", "/a;token=REDACTED/c"),
            ("no value", "/a;jsessionid=/b;jsessionid", "/a;jsessionid=/b;jsessionid"),
            ("no parameter", "/a=jsessionid=b;", "/a=jsessionid=b;"),
        ] {
            assert_eq!(path(input), expected, "{why}");
            assert_eq!(path(expected), expected, "{why}, once more");
        }
    }

    #[test]
    fn credentials_of_header_values_are_found() {
        for (why, input, expected) in [
            ("none", "shop.example:81", "shop.example:81"),
            ("both", " u:pw@shop:81", " x:xx@shop:81"),
            ("user only", "user@shop", "xxxx@shop"),
            ("@ in the password", "u:p@q@shop", "x:xxx@shop"),
            ("list", "a, u:p@b", "a, x:x@b"),
            (
                "forwarded",
                "for=1.2.3.4;host=u:p=w@h;proto=http",
                "for=1.2.3.4;host=x:xxx@h;proto=http",
            ),
            (
                "forwarded, quoted",
                "host=\"u:p@h:81\",host=\"[::1]\"",
                "host=\"x:x@h:81\",host=\"[::1]\"",
            ),
        ] {
            let mut bytes = input.as_bytes().to_vec();
            fill(&mut bytes, field_userinfo_ranges(input.as_bytes()));
            assert_eq!(String::from_utf8(bytes).unwrap(), expected, "{why}");
        }
    }

    proptest! {
        #[test]
        fn redacting_is_idempotent_and_filler_gives_the_same(
            text in "((token|sig|q|a%74oken|u)?[=&;?#]|[a-zé@:/%]{0,4}){0,12}"
        ) {
            let once = query(&text).into_owned();
            prop_assert_eq!(query(&once), once.as_str());
            let mut filled = text.clone().into_bytes();
            fill(&mut filled, secret_value_ranges(text.as_bytes()));
            prop_assert_eq!(filled.len(), text.len());
            let filled = String::from_utf8(filled).unwrap();
            prop_assert_eq!(query(&filled), once.as_str());
        }

        #[test]
        fn paths_filled_or_redacted_are_the_same(text in "(/|;|=|sid|jsessionid|[a-zé%]{0,3}){0,12}") {
            let once = path(&text).into_owned();
            prop_assert_eq!(path(&once), once.as_str());
            let mut filled = text.clone().into_bytes();
            fill(&mut filled, path_secret_ranges(text.as_bytes()));
            let filled = String::from_utf8(filled).unwrap();
            prop_assert_eq!(path(&filled), once.as_str());
        }

        #[test]
        fn credentials_filled_or_redacted_are_the_same(text in "[a-z]{0,3}(://)?[a-zé:@/?#]{0,16}") {
            let once = url_userinfo(&text).into_owned();
            prop_assert_eq!(url_userinfo(&once), once.as_str());
            let mut filled = text.clone().into_bytes();
            fill(&mut filled, userinfo_ranges(text.as_bytes()));
            let filled = String::from_utf8(filled).unwrap();
            prop_assert_eq!(url_userinfo(&filled), once.as_str());
        }
    }
}
