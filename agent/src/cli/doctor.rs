//! `kernspan doctor`: what this kernel offers, the hook each feature got and why, what is missing.

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
    /// The hook it got; none when it is off.
    pub hook: Option<String>,
    /// Why this one, or why none.
    pub why: String,
    /// What would serve it better and is not there, each with what that costs: for example
    /// `tcp_sendmsg_locked (kernel 6.16): a send's time is its end`.
    pub missing: Vec<String>,
}

impl Report {
    /// For people: aligned, at most one subject a line.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "kernspan {} on kernel {} ({})\n",
            super::VERSION,
            clean(&self.kernel),
            clean(&self.arch)
        );
        if !self.facts.is_empty() {
            text.push_str("\nThis kernel offers\n");
            let width = widest(self.facts.iter().map(|fact| fact.name.as_str()));
            for fact in &self.facts {
                let mark = if fact.available { "yes" } else { "no" };
                line(
                    &mut text,
                    &format!("  {mark:<3}  {:<width$}  ", clean(&fact.name)),
                    &fact.detail,
                );
            }
        }
        if !self.hooks.is_empty() {
            text.push_str("\nFeatures\n");
            self.write_hooks(&mut text);
        }
        let off = self.hooks.iter().filter(|report| report.hook.is_none()).count();
        let _ = match (self.hooks.len(), off) {
            (0, _) => Ok(()),
            (_, 0) => writeln!(text, "\nEvery feature is on."),
            (all, off) if all == off => writeln!(text, "\nNo feature can be loaded here."),
            (all, off) => writeln!(text, "\n{off} of {all} features off."),
        };
        text
    }

    fn write_hooks(&self, text: &mut String) {
        let feature = widest(self.hooks.iter().map(|report| report.feature.as_str()));
        let hooks = self.hooks.iter().map(|report| report.hook.as_deref().unwrap_or("off"));
        let hook = widest(hooks);
        for report in &self.hooks {
            let name = clean(&report.feature);
            let picked = clean(report.hook.as_deref().unwrap_or("off"));
            line(text, &format!("  {name:<feature$}  {picked:<hook$}  "), &report.why);
            for missing in &report.missing {
                line(text, &format!("  {:<feature$}  missing: ", ""), missing);
            }
        }
    }

    /// For programs. `hook` is null when the feature is off.
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
        })
    }
}

impl HookReport {
    /// As in `doctor --json` and `/status`.
    pub fn to_json(&self) -> Value {
        json!({
            "feature": self.feature,
            "hook": self.hook,
            "why": self.why,
            "missing": self.missing,
        })
    }
}

fn line(text: &mut String, start: &str, end: &str) {
    let line = format!("{start}{}", clean(end));
    text.push_str(line.trim_end());
    text.push('\n');
}

fn widest<'a>(texts: impl Iterator<Item = &'a str>) -> usize {
    texts.map(|text| text.chars().count()).max().unwrap_or(0)
}

/// A value from the kernel on one line, without what a terminal would obey.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
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
                fact("kprobes", false, "not in\nthis\u{1b}[2J kernel"),
            ],
            hooks: vec![
                HookReport {
                    feature: "http".to_owned(),
                    hook: Some("tracepoint".to_owned()),
                    why: "sock_send_length is there".to_owned(),
                    missing: vec!["tcp_sendmsg_locked: a send's time is its end".to_owned()],
                },
                HookReport {
                    feature: "exec".to_owned(),
                    hook: None,
                    why: "sched_process_exec was refused".to_owned(),
                    missing: Vec::new(),
                },
            ],
        }
    }

    #[test]
    fn the_text_is_aligned_and_says_what_is_off() {
        let expected = format!(
            "kernspan {} on kernel 6.18.0 (amd64)

This kernel offers
  yes  BTF
  yes  ring buffer  two rings of 8MiB
  no   kprobes      not in this [2J kernel

Features
  http  tracepoint  sock_send_length is there
        missing: tcp_sendmsg_locked: a send's time is its end
  exec  off         sched_process_exec was refused

1 of 2 features off.
",
            crate::cli::VERSION
        );
        assert_eq!(report().to_text(), expected);
    }

    #[test]
    fn the_json_has_the_same_facts() {
        let json = report().to_json();
        assert_eq!(json["features"][0]["hook"], "tracepoint");
        assert_eq!(json["features"][1]["hook"], Value::Null);
        assert_eq!(json["facts"][2]["available"], false);
        assert_eq!(json["kernel"], "6.18.0");
    }
}
