//! What an interpreter runs, language by language. A new one is a line in [`INTERPRETERS`].

use super::found::Found;
use super::java::java;
use super::python::{launched_app, python};
use super::text::{base, is_generic, of_directory, of_script, script_stem};
use crate::process::ProcessFacts;

/// A program that runs others' code.
pub(super) struct Interpreter {
    /// File names, without version.
    pub names: &'static [&'static str],
    /// Language in OpenTelemetry's words.
    pub language: Option<&'static str>,
    /// What the runtime calls itself, where its executable tells.
    pub runtime: Option<&'static str>,
    /// The name of what it runs, out of the arguments behind the program's name.
    pub service: fn(&[String], &ProcessFacts) -> Option<Found>,
}

const fn row(
    names: &'static [&'static str],
    language: Option<&'static str>,
    runtime: Option<&'static str>,
    service: fn(&[String], &ProcessFacts) -> Option<Found>,
) -> Interpreter {
    Interpreter { names, language, runtime, service }
}

/// All interpreters known.
pub(super) const INTERPRETERS: &[Interpreter] = &[
    row(&["python"], Some("python"), Some("cpython"), python),
    row(&["pypy"], Some("python"), Some("pypy"), python),
    row(&["node", "nodejs"], Some("nodejs"), Some("nodejs"), node),
    // Its package on npm calls it that on Linux as well.
    row(&["bun", "bun.exe"], Some("nodejs"), Some("bun"), node),
    row(&["deno"], Some("nodejs"), Some("deno"), node),
    row(&["java"], Some("java"), None, java),
    row(&["ruby"], Some("ruby"), Some("ruby"), ruby),
    row(&["jruby"], Some("ruby"), Some("jruby"), ruby),
    row(&["php"], Some("php"), Some("cli"), php),
    row(&["php-fpm"], Some("php"), Some("fpm-fcgi"), nothing),
    row(&["php-cgi"], Some("php"), Some("cgi-fcgi"), nothing),
    row(&["perl"], Some("perl"), Some("perl"), perl),
    row(&["lua"], Some("lua"), Some("lua"), lua),
    row(&["luajit"], Some("lua"), Some("luajit"), lua),
    row(&["dotnet"], Some("dotnet"), Some(".NET"), dotnet),
    row(&["mono"], Some("dotnet"), Some("mono"), dotnet),
    row(&["beam.smp"], Some("erlang"), Some("BEAM"), erlang),
    row(&["sh", "bash", "dash", "ash", "zsh", "ksh"], None, None, shell),
    // A server that is a program of its own; those in Python are found as its scripts.
    row(&["uwsgi"], Some("python"), None, launched_app),
];

/// The interpreter with this file name, whatever its version.
pub(super) fn interpreter(name: &str) -> Option<&'static Interpreter> {
    let stem = super::text::unversioned(name);
    INTERPRETERS.iter().find(|interpreter| interpreter.names.contains(&stem))
}

/// The first argument that is no option, and those behind it. `with_value` are options whose value
/// is the next argument.
pub(super) fn positional<'a>(
    args: &'a [String],
    with_value: &[&str],
) -> Option<(&'a str, &'a [String])> {
    let mut rest = args;
    while let Some((arg, behind)) = rest.split_first() {
        rest = behind;
        if with_value.contains(&arg.as_str()) {
            rest = behind.get(1..).unwrap_or_default();
        } else if arg == "--" {
            return rest.split_first().map(|(arg, behind)| (arg.as_str(), behind));
        } else if !arg.starts_with('-') {
            return Some((arg, rest));
        } else if arg == "-" {
            return None;
        }
    }
    None
}

/// Value of an option given as `--name=value` or `--name value`; of a property of Java's, `-Dname=value`.
pub(super) fn option<'a>(args: &'a [String], names: &[&str]) -> Option<&'a str> {
    args.iter().enumerate().find_map(|(at, arg)| {
        let (name, attached) =
            arg.split_once('=').map_or((arg.as_str(), None), |(n, v)| (n, Some(v)));
        let next = || args.get(at + 1).filter(|_| !name.starts_with("-D")).map(String::as_str);
        attached.or_else(next).filter(|_| names.contains(&name))
    })
}

/// The script among the arguments, as [`positional`] has it, unless the code itself is there: then the first
/// word that is no option is that code, or its argument, and names nothing. `code` are the letters of options
/// with code, `glued` those whose value may follow in the same word.
fn script<'a>(
    args: &'a [String],
    with_value: &[&str],
    (code, glued): (&str, &str),
) -> Option<(&'a str, &'a [String])> {
    let (script, behind) = positional(args, with_value)?;
    let options = args.get(..args.len() - behind.len() - 1).unwrap_or_default();
    let has_code = options.iter().filter_map(|arg| arg.strip_prefix('-')).any(|letters| {
        !letters.starts_with('-')
            && letters.chars().take_while(|c| !glued.contains(*c)).any(|c| code.contains(c))
    });
    (!has_code).then_some((script, behind))
}

fn nothing(_: &[String], _: &ProcessFacts) -> Option<Found> {
    None
}

/// `node [-r module] /srv/shop/server.js`, `bun run x.ts`, `deno run -A x.ts`.
fn node(args: &[String], facts: &ProcessFacts) -> Option<Found> {
    const WITH_VALUE: &[&str] = &[
        "-r",
        "--require",
        "--import",
        "--loader",
        "--experimental-loader",
        "-C",
        "--conditions",
        "--title",
        "--env-file",
        "-c",
        "--config",
        "--cert",
        "--port",
        "--host",
    ];
    const CODE: &[&str] = &["-e", "--eval", "-p", "--print", "-pe", "eval"];
    /// Of deno and bun.
    const VERBS: [&str; 3] = ["run", "serve", "task"];
    if let Some(title) = option(args, &["--title"]) {
        return Found::declared(title);
    }
    let verb = args.first().filter(|verb| VERBS.contains(&verb.as_str()));
    let args = args.get(usize::from(verb.is_some())..).unwrap_or_default();
    let (script, behind) = positional(args, WITH_VALUE)?;
    let options = args.get(..args.len() - behind.len()).unwrap_or_default();
    if options.iter().any(|arg| CODE.contains(&arg.split('=').next().unwrap_or(arg))) {
        return None;
    }
    // `next start`, `deno task start`: a tool that runs what lies in this directory.
    let task = script_stem(script) == script && verb.is_some();
    if script.contains("node_modules/") || task {
        return Some(in_directory(base(script), facts));
    }
    Some(of_script(script, facts))
}

/// What serves the directory that it was started in.
pub(super) fn in_directory(program: &str, facts: &ProcessFacts) -> Found {
    match of_directory(&facts.working_directory) {
        Some(directory) => Found::runs(directory),
        None => Found::vague(script_stem(program)),
    }
}

fn ruby(args: &[String], facts: &ProcessFacts) -> Option<Found> {
    const SERVERS: [&str; 7] =
        ["puma", "unicorn", "rackup", "thin", "falcon", "sidekiq", "passenger"];
    let (script, behind) = script(args, &["-r", "-I", "-C", "-E", "-e"], ("e", "IrCEKFxWiTX:"))?;
    // `bundle exec puma`: bundler is not what runs.
    let script = match behind {
        [exec, program, ..] if base(script) == "bundle" && exec == "exec" => program.as_str(),
        _ => script,
    };
    let server = SERVERS.contains(&base(script));
    let rails = base(script) == "rails" && !script.starts_with('/');
    Some(if server || rails { in_directory(script, facts) } else { of_script(script, facts) })
}

/// `php [-d x=y] script.php`, `php -f script.php`; `php -S address` serves a directory.
fn php(args: &[String], facts: &ProcessFacts) -> Option<Found> {
    let file = option(args, &["-f", "--file"]);
    let script = file.or_else(|| {
        let found = script(args, &["-d", "-c", "-S", "-t", "-r", "-z"], ("rBRE", "cdfFStTzb"));
        found.map(|(script, _)| script)
    });
    if let Some(script) = script {
        let beside = beside_vendor(script);
        return Some(of_script(beside.as_deref().unwrap_or(script), facts));
    }
    let root = option(args, &["-t"]).and_then(of_directory);
    let serves = args.iter().any(|arg| arg == "-S");
    serves.then(|| root.map_or_else(|| in_directory("php", facts), Found::runs))
}

/// A script that composer has installed and that is called like any other, as if it lay in the project that it
/// serves: `artisan serve` starts `php -S … /srv/crm/vendor/laravel/framework/…/resources/server.php`.
fn beside_vendor(script: &str) -> Option<String> {
    let (project, installed) = match script.strip_prefix("vendor/") {
        Some(installed) => ("", installed),
        None => script.split_once("/vendor/")?,
    };
    let (_, file) = installed.rsplit_once('/')?;
    let separator = if project.is_empty() { "" } else { "/" };
    is_generic(script_stem(file)).then(|| format!("{project}{separator}{file}"))
}

fn perl(args: &[String], facts: &ProcessFacts) -> Option<Found> {
    let found = script(args, &["-I", "-M", "-e", "-E"], ("eE", "ImMxFViD:"));
    found.map(|(script, _)| of_script(script, facts))
}

fn lua(args: &[String], facts: &ProcessFacts) -> Option<Found> {
    positional(args, &["-l", "-e"]).map(|(script, _)| of_script(script, facts))
}

/// `dotnet [exec] Shop.dll`; `dotnet run` builds and then starts another process.
fn dotnet(args: &[String], facts: &ProcessFacts) -> Option<Found> {
    let file = args.iter().find(|arg| arg.ends_with(".dll") || arg.ends_with(".exe"))?;
    Some(of_script(file, facts))
}

/// The node's name: `-sname shop@host`.
fn erlang(args: &[String], _: &ProcessFacts) -> Option<Found> {
    let node = option(args, &["-name", "-sname"])?;
    node.split('@').next().and_then(Found::declared)
}

/// `sh script.sh`; `sh -c text` and a shell at a terminal have no name but the shell's.
fn shell(args: &[String], facts: &ProcessFacts) -> Option<Found> {
    let (script, behind) = positional(args, &["-o", "-O", "--rcfile", "--init-file"])?;
    let options = args.get(..args.len() - behind.len() - 1).unwrap_or_default();
    let text = |arg: &String| arg.starts_with('-') && !arg.starts_with("--") && arg.contains('c');
    (!options.iter().any(text)).then(|| of_script(script, facts))
}
