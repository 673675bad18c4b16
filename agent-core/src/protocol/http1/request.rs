//! The request direction: where a request begins, and what its head says.

use super::classify::{Likeness, classify};
use super::fields::Fields;
use super::framing::{self, Framing, Method};
use super::head::{self, RequestLine, Scan};
use super::open::{MAX_OPEN, Open};
use super::stream::{Origin, State, Turn};
use super::walk::Parsed;
use super::{Http1, Side};
use crate::message::{Failure, Finished, Head, Name, Started};
use crate::protocol::{Segment, Sink};

/// Longest path kept, and longest query. What is longer is cut: names and attributes made of it
/// serve people, and backends cut attributes at 1 to 4 KiB anyway.
const MAX_PATH: usize = 2048;

/// Longest authority kept; host names have at most 253 bytes (RFC 1035, 2.3.4), user and port are
/// short.
const MAX_AUTHORITY: usize = 512;

impl Http1 {
    /// Whether `segment` of the request direction is to be looked at: framing says what it is, or
    /// a request may begin with it at a turn.
    pub(super) fn resumes(
        &mut self,
        segment: &Segment<'_>,
        turned: bool,
        sink: &mut impl Sink,
    ) -> bool {
        if !matches!(self.request().state, State::Unknown) {
            return true;
        }
        if !turned || !self.rests(segment.opposite) {
            return false;
        }
        if self.doubt.pipelined {
            sink.not_followed_further();
            self.abandon(segment.first_ns, sink);
            return false;
        }
        let sure = self.doubt.answered || self.doubt.turn_spent;
        if sure && classify(segment.bytes) == Likeness::Yes {
            self.request().state = State::Start;
            return true;
        }
        // Something began here: its response, or the rest of it, is what comes next.
        self.doubt.answered = false;
        self.doubt.turn_spent = is_spent_on(segment.bytes);
        self.doubt.hidden = true;
        false
    }

    /// No response is known to be under way or owed, at a turn that saw the response direction at
    /// `opposite`.
    fn rests(&mut self, opposite: u64) -> bool {
        let idle = self.open.is_empty();
        let response = self.response();
        match response.state {
            State::Start => idle && response.next == opposite,
            State::Unknown => true,
            State::Head(_) | State::Body(_) => false,
        }
    }

    pub(super) fn request_head(
        &mut self,
        origin: &Origin,
        bytes: &[u8],
        cut: bool,
        sink: &mut impl Sink,
    ) -> Parsed {
        match head::request(bytes) {
            Scan::Complete(line, fields, len) => {
                let framing = framing::request(Method::of(line.method), line.minor, &fields);
                self.begin(origin, &line, &fields, framing, sink);
                Parsed::Taken(len)
            }
            Scan::Partial(line, fields) if cut => {
                self.begin(origin, &line, &fields, Framing::Unknown, sink);
                Parsed::Lost
            }
            Scan::Partial(..) | Scan::NoLine if !cut => Parsed::NeedMore,
            Scan::Partial(..) | Scan::NoLine | Scan::Invalid => {
                if !bytes.contains(&b'\n') && classify(bytes) == Likeness::NeedMore {
                    sink.start_line_cut();
                }
                self.lose(Side::Request, false);
                Parsed::Lost
            }
        }
    }

    /// A request begins.
    fn begin(
        &mut self,
        origin: &Origin,
        line: &RequestLine<'_>,
        fields: &Fields<'_>,
        framing: Framing,
        sink: &mut impl Sink,
    ) {
        self.meet(origin, sink);
        if self.left {
            return;
        }
        let mut started = sink.blank();
        self.fill(&mut started, origin, line, fields);
        let span = sink.started(started);
        if self.open.len() >= MAX_OPEN {
            let failure = Some(Failure::Unobserved);
            let end_ns = origin.first_ns;
            sink.finished(Finished { span, end_ns, failure, ..Finished::default() });
            return self.lose(Side::Request, true);
        }
        let method = Method::of(line.method);
        let request_body = matches!(framing, Framing::NoBody).then_some(0);
        self.open.push(Open { span, method, request_body });
        self.doubt.answered = false;
        self.doubt.turn_spent = false;
        self.doubt.hidden = false;
        self.request_length = None;
        self.request().state = match framing {
            Framing::NoBody => State::Start,
            Framing::Body(body, size) => {
                self.request_length = size;
                State::Body(body)
            }
            Framing::Unknown => State::Unknown,
        };
    }

    /// What the beginning of a request says about those before it.
    fn meet(&mut self, origin: &Origin, sink: &mut impl Sink) {
        let unknown = matches!(self.response().state, State::Unknown);
        if origin.turn != Turn::Yes || !unknown {
            let overlaps = !self.open.is_empty() && origin.turn != Turn::Unclear;
            self.doubt.pipelined |= overlaps;
            return;
        }
        if self.doubt.pipelined {
            sink.not_followed_further();
            return self.abandon(origin.first_ns, sink);
        }
        // The direction turned: whatever the response was, it is over.
        self.settle(origin.first_ns, None, sink);
        let response = self.response();
        if response.next == origin.opposite {
            response.state = State::Start;
        }
    }

    fn fill(
        &self,
        started: &mut Started,
        origin: &Origin,
        line: &RequestLine<'_>,
        fields: &Fields<'_>,
    ) {
        started.role = self.role;
        started.position = origin.position;
        started.opposite = origin.opposite;
        started.start_ns = origin.first_ns;
        started.taken_ns = origin.taken_ns;
        started.thread = origin.thread;
        started.version = line.minor;
        started.true_start = origin.true_first;
        started.head.clear();
        started.head.set(Name::Method, line.method);
        set_target(&mut started.head, line);
        fields.keep(&mut started.head);
    }
}

/// After a turn that begins with `bytes`, the next one begins a request: these bytes are a body
/// that waited for `100 Continue`, or a request that does not wait for one.
fn is_spent_on(bytes: &[u8]) -> bool {
    match head::request(bytes) {
        Scan::Complete(_, fields, _) => !fields.expects,
        Scan::Invalid => true,
        Scan::Partial(..) | Scan::NoLine => false,
    }
}

/// RFC 9112, 3.2: the four forms of a target.
fn set_target(head: &mut Head, line: &RequestLine<'_>) {
    if line.method == b"CONNECT" {
        return set_cut(head, Name::Authority, line.target, MAX_AUTHORITY);
    }
    if line.target.first() == Some(&b'/') {
        return set_path(head, line.target);
    }
    let Some(scheme_end) = memchr::memmem::find(line.target, b"://") else {
        return set_path(head, line.target);
    };
    let (scheme, rest) = line.target.split_at_checked(scheme_end).unwrap_or_default();
    let rest = rest.get(3..).unwrap_or_default();
    let path_at = memchr::memchr3(b'/', b'?', b'#', rest).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(path_at).unwrap_or_default();
    set_cut(head, Name::Scheme, scheme, 16);
    // User and password before `@` are secrets and name no host.
    let host_at = memchr::memrchr(b'@', authority).map_or(0, |at| at + 1);
    set_cut(head, Name::Authority, authority.get(host_at..).unwrap_or_default(), MAX_AUTHORITY);
    set_path(head, if path.first() == Some(&b'/') { path } else { b"/" });
    if path.first() == Some(&b'?') {
        set_query(head, path.get(1..).unwrap_or_default());
    }
}

fn set_path(head: &mut Head, target: &[u8]) {
    // A fragment is never sent by rights; one that is belongs to neither.
    let end = memchr::memchr(b'#', target).unwrap_or(target.len());
    let target = target.get(..end).unwrap_or_default();
    let query_at = memchr::memchr(b'?', target);
    set_cut(head, Name::Path, target.get(..query_at.unwrap_or(end)).unwrap_or_default(), MAX_PATH);
    if let Some(query) = query_at.and_then(|at| target.get(at + 1..)) {
        set_query(head, query);
    }
}

fn set_query(head: &mut Head, query: &[u8]) {
    let end = memchr::memchr(b'#', query).unwrap_or(query.len());
    set_cut(head, Name::Query, query.get(..end).unwrap_or_default(), MAX_PATH);
}

fn set_cut(head: &mut Head, name: Name, text: &[u8], max: usize) {
    head.set(name, text.get(..max).unwrap_or(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        for (why, target, scheme, authority, path, query) in [
            ("origin", "/a/b?c=d", None, None, Some("/a/b"), Some("c=d")),
            ("empty query", "/a?", None, None, Some("/a"), Some("")),
            ("second question mark", "/a?b?c", None, None, Some("/a"), Some("b?c")),
            ("asterisk", "*", None, None, Some("*"), None),
            ("absolute", "http://h:1/a?b", Some("http"), Some("h:1"), Some("/a"), Some("b")),
            ("absolute without a path", "http://h", Some("http"), Some("h"), Some("/"), None),
            ("absolute, query only", "http://h?b", Some("http"), Some("h"), Some("/"), Some("b")),
            ("password", "http://u:p@h/a", Some("http"), Some("h"), Some("/a"), None),
            ("URI in the query", "/a?b=http://h/", None, None, Some("/a"), Some("b=http://h/")),
            ("fragment", "/a?b#c", None, None, Some("/a"), Some("b")),
        ] {
            let mut head = Head::default();
            let line = RequestLine { method: b"GET", target: target.as_bytes(), minor: 1 };
            set_target(&mut head, &line);
            let get = |name| head.get(name).map(|t| std::str::from_utf8(t).unwrap());
            let found =
                (get(Name::Scheme), get(Name::Authority), get(Name::Path), get(Name::Query));
            assert_eq!(found, (scheme, authority, path, query), "{why}");
        }
    }

    #[test]
    fn authority_form_has_no_path() {
        let mut head = Head::default();
        let line = RequestLine { method: b"CONNECT", target: b"h:443", minor: 1 };
        set_target(&mut head, &line);
        assert_eq!(head.get(Name::Authority), Some(&b"h:443"[..]));
        assert_eq!(head.get(Name::Path), None);
    }

    #[test]
    fn long_targets_are_cut() {
        let mut head = Head::default();
        let target = format!("/{}?{}", "a".repeat(5000), "b".repeat(5000));
        let line = RequestLine { method: b"GET", target: target.as_bytes(), minor: 1 };
        set_target(&mut head, &line);
        assert_eq!(head.get(Name::Path).map(<[u8]>::len), Some(MAX_PATH));
        assert_eq!(head.get(Name::Query).map(<[u8]>::len), Some(MAX_PATH));
    }
}
