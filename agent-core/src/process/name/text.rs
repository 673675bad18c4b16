//! Names out of paths.

use super::found::Found;
use crate::process::ProcessFacts;

/// Endings of files that interpreters run.
const SCRIPT_ENDINGS: &[&str] = &[
    ".py", ".pyc", ".pyz", ".js", ".mjs", ".cjs", ".ts", ".mts", ".rb", ".ru", ".pl", ".psgi",
    ".php", ".phar", ".sh", ".bash", ".lua", ".jar", ".war", ".java", ".dll", ".exe", ".exs",
    ".ex",
];

/// Names of scripts, modules and classes that say nothing about the service.
const GENERIC: &[&str] = &[
    "__main__",
    "app",
    "application",
    "artisan",
    "asgi",
    "bootstrap",
    "celery",
    "celery_app",
    "cli",
    "entrypoint",
    "index",
    "launcher",
    "main",
    "manage",
    "program",
    "rails",
    "run",
    "server",
    "start",
    "uwsgi",
    "wsgi",
];

/// Directories that say nothing about the service that lies in them.
const GENERIC_DIRECTORIES: &[&str] = &[
    "",
    "app",
    "apps",
    "application",
    "bin",
    "build",
    "code",
    "current",
    "debug",
    "deployments",
    "dist",
    "home",
    "html",
    "lib",
    "libexec",
    "local",
    "opt",
    "out",
    "public",
    "quarkus-app",
    "release",
    "root",
    "sbin",
    "scripts",
    "server",
    "service",
    "src",
    "srv",
    "target",
    "tmp",
    "usr",
    "var",
    "web",
    "workspace",
    "www",
];

/// The last part of a path.
pub(super) fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A program's name without its version: `python3.11` is `python`.
pub(super) fn unversioned(name: &str) -> &str {
    name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.').trim_end_matches('-')
}

/// A file name without the ending of a script.
pub(super) fn script_stem(name: &str) -> &str {
    let stem = SCRIPT_ENDINGS.iter().find_map(|ending| name.strip_suffix(ending));
    stem.filter(|stem| !stem.is_empty()).unwrap_or(name)
}

/// Whether a name says nothing about a service. (`MainKt` is Kotlin's `Main`.)
pub(super) fn is_generic(name: &str) -> bool {
    let name = name.strip_suffix("Kt").unwrap_or(name);
    GENERIC.iter().any(|generic| name.eq_ignore_ascii_case(generic))
}

/// The name of a script: its own, or its directory's when its own says nothing.
pub(super) fn of_script(path: &str, facts: &ProcessFacts) -> Found {
    // `node .`, `python3 dist`.
    let file = base(path.trim_end_matches('/'));
    let stem = script_stem(file);
    let directory = stem == file && is_generic_directory(file.trim_matches('.'));
    if !is_generic(stem) && !directory {
        return Found::runs(stem);
    }
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let named = if path.starts_with('/') {
        of_directory(directory)
    } else {
        of_directory(directory).or_else(|| of_directory(&facts.working_directory))
    };
    match named {
        Some(named) => Found::runs(named),
        None if stem.trim_matches('.').is_empty() => Found::vague(&facts.comm),
        None => Found::vague(stem),
    }
}

fn is_generic_directory(name: &str) -> bool {
    GENERIC_DIRECTORIES.contains(&name.to_ascii_lowercase().as_str())
}

/// The innermost part of a directory that says something; at most two levels up, since what is
/// further up holds other services too.
pub(super) fn of_directory(directory: &str) -> Option<&str> {
    let parts = directory.trim_end_matches('/').rsplit('/').take(3);
    let mut parts = parts.filter(|part| !matches!(*part, "." | ".."));
    parts.find(|part| !is_generic_directory(part))
}

/// Whether a directory is one that `go run` puts programs into, from which no name comes: of a build
/// (`/tmp/go-build1234/b001/exe`), or from Go 1.24 on of its cache (`…/5b/5b0f…cab3-d`).
pub(super) fn is_of_go_run(directory: &str) -> bool {
    let mut parts = directory.rsplit('/');
    let (last, above, top) = (parts.next(), parts.next(), parts.next());
    let [last, above, top] = [last, above, top].map(Option::unwrap_or_default);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let builds = last == "exe"
        && above.strip_prefix('b').is_some_and(digits)
        && top.strip_prefix("go-build").is_some_and(digits);
    let keeps = last.strip_suffix("-d").is_some_and(|hash| {
        hash.len() == 64
            && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
            && hash.get(..2) == Some(above)
    });
    builds || keeps
}

/// The name of a dotted module or class: its last part that says something, else its last part.
pub(super) fn of_module(module: &str) -> &str {
    let says = module.rsplit('.').find(|part| !part.is_empty() && !is_generic(part));
    says.or_else(|| module.rsplit('.').next()).unwrap_or(module)
}

/// What builders of jars that hold everything add to their names.
const JAR_KINDS: &[&str] =
    &["-runner", "-jar-with-dependencies", "-all", "-exec", "-fat", "-uber", "-shaded"];

/// A jar's name without its version: `shop-1.2.3-SNAPSHOT.jar` is `shop`.
pub(super) fn of_jar(path: &str) -> &str {
    let stem = script_stem(base(path));
    let kind = JAR_KINDS.iter().find_map(|kind| stem.strip_suffix(kind));
    let stem = kind.filter(|stem| !stem.is_empty()).unwrap_or(stem);
    let version = stem.match_indices('-').find(|(at, _)| {
        stem.get(at + 1..).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    });
    let name = version.and_then(|(at, _)| stem.get(..at)).filter(|name| !name.is_empty());
    name.unwrap_or(stem)
}

/// The module of `module:object`, with dots in the module (`shop.wsgi:application`). `unix:shop.sock` is a socket.
pub(super) fn module_of_spec(text: &str) -> Option<&str> {
    let (module, object) = text.split_once(':')?;
    let object = object.split('(').next().unwrap_or(object);
    (is_module(module) && is_module(object) && module != "unix").then_some(module)
}

/// Whether a text is a dotted identifier.
pub(super) fn is_module(text: &str) -> bool {
    text.split('.').all(|part| {
        part.starts_with(|c: char| c.is_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_alphanumeric() || c == '_')
    })
}
