//! Judge of *links*: parents against the services' own logs, by an id in the path.

use crate::otlp::{Kind, Span};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// What the logs of all services say.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// Path called → path that was being served then; `None` for the timer's own calls.
    pub calls: HashMap<String, Option<String>>,
    /// Of these, the calls that a handler left behind: they may have no parent.
    pub left: HashSet<String>,
}

impl Truth {
    /// Adds the log of one service. Calls still on their way at the end (`served` by nobody) are
    /// left out by [`Truth::finished`].
    pub fn add(&mut self, log: &[Value]) {
        for line in log {
            if let Some(called) = line["called"].as_str() {
                let serving = line["serving"].as_str().map(str::to_owned);
                self.calls.insert(called.to_owned(), serving);
                if line["optional"] == true {
                    self.left.insert(called.to_owned());
                }
            }
        }
    }

    /// Keeps the calls that `logs` say were served to the end.
    pub fn finished(mut self, logs: &[&[Value]]) -> Truth {
        let lines = logs.iter().flat_map(|log| log.iter());
        let served: std::collections::HashSet<&str> =
            lines.filter_map(|line| line["served"].as_str()).collect();
        self.calls.retain(|called, _| served.contains(called.as_str()));
        self
    }
}

/// Links counted. Units: calls of the logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// Calls made while serving a request.
    pub linked_calls: usize,
    /// … whose client span has that request's server span as parent.
    pub right: usize,
    /// … whose client span is absent, or has no parent.
    pub missing: usize,
    /// Calls (also the timer's) whose client span has another parent than the truth.
    pub wrong: usize,
    /// All calls.
    pub calls: usize,
    /// … that have a client span at all.
    pub seen: usize,
    /// … whose server span has the client span of the same path as parent.
    pub joined: usize,
    /// … whose server span has another parent.
    pub misjoined: usize,
    /// The first wrong ones.
    pub examples: Vec<String>,
}

impl Score {
    /// Share of right parents among the calls that have one, 0 to 1.
    pub fn share(&self) -> f64 {
        ratio(self.right, self.linked_calls)
    }

    /// Share of joined pairs, 0 to 1.
    pub fn joined_share(&self) -> f64 {
        ratio(self.joined, self.calls)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a test are far below 2^52")]
fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Scores `spans` against `truth`. The path is read here and never by the linker.
pub fn score(spans: &[Span], truth: &Truth) -> Score {
    let by_id: HashMap<&str, &Span> = spans.iter().map(|span| (&*span.id, span)).collect();
    let ends = |kind: Kind| -> HashMap<&str, &Span> {
        spans.iter().filter(|span| span.kind == kind).map(|span| (span.path(), span)).collect()
    };
    let (clients, servers) = (ends(Kind::Client), ends(Kind::Server));
    let mut score = Score { calls: truth.calls.len(), ..Score::default() };
    for (called, serving) in &truth.calls {
        let client = clients.get(called.as_str()).copied();
        score.seen += usize::from(client.is_some());
        let left = truth.left.contains(called);
        if !left || client.is_some_and(|client| !client.parent.is_empty()) {
            score.count_link(client, serving.as_deref(), &by_id);
        }
        score.count_join(servers.get(called.as_str()).copied(), client);
    }
    score
}

impl Score {
    fn count_link(
        &mut self,
        client: Option<&Span>,
        serving: Option<&str>,
        by_id: &HashMap<&str, &Span>,
    ) {
        self.linked_calls += usize::from(serving.is_some());
        let Some(client) = client.filter(|client| !client.parent.is_empty()) else {
            self.missing += usize::from(serving.is_some());
            return;
        };
        let parent = by_id.get(&*client.parent);
        let right = parent.is_some_and(|parent| {
            let kind = parent.kind == Kind::Server && parent.trace == client.trace;
            kind && Some(parent.path()) == serving
        });
        if right {
            self.right += 1;
        } else {
            self.wrong += 1;
            let parent = parent.map_or("a span not exported".to_owned(), |parent| parent.brief());
            self.example(format!("{} under {parent}, not {serving:?}", client.brief()));
        }
    }

    fn count_join(&mut self, server: Option<&Span>, client: Option<&Span>) {
        let Some(server) = server.filter(|server| !server.parent.is_empty()) else { return };
        if client.is_some_and(|client| client.id == server.parent) {
            self.joined += 1;
        } else {
            self.misjoined += 1;
            self.example(format!("misjoined {}", server.brief()));
        }
    }

    fn example(&mut self, text: String) {
        if self.examples.len() < 10 {
            self.examples.push(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    fn span(kind: Kind, path: &str, id: &str, parent: &str) -> Span {
        Span {
            trace: "t".into(),
            id: id.into(),
            parent: parent.into(),
            name: "GET".into(),
            kind,
            start: 0,
            end: 1,
            error: false,
            flags: 0,
            state: String::new(),
            attributes: [("url.path".to_owned(), path.into())].into(),
            resource: Arc::default(),
        }
    }

    /// Two requests to a, each with a call to b, and one call of the timer.
    fn truth() -> Truth {
        let log = [
            json!({"serving": "/a/1", "called": "/b/1/0"}),
            json!({"serving": "/a/2", "called": "/b/2/0"}),
            json!({"serving": null, "called": "/b/timer-a-0/t"}),
            json!({"serving": "/a/3", "called": "/b/3/0"}),
        ];
        let served = [
            json!({"served": "/b/1/0"}),
            json!({"served": "/b/2/0"}),
            json!({"served": "/b/timer-a-0/t"}),
        ];
        let mut truth = Truth::default();
        truth.add(&log);
        truth.finished(&[&log, &served])
    }

    fn spans(parents: [&str; 3]) -> Vec<Span> {
        vec![
            span(Kind::Server, "/a/1", "a1", ""),
            span(Kind::Server, "/a/2", "a2", ""),
            span(Kind::Client, "/b/1/0", "c1", parents[0]),
            span(Kind::Client, "/b/2/0", "c2", parents[1]),
            span(Kind::Client, "/b/timer-a-0/t", "c3", parents[2]),
            span(Kind::Server, "/b/1/0", "b1", "c1"),
            span(Kind::Server, "/b/2/0", "b2", "c2"),
            span(Kind::Server, "/b/timer-a-0/t", "b3", "c3"),
        ]
    }

    #[test]
    fn scores_tell_right_from_missing_from_wrong() {
        for (why, parents, (right, missing, wrong)) in [
            ("all right", ["a1", "a2", ""], (2, 0, 0)),
            ("linker off", ["", "", ""], (0, 2, 0)),
            ("swapped threads", ["a2", "a1", ""], (0, 0, 2)),
            ("the timer's call has no parent", ["a1", "a2", "a2"], (2, 0, 1)),
            ("a parent that nobody exported", ["zz", "a2", ""], (1, 0, 1)),
            ("a client span is no parent of a call", ["c2", "a2", ""], (1, 0, 1)),
        ] {
            let score = score(&spans(parents), &truth());
            assert_eq!((score.right, score.missing, score.wrong), (right, missing, wrong), "{why}");
            let seen = (score.linked_calls, score.calls, score.seen, score.joined);
            assert_eq!(seen, (2, 3, 3, 3), "{why}");
        }
    }

    #[test]
    fn a_server_span_under_another_client_is_misjoined() {
        let mut spans = spans(["a1", "a2", ""]);
        spans[5].parent = "c2".into();
        let score = score(&spans, &truth());
        assert_eq!((score.joined, score.misjoined), (2, 1));
    }
}
