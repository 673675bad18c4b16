//! What the agent wrote as JSON lines of OTLP, typed.
//!
//! Shapes: opentelemetry-proto 1.11, JSON mapping of the OTLP specification: ids in hexadecimal,
//! 64-bit integers as text or number, enums as numbers.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Attributes by key; values as plain JSON.
pub type Attributes = BTreeMap<String, Value>;

/// Side of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// SPAN_KIND_SERVER.
    Server,
    /// SPAN_KIND_CLIENT.
    Client,
    /// Any other: the agent makes none.
    Other,
}

/// One span.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Trace, 32 hexadecimal digits.
    pub trace: String,
    /// Span, 16 hexadecimal digits.
    pub id: String,
    /// Parent, empty for a root.
    pub parent: String,
    /// Name.
    pub name: String,
    /// Side.
    pub kind: Kind,
    /// Unix ns.
    pub start: u64,
    /// Unix ns.
    pub end: u64,
    /// Status is ERROR.
    pub error: bool,
    /// OTLP flags: W3C trace flags and whether the parent is remote.
    pub flags: u64,
    /// W3C tracestate.
    pub state: String,
    /// Its attributes.
    pub attributes: Attributes,
    /// Those of its resource.
    pub resource: Arc<Attributes>,
}

/// One log record.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// Event name.
    pub event: String,
    /// Trace of the cause, or empty.
    pub trace: String,
    /// Span of the cause, or empty.
    pub span: String,
    /// Unix ns.
    pub time: u64,
    /// W3C trace flags.
    pub flags: u64,
    /// Text for people.
    pub body: String,
    /// Its attributes.
    pub attributes: Attributes,
    /// Those of its resource.
    pub resource: Arc<Attributes>,
}

/// Everything an agent exported.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    /// Spans in the order of export.
    pub spans: Vec<Span>,
    /// Log records in the order of export.
    pub logs: Vec<Log>,
    /// Requests with metrics, untyped.
    pub metrics: Vec<Value>,
}

impl Telemetry {
    /// Reads a file of JSON lines.
    ///
    /// # Panics
    /// When the file is missing, or a whole line is no OTLP request.
    pub fn load(path: &Path) -> Telemetry {
        let text = std::fs::read_to_string(path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Telemetry::parse(&text)
    }

    /// Reads JSON lines. A last line without its newline is still being written and left out.
    ///
    /// # Panics
    /// When a whole line is no OTLP request.
    pub fn parse(text: &str) -> Telemetry {
        let mut all = Telemetry::default();
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let request: Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in: {line}"));
            all.add(request);
        }
        all
    }

    fn add(&mut self, request: Value) {
        for group in list(&request["resourceSpans"]) {
            let resource = Arc::new(attributes(&group["resource"]["attributes"]));
            let scopes = list(&group["scopeSpans"]);
            let spans = scopes.iter().flat_map(|scope| list(&scope["spans"]));
            self.spans.extend(spans.map(|value| span(value, &resource)));
        }
        for group in list(&request["resourceLogs"]) {
            let resource = Arc::new(attributes(&group["resource"]["attributes"]));
            let scopes = list(&group["scopeLogs"]);
            let logs = scopes.iter().flat_map(|scope| list(&scope["logRecords"]));
            self.logs.extend(logs.map(|value| log(value, &resource)));
        }
        let known = ["resourceSpans", "resourceLogs", "resourceMetrics"];
        assert!(known.iter().any(|key| request.get(key).is_some()), "no OTLP request: {request}");
        if request.get("resourceMetrics").is_some() {
            self.metrics.push(request);
        }
    }

    /// The spans that touch one of `ports`, in their addresses or in their URL.
    pub fn on_ports(&self, ports: &[u16]) -> Vec<&Span> {
        self.spans.iter().filter(|span| ports.iter().any(|port| span.touches(*port))).collect()
    }

    /// The spans of these processes.
    pub fn of_processes(&self, pids: &[u32]) -> Vec<&Span> {
        let of = |span: &&Span| pids.iter().any(|pid| span.pid() == i64::from(*pid));
        self.spans.iter().filter(of).collect()
    }

    /// The spans whose path begins with `prefix`.
    pub fn under(&self, prefix: &str) -> Vec<&Span> {
        self.spans.iter().filter(|span| span.path().starts_with(prefix)).collect()
    }
}

impl Span {
    /// A text attribute, empty when absent.
    pub fn text(&self, key: &str) -> &str {
        self.attributes.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// An integer attribute.
    pub fn int(&self, key: &str) -> Option<i64> {
        self.attributes.get(key).and_then(Value::as_i64)
    }

    /// How many spans it stands for, by OpenTelemetry's `th` in its tracestate; `None` when it does not say.
    pub fn adjusted(&self) -> Option<f64> {
        let own = self.state.split(',').find_map(|member| member.strip_prefix("ot="))?;
        let digits = own.split(';').find_map(|field| field.strip_prefix("th:"))?;
        let threshold = u64::from_str_radix(&format!("{digits:0<14}"), 16).ok()?;
        Some(1.0 / (1.0 - threshold as f64 / (1_u64 << 56) as f64))
    }

    /// Path of the request: `url.path`, or that in `url.full`, without the query.
    pub fn path(&self) -> &str {
        let path = self.text("url.path");
        if path.is_empty() { path_of(self.text("url.full")) } else { path }
    }

    /// Response status.
    pub fn status(&self) -> Option<i64> {
        self.int("http.response.status_code")
    }

    /// Request method.
    pub fn method(&self) -> &str {
        self.text("http.request.method")
    }

    /// `service.name`.
    pub fn service(&self) -> &str {
        self.resource.get("service.name").and_then(Value::as_str).unwrap_or_default()
    }

    /// `process.pid`, 0 when absent.
    pub fn pid(&self) -> i64 {
        self.resource.get("process.pid").and_then(Value::as_i64).unwrap_or(0)
    }

    /// True when `other`'s time lies within this span's.
    pub fn covers(&self, other: &Span) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// True when one of its ports, or that in its URL, is `port`.
    pub fn touches(&self, port: u16) -> bool {
        let keys = ["server.port", "network.peer.port", "network.local.port", "client.port"];
        keys.iter().any(|key| self.int(key) == Some(port.into()))
            || self.text("url.full").contains(&format!(":{port}/"))
    }

    /// Name, method, path and status on one line, for messages.
    pub fn brief(&self) -> String {
        let (id, parent, error) = (&self.id, &self.parent, self.text("error.type"));
        format!(
            "{:?} {} {} {:?} {error} id={id} parent={parent} {}..{} {}",
            self.kind,
            self.method(),
            self.path(),
            self.status(),
            self.start,
            self.end,
            self.service()
        )
    }
}

impl Log {
    /// Attribute as one text: lists joined by spaces.
    pub fn text(&self, key: &str) -> String {
        match self.attributes.get(key) {
            Some(Value::Array(items)) => {
                items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
            }
            Some(value) => value.as_str().unwrap_or_default().to_owned(),
            None => String::new(),
        }
    }
}

fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default();
    path.split(['?', '#']).next().unwrap_or_default()
}

fn span(value: &Value, resource: &Arc<Attributes>) -> Span {
    let kind = match value["kind"].as_i64() {
        Some(2) => Kind::Server,
        Some(3) => Kind::Client,
        _ => Kind::Other,
    };
    Span {
        trace: text(&value["traceId"]),
        id: text(&value["spanId"]),
        parent: text(&value["parentSpanId"]),
        name: text(&value["name"]),
        kind,
        start: nanoseconds(&value["startTimeUnixNano"]),
        end: nanoseconds(&value["endTimeUnixNano"]),
        error: value["status"]["code"].as_i64() == Some(2),
        flags: value["flags"].as_u64().unwrap_or(0),
        state: text(&value["traceState"]),
        attributes: attributes(&value["attributes"]),
        resource: Arc::clone(resource),
    }
}

fn log(value: &Value, resource: &Arc<Attributes>) -> Log {
    Log {
        event: text(&value["eventName"]),
        trace: text(&value["traceId"]),
        span: text(&value["spanId"]),
        time: nanoseconds(&value["timeUnixNano"]),
        flags: value["flags"].as_u64().unwrap_or(0),
        body: text(&value["body"]["stringValue"]),
        attributes: attributes(&value["attributes"]),
        resource: Arc::clone(resource),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn nanoseconds(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0)
}

/// A list of key and value as OTLP has it.
pub fn attributes(value: &Value) -> Attributes {
    list(value).iter().map(|pair| (text(&pair["key"]), plain(&pair["value"]))).collect()
}

/// A number to nine decimals: writers differ in its text, and serde_json in its last bit.
fn nanounits(number: &Value) -> Value {
    number.as_f64().map_or_else(|| number.clone(), |value| ((value * 1e9).round() / 1e9).into())
}

/// An OTLP `AnyValue` as plain JSON.
fn plain(value: &Value) -> Value {
    let Some((kind, content)) = value.as_object().and_then(|object| object.iter().next()) else {
        return Value::Null;
    };
    match kind.as_str() {
        "intValue" => match content.as_str().and_then(|digits| digits.parse::<i64>().ok()) {
            Some(number) => number.into(),
            None => content.clone(),
        },
        "doubleValue" => nanounits(content),
        "arrayValue" => list(&content["values"]).iter().map(plain).collect(),
        _ => content.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = concat!(
        r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":"#,
        r#"{"stringValue":"curl"}},{"key":"process.command_args","value":{"arrayValue":{"values":"#,
        r#"[{"stringValue":"curl"},{"stringValue":"-s"}]}}}]},"scopeSpans":[{"spans":[{"traceId":"#,
        r#""0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","name":"GET","kind":3,"#,
        r#""startTimeUnixNano":"1792583000000000001","endTimeUnixNano":1792583000000000009,"#,
        r#""status":{"code":2},"attributes":[{"key":"url.full","value":{"stringValue":"#,
        r#""http://127.0.0.1:8080/a/b?x=1"}},{"key":"http.response.status_code","value":"#,
        r#"{"intValue":"404"}}]}]}]}]}"#,
        "\n"
    );

    #[test]
    fn a_span_is_read_with_its_resource() {
        let all = Telemetry::parse(LINE);
        let span = &all.spans[0];
        assert_eq!((span.kind, span.path(), span.status()), (Kind::Client, "/a/b", Some(404)));
        assert_eq!((span.start, span.end), (1792583000000000001, 1792583000000000009));
        assert_eq!((span.service(), span.error, span.parent.as_str()), ("curl", true, ""));
        assert_eq!(all.on_ports(&[8080]).len(), 1);
        assert_eq!(all.on_ports(&[80]).len(), 0);
        assert_eq!(all.under("/a").len(), 1);
    }

    #[test]
    fn a_line_still_being_written_is_left_out_and_a_broken_one_is_not_forgiven() {
        let cut = format!("{LINE}{}", &LINE[..40]);
        assert_eq!(Telemetry::parse(&cut).spans.len(), 1);
        let broken = format!("{}\n", &LINE[..40]);
        assert!(std::panic::catch_unwind(|| Telemetry::parse(&broken)).is_err());
        assert!(std::panic::catch_unwind(|| Telemetry::parse("{\"spans\":[]}\n")).is_err());
    }

    #[test]
    fn paths_come_out_of_urls() {
        for (url, path) in [
            ("http://h/p?q", "/p"),
            ("http://h", ""),
            ("http://h:1/a/b#f", "/a/b"),
            ("/only", "/only"),
            ("", ""),
        ] {
            assert_eq!(path_of(url), path, "{url}");
        }
    }
}
