//! What runs the code of a process, out of its executable's path.

use super::language::Interpreter;
use super::text::unversioned;

/// `process.runtime.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// `process.runtime.name`, as the language's SDK says it.
    pub name: &'static str,
    /// `process.runtime.version`, as far as the path has it: `3.11`, `17`.
    pub version: Option<String>,
}

/// The runtime of `interpreter`, whose executable is called `name` and lies at `path`.
pub(super) fn of(interpreter: &Interpreter, name: &str, path: &str) -> Option<Runtime> {
    let runtime = match interpreter.runtime {
        Some(runtime) => runtime,
        // A virtual machine's vendor and version are those of the directory that it comes in.
        None if interpreter.language == Some("java") => {
            let known = path.contains("openjdk") || path.contains("temurin");
            known.then_some("OpenJDK Runtime Environment")?
        }
        None => return None,
    };
    let own = name.strip_prefix(unversioned(name)).map(|version| version.trim_start_matches('-'));
    // `python3` is a link, and no version.
    let own = own.filter(|version| version.contains('.')).map(str::to_owned);
    Some(Runtime { name: runtime, version: own.or_else(|| of_directories(path)) })
}

/// `/usr/lib/jvm/java-17-openjdk-amd64/bin/java`, `~/.nvm/versions/node/v18.19.0/bin/node`: the part of
/// the innermost directory that begins like a version.
fn of_directories(path: &str) -> Option<String> {
    let (directory, _) = path.rsplit_once('/')?;
    let parts = directory.rsplit('/').take(3).flat_map(|part| part.split(['-', '_', '@']));
    let version = parts.map(|part| part.strip_prefix('v').unwrap_or(part)).find(|part| {
        let number = |c: char| c.is_ascii_digit() || c == '.' || c == '+';
        part.starts_with(|c: char| c.is_ascii_digit()) && part.chars().all(number)
    })?;
    Some(version.to_owned())
}
