//! What the fuzz target of small readers calls here.

use super::address::{client_of, forwarded, split_authority};
use super::context::{b3, traceparent};
use super::sampling::state::{has_threshold, randomness, with_threshold};

/// A `tracestate`, with a threshold of our own.
pub(crate) fn state(text: &str) {
    let before = randomness(text);
    let mut out = String::new();
    for threshold in [0, 1, 1 << 55, (1 << 56) - 1] {
        with_threshold(text, threshold, &mut out);
        assert!(out.split(',').count() <= 32, "more members than the standard allows: {out}");
        let own = out.split(',').next().unwrap_or_default();
        assert!(own.starts_with("ot=th:") && own.len() <= 3 + 256, "{own}");
        assert!(has_threshold(&out), "{out}");
        assert!(out.matches("ot=th:").count() >= 1);
        // What was read of the member may have had no room behind the threshold, and never changes.
        let after = randomness(&out);
        assert!(after.is_none() || after == before, "{before:?} {after:?}");
        // Written again it stays as it is.
        let mut again = String::new();
        with_threshold(&out, threshold, &mut again);
        assert_eq!(out, again, "not stable");
    }
}

/// A `traceparent` or `b3`.
pub(crate) fn context(text: &[u8]) {
    for declared in [traceparent(text), b3(text)].into_iter().flatten() {
        assert!(declared.trace.0 != [0; 16] && declared.span.0 != [0; 8], "no parent");
        assert!(declared.flags <= 3, "flags that are not known");
    }
}

/// Hosts and forwarded addresses.
pub(crate) fn addresses(text: &[u8]) {
    if let Some(host) = split_authority(text) {
        assert!(!host.name.is_empty() && host.name.len() <= text.len(), "a host out of nothing");
    }
    for parameter in [b"for".as_slice(), b"host", b"proto"] {
        if let Some(node) = forwarded(text, parameter) {
            let address = client_of(node).unwrap_or_default();
            assert!(address.len() <= node.len() && node.len() <= text.len(), "more than was sent");
        }
    }
    let _ = client_of(text);
}
