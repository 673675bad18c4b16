//! What a process calls itself. The first of these that says something:
//!
//! 1. a rule of the operator ([`NameRules`]), and the process's environment: see [`super::resource`];
//! 2. a name in the command line that is meant as one (`-Dspring.application.name=`, `gunicorn
//!    --name`), or a title that the program has given itself;
//! 3. for programs that run others' code, the name that their manager knows ([`manager`]:
//!    supervisord's program, the package that npm starts, `SPRING_APPLICATION_NAME`);
//! 4. what an interpreter runs, by the rules of its language ([`language`]), or the executable;
//! 5. the systemd service that the process belongs to;
//! 6. whatever there is (`server` of `/app/server.js`, `python3.11`).
//!
//! A script, jar or program that is called like any other (`server.js`, `main.py`, `app.jar`) is
//! named after its directory: `/srv/shop/server.js` is `shop`. Where the directory says nothing
//! either (`/app`), 5 and 6 are left.

mod found;
mod java;
mod language;
mod loader;
mod manager;
mod python;
mod rule;
mod runtime;
mod text;
mod title;

pub use rule::{Mistake, NameRule, NameRules, Naming};
pub use runtime::Runtime;

use super::{ProcessFacts, start_tick};
use found::{Evidence, Found};
use language::{Interpreter, interpreter};
use text::{base, is_generic, is_of_go_run, of_directory, script_stem};

/// What a command line says about a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `service.name`; nothing is known of the process without it.
    pub service: Option<String>,
    /// `service.namespace`, where what names the service has one.
    pub namespace: Option<String>,
    /// Language in OpenTelemetry's words (`telemetry.sdk.language`): `python`, `nodejs`, `java`…
    pub language: Option<&'static str>,
    /// What runs the code, as far as its executable tells.
    pub runtime: Option<Runtime>,
}

/// Reads a process's identity from its executable, arguments, directory and manager.
pub fn identify(facts: &ProcessFacts) -> Identity {
    let program = program(facts);
    let Program { name, path, .. } = program;
    let interpreter = interpreter(name);
    let found = named(facts, &program, interpreter);
    let (service, namespace) =
        found.map_or((None, None), |found| (Some(found.name), found.namespace));
    let go = (!facts.go.is_empty()).then_some("go");
    Identity {
        service: service.filter(|service| !service.is_empty()),
        namespace,
        language: go.or_else(|| interpreter?.language),
        runtime: match go {
            Some(name) => Some(Runtime { name, version: Some(facts.go.clone()) }),
            None => interpreter.and_then(|interpreter| runtime::of(interpreter, name, path)),
        },
    }
}

/// Whether a process is named after its parent, whose arguments tell what it does: one that has written
/// a title over its own. Such a one has no other parent (celery has its workers killed with it).
pub(super) fn is_named_after(facts: &ProcessFacts, parent: &ProcessFacts) -> bool {
    let earlier = start_tick(parent.key) <= start_tick(facts.key);
    let fits = parent.key.tgid == facts.parent_tgid && earlier;
    fits && title::pool_of(facts).is_some_and(|node| title::is_main_of(parent, node))
}

/// Whether the arguments of a process's parent may be needed to name it.
pub(super) fn needs_parent(facts: &ProcessFacts) -> bool {
    title::pool_of(facts).is_some()
}

/// Whether an executable runs others' code, and may call itself otherwise after a while.
pub fn hosts_code(executable: &str) -> bool {
    interpreter(base(executable)).is_some()
}

fn named(
    facts: &ProcessFacts,
    program: &Program<'_>,
    interpreter: Option<&Interpreter>,
) -> Option<Found> {
    let run = interpreter.and_then(|interpreter| {
        (interpreter.service)(program.args, facts).or_else(|| title::of_title(facts))
    });
    let own = run.unwrap_or_else(|| of_executable(program, facts, interpreter.is_some()));
    if own.evidence == Evidence::Declared {
        return Some(own);
    }
    if let Some(interpreter) = interpreter
        && let Some(managed) = manager::managed(facts, interpreter.language)
    {
        return Some(managed);
    }
    let unit = || manager::of_unit(&facts.cgroup);
    if own.evidence == Evidence::Vague { unit().or(Some(own)) } else { Some(own) }
}

/// A program is named after itself, or its directory where its own name says nothing:
/// `/opt/shop/bin/server`.
fn of_executable(program: &Program<'_>, facts: &ProcessFacts, hosts_code: bool) -> Found {
    let stem = script_stem(program.name);
    if hosts_code {
        return Found::vague(stem);
    }
    if !is_generic(stem) {
        return Found::runs(stem);
    }
    let directory = program.path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let here = facts.working_directory.as_str();
    let named = if is_of_go_run(directory) {
        of_directory(here)
    } else {
        // Behind the loader a path may be relative.
        let from = if program.path.starts_with('/') { "" } else { here };
        of_directory(directory).or_else(|| of_directory(from))
    };
    named.map_or_else(|| Found::vague(stem), Found::runs)
}

/// What runs.
struct Program<'a> {
    /// File name.
    name: &'a str,
    path: &'a str,
    /// Behind its name.
    args: &'a [String],
}

fn program(facts: &ProcessFacts) -> Program<'_> {
    let path = facts.executable.trim_end_matches(" (deleted)");
    if loader::is_loader(base(path))
        && let Some((path, args)) = loader::program(facts.args.get(1..).unwrap_or_default())
    {
        return Program { name: base(path), path, args };
    }
    let (name, args) = name_and_args(facts, base(path));
    Program { name, path, args }
}

/// The program's file name, and the arguments behind it. Looks through busybox and an exec record, which
/// names the script where /proc names its interpreter.
fn name_and_args<'a>(facts: &'a ProcessFacts, executable: &'a str) -> (&'a str, &'a [String]) {
    let args = facts.args.get(1..).unwrap_or_default();
    let first = facts.args.first().map_or("", |arg| base(arg));
    let script_named = args.contains(&facts.executable);
    if executable.is_empty() {
        let name = if first.is_empty() { facts.comm.as_str() } else { first };
        (name, args)
    } else if interpreter(executable).is_none() && script_named && interpreter(first).is_some() {
        (first, args)
    } else if executable == "busybox" {
        match args.split_first() {
            Some((applet, args)) if first == "busybox" => (base(applet), args),
            _ if !first.is_empty() => (first.trim_start_matches('-'), args),
            _ => (executable, args),
        }
    } else if let Some(link) = link(facts, executable) {
        (link, args)
    } else {
        (executable, args)
    }
}

/// The name of the link by which a program was started that is several (`redis-server` is `redis-check-rdb`): the kernel
/// names the task after it, and the program calls itself so.
fn link<'a>(facts: &'a ProcessFacts, executable: &str) -> Option<&'a str> {
    /// `TASK_COMM_LEN`, without its end (include/linux/sched.h).
    const LONGEST: usize = 15;
    let called = base(facts.args.first()?.split(' ').next()?);
    let cut = called.get(..LONGEST).unwrap_or(called);
    let is_link = interpreter(executable).is_none() && called != executable;
    (is_link && !called.is_empty() && facts.comm == cut).then_some(called)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
