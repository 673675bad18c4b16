//! The configuration as given: names and texts with their places, from flags and from the file.

use super::problem::{Place, Problems, Wrong, nearest, quote};
use super::yaml::{self, Spot, Tree};
use rustix::fs::{Mode, OFlags, open};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

/// Every key, in the order of `--help`. A flag has the same name; in the file what begins with
/// `otlp-` may also stand in a map named `otlp`.
pub const KEYS: &[&str] = &[
    "output",
    "listen",
    "expose-status",
    "include",
    "exclude",
    "pid",
    "port",
    "cgroup",
    "name-rule",
    "probes",
    "head-bytes",
    "payload-rings",
    "ring-size",
    "poll-interval",
    "max-cpu",
    "max-memory",
    "max-request-rate",
    "process-metrics",
    "request-metrics",
    "metrics-temporality",
    "metrics-histograms",
    "sample",
    "sample-rate",
    "keep",
    "keep-wait",
    "route",
    "learn-routes",
    "log-level",
    "hooks",
    "btf",
    "capture",
    "link",
    "config",
    "otlp-endpoint",
    "otlp-protocol",
    "otlp-header",
    "otlp-compression",
    "otlp-timeout",
    "otlp-ca",
    "otlp-client-cert",
    "otlp-client-key",
    "otlp-insecure",
    "otlp-queue-bytes",
    "flow-interval",
    "flow-labels",
    "flow-logs",
    "flow-series",
    "flow-table",
    "flow-dns",
    "kubernetes",
    "kubernetes-node",
    "kubernetes-label",
    "kubernetes-name-labels",
    "kubernetes-token-file",
    "kubernetes-ca",
];

/// Keys that may have several values.
const REPEATABLE: [&str; 12] = [
    "output",
    "include",
    "exclude",
    "pid",
    "port",
    "name-rule",
    "probes",
    "otlp-header",
    "flow-labels",
    "keep",
    "route",
    "kubernetes-label",
];

/// Largest configuration file: far beyond what can be written by hand.
const MAX_FILE: u64 = 256 << 10;

/// One value with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// One of [`KEYS`].
    pub key: &'static str,
    /// As typed.
    pub text: String,
    /// Where.
    pub place: Place,
}

/// Values from the command line, in the order of [`KEYS`]. Each flag comes with all its values.
pub type Flags = Vec<(&'static str, Vec<String>)>;

/// Everything that was given.
#[derive(Clone, Debug, Default)]
pub struct AsTyped {
    /// On the command line.
    pub flags: Vec<Given>,
    /// In the file.
    pub file: Vec<Given>,
}

impl AsTyped {
    /// Keys that have other values in another file.
    pub fn differing(&self, other: &AsTyped) -> Vec<&'static str> {
        let texts = |all: &AsTyped, key: &str| -> Vec<String> {
            let of_key = all.file.iter().filter(|value| value.key == key);
            of_key.map(|value| value.text.clone()).collect()
        };
        KEYS.iter().copied().filter(|key| texts(self, key) != texts(other, key)).collect()
    }
}

/// When a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At the start: whatever can be read, and waited for like any command's input (`<(…)`, `/dev/stdin`).
    Start,
    /// While its settings are in use: what is there now may be anything, and must not hold up the agent.
    InUse,
}

/// Puts flags and the file that `--config` names together.
pub fn collect(flags: Flags, when: When, problems: &mut Problems) -> AsTyped {
    let given = |(key, texts): (&'static str, Vec<String>)| {
        texts.into_iter().map(move |text| Given { key, text, place: Place::Flag(key) })
    };
    let (config, flags): (Vec<Given>, Vec<Given>) =
        flags.into_iter().flat_map(given).partition(|value| value.key == "config");
    if config.len() > 1 {
        let hint = "one file only; what is given on the command line wins over it";
        problems.add(&Place::Flag("config"), Wrong::new("given more than once", hint));
    }
    let file = config.first().map(|value| read_file(&value.text, when, problems));
    let file = file.unwrap_or_default();
    AsTyped { flags, file }
}

fn read_file(path: &str, when: When, problems: &mut Problems) -> Vec<Given> {
    let text = match load(Path::new(path), when) {
        Ok(text) => text,
        Err(wrong) => {
            problems.add(&Place::Flag("config"), wrong);
            return Vec::new();
        }
    };
    from_text(path, &text, problems)
}

fn load(path: &Path, when: When) -> Result<String, Wrong> {
    let shown = quote(&path.to_string_lossy());
    let failed = |error: std::io::Error| {
        Wrong::new(format!("{shown} cannot be read: {error}"), "the path of a YAML file")
    };
    let mut bytes = Vec::new();
    let file = match when {
        When::Start => File::open(path),
        When::InUse => regular(path),
    };
    let file = file.map_err(failed)?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Wrong::new(
            format!("{shown} is larger than {} KiB", MAX_FILE >> 10),
            "the path of a YAML file",
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Wrong::new(format!("{shown} is not UTF-8 from byte {at} on"), "the path of a YAML file")
    })
}

/// A regular file, without waiting for anybody (the writer of a pipe) and without asking a driver for anything.
fn regular(path: &Path) -> io::Result<File> {
    let is_file = |it: Metadata| {
        let what = "it is no regular file: others are read at the start only";
        if it.is_file() { Ok(()) } else { Err(io::Error::other(what)) }
    };
    is_file(std::fs::metadata(path)?)?;
    // Something else may be there by now.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(open(path, flags, Mode::empty())?);
    is_file(file.metadata()?)?;
    Ok(file)
}

/// Values of a file's text.
pub fn from_text(path: &str, text: &str, problems: &mut Problems) -> Vec<Given> {
    let mut reader =
        Reader { path: Arc::from(path), values: Vec::new(), seen: Vec::new(), problems };
    match yaml::parse(text) {
        Ok(root) => reader.root(root),
        Err(error) => {
            let hint = "the file must be one YAML map of option names and values";
            reader.problem(error.line, error.column, Wrong::new(error.value, hint));
        }
    }
    reader.values
}

struct Reader<'a> {
    path: Arc<str>,
    values: Vec<Given>,
    seen: Vec<(&'static str, u64)>,
    problems: &'a mut Problems,
}

impl Reader<'_> {
    fn root(&mut self, root: Spot<Tree>) {
        match root.value {
            Tree::Null => {}
            Tree::Map(pairs) => pairs.into_iter().for_each(|(key, value)| self.pair(key, value)),
            _ => self.problem(
                root.line,
                root.column,
                Wrong::new("not a map", "write lines such as sample: 0.1"),
            ),
        }
    }

    fn pair(&mut self, key: Spot<Tree>, value: Spot<Tree>) {
        match &key.value {
            Tree::Scalar(name) if name == "otlp" => match value.value {
                Tree::Map(pairs) => {
                    for (key, value) in pairs {
                        self.option(&key, value, "otlp-");
                    }
                }
                Tree::Null => {}
                _ => self.problem(
                    value.line,
                    value.column,
                    Wrong::new(
                        "otlp is not a map",
                        "write indented lines below it such as endpoint: http://localhost:4317",
                    ),
                ),
            },
            _ => self.option(&key, value, ""),
        }
    }

    fn option(&mut self, key: &Spot<Tree>, value: Spot<Tree>, prefix: &str) {
        let Tree::Scalar(name) = &key.value else {
            let wrong = Wrong::new("the key is not a name", "write lines such as sample: 0.1");
            return self.problem(key.line, key.column, wrong);
        };
        // The one plural that reads better than its flag: a map of headers.
        let known = match name.as_str() {
            "headers" if prefix == "otlp-" => Some("otlp-header"),
            _ => KEYS
                .iter()
                .copied()
                .filter(|key| *key != "config")
                .find(|key| key.strip_prefix(prefix).is_some_and(|rest| rest == name)),
        };
        let Some(known) = known else {
            return self.problem(key.line, key.column, unknown(name, prefix));
        };
        if let Some((_, line)) = self.seen.iter().find(|(key, _)| *key == known) {
            let wrong = Wrong::new(
                format!("{} is already given in line {line}", quote(name)),
                "keep one; several values go in a list",
            );
            return self.problem(key.line, key.column, wrong);
        }
        self.seen.push((known, key.line));
        self.values_of(known, value);
    }

    fn values_of(&mut self, key: &'static str, node: Spot<Tree>) {
        let many = REPEATABLE.contains(&key);
        let (line, column) = (node.line, node.column);
        match node.value {
            Tree::Scalar(text) => self.value(key, line, column, text),
            Tree::List(nodes) if many => {
                for node in nodes {
                    match node.value {
                        Tree::Scalar(text) => self.value(key, node.line, node.column, text),
                        Tree::Map(pairs) if key == "name-rule" => {
                            self.rule(node.line, node.column, pairs);
                        }
                        _ => {
                            self.problem(node.line, node.column, shape(key, "an item is no value"))
                        }
                    }
                }
            }
            Tree::Map(pairs) if key == "otlp-header" => self.headers(pairs),
            Tree::Map(pairs) if key == "name-rule" => self.rule(line, column, pairs),
            Tree::Null => self.problem(line, column, shape(key, "there is no value")),
            Tree::List(_) => self.problem(line, column, shape(key, "a list is not possible here")),
            Tree::Map(_) => self.problem(line, column, shape(key, "a map is not possible here")),
        }
    }

    fn headers(&mut self, pairs: Vec<(Spot<Tree>, Spot<Tree>)>) {
        let mut names: Vec<String> = Vec::new();
        for (name, value) in pairs {
            match (name.value, value.value) {
                (Tree::Scalar(text), Tree::Scalar(_)) if names.contains(&text) => {
                    let wrong = Wrong::new(
                        format!("the header {} is given twice", quote(&text)),
                        "keep one",
                    );
                    self.problem(name.line, name.column, wrong);
                }
                (Tree::Scalar(text), Tree::Scalar(value)) => {
                    self.value("otlp-header", name.line, name.column, format!("{text}={value}"));
                    names.push(text);
                }
                _ => self.problem(
                    name.line,
                    name.column,
                    Wrong::new("not a header", "write lines such as x-api-key: SECRET"),
                ),
            }
        }
    }

    /// A rule whose keys stand on lines of their own.
    fn rule(&mut self, line: u64, column: u64, pairs: Vec<(Spot<Tree>, Spot<Tree>)>) {
        let mut parts = Vec::new();
        for (key, value) in pairs {
            match (key.value, value.value) {
                (Tree::Scalar(name), Tree::Scalar(text)) => {
                    let text = text.replace(',', "\\,");
                    // A backslash at the end is the pattern's, not the next comma's: spaces around values go.
                    let end = if text.ends_with('\\') { " " } else { "" };
                    parts.push(format!("{name}={text}{end}"));
                }
                _ => {
                    let wrong = Wrong::new("not a part of a rule", "write lines such as exe: java");
                    return self.problem(key.line, key.column, wrong);
                }
            }
        }
        self.value("name-rule", line, column, parts.join(","));
    }

    fn value(&mut self, key: &'static str, line: u64, column: u64, text: String) {
        self.values.push(Given { key, text, place: self.place(line, column) });
    }

    fn problem(&mut self, line: u64, column: u64, wrong: Wrong) {
        let place = self.place(line, column);
        self.problems.add(&place, wrong);
    }

    fn place(&self, line: u64, column: u64) -> Place {
        Place::File { path: Arc::clone(&self.path), line, column }
    }
}

fn shape(key: &str, what: &str) -> Wrong {
    let hint = if key == "otlp-header" {
        "write NAME: VALUE lines, or NAME=VALUE"
    } else if REPEATABLE.contains(&key) {
        "write a value or a list of values"
    } else {
        "write one value"
    };
    Wrong::new(format!("{key}: {what}"), hint)
}

fn unknown(name: &str, prefix: &str) -> Wrong {
    if name == "config" && prefix.is_empty() {
        return Wrong::new("config cannot be given in a file", "give it on the command line");
    }
    let names = || {
        let plural = (prefix == "otlp-").then_some("headers");
        let keys = KEYS.iter().copied().filter(|key| *key != "config");
        keys.filter_map(|key| key.strip_prefix(prefix)).chain(plural)
    };
    let within = if prefix.is_empty() { "" } else { " in otlp" };
    let all = || names().collect::<Vec<_>>().join(", ");
    let hint = nearest(name, names())
        .map_or_else(|| format!("known are {}", all()), |name| format!("did you mean {name}?"));
    Wrong::new(format!("unknown key {}{within}", quote(name)), hint)
}
