//! What an interpreter runs, language by language. A new one is a line in [`INTERPRETERS`].

use super::text::{base, is_module, module_of_spec, of_directory, of_jar, of_module, of_script};
use crate::process::ProcessFacts;

/// A program that runs others' code.
pub(super) struct Interpreter {
    /// File names, without version.
    pub names: &'static [&'static str],
    /// Language in OpenTelemetry's words.
    pub language: Option<&'static str>,
    /// The name of what it runs, out of the arguments behind the program's name.
    pub service: fn(&[String], &ProcessFacts) -> Option<String>,
}

/// All interpreters known.
pub(super) const INTERPRETERS: &[Interpreter] = &[
    Interpreter { names: &["python", "pypy"], language: Some("python"), service: python },
    Interpreter { names: &["node", "nodejs"], language: Some("nodejs"), service: node },
    Interpreter { names: &["bun", "deno"], language: Some("nodejs"), service: node },
    Interpreter { names: &["java"], language: Some("java"), service: java },
    Interpreter { names: &["ruby", "jruby"], language: Some("ruby"), service: ruby },
    Interpreter { names: &["php"], language: Some("php"), service: php },
    Interpreter { names: &["php-fpm", "php-cgi"], language: Some("php"), service: nothing },
    Interpreter { names: &["perl"], language: Some("perl"), service: perl },
    Interpreter { names: &["lua", "luajit"], language: Some("lua"), service: lua },
    Interpreter { names: &["dotnet", "mono"], language: Some("dotnet"), service: dotnet },
    Interpreter { names: &["beam.smp"], language: Some("erlang"), service: erlang },
    Interpreter {
        names: &["sh", "bash", "dash", "ash", "zsh", "ksh"],
        language: None,
        service: shell,
    },
    // Servers that are programs of their own; those in Python are found as its scripts, too.
    Interpreter { names: LAUNCHERS, language: Some("python"), service: launcher_itself },
];

/// Scripts and modules of Python that run an application named by an argument.
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
    "ddtrace-run",
    "opentelemetry-instrument",
];

/// Main classes that say nothing about what they run, but are known themselves.
const KNOWN_CLASSES: &[(&str, &str)] = &[
    ("org.apache.catalina.startup.Bootstrap", "tomcat"),
    ("kafka.Kafka", "kafka"),
    ("org.apache.zookeeper.server.quorum.QuorumPeerMain", "zookeeper"),
    ("org.apache.cassandra.service.CassandraDaemon", "cassandra"),
];

/// The first argument that is no option, and those behind it. `with_value` are options whose value
/// is the next argument.
fn positional<'a>(args: &'a [String], with_value: &[&str]) -> Option<(&'a str, &'a [String])> {
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

/// Value of an option given as `--name=value` or `--name value`.
fn option<'a>(args: &'a [String], names: &[&str]) -> Option<&'a str> {
    args.iter().enumerate().find_map(|(at, arg)| {
        let (name, attached) =
            arg.split_once('=').map_or((arg.as_str(), None), |(n, v)| (n, Some(v)));
        let value = attached.or_else(|| args.get(at + 1).map(String::as_str));
        value.filter(|_| names.contains(&name))
    })
}

fn nothing(_: &[String], _: &ProcessFacts) -> Option<String> {
    None
}

/// `python [-u] [-W arg] script.py`, `python -m module`, `python -c text` (no name).
fn python(args: &[String], facts: &ProcessFacts) -> Option<String> {
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
                return launched(module, rest, facts).or_else(|| Some(module_name(module)));
            }
            'c' => return None,
            _ => {}
        }
    }
    None
}

/// `http.server` stays whole: both parts name it.
fn module_name(module: &str) -> String {
    module.strip_suffix(".__main__").unwrap_or(module).to_owned()
}

fn launcher_itself(args: &[String], facts: &ProcessFacts) -> Option<String> {
    launched_app(args, facts)
}

/// The application that a launcher runs, if `name` is one.
fn launched(name: &str, args: &[String], facts: &ProcessFacts) -> Option<String> {
    let known = LAUNCHERS.contains(&name);
    let named = known.then(|| launched_app(args, facts).unwrap_or_else(|| name.to_owned()));
    // `python manage.py`, `python -m main`: nothing to launch.
    named.filter(|named| !named.is_empty())
}

fn launched_app(args: &[String], facts: &ProcessFacts) -> Option<String> {
    // `opentelemetry-instrument python app.py`: the program behind it is what counts.
    let wrapped = args.iter().position(|arg| matches!(base(arg), "python" | "python3"));
    if let Some(at) = wrapped {
        return python(args.get(at + 1..).unwrap_or_default(), facts);
    }
    if let Some(name) = option(args, &["--name", "--proc-name"]).filter(|name| is_module(name)) {
        return Some(name.to_owned());
    }
    let spec = args.iter().find_map(|arg| module_of_spec(arg));
    let named = option(args, &["-A", "--app", "--module", "-w"]).filter(|name| is_module(name));
    let module = spec.or(named).or_else(|| bare_module(args))?;
    let name = of_module(module);
    let generic = super::text::is_generic(name);
    let directory = of_directory(&facts.working_directory).filter(|_| generic);
    Some(directory.unwrap_or(name).to_owned())
}

/// `gunicorn -w 4 shop.wsgi`: a module at the end that is no option's value.
fn bare_module(args: &[String]) -> Option<&str> {
    let (last, before) = args.split_last()?;
    let value = before.last().is_some_and(|arg| arg.starts_with('-'));
    (!value && last.contains('.') && is_module(last)).then_some(last)
}

/// `node [-r module] /srv/shop/server.js`.
fn node(args: &[String], facts: &ProcessFacts) -> Option<String> {
    const WITH_VALUE: &[&str] = &[
        "-r",
        "--require",
        "--import",
        "--loader",
        "--experimental-loader",
        "-C",
        "--conditions",
        "--title",
        "run",
    ];
    const CODE: &[&str] = &["-e", "--eval", "-p", "--print", "-pe"];
    if let Some(title) = option(args, &["--title"]) {
        return Some(title.to_owned());
    }
    // `bun run x.ts` and `deno run -A x.ts`.
    let args = args.strip_prefix(&["run".to_owned()]).unwrap_or(args);
    let (script, behind) = positional(args, WITH_VALUE)?;
    let options = args.get(..args.len() - behind.len()).unwrap_or_default();
    let code = options.iter().any(|arg| CODE.contains(&arg.as_str()));
    (!code).then(|| of_script(script, facts))
}

/// `java … -jar shop-1.2.jar`, `java … -m module/class`, `java … com.acme.shop.Main`.
///
/// A class is named by its last part that says something: `com.acme.shop.Main` is `shop`,
/// `com.acme.ShopServer` is `ShopServer`.
fn java(args: &[String], _: &ProcessFacts) -> Option<String> {
    const WITH_VALUE: &[&str] = &[
        "-cp",
        "-classpath",
        "--class-path",
        "-p",
        "--module-path",
        "--add-modules",
        "--add-opens",
        "--add-exports",
        "--add-reads",
        "--limit-modules",
        "--upgrade-module-path",
        "--patch-module",
        "--source",
        "-jar",
        "-m",
        "--module",
    ];
    let declared = option(args, &["-Dotel.service.name", "-Dspring.application.name"]);
    if let Some(name) = declared.filter(|name| !name.is_empty()) {
        return Some(name.to_owned());
    }
    let main = positional(args, WITH_VALUE);
    let options = args.len() - main.map_or(0, |(_, behind)| behind.len() + 1);
    let options = args.get(..options).unwrap_or_default();
    if let Some(jar) = option(options, &["-jar"]) {
        return Some(of_jar(jar).to_owned());
    }
    if let Some(module) = option(options, &["-m", "--module"]) {
        return Some(of_module(module.split('/').next().unwrap_or(module)).to_owned());
    }
    let (class, _) = main?;
    let known = KNOWN_CLASSES.iter().find(|(known, _)| *known == class);
    Some(known.map_or_else(|| of_module(class), |(_, name)| name).to_owned())
}

fn ruby(args: &[String], facts: &ProcessFacts) -> Option<String> {
    let (script, behind) = positional(args, &["-r", "-I", "-C", "-W", "-e"])?;
    let code = args.iter().take(args.len() - behind.len()).any(|arg| arg == "-e");
    // `bundle exec puma`: bundler is not what runs.
    let (script, wrapped) = match behind {
        [exec, program, ..] if base(script) == "bundle" && exec == "exec" => {
            (program.as_str(), true)
        }
        _ => (script, false),
    };
    let application =
        matches!(base(script), "puma" | "unicorn" | "rackup" | "thin" | "rails" | "sidekiq");
    let directory = of_directory(&facts.working_directory).filter(|_| application && !code);
    (!code).then(|| match directory {
        Some(directory) if wrapped || !script.starts_with('/') || base(script) != "rails" => {
            directory.to_owned()
        }
        _ => of_script(script, facts),
    })
}

/// `php [-d x=y] script.php`, `php -f script.php`; `php -S address` serves a directory.
fn php(args: &[String], facts: &ProcessFacts) -> Option<String> {
    let file = option(args, &["-f", "--file"]);
    let script = file.or_else(|| {
        positional(args, &["-d", "-c", "-S", "-t", "-r", "-z"]).map(|(script, _)| script)
    });
    script.map(|script| of_script(script, facts))
}

fn perl(args: &[String], facts: &ProcessFacts) -> Option<String> {
    if args.iter().take_while(|arg| arg.starts_with('-')).any(|arg| arg.starts_with("-e")) {
        return None;
    }
    positional(args, &["-I", "-M"]).map(|(script, _)| of_script(script, facts))
}

fn lua(args: &[String], facts: &ProcessFacts) -> Option<String> {
    positional(args, &["-l", "-e"]).map(|(script, _)| of_script(script, facts))
}

/// `dotnet [exec] Shop.dll`; `dotnet run` builds and then starts another process.
fn dotnet(args: &[String], _: &ProcessFacts) -> Option<String> {
    let file = args.iter().find(|arg| arg.ends_with(".dll") || arg.ends_with(".exe"))?;
    Some(super::text::script_stem(base(file)).to_owned())
}

/// The node's name: `-sname shop@host`.
fn erlang(args: &[String], _: &ProcessFacts) -> Option<String> {
    let node = option(args, &["-name", "-sname"])?;
    node.split('@').next().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// `sh script.sh`; `sh -c text` and a shell at a terminal have no name but the shell's.
fn shell(args: &[String], facts: &ProcessFacts) -> Option<String> {
    let (script, behind) = positional(args, &["-o", "-O", "--rcfile", "--init-file"])?;
    let options = args.get(..args.len() - behind.len() - 1).unwrap_or_default();
    let text = |arg: &String| arg.starts_with('-') && !arg.starts_with("--") && arg.contains('c');
    (!options.iter().any(text)).then(|| of_script(script, facts))
}
