//! Attributes of HTTP spans by OpenTelemetry semantic conventions 1.44 (`docs/http/http-spans.md`,
//! stable), and the evidence for the parent.
//!
//! Texts come from strangers: not necessarily UTF-8, as long as a captured head. What is valid is
//! borrowed; the rest is replaced by U+FFFD. Percent-encoding stays as it came.

use super::address::{Host, client_of, forwarded, split_authority};
use super::conn::Conn;
use super::request::{Evidence, Request};
use crate::message::{Failure, Finished, Head, Name, Role};
use crate::protocol::tls::cipher_name;
use crate::redact;
use crate::span::{Attribute, Value};
use smallvec::SmallVec;
use std::borrow::Cow;

/// Attributes of one span; as many as a server span with everything has.
pub(super) type Attributes<'a> = SmallVec<[Attribute<'a>; 32]>;

/// Longest method kept in `http.request.method_original`: registered ones have up to 17 letters.
const MAX_METHOD: usize = 64;

/// All that a span is made of.
pub(super) struct Facts<'a> {
    pub(super) request: &'a Request,
    pub(super) finished: &'a Finished,
    pub(super) conn: Option<&'a Conn>,
    pub(super) known_methods: &'a [String],
}

impl Facts<'_> {
    /// `network.protocol.version`, empty for one that nobody knows.
    pub(super) fn version(&self) -> &'static str {
        match self.request.started.version {
            0 => "1.0",
            1 => "1.1",
            _ => "",
        }
    }
}

/// The texts that attributes borrow.
pub(super) struct Texts<'a> {
    method: &'a str,
    original: Option<Cow<'a, str>>,
    path: Option<Cow<'a, str>>,
    query: Option<Cow<'a, str>>,
    scheme: &'static str,
    server: Option<Cow<'a, str>>,
    server_port: Option<u16>,
    client: Option<Cow<'a, str>>,
    user_agent: Option<Cow<'a, str>>,
    error: Option<&'static str>,
    status: Option<[u8; 3]>,
    route: Option<&'a str>,
}

impl<'a> Texts<'a> {
    /// Collects those that metrics need, too.
    pub(super) fn new(facts: &Facts<'a>) -> Self {
        let head: &'a Head = &facts.request.started.head;
        let role = facts.request.role;
        let (method, original) = method(head, facts.known_methods);
        let encrypted = facts.conn.is_some_and(|conn| conn.encryption().is_some());
        let scheme = scheme(head, role, encrypted);
        let (server, server_port) = server(facts, scheme);
        let (error, status) = failure(role, facts.finished);
        let (path, query, client, user_agent) = (None, None, None, None);
        Texts {
            method,
            original,
            path,
            query,
            scheme,
            server,
            server_port,
            client,
            user_agent,
            error,
            status,
            route: None,
        }
    }

    /// What only spans have; `url` becomes `url.full` of a client request.
    pub(super) fn add_url(&mut self, facts: &Facts<'a>, url: &mut String) {
        let head: &'a Head = &facts.request.started.head;
        self.query = text(head, Name::Query).map(|query| redacted(query, redact::query));
        self.path = text(head, Name::Path).map(|path| redacted(path, redact::path));
        self.client = client(facts);
        self.user_agent = text(head, Name::UserAgent);
        if facts.request.role == Role::Client {
            write_url(url, facts, self.scheme, self.path.as_deref(), self.query.as_deref());
        }
    }

    /// A known method, or `_OTHER`.
    pub(super) fn method(&self) -> &'a str {
        self.method
    }

    /// `http` or `https`.
    pub(super) fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// The server's name or address, and its port.
    pub(super) fn server(&self) -> (Option<&str>, Option<u16>) {
        (self.server.as_deref(), self.server_port)
    }

    /// `http.route`.
    pub(super) fn route(&self) -> Option<&str> {
        self.route
    }

    pub(super) fn set_route(&mut self, route: Option<&'a str>) {
        self.route = route;
    }

    /// Span name: the method (`HTTP` for one that nobody knows), and the route where it is known.
    pub(super) fn name<'n>(&'n self, room: &'n mut String) -> &'n str {
        let method = if self.method == OTHER { "HTTP" } else { self.method };
        let Some(route) = self.route else { return method };
        room.clear();
        for part in [method, " ", route] {
            room.push_str(part);
        }
        room
    }

    /// Value of `error.type`; None when the span is no failure.
    pub(super) fn error_type(&self) -> Option<&str> {
        let status = self.status.as_ref().and_then(|digits| std::str::from_utf8(digits).ok());
        self.error.or(status)
    }

    /// The attributes, borrowed from here and from `url`.
    pub(super) fn attributes<'t>(&'t self, facts: &Facts<'t>, url: &'t str) -> Attributes<'t> {
        let mut list = Attributes::new();
        list.push(("http.request.method", Value::Str(self.method)));
        push_text(&mut list, "http.request.method_original", self.original.as_deref());
        match facts.request.role {
            Role::Server => self.server_side(&mut list),
            Role::Client => list.push(("url.full", Value::Str(url))),
        }
        push_text(&mut list, "server.address", self.server.as_deref());
        push_int(&mut list, "server.port", self.server_port);
        outcome(&mut list, facts);
        push_text(&mut list, "error.type", self.error_type());
        network(&mut list, facts);
        encryption(&mut list, facts);
        evidence(&mut list, facts.request);
        list
    }

    fn server_side<'t>(&'t self, list: &mut Attributes<'t>) {
        // CONNECT has no path; an empty one says so and keeps the required attribute.
        list.push(("url.path", Value::Str(self.path.as_deref().unwrap_or_default())));
        push_text(list, "http.route", self.route);
        push_text(list, "url.query", self.query.as_deref());
        list.push(("url.scheme", Value::Str(self.scheme)));
        push_text(list, "client.address", self.client.as_deref());
        push_text(list, "user_agent.original", self.user_agent.as_deref());
    }
}

const OTHER: &str = "_OTHER";

fn method<'a>(head: &'a Head, known: &'a [String]) -> (&'a str, Option<Cow<'a, str>>) {
    let sent = head.get(Name::Method).unwrap_or_default();
    match known.iter().find(|method| method.as_bytes() == sent) {
        Some(method) => (method, None),
        None => (OTHER, Some(lossy(sent.get(..MAX_METHOD).unwrap_or(sent)))),
    }
}

/// `https` where the request or a proxy says so, and where the connection is encrypted.
fn scheme(head: &Head, role: Role, encrypted: bool) -> &'static str {
    let own = head.get(Name::Scheme);
    let told = match role {
        Role::Client => own,
        Role::Server => head
            .get(Name::Forwarded)
            .and_then(|text| forwarded(text, b"proto"))
            .or_else(|| head.get(Name::ForwardedProto).map(first_of_list))
            .or(own),
    };
    match told {
        Some(scheme) if scheme.eq_ignore_ascii_case(b"https") => "https",
        None if encrypted => "https",
        _ => "http",
    }
}

/// The name by which the server was called, else the address of its socket.
fn server<'a>(facts: &Facts<'a>, scheme: &str) -> (Option<Cow<'a, str>>, Option<u16>) {
    let head: &'a Head = &facts.request.started.head;
    let role = facts.request.role;
    if let Some(conn) = facts.conn
        && conn.is_unix()
        && role == Role::Client
    {
        return (some_text(&conn.remote), None);
    }
    let told = match role {
        Role::Client => None,
        Role::Server => head
            .get(Name::Forwarded)
            .and_then(|text| forwarded(text, b"host"))
            .or_else(|| head.get(Name::ForwardedHost).map(first_of_list)),
    };
    let authority = told.or_else(|| head.get(Name::Authority)).or_else(|| head.get(Name::Host));
    if let Some(Host { name, port }) = authority.and_then(split_authority) {
        let default = if scheme == "https" { 443 } else { 80 };
        return (Some(lossy(name)), Some(port.unwrap_or(default)));
    }
    let Some(conn) = facts.conn else { return (None, None) };
    let ends = conn.ends.as_deref();
    // The name that the client asked for in the handshake.
    if let Some(known) = conn.encryption()
        && !known.facts.server_name.is_empty()
    {
        let port = ends.map(|e| if role == Role::Server { e.local_port } else { e.remote_port });
        return (some_text(&known.facts.server_name), port.filter(|port| *port != 0));
    }
    match role {
        Role::Server => (some_text(&conn.local), ends.map(|e| e.local_port).filter(|p| *p != 0)),
        Role::Client => (some_text(&conn.remote), ends.map(|e| e.remote_port).filter(|p| *p != 0)),
    }
}

/// The first hop that proxies name, else the socket's peer.
fn client<'a>(facts: &Facts<'a>) -> Option<Cow<'a, str>> {
    let head: &'a Head = &facts.request.started.head;
    let named = head
        .get(Name::Forwarded)
        .and_then(|text| forwarded(text, b"for"))
        .and_then(client_of)
        .or_else(|| head.get(Name::ForwardedFor).map(first_of_list).and_then(client_of));
    match (named, facts.conn) {
        (Some(address), _) => Some(lossy(address)),
        (None, Some(conn)) if !conn.is_unix() => some_text(&conn.remote),
        (None, _) => None,
    }
}

/// `url.full`: absolute, credentials and secret query values hidden.
fn write_url(
    url: &mut String,
    facts: &Facts<'_>,
    scheme: &str,
    path: Option<&str>,
    query: Option<&str>,
) {
    let head = &facts.request.started.head;
    url.clear();
    url.push_str(scheme);
    url.push_str("://");
    match head.get(Name::Authority).or_else(|| head.get(Name::Host)).filter(|a| !a.is_empty()) {
        Some(authority) => push_authority(url, authority),
        None => push_peer(url, facts.conn),
    }
    // The asterisk form stands for the server itself: no path (RFC 9112, section 3.3).
    url.push_str(path.filter(|path| *path != "*").unwrap_or_default());
    if let Some(query) = query {
        url.push('?');
        url.push_str(query);
    }
}

fn push_authority(url: &mut String, authority: &[u8]) {
    let host = match authority.iter().rposition(|byte| *byte == b'@') {
        Some(at) => {
            url.push_str("REDACTED:REDACTED@");
            authority.get(at + 1..).unwrap_or_default()
        }
        None => authority,
    };
    url.push_str(&lossy(host));
}

fn push_peer(url: &mut String, conn: Option<&Conn>) {
    let Some(conn) = conn.filter(|conn| !conn.is_unix()) else {
        return url.push_str("localhost");
    };
    let v6 = conn.remote.contains(':');
    url.push_str(if v6 { "[" } else { "" });
    url.push_str(&conn.remote);
    url.push_str(if v6 { "]" } else { "" });
    if let Some(ends) = &conn.ends {
        let mut digits = [0; 5];
        url.push(':');
        url.push_str(decimal(ends.remote_port, &mut digits));
    }
}

/// What failed: the connection, else the status code (digits) where it counts as a failure.
///
/// A request whose end nobody saw is no failure: nothing is known against it.
fn failure(role: Role, finished: &Finished) -> (Option<&'static str>, Option<[u8; 3]>) {
    if let Some(failure) = finished.failure
        && failure != Failure::Unobserved
    {
        return (Some(failure.error_type()), None);
    }
    let from = if role == Role::Client { 400 } else { 500 };
    let status = finished.status.filter(|status| (from..1000).contains(status));
    let digit = |value: u16| b'0' + (value % 10) as u8;
    (None, status.map(|status| [digit(status / 100), digit(status / 10), digit(status)]))
}

fn outcome(list: &mut Attributes<'_>, facts: &Facts<'_>) {
    let end = facts.finished;
    push_int(list, "http.response.status_code", end.status);
    push_size(list, "http.request.body.size", end.request_body);
    push_size(list, "http.response.body.size", end.response_body);
    let start = facts.request.started.start_ns;
    if let Some(first) = end.first_byte_ns {
        let seconds = first.saturating_sub(start) as f64 / 1e9;
        list.push(("kernspan.http.time_to_first_byte", Value::Double(seconds)));
    }
    if end.failure == Some(Failure::Unobserved) {
        list.push(("kernspan.end", Value::Str("unobserved")));
    }
}

fn network<'t>(list: &mut Attributes<'t>, facts: &Facts<'t>) {
    let version = facts.version();
    push_text(list, "network.protocol.version", Some(version).filter(|name| !name.is_empty()));
    let Some(conn) = facts.conn else { return };
    let Some(ends) = conn.ends.as_deref() else { return };
    if conn.is_unix() {
        return list.push(("network.transport", Value::Str("unix")));
    }
    list.push(("network.transport", Value::Str("tcp")));
    let v6 = conn.remote.contains(':');
    list.push(("network.type", Value::Str(if v6 { "ipv6" } else { "ipv4" })));
    list.push(("network.peer.address", Value::Str(&conn.remote)));
    list.push(("network.peer.port", Value::Int(i64::from(ends.remote_port))));
}

/// Attributes of the registry `tls` (development status).
fn encryption<'t>(list: &mut Attributes<'t>, facts: &Facts<'t>) {
    let Some(known) = facts.conn.and_then(Conn::encryption) else { return };
    list.push(("tls.protocol.name", Value::Str("tls")));
    push_text(list, "tls.protocol.version", known.facts.version_name());
    push_text(list, "tls.cipher", known.facts.cipher.and_then(cipher_name));
    let protocol = known.facts.protocol.as_str();
    push_text(list, "tls.next_protocol", Some(protocol).filter(|name| !name.is_empty()));
}

fn evidence(list: &mut Attributes<'_>, request: &Request) {
    let Some(parent) = request.parent else { return };
    let found: Evidence = parent.evidence;
    list.push(("kernspan.link.method", Value::Str(found.method())));
    list.push(("kernspan.link.confidence", Value::Double(found.confidence())));
}

fn push_text<'t>(list: &mut Attributes<'t>, key: &'static str, text: Option<&'t str>) {
    if let Some(text) = text {
        list.push((key, Value::Str(text)));
    }
}

fn push_int(list: &mut Attributes<'_>, key: &'static str, value: Option<u16>) {
    if let Some(value) = value {
        list.push((key, Value::Int(i64::from(value))));
    }
}

fn push_size(list: &mut Attributes<'_>, key: &'static str, value: Option<u64>) {
    if let Some(Ok(value)) = value.map(i64::try_from) {
        list.push((key, Value::Int(value)));
    }
}

/// The path of a request, not redacted.
pub(super) fn path(head: &Head) -> Option<Cow<'_, str>> {
    text(head, Name::Path)
}

fn text(head: &Head, name: Name) -> Option<Cow<'_, str>> {
    head.get(name).map(lossy)
}

fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(bytes),
    }
}

fn some_text(text: &str) -> Option<Cow<'_, str>> {
    (!text.is_empty()).then_some(Cow::Borrowed(text))
}

fn redacted<'a>(text: Cow<'a, str>, rule: fn(&str) -> Cow<'_, str>) -> Cow<'a, str> {
    match text {
        Cow::Borrowed(text) => rule(text),
        Cow::Owned(text) => Cow::Owned(rule(&text).into_owned()),
    }
}

fn first_of_list(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == b',').next().unwrap_or_default().trim_ascii()
}

fn decimal(mut value: u16, digits: &mut [u8; 5]) -> &str {
    let mut from = digits.len();
    for (at, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
        from = at;
        if value == 0 {
            break;
        }
    }
    let written = digits.get(from..).unwrap_or_default();
    std::str::from_utf8(written).unwrap_or_default()
}
