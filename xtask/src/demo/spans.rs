//! What the agent's JSON output must say: one trace per request, complete and with one root.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::HashSet;

/// curl's client span, nginx's server and client spans, the first service's server and client
/// spans, the second service's server span.
pub const IN_A_TRACE: usize = 6;

/// OTLP: `SPAN_KIND_SERVER`, `SPAN_KIND_CLIENT`.
const KINDS: [u64; IN_A_TRACE] = [3, 2, 3, 2, 3, 2];

/// One checked trace.
#[derive(Debug)]
pub struct Trace {
    /// Its id, in hexadecimal digits.
    pub id: String,
}

#[derive(Debug)]
struct Span {
    trace: String,
    id: String,
    parent: Option<String>,
    kind: u64,
    url: String,
}

/// Checks the lines of OTLP/JSON requests: each path has one trace of six spans, which form a chain
/// from curl to the second service.
pub fn check(lines: &str, paths: &[String]) -> Result<Vec<Trace>> {
    let spans = read(lines)?;
    paths.iter().map(|path| check_path(&spans, path).with_context(|| path.clone())).collect()
}

fn check_path(spans: &[Span], path: &str) -> Result<Trace> {
    let traces: HashSet<_> =
        spans.iter().filter(|span| span.url.ends_with(path)).map(|span| &span.trace).collect();
    ensure!(traces.len() == 1, "{} traces, not one", traces.len());
    let trace = traces.into_iter().next().context("no trace")?;
    let members: Vec<_> = spans.iter().filter(|span| &span.trace == trace).collect();
    ensure!(members.len() == IN_A_TRACE, "{} spans, not {IN_A_TRACE}", members.len());
    let roots = members.iter().filter(|span| span.parent.is_none()).count();
    ensure!(roots == 1, "{roots} roots, not one");
    let mut parent = None;
    for kind in KINDS {
        let Some(next) = members.iter().find(|span| span.parent == parent) else {
            bail!("no span below {}", parent.as_deref().unwrap_or("the root"));
        };
        ensure!(next.kind == kind, "span {} has kind {}, not {kind}", next.id, next.kind);
        parent = Some(next.id.clone());
    }
    Ok(Trace { id: trace.clone() })
}

fn read(lines: &str) -> Result<Vec<Span>> {
    let mut spans = Vec::new();
    // The last line may be half written.
    for line in lines.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let request: Value = serde_json::from_str(line).context("a line is no JSON")?;
        for resource in items(&request, "resourceSpans") {
            for scope in items(resource, "scopeSpans") {
                spans.extend(items(scope, "spans").iter().filter_map(span));
            }
        }
    }
    Ok(spans)
}

fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn span(value: &Value) -> Option<Span> {
    let text = |name: &str| value.get(name)?.as_str().map(str::to_owned);
    Some(Span {
        trace: text("traceId")?,
        id: text("spanId")?,
        parent: text("parentSpanId").filter(|parent| !parent.is_empty()),
        kind: value.get("kind")?.as_u64()?,
        url: url(value).unwrap_or_default(),
    })
}

fn url(value: &Value) -> Option<String> {
    let attribute = items(value, "attributes").iter().find(|attribute| {
        let key = attribute.get("key").and_then(Value::as_str);
        matches!(key, Some("url.path" | "url.full"))
    })?;
    Some(attribute.get("value")?.get("stringValue")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(trace: &str, id: usize, parent: usize, kind: u64, path: &str) -> String {
        let parent = if parent == 0 { String::new() } else { format!("{parent:016x}") };
        serde_json::json!({"resourceSpans": [{"scopeSpans": [{"spans": [{
            "traceId": trace, "spanId": format!("{id:016x}"), "parentSpanId": parent, "kind": kind,
            "attributes": [{"key": "url.path", "value": {"stringValue": path}}],
        }]}]}]})
        .to_string()
            + "\n"
    }

    fn chain(parent_of_last: usize) -> String {
        let kinds = [3, 2, 3, 2, 3, 2].into_iter().enumerate();
        kinds
            .map(|(index, kind)| {
                let parent = if index == 5 { parent_of_last } else { index };
                line("aa", index + 1, parent, kind, "/hello/1")
            })
            .collect()
    }

    #[test]
    fn a_chain_of_six_is_a_trace_and_anything_else_is_not() {
        let paths = ["/hello/1".to_owned()];
        assert_eq!(check(&chain(5), &paths).unwrap()[0].id, "aa");
        for (why, lines) in [
            ("empty", String::new()),
            ("two roots", chain(0)),
            ("another parent", chain(2)),
            ("a span too many", chain(5) + &line("aa", 7, 6, 2, "/hello/1")),
            ("a second trace", chain(5) + &line("bb", 8, 0, 2, "/hello/1")),
            ("half a line", chain(5).trim_end().to_owned()),
        ] {
            assert!(check(&lines, &paths).is_err(), "{why}");
        }
    }
}
