//! Secrets in texts of strangers: where they lie does not depend on what they are.

use crate::redact::{self, FILLER};
use std::ops::Range;

/// Redacts an input as each kind of text: arguments, query, path, URL, header field.
///
/// # Panics
/// When a range lies outside of the text, over another one, or elsewhere once filler lies over it; or when
/// redacted text holds more secrets.
pub fn redact(bytes: &[u8]) {
    // Where a shell's word ends, quotes within the secret say: filler over them moves it.
    same(bytes, redact::arg_block_ranges, |secret| secret.iter().all(|&byte| is_plain(byte)));
    same(bytes, |text| redact::secret_value_ranges(text).collect(), |_| true);
    same(bytes, |text| redact::path_secret_ranges(text).collect(), |_| true);
    same(bytes, |text| redact::userinfo_ranges(text).collect(), |_| true);
    same(bytes, |text| redact::field_userinfo_ranges(text).collect(), |_| true);
    let text = String::from_utf8_lossy(bytes);
    let args: Vec<&str> = text.split('\0').collect();
    assert_eq!(redact::args(&args).len(), args.len(), "an argument more or less");
    for said in [redact::query(&text), redact::path(&text), redact::url_userinfo(&text)] {
        assert!(said.len() <= text.len() * redact::REDACTED.len() + redact::REDACTED.len());
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// `stays`: whether filler over this secret is found in the same place.
fn same(text: &[u8], ranges: impl Fn(&[u8]) -> Vec<Range<usize>>, stays: impl Fn(&[u8]) -> bool) {
    let found = ranges(text);
    let mut end = 0;
    for range in &found {
        assert!(range.start >= end && range.end > range.start, "{found:?}");
        end = range.end;
    }
    assert!(end <= text.len(), "{found:?} of {} bytes", text.len());
    if !found.iter().all(|range| text.get(range.clone()).is_some_and(&stays)) {
        return;
    }
    let mut filled = text.to_vec();
    redact::fill(&mut filled, found.iter().cloned());
    assert_eq!(ranges(&filled), found, "filler {FILLER} in {}", text.escape_ascii());
}
