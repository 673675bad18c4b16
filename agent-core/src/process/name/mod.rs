//! What a process calls itself: the script, jar or module it runs, else its executable.
//!
//! 1. A name in the command line that is meant as one (`-Dotel.service.name=`, `gunicorn --name`).
//! 2. An interpreter: what it runs, by the rules of its language ([`language`]).
//! 3. A title that a server has set over its arguments (`php-fpm: pool shop`, `gunicorn: worker
//!    [shop]`).
//! 4. The executable's file name.
//!
//! A script that is called like any other (`server.js`, `main.py`) is named after its directory:
//! `/srv/shop/server.js` is `shop`. Where the directory says nothing either (`/app`), the script's
//! own name stands.

mod language;
mod text;

use super::ProcessFacts;
use language::{INTERPRETERS, Interpreter};
use text::{base, script_stem, unversioned};

/// What a command line says about a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `service.name`; nothing is known of the process without it.
    pub service: Option<String>,
    /// Language in OpenTelemetry's words (`telemetry.sdk.language`): `python`, `nodejs`, `java`…
    pub language: Option<&'static str>,
}

/// Reads a process's identity from its executable, arguments and directory.
pub fn identify(facts: &ProcessFacts) -> Identity {
    let executable = base(facts.executable.trim_end_matches(" (deleted)"));
    let title = facts.args.first().map_or("", String::as_str);
    let (name, args) = program(facts, executable);
    let interpreter = interpreter(name);
    let language = interpreter.and_then(|interpreter| interpreter.language);
    let run = interpreter.and_then(|interpreter| (interpreter.service)(args, facts));
    let service = run
        .or_else(|| titled(title, interpreter.is_some() || unversioned(name) == "php-fpm"))
        .unwrap_or_else(|| script_stem(name).to_owned());
    let service = Some(service).filter(|service| !service.is_empty());
    Identity { service, language }
}

/// The program's file name, and the arguments behind it. Looks through the dynamic loader, busybox,
/// and an exec record, which names the script where /proc names its interpreter.
fn program<'a>(facts: &'a ProcessFacts, executable: &'a str) -> (&'a str, &'a [String]) {
    let args = facts.args.get(1..).unwrap_or_default();
    let first = facts.args.first().map_or("", |arg| base(arg));
    let script_named = args.contains(&facts.executable);
    if executable.is_empty() {
        let name = if first.is_empty() { facts.comm.as_str() } else { first };
        (name, args)
    } else if interpreter(executable).is_none() && script_named && interpreter(first).is_some() {
        (first, args)
    } else if executable.starts_with("ld-linux") || executable.starts_with("ld-musl") {
        match args.split_first() {
            Some((program, args)) if !program.starts_with('-') => (base(program), args),
            _ => (executable, args),
        }
    } else if executable == "busybox" {
        match args.split_first() {
            Some((applet, args)) if first == "busybox" => (base(applet), args),
            _ if !first.is_empty() => (first.trim_start_matches('-'), args),
            _ => (executable, args),
        }
    } else {
        (executable, args)
    }
}

fn interpreter(name: &str) -> Option<&'static Interpreter> {
    let stem = unversioned(name);
    INTERPRETERS.iter().find(|interpreter| interpreter.names.contains(&stem))
}

/// The name in a process title. Only programs that run others' code are asked: `nginx: worker
/// process` is nginx by its executable.
fn titled(title: &str, hosts_code: bool) -> Option<String> {
    if !hosts_code || title.starts_with('/') || !title.contains(' ') {
        return None;
    }
    let (server, rest) = title.split_once([':', ' '])?;
    if unversioned(base(server)) == "php-fpm" {
        let pool = rest.trim().strip_prefix("pool ").map(str::trim);
        return Some(pool.filter(|pool| *pool != "www").unwrap_or("php-fpm").to_owned());
    }
    let in_brackets = rest.rsplit_once('[').and_then(|(_, app)| app.split_once(']'));
    let app = in_brackets.map(|(app, _)| app.split(':').next().unwrap_or(app).trim());
    // `[0 of 10 busy]` of sidekiq is no name.
    let app = app.filter(|app| !app.is_empty() && !app.contains(' '));
    let plain =
        !server.is_empty() && server.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c));
    app.map(str::to_owned).or_else(|| plain.then(|| server.to_owned()))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
