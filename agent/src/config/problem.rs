//! What is wrong with the configuration: all of it, each with its place and a hint.

use std::fmt;
use std::sync::Arc;

/// Where a value was given. Ordered as reported: the command line, then the file from the top.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A flag, without its dashes.
    Flag(&'static str),
    /// A position in the configuration file.
    File {
        /// As it was typed after `--config`.
        path: Arc<str>,
        /// From 1.
        line: u64,
        /// From 1, in characters.
        column: u64,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Flag(name) => write!(out, "--{name}"),
            Place::File { path, line, column } => write!(out, "{path}:{line}:{column}"),
        }
    }
}

/// What is wrong with one value, before its place is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The mistake.
    pub what: String,
    /// What would be right.
    pub hint: String,
}

impl Wrong {
    /// A mistake and what would be right.
    pub fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into() }
    }

    /// The mistake is the value itself, which is quoted.
    pub fn value(text: &str, why: &str, hint: impl Into<String>) -> Self {
        Self::new(format!("{} {why}", quote(text)), hint)
    }
}

/// One mistake of the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What, and what would be right.
    pub wrong: Wrong,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}; {}", self.place, self.wrong.what, self.wrong.hint)
    }
}

/// Every mistake found, in the order of their places.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Takes note of one.
    pub fn add(&mut self, place: &Place, wrong: Wrong) {
        self.0.push(Problem { place: place.clone(), wrong });
    }

    /// Takes all of another list.
    pub fn extend(&mut self, more: Problems) {
        self.0.extend(more.0);
    }

    /// `value` when nothing is wrong.
    ///
    /// # Errors
    /// All problems, sorted by place.
    pub fn or<T>(mut self, value: T) -> Result<T, Self> {
        if self.0.is_empty() {
            return Ok(value);
        }
        self.0.sort_by(|a, b| a.place.cmp(&b.place));
        Err(self)
    }

    /// The problems.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => write!(out, "{one}"),
            all => {
                write!(out, "{} problems in the configuration", all.len())?;
                all.iter().try_for_each(|problem| write!(out, "\n  {problem}"))
            }
        }
    }
}

/// Most characters of a wrong value that are shown: enough to find it again.
const QUOTED: usize = 80;

/// `text` in quotes, shortened, and without what a terminal would obey.
pub fn quote(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

/// The one of `known` that `word` probably means.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Two slips in a long word, one in a short one: more would suggest what nobody meant.
    let slips = if word.chars().count() < 5 { 1 } else { 2 };
    let plain = |text: &str| text.to_lowercase().replace('_', "-");
    let word = plain(word);
    known
        .map(|name| (distance(&word, &plain(name)), name))
        .filter(|(distance, _)| *distance <= slips)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Levenshtein distance. A word longer than any name is far from all of them.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, to) in row.iter_mut().skip(1).zip(b.chars()) {
            let changed = diagonal + usize::from(from != to);
            diagonal = *cell;
            left = changed.min(diagonal + 1).min(left + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not_offered() {
        let known = ["sample", "head-bytes", "pid", "port"];
        for (why, word, expected) in [
            ("a letter missing", "sampl", Some("sample")),
            ("plural", "pids", Some("pid")),
            ("underscore", "head_bytes", Some("head-bytes")),
            ("case", "Sample", Some("sample")),
            ("two slips", "haed-bytes", Some("head-bytes")),
            ("nothing like it", "verbose", None),
            ("short and far", "pool", None),
            ("very long", &"x".repeat(10_000), None),
        ] {
            assert_eq!(nearest(word, known.into_iter()), expected, "{why}");
        }
    }

    #[test]
    fn quoting_shortens_and_disarms() {
        assert_eq!(quote("a\u{1b}[2Jb"), r#""a\u{1b}[2Jb""#);
        let long = quote(&"é".repeat(1000));
        assert_eq!(long.chars().count(), QUOTED + 3, "{long}");
    }
}
