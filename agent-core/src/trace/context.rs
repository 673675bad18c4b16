//! Trace context in request headers: W3C `traceparent` (Trace Context level 2, section 3.2) and
//! `b3` (openzipkin/b3-propagation); and what threads publish beside them.

use crate::id::{SpanId, TraceId};
use crate::message::Published;

/// What declared a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Format {
    Traceparent,
    B3,
    /// No header: the thread that sent the request had published it.
    Thread,
}

/// A parent that a program names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Declared {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
    pub(super) flags: u8,
    pub(super) format: Format,
    /// `rv` of the tracestate beside it.
    pub(super) randomness: Option<u64>,
}

impl Declared {
    /// Names the same parent, whatever the flags.
    pub(super) fn same_parent(&self, other: &Declared) -> bool {
        self.trace == other.trace && self.span == other.span
    }
}

impl From<Published> for Declared {
    fn from(published: Published) -> Declared {
        let Published { trace, span, flags } = published;
        Declared {
            trace,
            span,
            flags: flags & (SAMPLED | RANDOM),
            format: Format::Thread,
            randomness: None,
        }
    }
}

/// W3C flag: sampled.
pub(super) const SAMPLED: u8 = 0x01;
/// W3C flag: the trace id's right-most 7 bytes are random.
pub(super) const RANDOM: u8 = 0x02;

/// Reads a `traceparent`. None when it is not valid: then it counts as absent.
///
/// A version above 00 is read by its first 55 characters, as the specification asks.
pub(super) fn traceparent(text: &[u8]) -> Option<Declared> {
    let text = text.trim_ascii();
    let fixed = text.get(..55)?;
    let dashes = [2, 35, 52].iter().all(|at| fixed.get(*at) == Some(&b'-'));
    let [version] = lower_hex::<1>(fixed.get(..2)?)?;
    let rest_fits = match version {
        0 => text.len() == 55,
        0xff => false,
        _ => text.len() == 55 || text.get(55) == Some(&b'-'),
    };
    if !dashes || !rest_fits {
        return None;
    }
    let trace = lower_hex::<16>(fixed.get(3..35)?)?;
    let span = lower_hex::<8>(fixed.get(36..52)?)?;
    let [flags] = lower_hex::<1>(fixed.get(53..55)?)?;
    let known = flags & (SAMPLED | RANDOM);
    declared(trace, span, known, Format::Traceparent)
}

/// Reads a single `b3` header: `trace-span[-sampled[-parent]]`. A lone sampling state names no
/// parent and is none.
pub(super) fn b3(text: &[u8]) -> Option<Declared> {
    let mut parts = text.trim_ascii().split(|byte| *byte == b'-');
    let trace = match parts.next()? {
        long if long.len() == 32 => any_hex::<16>(long)?,
        short if short.len() == 16 => {
            let mut trace = [0; 16];
            trace[8..].copy_from_slice(&any_hex::<8>(short)?);
            trace
        }
        _ => return None,
    };
    let span = any_hex::<8>(parts.next()?)?;
    let flags = match parts.next().unwrap_or(b"") {
        b"1" | b"d" | b"true" => SAMPLED,
        b"" | b"0" | b"false" => 0,
        _ => return None,
    };
    declared(trace, span, flags, Format::B3)
}

fn declared(trace: [u8; 16], span: [u8; 8], flags: u8, format: Format) -> Option<Declared> {
    let valid = trace != [0; 16] && span != [0; 8];
    let (trace, span) = (TraceId(trace), SpanId(span));
    valid.then_some(Declared { trace, span, flags, format, randomness: None })
}

fn lower_hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.iter().any(u8::is_ascii_uppercase) { None } else { any_hex(text) }
}

fn any_hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let &[high, low] = pair else { return None };
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(bytes)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn traceparent_is_read_as_the_specification_says() {
        let (zeros, upper) = ("0".repeat(32), TRACE.to_uppercase());
        for (why, text, valid) in [
            ("version 00", format!("00-{TRACE}-{SPAN}-01"), true),
            ("space around it", format!(" 00-{TRACE}-{SPAN}-01\t"), true),
            ("higher version with more", format!("cc-{TRACE}-{SPAN}-01-what"), true),
            ("higher version glued to more", format!("cc-{TRACE}-{SPAN}-01what"), false),
            ("version 00 with more", format!("00-{TRACE}-{SPAN}-01-what"), false),
            ("version ff", format!("ff-{TRACE}-{SPAN}-01"), false),
            ("zero trace", format!("00-{zeros}-{SPAN}-01"), false),
            ("zero span", format!("00-{TRACE}-0000000000000000-01"), false),
            ("upper case", format!("00-{upper}-{SPAN}-01"), false),
            ("short", format!("00-{TRACE}-{SPAN}-"), false),
            ("no dashes", format!("00_{TRACE}_{SPAN}_01"), false),
            ("empty", String::new(), false),
        ] {
            assert_eq!(traceparent(text.as_bytes()).is_some(), valid, "{why}");
        }
    }

    #[test]
    fn flags_keep_the_two_known_bits() {
        let read = traceparent(format!("00-{TRACE}-{SPAN}-ff").as_bytes()).unwrap();
        assert_eq!(read.flags, 3);
    }

    #[test]
    fn b3_is_read_in_all_its_forms() {
        let short = "a3ce929d0e0e4736";
        for (why, text, expected) in [
            ("128 bit, sampled", format!("{TRACE}-{SPAN}-1"), Some(1)),
            ("64 bit, no state", format!("{short}-{SPAN}"), Some(0)),
            ("debug with parent", format!("{TRACE}-{SPAN}-d-{short}"), Some(1)),
            ("only a state", "0".to_owned(), None),
            ("no span", TRACE.to_owned(), None),
            ("odd state", format!("{TRACE}-{SPAN}-x"), None),
            ("not hex", format!("{TRACE}-{SPAN}").replace('f', "g"), None),
        ] {
            assert_eq!(b3(text.as_bytes()).map(|read| read.flags), expected, "{why}");
        }
        let read = b3(format!("{short}-{SPAN}").as_bytes()).unwrap();
        assert_eq!(read.trace.0[..8], [0; 8]);
    }
}
