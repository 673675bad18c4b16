//! Judge of *counts*: spans against what was asked and answered.

use crate::otlp::{Kind, Span};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Longest list of complaints; the rest is only counted.
const SHOWN: usize = 20;

/// One request as its client or server logged it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// Method.
    pub method: String,
    /// Path without query.
    pub path: String,
    /// Response status.
    pub status: i64,
    /// Bytes of the request's body.
    pub request_body: i64,
    /// Bytes of the response's body.
    pub response_body: i64,
}

impl Request {
    /// A GET answered with 200 and `size` bytes.
    pub fn get(path: &str, size: i64) -> Request {
        Request {
            method: "GET".into(),
            path: path.into(),
            status: 200,
            request_body: 0,
            response_body: size,
        }
    }

    /// A line of a workload's log, the path's prefix `from` replaced by `to` (what a proxy does).
    pub fn of_log(line: &Value, from: &str, to: &str) -> Option<Request> {
        let path = line["path"].as_str()?;
        let path = path.strip_prefix(from).map_or(path.to_owned(), |rest| format!("{to}{rest}"));
        Some(Request {
            method: line["method"].as_str()?.to_owned(),
            path: path.split('?').next().unwrap_or_default().to_owned(),
            status: line["status"].as_i64()?,
            request_body: line["request_body"].as_i64()?,
            response_body: line["response_body"].as_i64()?,
        })
    }

    /// What a span says; an absent size reads as 0 bytes where there is no body, and as −1 where
    /// `truth` cannot be met by silence.
    fn of_span(span: &Span) -> Request {
        let size = |key: &str| span.int(key).unwrap_or(-1);
        Request {
            method: span.method().to_owned(),
            path: span.path().to_owned(),
            status: span.status().unwrap_or(0),
            request_body: size("http.request.body.size").max(0),
            response_body: size("http.response.body.size"),
        }
    }
}

/// Complaints about the spans of one hop: both ends observed, every request in `truth` answered.
/// Empty when server spans = client spans = `truth`, each pair is joined, and each server span
/// lies inside its client span.
pub fn judge(spans: &[&Span], truth: &[Request]) -> Vec<String> {
    let servers: Vec<&Span> = spans.iter().copied().filter(|s| s.kind == Kind::Server).collect();
    let clients: Vec<&Span> = spans.iter().copied().filter(|s| s.kind == Kind::Client).collect();
    let mut complaints = Vec::new();
    compare("server", &servers, truth, &mut complaints);
    compare("client", &clients, truth, &mut complaints);
    unique(spans, &mut complaints);
    complaints.extend(pairs(&servers, &clients));
    shorten(complaints)
}

/// Complaints about the joins alone: each server span has a client span for itself, around it.
pub fn pairs(servers: &[&Span], clients: &[&Span]) -> Vec<String> {
    let by_id: HashMap<&str, &Span> = clients.iter().map(|span| (&*span.id, *span)).collect();
    let mut taken = HashSet::new();
    let mut complaints = Vec::new();
    for server in servers {
        let Some(client) = by_id.get(&*server.parent) else {
            complaints.push(format!("not joined: {}", server.brief()));
            continue;
        };
        if client.trace != server.trace {
            complaints.push(format!("joined across traces: {}", server.brief()));
        }
        // A URL has no place for the path `*` of a server-wide OPTIONS.
        if client.path() != server.path() && server.path() != "*" {
            complaints.push(format!("wrong pair: {} / {}", server.brief(), client.brief()));
        }
        // A client that gave up is gone before the server learns of it, or is done all the same.
        let within =
            if gave_up(client) { client.start <= server.start } else { client.covers(server) };
        if !within {
            complaints.push(format!("outside: {} of {}", server.brief(), client.brief()));
        }
        if !taken.insert(&client.id) {
            complaints.push(format!("second server of one client: {}", server.brief()));
        }
    }
    complaints
}

/// A client span that failed for another reason than the response's status.
fn gave_up(client: &Span) -> bool {
    client.error && client.text("error.type").parse::<u16>().is_err()
}

fn compare(side: &str, spans: &[&Span], truth: &[Request], complaints: &mut Vec<String>) {
    let mut balance: BTreeMap<Request, i64> = BTreeMap::new();
    for request in truth {
        *balance.entry(request.clone()).or_default() += 1;
    }
    for span in spans {
        let mut said = Request::of_span(span);
        // Without a body, silence about its size is right.
        if said.response_body < 0 {
            said.response_body = 0;
        }
        *balance.entry(said).or_default() -= 1;
        if span.error != (span.status().is_none_or(|code| is_error(span.kind, code))) {
            complaints.push(format!("status of {}", span.brief()));
        }
    }
    if spans.len() != truth.len() {
        complaints.push(format!("{} {side} spans of {} requests", spans.len(), truth.len()));
    }
    for (request, count) in balance.into_iter().filter(|(_, count)| *count != 0) {
        let what = if count > 0 { "missing" } else { "too many" };
        complaints.push(format!("{side}: {} {what}: {request:?}", count.abs()));
    }
}

fn is_error(kind: Kind, code: i64) -> bool {
    code >= 500 || (kind == Kind::Client && code >= 400)
}

fn unique(spans: &[&Span], complaints: &mut Vec<String>) {
    let mut ids = HashSet::new();
    for span in spans {
        if !ids.insert(&span.id) || span.id.len() != 16 || span.trace.len() != 32 {
            complaints.push(format!("id: {} {}", span.trace, span.brief()));
        }
    }
}

fn shorten(mut complaints: Vec<String>) -> Vec<String> {
    let rest = complaints.len().saturating_sub(SHOWN);
    complaints.truncate(SHOWN);
    if rest > 0 {
        complaints.push(format!("… and {rest} more"));
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    fn span(kind: Kind, id: &str, parent: &str, times: (u64, u64)) -> Span {
        let attributes = json!({"url.path": "/p", "http.request.method": "GET",
            "http.response.status_code": 200, "http.response.body.size": 7});
        let attributes = attributes.as_object().unwrap().clone().into_iter().collect();
        Span {
            trace: "0".repeat(31) + "1",
            id: format!("{id:0>16}"),
            parent: if parent.is_empty() { String::new() } else { format!("{parent:0>16}") },
            name: "GET".into(),
            kind,
            start: times.0,
            end: times.1,
            error: false,
            flags: 0,
            state: String::new(),
            attributes,
            resource: Arc::default(),
        }
    }

    fn good() -> Vec<Span> {
        vec![
            span(Kind::Client, "c1", "", (0, 100)),
            span(Kind::Server, "s1", "c1", (10, 90)),
            span(Kind::Client, "c2", "", (200, 300)),
            span(Kind::Server, "s2", "c2", (200, 300)),
        ]
    }

    #[test]
    fn what_is_right_passes_and_each_fault_is_named() {
        type Break = fn(&mut Vec<Span>);
        let cases: [(&str, Break); 9] = [
            ("", |_| {}),
            ("1 server spans of 2", |spans| drop(spans.pop())),
            ("too many", |spans| {
                let mut third = spans[0].clone();
                third.id = "f".repeat(16);
                spans.push(third);
            }),
            ("not joined", |spans| spans[1].parent.clear()),
            ("second server of one client", |spans| spans[3].parent = spans[0].id.clone()),
            ("outside", |spans| spans[1].end = 101),
            ("across traces", |spans| spans[1].trace = "2".repeat(32)),
            ("too many", |spans| {
                spans[0].attributes.insert("http.response.body.size".into(), 8.into());
            }),
            ("status of", |spans| spans[0].error = true),
        ];
        let truth = [Request::get("/p", 7), Request::get("/p", 7)];
        for (expected, fault) in cases {
            let mut spans = good();
            fault(&mut spans);
            let spans: Vec<&Span> = spans.iter().collect();
            let complaints = judge(&spans, &truth).join("\n");
            let met = if expected.is_empty() {
                complaints.is_empty()
            } else {
                complaints.contains(expected)
            };
            assert!(met, "expected `{expected}`, got `{complaints}`");
        }
    }
}
