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
