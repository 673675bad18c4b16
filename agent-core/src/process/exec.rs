//! Content of the `process.exec` log record.

use super::container_id;
use super::facts::{MAX_ARGS, MAX_ARGS_BYTES, ProcessFacts, c_text, split_args};
use crate::redact;
use crate::span::{Attribute, Value};
use agent_common::record::{Exec, flag};
use smallvec::SmallVec;

/// Longest body, in characters: it is for people.
const MAX_BODY: usize = 512;

/// Body and attributes of one exec, owned: the record may have to wait for its cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecContent {
    /// Text for people.
    pub body: String,
    attributes: Vec<(&'static str, Owned)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Owned {
    Str(String),
    Int(i64),
    Bool(bool),
    List(Vec<String>),
}

/// What a `process.exec` record says. Names of semantic conventions 1.44, `kernspan.` else.
///
/// `facts` are those of the process after the exec (else the record's own words stand), `parent`
/// those of its parent. Arguments come from the record: /proc may show a title set later.
pub fn exec_attributes(
    exec: &Exec,
    args: &[u8],
    facts: Option<&ProcessFacts>,
    parent: Option<&ProcessFacts>,
) -> ExecContent {
    let all = split_args(args);
    let truncated = exec.header.flags & flag::TRUNCATED != 0
        || args.len() > MAX_ARGS_BYTES
        || args.iter().filter(|&&byte| byte == 0).count() > MAX_ARGS;
    let args = redact::args(&all);
    let given = c_text(&exec.filename);
    let executable = facts.map_or(given.as_str(), |facts| facts.executable.as_str()).to_owned();
    let user = facts.map_or("", |facts| facts.user_name.as_str()).to_owned();
    let parent_path = parent.map_or("", |parent| parent.executable.as_str()).to_owned();

    let mut content = ExecContent {
        body: body(exec, &executable, &args, &user, base(&parent_path)),
        attributes: Vec::with_capacity(20),
    };
    content.int("process.pid", exec.header.tgid);
    content.int("process.parent_pid", exec.parent_tgid);
    content.text("process.executable.name", base(&executable));
    content.text("process.executable.path", &executable);
    content.text("process.command", args.first().map_or("", String::as_str));
    content.push("process.command_args", Owned::List(args));
    content.int("process.user.id", exec.euid);
    content.text("process.user.name", &user);
    content.int("process.real_user.id", exec.uid);
    if let Some(facts) = facts {
        content.text("process.working_directory", &facts.working_directory);
        content.text("container.id", container_id(&facts.cgroup).unwrap_or_default());
        if facts.vpid != 0 {
            content.int("process.vpid", facts.vpid);
        }
    }
    content.text("kernspan.process.parent.executable.name", base(&parent_path));
    content.text("kernspan.process.parent.executable.path", &parent_path);
    if given != executable {
        content.text("kernspan.exec.filename", &given);
    }
    content.push("kernspan.exec.truncated", Owned::Bool(truncated));
    content
}

impl ExecContent {
    /// Calls `emit` with body and attributes as a [`crate::span::LogRecord`] borrows them.
    pub fn borrowed<R>(&self, emit: impl FnOnce(&str, &[Attribute<'_>]) -> R) -> R {
        let lists = self.attributes.iter().filter_map(|(_, value)| match value {
            Owned::List(list) => Some(list.as_slice()),
            _ => None,
        });
        let list: SmallVec<[&str; 16]> = lists.flatten().map(String::as_str).collect();
        let attributes: SmallVec<[Attribute<'_>; 24]> = self
            .attributes
            .iter()
            .map(|(key, value)| {
                let value = match value {
                    Owned::Str(text) => Value::Str(text),
                    Owned::Int(number) => Value::Int(*number),
                    Owned::Bool(truth) => Value::Bool(*truth),
                    Owned::List(_) => Value::List(&list), // there is one
                };
                (*key, value)
            })
            .collect();
        emit(&self.body, &attributes)
    }

    fn push(&mut self, key: &'static str, value: Owned) {
        self.attributes.push((key, value));
    }

    /// Adds a text, unless it is empty.
    fn text(&mut self, key: &'static str, value: &str) {
        if !value.is_empty() {
            self.push(key, Owned::Str(value.to_owned()));
        }
    }

    fn int(&mut self, key: &'static str, value: u32) {
        self.push(key, Owned::Int(i64::from(value)));
    }
}

/// `sh ran curl -s http://host/ (pid 123, user www-data)`
fn body(exec: &Exec, executable: &str, args: &[String], user: &str, parent: &str) -> String {
    let who = if parent.is_empty() { "a process" } else { parent };
    let command = if args.is_empty() { executable.to_owned() } else { args.join(" ") };
    let mut end = command.len().min(MAX_BODY);
    while !command.is_char_boundary(end) {
        end -= 1;
    }
    let shown = command.get(..end).unwrap_or_default();
    let more = if end < command.len() { "…" } else { "" };
    let (pid, uid) = (exec.header.tgid, exec.euid.to_string());
    let user = if user.is_empty() { &uid } else { user };
    format!("{who} ran {shown}{more} (pid {pid}, user {user})")
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
#[path = "exec_tests.rs"]
mod tests;
