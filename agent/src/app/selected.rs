//! The selection by executable, asked once more where spans and log records leave.
//!
//! A program that has just started is watched before userspace has seen which it is, so that its
//! first bytes are not lost; what turns out not to be selected ends here.

use crate::config::Executables;
use crate::export::Destination;
use agent_core::ledger::{Entry, Side};
use agent_core::metric::Metric;
use agent_core::process::{Resource, ResourceValue};
use agent_core::span::{LogRecord, Output, Span};
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::time::Instant;

/// Answers remembered; a new resource costs one look at the patterns.
const REMEMBERED: usize = 4096;

/// Passes on what selected executables did.
pub struct Selected<D> {
    inner: D,
    executables: Executables,
    answers: HashMap<u32, bool>,
    passed: u64,
    left_out: u64,
}

impl<D: Destination> Selected<D> {
    /// In front of `inner`.
    pub fn new(executables: Executables, inner: D) -> Self {
        Self { inner, executables, answers: HashMap::new(), passed: 0, left_out: 0 }
    }

    fn takes(&mut self, resource: &Resource) -> bool {
        let taken = self.answer(resource);
        if taken {
            self.passed += 1;
        } else {
            self.left_out += 1;
        }
        taken
    }

    fn answer(&mut self, resource: &Resource) -> bool {
        if let Some(answer) = self.answers.get(&resource.id) {
            return *answer;
        }
        if self.answers.len() >= REMEMBERED {
            self.answers.clear();
        }
        let answer = self.executables.watches(executable(resource));
        self.answers.insert(resource.id, answer);
        answer
    }
}

/// Path of a resource's executable, empty when it is not known.
fn executable(resource: &Resource) -> &str {
    let found = resource.attributes.iter().find(|(key, _)| key == "process.executable.path");
    match found {
        Some((_, ResourceValue::Str(path))) => path,
        _ => "",
    }
}

impl<D: Destination> Output for Selected<D> {
    fn span(&mut self, span: &Span<'_>) {
        if self.takes(span.resource) {
            self.inner.span(span);
        }
    }

    fn log(&mut self, record: &LogRecord<'_>) {
        if self.takes(record.resource) {
            self.inner.log(record);
        }
    }

    fn metric(&mut self, metric: &Metric<'_>) {
        if self.takes(metric.resource) {
            self.inner.metric(metric);
        }
    }
}

impl<D: Destination> Destination for Selected<D> {
    fn flush(&mut self, now_boot_ns: u64) {
        self.inner.flush(now_boot_ns);
    }

    fn finish(&mut self, now_boot_ns: u64) {
        self.inner.finish(now_boot_ns);
    }

    fn close(&mut self, deadline: Instant) {
        self.inner.close(deadline);
    }

    fn is_gone(&self) -> bool {
        self.inner.is_gone()
    }

    fn note(&mut self, text: &str) {
        self.inner.note(text);
    }

    fn wants_in_flight(&self) -> bool {
        self.inner.wants_in_flight()
    }

    fn in_flight(&mut self, services: &BTreeMap<String, u64>) {
        self.inner.in_flight(services);
    }

    fn ledger(&self, entries: &mut Vec<Entry>) {
        let entry = |side, count| Entry { stage: "selection", unit: "items", side, count };
        entries.push(entry(Side::In, self.passed + self.left_out));
        entries.push(entry(Side::Out, self.passed));
        entries.push(entry(Side::Lost("not_selected"), self.left_out));
        self.inner.ledger(entries);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::NoneOutput;

    #[test]
    fn only_selected_executables_pass() {
        let only_curl = Executables::new(vec!["curl".to_owned()], Vec::new()).unwrap();
        let but_curl = Executables::new(Vec::new(), vec!["curl".to_owned()]).unwrap();
        for (why, executables, path, expected) in [
            ("included", &only_curl, Some("/usr/bin/curl"), true),
            ("another one", &only_curl, Some("/usr/bin/wget"), false),
            ("not known to be included", &only_curl, None, false),
            ("excluded", &but_curl, Some("/usr/bin/curl"), false),
            ("not excluded", &but_curl, Some("/usr/bin/wget"), true),
            ("not known to be excluded", &but_curl, None, true),
        ] {
            let mut selected = Selected::new(executables.clone(), NoneOutput::default());
            let attribute = |path: &str| {
                let value = ResourceValue::Str(path.to_owned());
                vec![("process.executable.path".to_owned(), value)]
            };
            let attributes = path.map(attribute).unwrap_or_default();
            let resource = Resource { id: 7, service: String::new(), attributes, part_of: None };
            // The second answer is the remembered one.
            assert_eq!(
                [selected.takes(&resource), selected.takes(&resource)],
                [expected; 2],
                "{why}"
            );
            let mut entries = Vec::new();
            selected.ledger(&mut entries);
            let lost = entries.iter().find(|entry| entry.side == Side::Lost("not_selected"));
            assert_eq!(lost.map(|entry| entry.count), Some(if expected { 0 } else { 2 }), "{why}");
        }
    }
}
