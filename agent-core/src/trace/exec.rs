//! Every exec becomes a log record, with the request whose handling caused it.
//!
//! An exec is a security event: it is given out whether or not the trace is sampled, and keeps the
//! ids of its cause in both cases, so that it agrees with what other agents sampled.

use super::core::{Core, Sinks};
use super::held::Waiting;
use super::order::ExecCopy;
use super::settle::unix_ns;
use super::threads::{Cause, World};
use crate::event::ProcessKey;
use crate::process::ProcessFacts;
use crate::redact;
use crate::span::{LogRecord, Value};
use agent_common::record::{Exec, flag};
use smallvec::SmallVec;

/// OTLP severity number INFO.
const INFO: u8 = 9;

/// Boxes kept for the next exec records.
const MAX_SPARE: usize = 64;

impl Core {
    /// A process runs a new program: notes who it is now, and gives the record out, or lets it
    /// wait until the trace of its cause is settled.
    pub(super) fn execed(&mut self, copy: Box<ExecCopy>, sinks: &mut Sinks<'_>) {
        self.counts.execs += 1;
        let process = process_of(&copy.exec);
        let mut world = World { requests: &self.requests, trees: &mut self.trees };
        let cause = match self.config.linker.threads {
            true => self.threads.exec(process, copy.exec.old_tid, &mut world),
            false => None,
        };
        let facts = self.facts_after(process, &copy);
        self.resources.facts(facts);
        let until = cause.map_or(0, |cause| self.trees.hold_until(cause.tree));
        match cause {
            Some(cause) if until != 0 && until >= self.now => {
                self.held.push(until, Waiting::Exec(copy, cause));
            }
            cause => self.log_exec(copy, cause, sinks),
        }
    }

    /// Gives an exec record out. Takes over the reference to the tree of `cause`.
    pub(super) fn log_exec(
        &mut self,
        copy: Box<ExecCopy>,
        cause: Option<Cause>,
        sinks: &mut Sinks<'_>,
    ) {
        let header = &copy.exec.header;
        let settled = cause.map(|cause| (self.trees.settle(cause.tree), cause.span));
        let offset = match settled {
            Some((settled, _)) => settled.offset,
            None => self.trees.clock.offset(header.boot_ns),
        };
        let unix = unix_ns(header.boot_ns, offset);
        let process = process_of(&copy.exec);
        let resource = self.resources.at(process, header.boot_ns);
        let facts = self.resources.facts_at(process, header.boot_ns);
        let args: SmallVec<[&str; 16]> =
            facts.map(|facts| facts.args.iter().map(String::as_str).collect()).unwrap_or_default();
        let path = facts.map_or("", |facts| facts.executable.as_str());
        let name = path.rsplit('/').next().unwrap_or(path);
        let user = facts.map_or("", |facts| facts.user_name.as_str());
        let mut digits = String::new();
        let _ = std::fmt::Write::write_fmt(&mut digits, format_args!("{}", copy.exec.uid));
        let mut attributes: SmallVec<[_; 10]> = SmallVec::new();
        attributes.push(("process.executable.path", Value::Str(path)));
        attributes.push(("process.executable.name", Value::Str(name)));
        attributes.push(("process.command_args", Value::List(&args)));
        attributes.push(("process.pid", Value::Int(i64::from(header.tgid))));
        attributes.push(("process.parent_pid", Value::Int(i64::from(copy.exec.parent_tgid))));
        attributes.push(("user.id", Value::Str(&digits)));
        if !user.is_empty() {
            attributes.push(("user.name", Value::Str(user)));
        }
        if header.flags & flag::TRUNCATED != 0 {
            attributes.push(("kernspan.process.command_args.truncated", Value::Bool(true)));
        }
        sinks.out.log(&LogRecord {
            event_name: "process.exec",
            unix_ns: unix,
            // The hook is where the agent sees it; a replay must not say anything else.
            observed_unix_ns: unix,
            severity: INFO,
            body: path,
            attributes: &attributes,
            cause: settled.map(|(settled, span)| (settled.trace, span)),
            resource: &resource,
        });
        self.counts.exec_logs += 1;
        self.counts.execs_caused += u64::from(settled.is_some());
        if let Some(cause) = cause {
            self.trees.release(cause.tree);
        }
        if self.spare_execs.len() < MAX_SPARE {
            self.spare_execs.push(copy);
        }
    }

    /// Who the process is now, as far as the record tells; the rest stays.
    fn facts_after(&self, process: ProcessKey, copy: &ExecCopy) -> ProcessFacts {
        let exec = &copy.exec;
        let before = self.resources.facts_at(process, exec.header.boot_ns);
        let parent = ProcessKey { tgid: exec.parent_tgid, start_ns: exec.parent_start_ns };
        let before = before.or_else(|| self.resources.facts_at(parent, exec.header.boot_ns));
        let before = before.cloned().unwrap_or_default();
        let args: Vec<_> =
            copy.args.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        let args = match args.as_slice() {
            [args @ .., last] if last.is_empty() => args,
            args => args,
        };
        ProcessFacts {
            key: process,
            parent_tgid: exec.parent_tgid,
            since_ns: exec.header.boot_ns,
            executable: until_nul(&exec.filename),
            comm: until_nul(&exec.comm),
            args: redact::args(args),
            user_name: if before.user_id == exec.euid { before.user_name } else { String::new() },
            user_id: exec.euid,
            ..before
        }
    }
}

fn process_of(exec: &Exec) -> ProcessKey {
    ProcessKey { tgid: exec.header.tgid, start_ns: exec.header.start_ns }
}

fn until_nul(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}
