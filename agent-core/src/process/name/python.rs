//! Names of what Python runs.

use super::found::Found;
use super::language::{in_directory, option};
use super::text::{
    base, is_generic, is_module, module_of_spec, of_directory, of_module, of_script, script_stem,
};
use crate::process::ProcessFacts;

/// Scripts and modules that run an application named by an argument.
const LAUNCHERS: &[&str] = &[
    "gunicorn",
    "uvicorn",
    "hypercorn",
    "daphne",
    "granian",
    "uwsgi",
    "waitress-serve",
    "flask",
    "celery",
    "fastapi",
    "streamlit",
    "ddtrace-run",
    "opentelemetry-instrument",
    "debugpy",
];

/// Last parts of modules that say nothing beside the parts before them. (`server` is none of them:
/// `http.server` has its name from both.)
const ENTRIES: [&str; 8] =
    ["__main__", "main", "app", "application", "asgi", "wsgi", "manage", "cli"];

/// `python [-u] [-W arg] script.py`, `python -m module`, `python -c text` (no name).
pub(super) fn python(args: &[String], facts: &ProcessFacts) -> Option<Found> {
    let mut rest = args;
    while let Some((arg, behind)) = rest.split_first() {
        let Some(letters) = arg.strip_prefix('-') else {
            return launched(base(arg), behind, facts).or_else(|| Some(of_script(arg, facts)));
        };
        rest = behind;
        if letters.starts_with('-') {
            let skip = usize::from(letters == "-check-hash-based-pycs");
            rest = behind.get(skip..).unwrap_or_default();
            continue;
        }
        // Letters may be glued: -um module, -Wignore.
        let Some((at, letter)) = letters.char_indices().find(|(_, c)| "mcWXQ".contains(*c)) else {
            continue;
        };
        let glued = letters.get(at + 1..).filter(|glued| !glued.is_empty());
        let value = glued.or_else(|| behind.first().map(String::as_str));
        rest = if glued.is_some() { behind } else { behind.get(1..).unwrap_or_default() };
        match letter {
            'm' => {
                let module = value?;
                return launched(module, rest, facts).or_else(|| Some(of_main(module, facts)));
            }
            'c' => return worker(value?, facts),
            _ => {}
        }
    }
    None
}

/// A process of multiprocessing's (`uvicorn --workers 4`): what it runs comes by a pipe, and its directory is that of
/// the program which started it. Any other code has no name.
fn worker(code: &str, facts: &ProcessFacts) -> Option<Found> {
    let directory = of_directory(&facts.working_directory)?;
    code.starts_with("from multiprocessing.").then(|| Found::runs(directory))
}

/// `python -m shop.worker`: both parts name it.
fn of_main(module: &str, facts: &ProcessFacts) -> Found {
    let mut name = module;
    while let Some((before, last)) = name.rsplit_once('.')
        && ENTRIES.contains(&last)
        && !before.is_empty()
    {
        name = before;
    }
    if is_generic(name) { in_directory(name, facts) } else { Found::runs(name) }
}

/// The application that a launcher runs, if `name` is one.
fn launched(name: &str, args: &[String], facts: &ProcessFacts) -> Option<Found> {
    if !LAUNCHERS.contains(&name) {
        return None;
    }
    let found = match name {
        "gunicorn" => of_gunicorn(args, facts),
        _ => launched_app(args, facts),
    };
    Some(found.unwrap_or_else(|| in_directory(name, facts)))
}

/// `gunicorn [OPTIONS] [APP]`, where the application may be a module alone. Its files configure
/// (`-c conf.py`): what they name is not read.
fn of_gunicorn(args: &[String], facts: &ProcessFacts) -> Option<Found> {
    // Its short option for `--name`; celery's is another.
    let short = args.iter().position(|arg| arg == "-n");
    let declared = short.and_then(|at| Found::declared(args.get(at + 1)?));
    let named = option(args, &["--name", "--proc-name"]).filter(|name| !name.starts_with('-'));
    if let Some(found) = declared.or_else(|| named.and_then(Found::declared)) {
        return Some(found);
    }
    let spec = args.iter().find_map(|arg| module_of_spec(arg));
    let module = spec.or_else(|| gunicorns_module(args)).or_else(|| bare_module(args))?;
    Some(application(module, facts))
}

/// The first argument that is neither an option nor the value of one. An option that is not known may have
/// a value: what stands behind it is taken for that.
fn gunicorns_module(args: &[String]) -> Option<&str> {
    const ALONE: [&str; 19] = [
        "-D",
        "-R",
        "--capture-output",
        "--daemon",
        "--disable-redirect-access-to-syslog",
        "--do-handshake-on-connect",
        "--enable-stdio-inheritance",
        "--initgroups",
        "--log-syslog",
        "--no-sendfile",
        "--permit-obsolete-folding",
        "--permit-unconventional-http-method",
        "--permit-unconventional-http-version",
        "--preload",
        "--proxy-protocol",
        "--reload",
        "--reuse-port",
        "--spew",
        "--suppress-ragged-eofs",
    ];
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let glued = arg.contains('=') || (!arg.starts_with("--") && arg.len() > 2);
        if !arg.starts_with('-') {
            return is_module(arg).then_some(arg);
        } else if !glued && !ALONE.contains(&arg.as_str()) {
            rest.next();
        }
    }
    None
}

/// The application among a launcher's arguments.
pub(super) fn launched_app(args: &[String], facts: &ProcessFacts) -> Option<Found> {
    // `opentelemetry-instrument python app.py`, `ddtrace-run gunicorn shop.wsgi`: the program behind
    // it is what counts.
    let program = |arg: &String| matches!(base(arg), "python" | "python3") && !arg.contains(':');
    if let Some(at) = args.iter().position(program) {
        return python(args.get(at + 1..).unwrap_or_default(), facts);
    }
    if let Some(at) = args.iter().position(|arg| LAUNCHERS.contains(&base(arg))) {
        return launched(base(args.get(at)?), args.get(at + 1..).unwrap_or_default(), facts);
    }
    let declared = option(args, &["--name", "--proc-name"]).filter(|name| !name.starts_with('-'));
    if let Some(found) = declared.and_then(Found::declared) {
        return Some(found);
    }
    let spec = args.iter().find_map(|arg| module_of_spec(arg));
    let named = option(args, &["-A", "--app", "--module", "-w"]);
    let named = named.map(|name| name.split(':').next().unwrap_or(name));
    if let Some(module) =
        spec.or_else(|| named.filter(|name| is_module(name))).or_else(|| bare_module(args))
    {
        // uvicorn's: where it looks for the module.
        return Some(match option(args, &["--app-dir"]) {
            Some(directory) => application_in(module, &below(&facts.working_directory, directory)),
            None => application(module, facts),
        });
    }
    let file = args.iter().find(|arg| arg.ends_with(".py") && !arg.contains('='));
    let config = args.iter().find_map(|arg| arg.strip_suffix(".ini"));
    let config = config.map(|path| script_stem(base(path))).filter(|stem| !is_generic(stem));
    // `hypercorn -c hypercorn.conf.py` configures, `fastapi run main.py` runs.
    let runs = file.filter(|path| !path.ends_with(".conf.py") && !path.ends_with("_conf.py"));
    runs.map(|path| of_script(path, facts)).or_else(|| config.map(Found::runs))
}

/// A module that holds an application, named after its directory where its own name says nothing.
pub(super) fn application(module: &str, facts: &ProcessFacts) -> Found {
    application_in(module, &facts.working_directory)
}

fn application_in(module: &str, directory: &str) -> Found {
    let name = of_module(module);
    if !is_generic(name) {
        return Found::runs(name);
    }
    of_directory(directory).map_or_else(|| Found::vague(name), Found::runs)
}

/// `path`, where it is relative seen from `directory`.
fn below(directory: &str, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{directory}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// `gunicorn -w 4 shop.wsgi`: a module at the end that is no option's value.
fn bare_module(args: &[String]) -> Option<&str> {
    let (last, before) = args.split_last()?;
    let value = before.last().is_some_and(|arg| arg.starts_with('-'));
    let file = last.ends_with(".py") || last.ends_with(".ini");
    (!value && !file && last.contains('.') && is_module(last)).then_some(last)
}
