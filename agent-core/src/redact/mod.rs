//! Secrets out of texts before they are kept anywhere: URL queries and credentials, command lines.
//!
//! Each rule exists once, as *ranges of bytes*. What leaves the agent has [`REDACTED`] in their
//! place; a recording has filler of the same length over them ([`fill`]), so that its other bytes
//! stay where they were. Both give the same text: no rule looks at the secret itself, so
//! redacting filled bytes finds the same ranges again. (But for command lines: a quote within a secret
//! tells where its word ends, so that under filler a few bytes beside it may be redacted as well.)
//!
//! All rules are linear in the length of the text and keep no more than a word's place.

mod args;
mod name;
mod tool;
mod url;

pub use args::{arg_block_ranges, args};
pub use url::{
    field_userinfo_ranges, path, path_secret_ranges, query, secret_value_ranges, url_userinfo,
    userinfo_ranges,
};

use std::borrow::Cow;
use std::ops::Range;

/// What stands in the place of a secret (OpenTelemetry semantic conventions, `url.query`).
pub const REDACTED: &str = "REDACTED";

/// Byte of filler: neither a separator nor a quote in any text this module reads.
pub const FILLER: u8 = b'x';

/// Puts filler of the same length over `ranges` of `bytes`. Ranges outside are ignored.
pub fn fill(bytes: &mut [u8], ranges: impl IntoIterator<Item = Range<usize>>) {
    for range in ranges {
        if let Some(secret) = bytes.get_mut(range) {
            secret.fill(FILLER);
        }
    }
}

/// `text` with [`REDACTED`] in place of each of `ranges` (ascending, apart from each other).
/// Ranges that do not fall on characters redact the rest of the text: better too much.
fn replace(text: &str, ranges: impl IntoIterator<Item = Range<usize>>) -> Cow<'_, str> {
    let mut ranges = ranges.into_iter().peekable();
    if ranges.peek().is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + REDACTED.len());
    let mut kept = 0;
    for range in ranges {
        let Some(before) = text.get(kept..range.start) else {
            out.push_str(REDACTED);
            return Cow::Owned(out);
        };
        out.push_str(before);
        out.push_str(REDACTED);
        kept = range.end;
    }
    if let Some(rest) = text.get(kept..) {
        out.push_str(rest);
    }
    Cow::Owned(out)
}
