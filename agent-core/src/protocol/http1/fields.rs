//! Header fields: the few that framing needs, and the texts that are kept.

use super::head::decimal;
use crate::message::{Head, NAMES, Name};

/// What the fields of one head say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fields<'a> {
    pub(super) length: Length,
    pub(super) coding: Coding,
    /// There is an `Expect`: the body waits for an interim response (RFC 9110, 10.1.1).
    pub(super) expects: bool,
    texts: [Option<&'a [u8]>; NAMES],
    b3: [Option<&'a [u8]>; 5],
}

/// `Content-Length`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Length {
    #[default]
    Absent,
    Bytes(u64),
    /// Not a number, or several that differ: each end may see another one (RFC 9112, 6.3).
    Untrusted,
}

/// `Transfer-Encoding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Coding {
    #[default]
    Absent,
    /// `chunked` is the last coding.
    Chunked,
    /// Other codings only.
    Other,
    /// Written in a way that ends may read differently.
    Untrusted,
}

/// Indices of the `X-B3-*` fields in [`Fields::b3`].
mod b3 {
    pub(super) const TRACE: usize = 0;
    pub(super) const SPAN: usize = 1;
    pub(super) const PARENT: usize = 2;
    pub(super) const SAMPLED: usize = 3;
    pub(super) const FLAGS: usize = 4;
}

enum Known {
    Text(Name),
    B3(usize),
    Length,
    Coding,
    Expect,
}

impl<'a> Fields<'a> {
    /// Takes one field line, with its folds.
    pub(super) fn add(&mut self, line: &'a [u8]) {
        // Most lines end here; most names that go on are too short for a vector search to pay.
        if !line.first().is_some_and(|first| FIRST_LETTERS.contains(&(first | 0x20))) {
            return;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return };
        let (name, value) = line.split_at_checked(colon).unwrap_or_default();
        // A space before the colon must be refused by servers (RFC 9112, 5.1); not all do.
        let bare = name.trim_ascii_end();
        let Some(known) = known(bare) else { return };
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let plain = bare.len() == name.len() && memchr::memchr(b'\n', value).is_none();
        match known {
            Known::Text(name) => keep_first(self.texts.get_mut(name as usize), value),
            Known::B3(index) => keep_first(self.b3.get_mut(index), value),
            Known::Length if plain => self.add_length(value),
            Known::Length => self.length = Length::Untrusted,
            Known::Coding if plain => self.add_coding(value),
            Known::Coding => self.coding = Coding::Untrusted,
            Known::Expect => self.expects = true,
        }
    }

    fn add_length(&mut self, value: &[u8]) {
        for item in value.split(|&b| b == b',') {
            self.length = match (self.length, decimal(item.trim_ascii())) {
                (Length::Absent, Some(bytes)) => Length::Bytes(bytes),
                (Length::Bytes(before), Some(bytes)) if before == bytes => self.length,
                _ => Length::Untrusted,
            };
        }
    }

    fn add_coding(&mut self, value: &[u8]) {
        for item in value.split(|&b| b == b',') {
            let item = item.trim_ascii();
            self.coding = match self.coding {
                _ if item.is_empty() => self.coding,
                Coding::Absent | Coding::Other if item.eq_ignore_ascii_case(b"chunked") => {
                    Coding::Chunked
                }
                Coding::Absent | Coding::Other => Coding::Other,
                // Nothing may follow `chunked`.
                Coding::Chunked | Coding::Untrusted => Coding::Untrusted,
            };
        }
    }

    /// Copies the kept texts into `head`.
    pub(super) fn keep(&self, head: &mut Head) {
        for (name, limit) in KEPT {
            if let Some(Some(text)) = self.texts.get(name as usize) {
                set(head, name, text, limit);
            }
        }
        if self.texts.get(Name::B3 as usize).is_some_and(Option::is_none) {
            self.join_b3(head);
        }
    }

    /// `X-B3-*` as the single header: `trace-span[-sampled[-parent]]`.
    fn join_b3(&self, head: &mut Head) {
        let part = |index: usize| self.b3.get(index).copied().flatten();
        let (Some(trace), Some(span)) = (part(b3::TRACE), part(b3::SPAN)) else { return };
        let debug = part(b3::FLAGS).filter(|flags| *flags == b"1").map(|_| &b"d"[..]);
        let sampled = debug.or(part(b3::SAMPLED));
        let parts = [Some(trace), Some(span), sampled, sampled.and(part(b3::PARENT))];
        let mut single = smallvec::SmallVec::<[u8; 128]>::new();
        for part in parts.into_iter().flatten() {
            if single.len() + part.len() >= 128 {
                return;
            }
            if !single.is_empty() {
                single.push(b'-');
            }
            single.extend_from_slice(part);
        }
        head.set(Name::B3, &single);
    }
}

/// What to do with a text that is longer than its limit.
#[derive(Clone, Copy)]
enum Limit {
    /// Keep the beginning: it is shown to people.
    Cut(usize),
    /// Forget it: half an identifier names something else.
    Drop(usize),
}

/// Kept fields. The limits bound what one request can make the agent hold and send: host names
/// have 253 bytes; W3C asks for 512 of tracestate; user agents and forwarding chains that are
/// longer tell nobody anything.
const KEPT: [(Name, Limit); 10] = [
    (Name::Host, Limit::Cut(512)),
    (Name::UserAgent, Limit::Cut(512)),
    (Name::Traceparent, Limit::Drop(256)),
    (Name::Tracestate, Limit::Drop(1024)),
    (Name::B3, Limit::Drop(128)),
    (Name::RequestId, Limit::Drop(256)),
    (Name::Forwarded, Limit::Cut(512)),
    (Name::ForwardedFor, Limit::Cut(512)),
    (Name::ForwardedHost, Limit::Cut(512)),
    (Name::ForwardedProto, Limit::Cut(64)),
];

fn set(head: &mut Head, name: Name, text: &[u8], limit: Limit) {
    let text = match limit {
        Limit::Cut(max) => text.get(..max).unwrap_or(text),
        Limit::Drop(max) if text.len() > max => return,
        Limit::Drop(_) => text,
    };
    if memchr::memchr(b'\n', text).is_none() {
        head.set(name, text);
    } else {
        // A folded value: each line end is a space (RFC 9112, 5.2).
        let line = text.iter().map(|b| if matches!(b, b'\r' | b'\n') { b' ' } else { *b });
        head.set(name, &line.collect::<smallvec::SmallVec<[u8; 128]>>());
    }
}

fn keep_first<'a>(slot: Option<&mut Option<&'a [u8]>>, value: &'a [u8]) {
    if let Some(slot @ None) = slot {
        *slot = Some(value);
    }
}

/// With what the names in [`known`] begin.
const FIRST_LETTERS: [u8; 8] = *b"bcefhtux";

fn known(name: &[u8]) -> Option<Known> {
    let (text, known) = match name.len() {
        2 => (&b"b3"[..], Known::Text(Name::B3)),
        4 => (&b"host"[..], Known::Text(Name::Host)),
        6 => (&b"expect"[..], Known::Expect),
        9 => (&b"forwarded"[..], Known::Text(Name::Forwarded)),
        10 => match name.first()? | 0x20 {
            b'u' => (&b"user-agent"[..], Known::Text(Name::UserAgent)),
            b't' => (&b"tracestate"[..], Known::Text(Name::Tracestate)),
            _ => (&b"x-b3-flags"[..], Known::B3(b3::FLAGS)),
        },
        11 => match name.first()? | 0x20 {
            b't' => (&b"traceparent"[..], Known::Text(Name::Traceparent)),
            _ => (&b"x-b3-spanid"[..], Known::B3(b3::SPAN)),
        },
        12 => match name.get(5)? | 0x20 {
            b't' => (&b"x-b3-traceid"[..], Known::B3(b3::TRACE)),
            b's' => (&b"x-b3-sampled"[..], Known::B3(b3::SAMPLED)),
            _ => (&b"x-request-id"[..], Known::Text(Name::RequestId)),
        },
        14 => (&b"content-length"[..], Known::Length),
        15 => (&b"x-forwarded-for"[..], Known::Text(Name::ForwardedFor)),
        16 => (&b"x-forwarded-host"[..], Known::Text(Name::ForwardedHost)),
        17 => match name.get(2)? | 0x20 {
            b'b' => (&b"x-b3-parentspanid"[..], Known::B3(b3::PARENT)),
            b'a' => (&b"transfer-encoding"[..], Known::Coding),
            _ => (&b"x-forwarded-proto"[..], Known::Text(Name::ForwardedProto)),
        },
        _ => return None,
    };
    name.eq_ignore_ascii_case(text).then_some(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields<'a>(lines: &[&'a str]) -> Fields<'a> {
        let mut fields = Fields::default();
        for line in lines {
            fields.add(line.as_bytes());
        }
        fields
    }

    #[test]
    fn content_length_is_trusted_only_when_all_agree() {
        for (why, lines, expected) in [
            ("none", &["Host: a"][..], Length::Absent),
            ("one", &["content-LENGTH:  12 "], Length::Bytes(12)),
            ("the same twice", &["Content-Length: 1", "Content-Length: 1"], Length::Bytes(1)),
            ("a list of the same", &["Content-Length: 1, 1"], Length::Bytes(1)),
            ("two that differ", &["Content-Length: 1", "Content-Length: 2"], Length::Untrusted),
            ("a list that differs", &["Content-Length: 1,2"], Length::Untrusted),
            ("sign", &["Content-Length: +1"], Length::Untrusted),
            ("empty", &["Content-Length:"], Length::Untrusted),
            ("overflow", &["Content-Length: 18446744073709551616"], Length::Untrusted),
            ("space before the colon", &["Content-Length : 1"], Length::Untrusted),
            ("folded", &["Content-Length: 1\r\n 2"], Length::Untrusted),
            ("another name", &["Content_Length: 1"], Length::Absent),
        ] {
            assert_eq!(fields(lines).length, expected, "{why}");
        }
    }

    #[test]
    fn transfer_coding() {
        for (why, lines, expected) in [
            ("chunked", &["Transfer-Encoding: Chunked"][..], Coding::Chunked),
            ("chunked last", &["transfer-encoding: gzip, chunked"], Coding::Chunked),
            (
                "in two fields",
                &["Transfer-Encoding: gzip", "Transfer-Encoding: chunked"],
                Coding::Chunked,
            ),
            ("not chunked", &["Transfer-Encoding: gzip"], Coding::Other),
            ("chunked not last", &["Transfer-Encoding: chunked, gzip"], Coding::Untrusted),
            ("chunked twice", &["Transfer-Encoding: chunked, chunked"], Coding::Untrusted),
            ("folded", &["Transfer-Encoding:\r\n chunked, gzip\r\n , x"], Coding::Untrusted),
            ("space before the colon", &["Transfer-Encoding : chunked"], Coding::Untrusted),
        ] {
            assert_eq!(fields(lines).coding, expected, "{why}");
        }
    }

    #[test]
    fn kept_texts() {
        let long = format!("X-Request-Id: {}", "a".repeat(257));
        let agent = format!("User-Agent: {}", "a".repeat(600));
        let cut = "a".repeat(512);
        for (why, lines, name, expected) in [
            ("host", &["host: a.example:81"][..], Name::Host, Some("a.example:81")),
            (
                "first wins",
                &["X-Forwarded-For: a", "X-Forwarded-For: b"],
                Name::ForwardedFor,
                Some("a"),
            ),
            ("proto", &["X-Forwarded-Proto: https"], Name::ForwardedProto, Some("https")),
            ("empty is not absent", &["Host:"], Name::Host, Some("")),
            ("absent", &["Hosts: a"], Name::Host, None),
            ("folded", &["User-Agent: a\r\n  b"], Name::UserAgent, Some("a    b")),
            ("traceparent", &["Traceparent: 00-a-b-01"], Name::Traceparent, Some("00-a-b-01")),
            ("too long an id is dropped", &[&long], Name::RequestId, None),
            ("too long a text is cut", &[&agent], Name::UserAgent, Some(&cut)),
        ] {
            let mut head = Head::default();
            fields(lines).keep(&mut head);
            let expected = expected.map(str::as_bytes);
            assert_eq!(head.get(name), expected, "{why}");
        }
    }

    #[test]
    fn b3_in_one_field_or_in_several() {
        for (why, lines, expected) in [
            ("single", &["b3: 1-2-1-3"][..], Some("1-2-1-3")),
            ("ids only", &["X-B3-TraceId: 1", "X-B3-SpanId: 2"], Some("1-2")),
            ("sampled", &["X-B3-SpanId: 2", "X-B3-TraceId: 1", "X-B3-Sampled: 0"], Some("1-2-0")),
            (
                "all",
                &["X-B3-TraceId: 1", "X-B3-SpanId: 2", "X-B3-ParentSpanId: 3", "X-B3-Sampled: 1"],
                Some("1-2-1-3"),
            ),
            ("debug", &["X-B3-TraceId: 1", "X-B3-SpanId: 2", "X-B3-Flags: 1"], Some("1-2-d")),
            (
                "a parent needs a sampling state before it",
                &["X-B3-TraceId: 1", "X-B3-SpanId: 2", "X-B3-ParentSpanId: 3"],
                Some("1-2"),
            ),
            ("single wins", &["X-B3-TraceId: 1", "X-B3-SpanId: 2", "b3: 0"], Some("0")),
            ("no span", &["X-B3-TraceId: 1"], None),
        ] {
            let mut head = Head::default();
            fields(lines).keep(&mut head);
            assert_eq!(head.get(Name::B3), expected.map(str::as_bytes), "{why}");
        }
    }
}
