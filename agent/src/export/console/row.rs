//! What the console keeps of a span or log record: texts, already safe to print.

use super::text::printable;
use agent_core::id::SpanId;
use agent_core::span::{Attribute, Kind, LogRecord, Span, Value};

/// Longest text kept: more than fits into a line is never shown.
const MAX_TEXT: usize = 120;

/// A span.
#[derive(Clone, Debug)]
pub struct SpanRow {
    /// Span.
    pub id: SpanId,
    /// Parent.
    pub parent: Option<SpanId>,
    /// Unix ns.
    pub start_unix_ns: u64,
    /// Unix ns.
    pub end_unix_ns: u64,
    /// Service.
    pub service: String,
    /// The service sent the request.
    pub client: bool,
    /// Method and target, or the span's name.
    pub request: String,
    /// Who is at the other end, where `request` does not say so.
    pub peer: String,
    /// Status code.
    pub status: Option<i64>,
    /// It failed.
    pub error: bool,
    /// How, unless the status says so.
    pub error_type: String,
    /// Evidence for the parent, with the confidence when it is not 1.
    pub evidence: String,
}

/// A log record.
#[derive(Clone, Debug)]
pub struct EventRow {
    /// The span that caused it.
    pub span: Option<SpanId>,
    /// Unix ns.
    pub unix_ns: u64,
    /// Event name.
    pub name: String,
    /// Service.
    pub service: String,
    /// Body.
    pub body: String,
}

impl SpanRow {
    /// The texts of `span`.
    pub fn of(span: &Span<'_>) -> SpanRow {
        let attributes = Attributes(span.attributes);
        let status = attributes.int("http.response.status_code");
        let error_type = attributes
            .text("error.type")
            .filter(|kind| span.error && status.is_none_or(|status| *kind != status.to_string()));
        SpanRow {
            id: span.id,
            parent: span.parent,
            start_unix_ns: span.start_unix_ns,
            end_unix_ns: span.end_unix_ns,
            service: printable(&span.resource.service, 40),
            client: span.kind == Kind::Client,
            request: printable(&attributes.request(span, without_scheme_and_query), MAX_TEXT),
            peer: printable(&attributes.peer(span.kind), 60),
            status,
            error: span.error,
            error_type: printable(error_type.unwrap_or_default(), 40),
            evidence: printable(&attributes.evidence(), 40),
        }
    }
}

impl EventRow {
    /// The texts of `record`.
    pub fn of(record: &LogRecord<'_>) -> EventRow {
        EventRow {
            span: record.cause.map(|(_, span)| span),
            unix_ns: record.unix_ns,
            name: printable(record.event_name, 40),
            service: printable(&record.resource.service, 40),
            body: printable(record.body, MAX_TEXT),
        }
    }
}

/// Method and target with its query, of any length: `GET /cart?id=7` at a server, `GET shop:8080/cart?id=7` at a
/// client.
pub fn whole_request(span: &Span<'_>) -> String {
    let attributes = Attributes(span.attributes);
    let mut text = attributes.request(span, without_scheme);
    if span.kind == Kind::Server
        && let Some(query) = attributes.text("url.query")
    {
        text.push('?');
        text.push_str(query);
    }
    text
}

struct Attributes<'a>(&'a [Attribute<'a>]);

impl Attributes<'_> {
    fn get(&self, key: &str) -> Option<Value<'_>> {
        self.0.iter().find(|(known, _)| *known == key).map(|(_, value)| *value)
    }

    fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    fn int(&self, key: &str) -> Option<i64> {
        match self.get(key)? {
            Value::Int(number) => Some(number),
            _ => None,
        }
    }

    /// `GET /cart` at a server, `GET shop:8080/cart` at a client, by what is wanted of its URL.
    fn request(&self, span: &Span<'_>, of_url: fn(&str) -> &str) -> String {
        let method =
            self.text("http.request.method_original").or_else(|| self.text("http.request.method"));
        let target = match span.kind {
            Kind::Server => self.text("url.path"),
            Kind::Client => self.text("url.full").map(of_url),
        };
        match (method, target) {
            (Some(method), Some(target)) => format!("{method} {target}"),
            _ => span.name.to_string(),
        }
    }

    /// The address of a server's client; a client's request names its peer, unless it has no URL.
    fn peer(&self, kind: Kind) -> String {
        let (address, port) = match kind {
            Kind::Server => ("client.address", "client.port"),
            Kind::Client if self.text("url.full").is_some() => return String::new(),
            Kind::Client => ("server.address", "server.port"),
        };
        let Some(address) = self.text(address).or_else(|| self.text("network.peer.address")) else {
            return String::new();
        };
        match self.int(port) {
            Some(port) if kind == Kind::Client => format!("{address}:{port}"),
            _ => address.to_string(),
        }
    }

    fn evidence(&self) -> String {
        let method = self.text("kernspan.link.method").unwrap_or_default();
        match self.get("kernspan.link.confidence") {
            Some(Value::Double(confidence)) if confidence < 0.995 => {
                format!("{method} {confidence:.2}")
            }
            _ => method.to_string(),
        }
    }
}

fn without_scheme(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest)
}

fn without_scheme_and_query(url: &str) -> &str {
    without_scheme(url).split(['?', '#']).next().unwrap_or_default()
}
