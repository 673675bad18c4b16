//! docs/promises.md: every promise names the test that keeps it.

use crate::paths;
use anyhow::{Context, Result, bail};
use std::collections::HashSet;
use std::fs;
use std::path::Path;

/// Says that nothing keeps a promise yet.
const ABSENT: &str = "absent";

/// Where tests are looked for.
const PLACES: [&str; 7] =
    ["agent", "agent-common", "agent-core", "agent-ebpf", "fuzz", "tests", "xtask"];

/// Reads the table and fails when a named test does not exist.
pub fn run() -> Result<()> {
    let file = paths::root().join("docs/promises.md");
    let text = fs::read_to_string(&file).with_context(|| format!("no {}", file.display()))?;
    let promises = parse(&text)?;
    let known = known_tests()?;
    let absent = promises.iter().filter(|promise| promise.tests.is_empty()).count();
    let lost: Vec<_> = promises
        .iter()
        .flat_map(|promise| promise.tests.iter().map(move |test| (promise, test)))
        .filter(|(_, test)| !known.contains(test.as_str()))
        .map(|(promise, test)| format!("line {}: no test `{test}`", promise.line))
        .collect();
    if !lost.is_empty() {
        bail!("docs/promises.md names what does not exist:\n  {}", lost.join("\n  "));
    }
    println!("promises: {} in all, {absent} without a test", promises.len());
    Ok(())
}

#[derive(Debug, Eq, PartialEq)]
struct Promise {
    line: usize,
    /// Empty when the table says `absent`.
    tests: Vec<String>,
}

/// Rows `| promise | tests |`; tests stand in backquotes.
fn parse(text: &str) -> Result<Vec<Promise>> {
    let mut promises = Vec::new();
    for (index, row) in text.lines().enumerate().filter(|(_, line)| line.starts_with('|')) {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [promise, keeper] = cells.as_slice() else {
            bail!("docs/promises.md line {}: a row has two cells", index + 1);
        };
        if *promise == "Promise" || promise.starts_with("---") {
            continue;
        }
        let tests: Vec<_> = keeper.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        if tests.is_empty() != (*keeper == ABSENT) {
            bail!("docs/promises.md line {}: `test` names, or the word {ABSENT}", index + 1);
        }
        promises.push(Promise { line: index + 1, tests });
    }
    Ok(promises)
}

/// Names of functions in Rust sources, of fuzz targets, and paths of scripts.
fn known_tests() -> Result<HashSet<String>> {
    let mut known = HashSet::new();
    for place in PLACES {
        let directory = paths::root().join(place);
        if directory.is_dir() {
            collect(&directory, &mut known)?;
        }
    }
    Ok(known)
}

fn collect(directory: &Path, known: &mut HashSet<String>) -> Result<()> {
    for entry in fs::read_dir(directory)?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if entry.file_name() != "target" {
                collect(&path, known)?;
            }
        } else if path.extension().is_some_and(|suffix| suffix == "rs") {
            known.extend(functions(&fs::read_to_string(&path)?).map(str::to_owned));
            if directory.ends_with("fuzz_targets") {
                known.extend(path.file_stem().map(|name| format!("fuzz {}", name.display())));
            }
        } else if let Ok(script) = path.strip_prefix(paths::root()) {
            known.insert(script.display().to_string());
        }
    }
    Ok(())
}

/// Names after `fn ` that are followed by `(`.
fn functions(source: &str) -> impl Iterator<Item = &str> {
    source.split("fn ").skip(1).filter_map(|rest| {
        let end = rest.find(|byte: char| !(byte.is_alphanumeric() || byte == '_'))?;
        let (name, after) = rest.split_at_checked(end)?;
        (after.starts_with('(') && !name.is_empty()).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_names_tests_or_says_absent() {
        let table = "text\n| Promise | Test |\n|---|---|\n| a | `one`, `two` |\n| b | absent |\n";
        let promises = parse(table).unwrap();
        assert_eq!(promises.len(), 2);
        assert_eq!(promises[0], Promise { line: 4, tests: vec!["one".into(), "two".into()] });
        assert!(promises[1].tests.is_empty());
        for wrong in ["| a | soon |", "| a |", "| a | |", "| a | b | `c` |"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn functions_are_found_and_prose_is_not() {
        let source = "#[test]\nfn one() {}\n/// the fn word\nasync fn two(x: u8) {}\nlet f = 1;";
        assert_eq!(functions(source).collect::<Vec<_>>(), ["one", "two"]);
    }

    #[test]
    fn the_projects_own_table_holds() {
        run().unwrap();
    }
}
