//! Judge of *shapes*: the spans that each case of `workloads/shapes.py` must give, and no others.

use crate::otlp::{Kind, Span};

/// One request of one case, as both ends must see it.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    /// Method as it must be reported.
    pub method: &'static str,
    /// Path; empty where the target has none.
    pub path: &'static str,
    /// Status of the final response, `None` when there is none.
    pub status: Option<i64>,
    /// The client's span is an error; `None` where either is right.
    pub client_error: bool,
    /// The server's span is an error; `None` where either is right.
    pub server_error: Option<bool>,
    /// Size of the request's body, where it must be known.
    pub request_body: Option<i64>,
    /// Size of the response's body, where it must be known.
    pub response_body: Option<i64>,
    /// Least length of the client's span, ms.
    pub least_ms: u64,
}

const fn plain(method: &'static str, path: &'static str, status: i64) -> Exchange {
    Exchange {
        method,
        path,
        status: Some(status),
        client_error: status >= 400,
        server_error: Some(status >= 500),
        request_body: None,
        response_body: None,
        least_ms: 0,
    }
}

const fn ok(path: &'static str) -> Exchange {
    Exchange { response_body: Some(2), ..plain("GET", path, 200) }
}

const fn failed(path: &'static str) -> Exchange {
    let plain = plain("GET", path, 0);
    Exchange { status: None, client_error: true, server_error: Some(true), ..plain }
}

/// All exchanges of all cases.
pub const EXCHANGES: &[Exchange] = &[
    ok("/shape/plain/1"),
    ok("/shape/pipelined/1"),
    Exchange { response_body: Some(4), ..plain("GET", "/shape/pipelined/2", 404) },
    ok("/shape/pipelined/3"),
    plain("GET", "/shape/chunked/1", 200),
    ok("/shape/chunked/2"),
    plain("POST", "/shape/chunked-request/1", 200),
    ok("/shape/chunked-request/2"),
    plain("HEAD", "/shape/head/1", 200),
    ok("/shape/head/2"),
    ok("/shape/early-hints/1"),
    Exchange { request_body: Some(5), ..plain("PUT", "/shape/expect/1", 200) },
    plain("PUT", "/shape/expect-refused/1", 417),
    plain("GET", "/shape/no-body/1", 204),
    plain("GET", "/shape/no-body/2", 304),
    ok("/shape/no-body/3"),
    plain("GET", "/shape/upgrade/1", 101),
    plain("CONNECT", "", 200),
    Exchange { response_body: Some(253), ..plain("GET", "/shape/until-close/1", 200) },
    ok("/shape/absolute/1"),
    ok("/shape/asterisk/1"),
    plain("OPTIONS", "*", 200),
    ok("/shape/long-head/1"),
    plain("GET", "/shape/long-head/2", 200),
    ok("/shape/long-head/3"),
    ok("/shape/split/1"),
    Exchange { request_body: Some(70_000), ..plain("POST", "/shape/upload/1", 201) },
    ok("/shape/upload/2"),
    ok("/shape/unknown-method/1"),
    plain("_OTHER", "/shape/unknown-method/2", 200),
    plain("GET", "/shape/server-error/1", 503),
    failed("/shape/client-leaves/1"),
    failed("/shape/server-resets/1"),
    Exchange {
        client_error: true,
        server_error: None,
        ..plain("GET", "/shape/server-cuts/1", 200)
    },
    Exchange { least_ms: 550, ..failed("/shape/timeout/1") },
];

impl Exchange {
    /// True when `span` is this request's, whatever else it says.
    fn names(&self, span: &Span) -> bool {
        // For the server-wide OPTIONS there is no path that a URL could hold.
        let path = span.path() == self.path || matches!(self.method, "CONNECT" | "OPTIONS");
        span.method() == self.method && path
    }

    fn faults(&self, span: &Span) -> Vec<&'static str> {
        let mut faults = Vec::new();
        let mut check = |right: bool, what| {
            if !right {
                faults.push(what);
            }
        };
        check(span.status() == self.status, "status");
        let error =
            if span.kind == Kind::Client { Some(self.client_error) } else { self.server_error };
        check(error.is_none_or(|error| error == span.error), "error");
        check(!span.error || !span.text("error.type").is_empty(), "error.type");
        for (key, size) in [
            ("http.request.body.size", self.request_body),
            ("http.response.body.size", self.response_body),
        ] {
            check(size.is_none() || span.int(key) == size, key);
        }
        // Ends where it was given up, not where the agent was stopped.
        let ms = (span.end.saturating_sub(span.start)) / 1_000_000;
        check(ms >= self.least_ms && ms < 5000, "length");
        faults
    }
}

/// Complaints about the spans of client and server: a missing one, a second one, a wrong one, and
/// every span that no exchange explains.
pub fn judge(spans: &[&Span]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut left: Vec<&Span> = spans.to_vec();
    for exchange in EXCHANGES {
        let mut ends = Vec::new();
        for kind in [Kind::Client, Kind::Server] {
            let Some(at) = left.iter().position(|span| span.kind == kind && exchange.names(span))
            else {
                complaints
                    .push(format!("no {kind:?} span of {} {}", exchange.method, exchange.path));
                continue;
            };
            let span = left.remove(at);
            let faults = exchange.faults(span);
            if !faults.is_empty() {
                complaints.push(format!("{}: {}", faults.join(", "), span.brief()));
            }
            ends.push(span);
        }
        if let [client, server] = ends[..] {
            complaints.extend(crate::counts::pairs(&[server], &[client]));
        }
    }
    complaints.extend(left.iter().map(|span| format!("explained by nothing: {}", span.brief())));
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    /// The spans that a perfect agent reports.
    fn perfect() -> Vec<Span> {
        let ends = [Kind::Client, Kind::Server];
        let both = EXCHANGES.iter().enumerate().flat_map(|one| ends.map(|kind| (one, kind)));
        both.map(|((number, exchange), kind)| perfect_span(number, exchange, kind)).collect()
    }

    fn perfect_span(number: usize, exchange: &Exchange, kind: Kind) -> Span {
        let error = if kind == Kind::Client {
            exchange.client_error
        } else {
            exchange.server_error.unwrap_or(true)
        };
        let mut attributes = json!({
            "http.request.method": exchange.method,
            "url.path": exchange.path,
            "error.type": if error { "some" } else { "" },
        });
        for (key, value) in [
            ("http.response.status_code", exchange.status),
            ("http.request.body.size", exchange.request_body),
            ("http.response.body.size", exchange.response_body),
        ] {
            if let Some(value) = value {
                attributes[key] = value.into();
            }
        }
        let client = kind == Kind::Client;
        Span {
            trace: "t".into(),
            id: format!("{number}{kind:?}"),
            parent: if client { String::new() } else { format!("{number}Client") },
            name: String::new(),
            kind,
            start: if client { 0 } else { 1 },
            end: exchange.least_ms * 1_000_000 + if client { 3_000_000 } else { 2_000_000 },
            error,
            flags: 0,
            state: String::new(),
            attributes: attributes.as_object().unwrap().clone().into_iter().collect(),
            resource: Arc::default(),
        }
    }

    #[test]
    fn a_perfect_report_passes_and_each_fault_is_named() {
        type Break = fn(&mut Vec<Span>);
        let cases: [(&str, Break); 7] = [
            ("", |_| {}),
            ("no Client span of GET /shape/plain/1", |spans| drop(spans.remove(0))),
            ("explained by nothing", |spans| {
                let mut tunnelled = spans[0].clone();
                tunnelled.attributes.insert("url.path".into(), "/shape/connect/99".into());
                spans.push(tunnelled);
            }),
            ("explained by nothing", |spans| spans.push(spans[0].clone())),
            ("status: ", |spans| {
                spans[0].attributes.insert("http.response.status_code".into(), 500.into());
            }),
            ("length: ", |spans| spans[0].end = 5_000_000_000),
            ("not joined", |spans| spans[1].parent.clear()),
        ];
        for (expected, fault) in cases {
            let mut spans = perfect();
            fault(&mut spans);
            let complaints = judge(&spans.iter().collect::<Vec<_>>()).join("\n");
            let met = if expected.is_empty() {
                complaints.is_empty()
            } else {
                complaints.contains(expected)
            };
            assert!(met, "expected `{expected}`, got `{complaints}`");
        }
    }
}
