//! `kernspan doctor`: what this kernel offers, the hook each feature got and why, what is missing; what the programs
//! that run are to the agent, and what can be done about what it does not see.

pub mod advice;
pub mod group;
pub mod page;
pub mod programs;
mod table;

use advice::Advice;
use page::{Page, padded, width};
use programs::Programs;
use serde_json::{Value, json};
use std::fmt::Write;

/// What the doctor found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// `uname -r`.
    pub kernel: String,
    /// As in `host.arch`.
    pub arch: String,
    /// What was looked for.
    pub facts: Vec<Fact>,
    /// What became of each feature.
    pub hooks: Vec<HookReport>,
    /// Processes that use io_uring, with their names.
    pub io_uring: Vec<(u32, String)>,
    /// What runs; nothing where nobody asked.
    pub programs: Programs,
    /// What can be done.
    pub advice: Vec<Advice>,
    /// Programs that show nothing are shown as well.
    pub all: bool,
}

/// Something that the kernel has or has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// For example `ring buffer` or `CAP_BPF`.
    pub name: String,
    /// Whether it is there.
    pub available: bool,
    /// A value or the reason, may be empty.
    pub detail: String,
}

/// What became of one feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookReport {
    /// For example `http`.
    pub feature: String,
    /// The hooks it got, `kind:target`; none when it is off.
    pub hooks: Vec<String>,
    /// Why this one, or why none.
    pub why: String,
    /// What is lost, when it is off.
    pub missing: Vec<String>,
}

/// Not worth a line: [`HookReport::why`] where nothing is missing.
const BEST: &str = "the best choice";

/// Processes named in the text; the rest are counted.
const MOST_NAMED: usize = 16;

impl Report {
    /// For people: aligned, a subject a line, which is continued below where the terminal has no more columns.
    pub fn to_text(&self, columns: Option<usize>) -> String {
        let mut page = Page::new(columns);
        page.line(
            "",
            &format!("kernspan {} on kernel {} ({})", super::VERSION, self.kernel, self.arch),
        );
        if !self.facts.is_empty() {
            page.heading("This kernel offers");
            let widest = widest(self.facts.iter().map(|fact| fact.name.as_str()));
            for fact in &self.facts {
                let mark = if fact.available { "yes" } else { "no" };
                let start = format!("  {mark:<3}  {}  ", padded(&fact.name, widest));
                page.line(&start, &fact.detail);
            }
        }
        if !self.hooks.is_empty() {
            page.heading("Features");
            self.write_hooks(&mut page);
        }
        self.write_rings(&mut page);
        let off = self.hooks.iter().filter(|report| report.hooks.is_empty()).count();
        match (self.hooks.len(), off) {
            (0, _) => {}
            (_, 0) => page.heading("Every feature is on."),
            (all, off) if all == off => page.heading("No feature can be loaded here."),
            (all, off) => page.heading(&format!("{off} of {all} features off.")),
        }
        if !self.programs.programs.is_empty() {
            self.programs.write(&mut page, self.all);
        }
        if !self.advice.is_empty() {
            page.heading("What to do");
            self.advice.iter().for_each(|advice| page.paragraph("  - ", &advice.to_text()));
        }
        page.into_text()
    }

    /// A feature with its hooks, or why it is off and what that costs.
    fn write_hooks(&self, page: &mut Page) {
        let widest = widest(self.hooks.iter().map(|report| report.feature.as_str()));
        for report in &self.hooks {
            let name = format!("  {}  ", padded(&report.feature, widest));
            let under = format!("  {}  ", padded("", widest));
            if report.hooks.is_empty() {
                page.line(&format!("{name}off  "), &report.why);
            } else {
                page.line(&name, &report.kinds());
                if report.why != BEST {
                    page.line(&under, &report.why);
                }
            }
            for missing in &report.missing {
                page.line(&format!("{under}so: "), missing);
            }
        }
    }

    fn write_rings(&self, page: &mut Page) {
        if self.io_uring.is_empty() {
            return;
        }
        page.heading("Programs that use io_uring: what they send on unix sockets is not seen");
        for (pid, name) in self.io_uring.iter().take(MOST_NAMED) {
            page.line(&format!("  {pid:>7}  "), name);
        }
        let more = self.io_uring.len().saturating_sub(MOST_NAMED);
        if more > 0 {
            page.line("  ", &format!("and {more} more"));
        }
    }

    /// For programs. `hook` is null, and `hooks` empty, when the feature is off.
    pub fn to_json(&self) -> Value {
        let facts = self.facts.iter().map(
            |fact| json!({"name": fact.name, "available": fact.available, "detail": fact.detail}),
        );
        json!({
            "version": super::VERSION,
            "kernel": self.kernel,
            "arch": self.arch,
            "facts": facts.collect::<Vec<_>>(),
            "features": self.hooks.iter().map(HookReport::to_json).collect::<Vec<_>>(),
            "io_uring": self
                .io_uring
                .iter()
                .map(|(pid, comm)| json!({"pid": pid, "comm": comm}))
                .collect::<Vec<_>>(),
            "programs": self.programs.to_json(),
            "advice": self.advice.iter().map(Advice::to_json).collect::<Vec<_>>(),
        })
    }
}

impl HookReport {
    /// The hooks by kind: `tracepoint: one, other`.
    fn kinds(&self) -> String {
        let mut text = String::new();
        let mut last = None;
        for hook in &self.hooks {
            let (kind, target) = hook.split_once(':').unwrap_or(("", hook));
            let target = target.trim_start();
            let _ = match last {
                Some(before) if before == kind => write!(text, ", {target}"),
                _ if kind.is_empty() => write!(text, "{target}"),
                None => write!(text, "{kind}: {target}"),
                Some(_) => write!(text, "; {kind}: {target}"),
            };
            last = Some(kind);
        }
        text
    }

    /// As in `doctor --json` and `/status`.
    pub fn to_json(&self) -> Value {
        json!({
            "feature": self.feature,
            "hook": (!self.hooks.is_empty()).then(|| self.hooks.join(", ")),
            "hooks": self.hooks,
            "on": !self.hooks.is_empty(),
            "why": self.why,
            "missing": self.missing,
        })
    }
}

fn widest<'a>(texts: impl Iterator<Item = &'a str>) -> usize {
    texts.map(width).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let fact = |name: &str, available, detail: &str| Fact {
            name: name.to_owned(),
            available,
            detail: detail.to_owned(),
        };
        Report {
            kernel: "6.18.0".to_owned(),
            arch: "amd64".to_owned(),
            facts: vec![
                fact("BTF", true, ""),
                fact("ring buffer", true, "two rings of 8MiB"),
                fact("kprobes", false, "not in\nthis\u{1b}[2J ker\u{202e}nel"),
            ],
            hooks: vec![
                HookReport {
                    feature: "http".to_owned(),
                    hooks: ["tracepoint:a", "tracepoint:b", "cgroup:c"].map(str::to_owned).into(),
                    why: "the best choice".to_owned(),
                    missing: Vec::new(),
                },
                HookReport {
                    feature: "times".to_owned(),
                    hooks: vec!["kprobe:d".to_owned()],
                    why: "the best that works; fexit: refused".to_owned(),
                    missing: Vec::new(),
                },
                HookReport {
                    feature: "exec".to_owned(),
                    hooks: Vec::new(),
                    why: "sched_process_exec was refused".to_owned(),
                    missing: vec!["no exec events".to_owned()],
                },
            ],
            io_uring: vec![(7, "db\u{7}".to_owned())],
            ..Report::default()
        }
    }

    #[test]
    fn the_text_is_aligned_and_says_what_is_off_and_what_that_costs() {
        let expected = format!(
            "kernspan {} on kernel 6.18.0 (amd64)

This kernel offers
  yes  BTF
  yes  ring buffer  two rings of 8MiB
  no   kprobes      not in this [2J ker nel

Features
  http   tracepoint: a, b; cgroup: c
  times  kprobe: d
         the best that works; fexit: refused
  exec   off  sched_process_exec was refused
         so: no exec events

Programs that use io_uring: what they send on unix sockets is not seen
        7  db

1 of 3 features off.
",
            crate::cli::VERSION
        );
        assert_eq!(report().to_text(None), expected);
    }

    #[test]
    fn a_terminal_has_no_line_that_it_would_break() {
        let mut report = report();
        let reason = "processor features are missing ".repeat(9);
        report.facts[2].detail.push_str(&reason);
        report.hooks[2].why = reason;
        report.hooks[0].hooks.extend((0..20).map(|number| format!("kprobe:function_{number}")));
        for columns in [60, 80, 132] {
            let text = report.to_text(Some(columns));
            let wider: Vec<_> = text.lines().filter(|line| width(line) > columns).collect();
            assert!(wider.is_empty(), "{columns}: {wider:#?}");
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(words(&text), words(&report.to_text(None)), "nothing is left out");
        }
    }

    #[test]
    fn the_json_has_the_same_facts() {
        let json = report().to_json();
        assert_eq!(json["features"][0]["hook"], "tracepoint:a, tracepoint:b, cgroup:c");
        assert_eq!(json["features"][0]["hooks"][1], "tracepoint:b");
        assert_eq!(json["features"][0]["on"], true);
        assert_eq!(json["features"][2]["hook"], Value::Null);
        assert_eq!(json["features"][2]["on"], false);
        assert_eq!(json["features"][2]["why"], "sched_process_exec was refused");
        assert_eq!(json["io_uring"][0]["pid"], 7);
        assert_eq!(json["facts"][2]["available"], false);
        assert_eq!(json["kernel"], "6.18.0");
    }
}
