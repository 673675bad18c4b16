//! Every exec becomes a log record, with the request whose handling caused it.
//!
//! An exec is a security event: it is given out whether or not the trace is sampled, and keeps the
//! ids of its cause in both cases, so that it agrees with what other agents sampled.

use super::core::{Core, Sinks};
use super::held::Waiting;
use super::order::ExecCopy;
use super::sampling::Why;
use super::settle::unix_ns;
use super::threads::{Cause, World};
use crate::event::ProcessKey;
use crate::process::exec_attributes;
use crate::span::LogRecord;
use agent_common::record::Exec;

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
        let mut world = World {
            requests: &self.requests,
            trees: &mut self.trees,
            now: copy.exec.header.boot_ns,
        };
        let cause = match self.config.linker.threads {
            true => self.threads.exec(process, copy.exec.old_tid, &mut world),
            false => None,
        };
        if let Some(cause) = cause
            && self.sampler.keeps(Why::EVENT)
        {
            self.trees.mark(cause.tree, Why::EVENT);
        }
        self.processes.exec(&copy.exec, &copy.args);
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
        if !self.window.has(header.boot_ns) {
            self.counts.execs_handed_over += 1;
            return self.spare_exec(copy, cause);
        }
        let resource = self.processes.resource(process, header.boot_ns);
        let parent =
            ProcessKey { tgid: copy.exec.parent_tgid, start_ns: copy.exec.parent_start_ns };
        let content = exec_attributes(
            &copy.exec,
            &copy.args,
            self.processes.facts(process, header.boot_ns),
            self.processes.facts(parent, header.boot_ns),
        );
        content.borrowed(|body, attributes| {
            sinks.out.log(&LogRecord {
                event_name: "process.exec",
                unix_ns: unix,
                // The hook is where the agent sees it; a replay must not say anything else.
                observed_unix_ns: unix,
                severity: INFO,
                body,
                attributes,
                cause: settled.map(|(settled, span)| (settled.trace, span)),
                trace_flags: settled.map_or(0, |(settled, _)| settled.flags),
                resource: &resource,
            });
        });
        self.counts.exec_logs += 1;
        self.counts.execs_caused += u64::from(settled.is_some());
        self.spare_exec(copy, cause);
    }

    fn spare_exec(&mut self, copy: Box<ExecCopy>, cause: Option<Cause>) {
        if let Some(cause) = cause {
            self.trees.release(cause.tree);
        }
        if self.spare_execs.len() < MAX_SPARE {
            self.spare_execs.push(copy);
        }
    }
}

fn process_of(exec: &Exec) -> ProcessKey {
    ProcessKey { tgid: exec.header.tgid, start_ns: exec.header.start_ns }
}
