//! Names in process titles: what a server has written over its arguments.

use super::found::Found;
use super::language::{in_directory, interpreter};
use super::python::application;
use super::text::{base, is_module, of_directory, unversioned};
use crate::process::ProcessFacts;

/// Titles that belong to no application: of one that was written over the arguments of a program
/// that runs others' code. `nginx: worker process` is nginx by its executable.
pub(super) fn of_title(facts: &ProcessFacts) -> Option<Found> {
    let [title] = facts.args.as_slice() else { return spaced(facts) };
    let title = title.trim();
    if title.contains(' ') {
        return of_words(title, facts);
    }
    // `process.title = 'shop'`. A program that was started without arguments has its own name there.
    let own = title.starts_with('-') || title.contains('/') || interpreter(title).is_some();
    let executable = base(&facts.executable);
    let started = unversioned(title) == unversioned(executable) || executable.is_empty();
    if own || started { None } else { Found::declared(title) }
}

/// A title in front of what is left of the arguments.
fn spaced(facts: &ProcessFacts) -> Option<Found> {
    let title = facts.args.first()?.trim();
    if title.contains(' ') && !title.starts_with('/') { of_words(title, facts) } else { None }
}

fn of_words(title: &str, facts: &ProcessFacts) -> Option<Found> {
    if title.starts_with('/') {
        return None;
    }
    let (server, rest) = title.split_once([':', ' '])?;
    let server = server.trim_start_matches('[');
    if unversioned(base(server)) == "php-fpm" {
        let pool = rest.trim().strip_prefix("pool ").map(str::trim);
        let pool = pool.filter(|pool| *pool != "www").and_then(Found::declared);
        return Some(pool.unwrap_or_else(|| Found::runs("php-fpm")));
    }
    // `node /srv/shop/server.js` in one piece.
    if let Some(interpreter) = interpreter(server) {
        let words: Vec<String> = rest.split_whitespace().map(str::to_owned).collect();
        return (interpreter.service)(&words, facts);
    }
    if let Some(app) = in_brackets(rest).or_else(|| word_behind(rest, "-A")) {
        let module = app.split(':').next().unwrap_or(app);
        let named = if is_module(module) && (app.contains(':') || app.contains('.')) {
            application(module, facts)
        } else {
            Found::runs(app)
        };
        return Some(named);
    }
    // `Passenger RubyApp: /srv/forum (production)`.
    let path = rest.split_whitespace().find(|word| word.starts_with('/'));
    if server == "Passenger"
        && let Some(directory) = path.and_then(of_directory)
    {
        return Some(Found::runs(directory));
    }
    // `sidekiq 6.5.1 forum [0 of 10 busy]`: the tag is the application's directory.
    if server == "sidekiq" {
        let tag = rest.split_whitespace().nth(1).filter(|word| !word.starts_with('['));
        return Some(tag.map_or_else(|| in_directory(server, facts), Found::runs));
    }
    let plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    let named = !server.is_empty() && server.chars().all(plain);
    // `unicorn master -D`, `next-server (v14.1.0)`: what they serve is where they were started.
    named.then(|| in_directory(server, facts))
}

/// The node whose pool a worker of celery belongs to: `celery@host` of `[celeryd: celery@host:ForkPoolWorker-1]`.
/// That title says nothing of the application.
pub(super) fn pool_of(facts: &ProcessFacts) -> Option<&str> {
    let title = facts.args.first()?.trim();
    let (node, worker) = title.strip_prefix(CELERY)?.strip_suffix(']')?.rsplit_once(':')?;
    let number = worker.split_once("PoolWorker-")?.1;
    let counted = !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit());
    (counted && !node.is_empty()).then_some(node)
}

/// Whether this is the main process of that node of celery, by its title or, before it has written
/// one, by its arguments.
pub(super) fn is_main_of(facts: &ProcessFacts, node: &str) -> bool {
    let Some(first) = facts.args.first() else { return false };
    let main = first.strip_prefix(CELERY).and_then(|rest| rest.strip_prefix(node));
    let called = |arg: &String| base(arg) == "celery";
    main.is_some_and(|rest| rest.starts_with(":MainProcess]"))
        || interpreter(base(first)).is_some() && facts.args.iter().take(4).any(called)
}

/// In front of all titles of celery's workers.
const CELERY: &str = "[celeryd: ";

/// `worker [shop]`. `[0 of 10 busy]` and `worker[0]` are no names.
fn in_brackets(rest: &str) -> Option<&str> {
    let (app, _) = rest.rsplit_once('[')?.1.split_once(']')?;
    let app = app.trim();
    (app.starts_with(|c: char| c.is_alphabetic() || c == '_') && !app.contains(' ')).then_some(app)
}

/// `[celeryd: celery@host:MainProcess] -active- (-A billing worker)`.
fn word_behind<'a>(text: &'a str, option: &str) -> Option<&'a str> {
    let mut words = text.split_whitespace().map(|word| word.trim_matches(['(', ')']));
    words.find(|word| *word == option)?;
    words.next().filter(|word| is_module(word))
}
