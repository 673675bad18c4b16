//! What a segment of a path is, by its looks alone.

/// Longest segment that can be a name of the program's own.
const MAX_LITERAL: usize = 32;

/// Digits from which on a word with digits is one of many: `v2`, `oauth2` and `h264` are names.
const MANY_DIGITS: usize = 4;

/// Kinds of segments that are one of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Id,
    Uuid,
    Hash,
    Date,
    Slug,
    /// All that is deeper.
    Path,
}

impl Kind {
    pub(super) const COUNT: usize = 6;

    /// As a route shows it.
    pub(super) fn placeholder(self) -> &'static str {
        match self {
            Kind::Id => "{id}",
            Kind::Uuid => "{uuid}",
            Kind::Hash => "{hash}",
            Kind::Date => "{date}",
            Kind::Slug => "{slug}",
            Kind::Path => "{path}",
        }
    }
}

/// What `segment` is; `None` for a word that may be a name of the program's own.
pub(super) fn classify(segment: &str) -> Option<Kind> {
    let bytes = segment.as_bytes();
    if is_uuid(bytes) {
        return Some(Kind::Uuid);
    }
    if is_date(bytes) {
        return Some(Kind::Date);
    }
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    let number = |byte: &u8| byte.is_ascii_digit() || b".,:+-_".contains(byte);
    if digits > 0 && bytes.iter().all(number) {
        return Some(Kind::Id);
    }
    if digits > 0 && bytes.split(|byte| b".-_~".contains(byte)).any(is_hash) {
        return Some(Kind::Hash);
    }
    let foreign = |byte: &u8| !byte.is_ascii_graphic() || b"%@{}\"<>\\^`|".contains(byte);
    if bytes.len() > MAX_LITERAL || bytes.iter().any(foreign) {
        return Some(if digits >= MANY_DIGITS { Kind::Hash } else { Kind::Slug });
    }
    (digits >= MANY_DIGITS).then_some(Kind::Id)
}

/// 8-4-4-4-12 hexadecimal digits (RFC 9562).
fn is_uuid(text: &[u8]) -> bool {
    text.len() == 36
        && text.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// `2026-11-30`, also with a time behind it; `20261130`.
fn is_date(text: &[u8]) -> bool {
    let (date, rest) = match text {
        [a, b, c, d, b'-', e, f, b'-', g, h, rest @ ..] => ([*a, *b, *c, *d, *e, *f, *g, *h], rest),
        [a, b, c, d, e, f, g, h] => ([*a, *b, *c, *d, *e, *f, *g, *h], &[][..]),
        _ => return false,
    };
    let number = |digits: &[u8]| {
        let digit = |byte: &u8| byte.is_ascii_digit().then(|| u32::from(byte - b'0'));
        digits.iter().try_fold(0, |sum, byte| Some(10 * sum + digit(byte)?))
    };
    let (year, month, day) = date.split_at_checked(4).map_or((None, None, None), |(year, rest)| {
        let (month, day) = rest.split_at(2);
        (number(year), number(month), number(day))
    });
    let within =
        |value: Option<u32>, least, most| value.is_some_and(|v| (least..=most).contains(&v));
    let time = matches!(rest, [] | [b'T' | b't' | b'_' | b'%' | b'+' | b' ', ..]);
    within(year, 1900, 2100) && within(month, 1, 12) && within(day, 1, 31) && time
}

/// Eight and more hexadecimal digits, of which two and more are no letters; or letters of both cases with
/// digits between them. (`deadbeef` and `FooBar2` may be words.)
fn is_hash(word: &[u8]) -> bool {
    let count = |of: fn(&u8) -> bool| word.iter().filter(|byte| of(byte)).count();
    let digits = count(u8::is_ascii_digit);
    if word.len() < 8 || digits < 2 || digits == word.len() {
        return false;
    }
    let hex = count(u8::is_ascii_hexdigit) == word.len();
    let mixed = count(u8::is_ascii_lowercase) > 1 && count(u8::is_ascii_uppercase) > 1;
    hex || (mixed && count(u8::is_ascii_alphanumeric) == word.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_by_their_looks() {
        for (segment, expected) in [
            ("users", None),
            ("v1", None),
            ("v2.1", None),
            ("oauth2", None),
            ("h264", None),
            ("index.html", None),
            ("deadbeef", None),
            ("users:batchGet", None),
            (".well-known", None),
            ("FooBarBaz", None),
            ("0", Some(Kind::Id)),
            ("42", Some(Kind::Id)),
            ("-7", Some(Kind::Id)),
            ("52.51,13.40", Some(Kind::Id)),
            ("order-10023", Some(Kind::Id)),
            ("18446744073709551616000", Some(Kind::Id)),
            ("7c9e6679-7425-40de-944b-e07fc1f90ae7", Some(Kind::Uuid)),
            ("7C9E6679-7425-40DE-944B-E07FC1F90AE7", Some(Kind::Uuid)),
            ("7c9e6679-7425-40de-944b-e07fc1f90aeg", Some(Kind::Hash)),
            ("9f86d081884c7d65", Some(Kind::Hash)),
            ("app.3f2a91bc.js", Some(Kind::Hash)),
            ("dQw4w9WgXcQ", Some(Kind::Hash)),
            ("2026-11-30", Some(Kind::Date)),
            ("20261130", Some(Kind::Date)),
            ("2026-11-30T10:00:00Z", Some(Kind::Date)),
            ("2026-13-30", Some(Kind::Id)),
            ("99999999", Some(Kind::Id)),
            ("a%20b", Some(Kind::Slug)),
            ("jo@example.org", Some(Kind::Slug)),
            ("ünï", Some(Kind::Slug)),
            ("the-long-title-of-an-article-that-somebody-wrote", Some(Kind::Slug)),
            ("{id}", Some(Kind::Slug)),
        ] {
            assert_eq!(classify(segment), expected, "{segment}");
        }
    }
}
