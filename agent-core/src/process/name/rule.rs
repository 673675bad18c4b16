//! Names that the operator gives: `exe=/usr/bin/java,args=*shop*,name=payments,namespace=shop`.

use super::manager::unit;
use crate::process::{ProcessFacts, container_id};
use globset::{GlobBuilder, GlobMatcher};

/// Longest name, namespace and rule. What a person writes is shorter.
const MAX_NAME: usize = 255;
const MAX_RULE: usize = 4096;

/// What a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    /// The executable: its file name, or with a slash in the pattern its path.
    Exe,
    /// All arguments, with spaces between.
    Args,
    /// The working directory.
    Dir,
    /// The effective user's name.
    User,
    /// The systemd service.
    Unit,
    /// The container's id, or its beginning.
    Container,
}

const CONDITIONS: [(&str, About); 6] = [
    ("exe", About::Exe),
    ("args", About::Args),
    ("dir", About::Dir),
    ("user", About::User),
    ("unit", About::Unit),
    ("container", About::Container),
];

/// What is wrong with a rule: each mistake once, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub hint: String,
}

/// A name for the processes that meet all of its conditions.
#[derive(Clone, Debug)]
pub struct NameRule {
    conditions: Vec<(About, GlobMatcher)>,
    naming: Naming,
}

/// What a rule gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Naming {
    /// `service.name`.
    pub name: String,
    /// `service.namespace`.
    pub namespace: Option<String>,
}

/// Rules in the order in which they were given: the first that fits names a process.
#[derive(Clone, Debug, Default)]
pub struct NameRules(Vec<NameRule>);

impl NameRules {
    /// In this order.
    pub fn new(rules: Vec<NameRule>) -> NameRules {
        NameRules(rules)
    }

    /// What the first rule that fits gives.
    pub fn naming(&self, facts: &ProcessFacts) -> Option<&Naming> {
        if self.0.is_empty() {
            return None;
        }
        let args = facts.args.join(" ");
        self.0.iter().find(|rule| rule.fits(facts, &args)).map(|rule| &rule.naming)
    }
}

impl NameRule {
    /// Reads `KEY=VALUE,KEY=VALUE…`; `\,` is a comma within a value.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(text: &str) -> Result<NameRule, Vec<Mistake>> {
        let mut mistakes = Mistakes(Vec::new());
        if text.len() > MAX_RULE {
            mistakes.add(format!("it has more than {MAX_RULE} bytes"), "a shorter pattern");
            return Err(mistakes.0);
        }
        let mut rule = NameRule { conditions: Vec::new(), naming: Naming::default() };
        let mut seen: Vec<String> = Vec::new();
        for part in parts(text) {
            let Some((key, value)) = part.split_once('=') else {
                mistakes.add(
                    format!("{part:?} has no ="),
                    "KEY=VALUE; write \\, for a comma in a value",
                );
                continue;
            };
            let (key, value) = (key.trim(), value.trim());
            if seen.iter().any(|known| known == key) {
                mistakes.add(format!("{key} is given twice"), "each key once");
                continue;
            }
            seen.push(key.to_owned());
            rule.take(key, value, &mut mistakes);
        }
        let has = |key: &str| seen.iter().any(|known| known == key);
        if !has("name") {
            mistakes.add("it gives no name", "name=SERVICE");
        }
        let keys = CONDITIONS.map(|(key, _)| key);
        if !keys.iter().any(|key| has(key)) {
            let hint = format!("at least one of {}", keys.join(", "));
            mistakes.add("it has no condition, and would name every process", &hint);
        }
        if mistakes.0.is_empty() { Ok(rule) } else { Err(mistakes.0) }
    }

    fn take(&mut self, key: &str, value: &str, mistakes: &mut Mistakes) {
        if value.is_empty() {
            return mistakes.add(format!("{key} is empty"), "leave it out, or give it a value");
        }
        if let Some((_, about)) = CONDITIONS.iter().find(|(known, _)| *known == key) {
            match glob(*about, value) {
                Ok(glob) => self.conditions.push((*about, glob)),
                Err(error) => {
                    mistakes.add(
                        format!("{key}={value} is no valid glob ({error})"),
                        "for example *shop*",
                    );
                }
            }
            return;
        }
        if value.len() > MAX_NAME {
            return mistakes.add(format!("{key} has more than {MAX_NAME} bytes"), "a shorter one");
        }
        if let Some(control) = value.chars().find(|c| c.is_control()) {
            let what = format!("{key} holds the control character {control:?}");
            return mistakes.add(what, "only characters that can be printed");
        }
        match key {
            "name" => self.naming.name = value.to_owned(),
            "namespace" => self.naming.namespace = Some(value.to_owned()),
            _ => {
                let known: Vec<&str> =
                    CONDITIONS.iter().map(|(key, _)| *key).chain(["name", "namespace"]).collect();
                mistakes.add(
                    format!("unknown key {key:?}"),
                    &format!("known are {}", known.join(", ")),
                );
            }
        }
    }

    fn fits(&self, facts: &ProcessFacts, args: &str) -> bool {
        self.conditions.iter().all(|(about, glob)| match about {
            About::Exe => glob.is_match(facts.executable.trim_end_matches(" (deleted)")),
            About::Args => glob.is_match(args),
            About::Dir => glob.is_match(&facts.working_directory),
            About::User => glob.is_match(&facts.user_name),
            About::Unit => unit(&facts.cgroup).is_some_and(|unit| glob.is_match(unit)),
            About::Container => container_id(&facts.cgroup).is_some_and(|id| glob.is_match(id)),
        })
    }
}

fn glob(about: About, pattern: &str) -> Result<GlobMatcher, String> {
    let path = about == About::Exe;
    let pattern = match about {
        About::Exe if !pattern.contains('/') => format!("**/{pattern}"),
        // As systemctl has it.
        About::Unit if !pattern.contains('.') => format!("{pattern}.service"),
        // As docker shows ids.
        About::Container if pattern.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            format!("{pattern}*")
        }
        _ => pattern.to_owned(),
    };
    let glob = GlobBuilder::new(&pattern).literal_separator(path).build();
    glob.map(|glob| glob.compile_matcher()).map_err(|error| error.kind().to_string())
}

/// What stands between commas, but not between those behind a backslash. Every other backslash is the
/// pattern's.
fn parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            ',' => parts.push(String::new()),
            _ => {
                let comma = c == '\\' && rest.peek() == Some(&',');
                let c = if comma { rest.next().unwrap_or(c) } else { c };
                if let Some(part) = parts.last_mut() {
                    part.push(c);
                }
            }
        }
    }
    // A comma at the end is none too many.
    parts.retain(|part| !part.trim().is_empty());
    parts
}

struct Mistakes(Vec<Mistake>);

impl Mistakes {
    fn add(&mut self, what: impl Into<String>, hint: &str) {
        self.0.push(Mistake { what: what.into(), hint: hint.to_owned() });
    }
}

#[cfg(test)]
#[path = "rule_tests.rs"]
mod tests;
