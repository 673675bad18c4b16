//! Small readers of what strangers write into headers and first bytes: the first byte of an input says
//! which one reads the rest.

use crate::trace::fuzzing as trace;
use crate::traffic::Protocol;

/// Reads an input.
///
/// # Panics
/// When what is written on is longer or more than a standard allows, or an address is not of the text.
pub fn wire(bytes: &[u8]) {
    let Some((which, rest)) = bytes.split_first() else { return };
    match which % 4 {
        0 => trace::state(&String::from_utf8_lossy(rest)),
        1 => trace::context(rest),
        2 => trace::addresses(rest),
        _ => {
            let len = rest.len() as u64;
            for first in [true, false] {
                if let Some(protocol) = Protocol::of(rest, len, first) {
                    assert!(!rest.is_empty() && !protocol.name().is_empty(), "named by nothing");
                }
                let _ = Protocol::of(rest, u64::MAX, first);
            }
        }
    }
}
