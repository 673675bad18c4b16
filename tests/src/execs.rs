//! Judge of *exec*: the ids in `process.exec` records against what the handlers ran.

use crate::otlp::{Kind, Log, Span};
use serde_json::Value;
use std::collections::HashMap;

/// Execs counted. Units: executed programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// Programs that handlers executed, by the log.
    pub expected: usize,
    /// … whose record carries the ids of that handler's server span.
    pub right: usize,
    /// … whose record carries no ids.
    pub without: usize,
    /// Records (of handlers or of nobody's request) that carry ids of anything else.
    pub wrong: usize,
    /// Records of programs executed outside requests, without ids: as it should be.
    pub outside: usize,
    /// The first wrong ones.
    pub examples: Vec<String>,
}

/// Scores the records whose arguments carry a request id of `log`, or `outside-…`.
pub fn score(logs: &[Log], spans: &[Span], log: &[Value]) -> Score {
    let servers: HashMap<&str, &Span> = spans
        .iter()
        .filter(|span| span.kind == Kind::Server)
        .map(|span| (span.path(), span))
        .collect();
    let paths: HashMap<&str, &str> = log
        .iter()
        .filter_map(|line| Some((line["rid"].as_str()?, line["path"].as_str()?)))
        .collect();
    let execs = log.iter().filter_map(|line| line["execs"].as_u64());
    let expected = usize::try_from(execs.sum::<u64>()).unwrap_or(usize::MAX);
    let mut score = Score { expected, ..Score::default() };
    for record in logs.iter().filter(|record| record.event == "process.exec") {
        let arguments = arguments(record);
        let words = || arguments.split([' ', ';']);
        if let Some(path) = words().find_map(|word| paths.get(word)) {
            score.count(record, servers.get(path).copied());
        } else if words().any(|word| word.starts_with("outside-")) {
            score.count_outside(record);
        }
    }
    score
}

/// The argument vector as one text, in either form that semantic conventions know.
fn arguments(record: &Log) -> String {
    let args = record.text("process.command_args");
    if args.is_empty() { record.text("process.command_line") } else { args }
}

impl Score {
    fn count(&mut self, record: &Log, server: Option<&Span>) {
        let span = server.map(|span| (&*span.trace, &*span.id));
        if record.span.is_empty() && record.trace.is_empty() {
            self.without += 1;
        } else if span == Some((&*record.trace, &*record.span)) {
            self.right += 1;
        } else {
            self.wrong(record);
        }
    }

    fn count_outside(&mut self, record: &Log) {
        if record.span.is_empty() && record.trace.is_empty() {
            self.outside += 1;
        } else {
            self.wrong(record);
        }
    }

    fn wrong(&mut self, record: &Log) {
        self.wrong += 1;
        if self.examples.len() < 10 {
            self.examples.push(format!("{} in {}", arguments(record), record.span));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    fn record(argument: &str, trace: &str, span: &str) -> Log {
        Log {
            event: "process.exec".into(),
            trace: trace.into(),
            span: span.into(),
            time: 1,
            flags: 0,
            body: String::new(),
            attributes: [("process.command_args".to_owned(), json!(["/bin/true", argument]))]
                .into(),
            resource: Arc::default(),
        }
    }

    #[test]
    fn records_are_told_apart() {
        let server = Span {
            trace: "t1".into(),
            id: "s1".into(),
            parent: String::new(),
            name: "GET".into(),
            kind: Kind::Server,
            start: 0,
            end: 9,
            error: false,
            flags: 0,
            state: String::new(),
            attributes: [("url.path".to_owned(), json!("/run/r1/shell"))].into(),
            resource: Arc::default(),
        };
        let log = [json!({"rid": "r1", "path": "/run/r1/shell", "execs": 1})];
        for (why, record, expected) in [
            ("right", record("r1", "t1", "s1"), (1, 0, 0, 0)),
            ("no ids", record("r1", "", ""), (0, 1, 0, 0)),
            ("another span", record("r1", "t1", "s2"), (0, 0, 1, 0)),
            ("another trace", record("r1", "t2", "s1"), (0, 0, 1, 0)),
            ("outside", record("outside-7", "", ""), (0, 0, 0, 1)),
            ("outside with ids", record("outside-7", "t1", "s1"), (0, 0, 1, 0)),
            ("a stranger's program", record("r11", "t1", "s1"), (0, 0, 0, 0)),
        ] {
            let score = score(&[record], std::slice::from_ref(&server), &log);
            let found = (score.right, score.without, score.wrong, score.outside);
            assert_eq!(found, expected, "{why}");
            assert_eq!(score.expected, 1);
        }
    }
}
