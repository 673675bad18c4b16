//! docs/support.json, what runs have shown, and docs/support.md, the same as tables.

use super::super::kernels::KERNELS;
use crate::paths;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;

/// How everything here is made again.
const COMMAND: &str = "cargo xtask vm --full";

/// What a check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What it shows.
    pub feature: String,
    /// `yes`, or `no: REASON`.
    pub result: String,
}

/// One run: a kernel, a way to attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// As [`KERNELS`] calls it.
    pub kernel: String,
    /// What was asked for.
    pub way: String,
    /// `uname -r`.
    pub release: String,
    /// The hook of each feature of the plan.
    pub hooks: BTreeMap<String, String>,
    /// By the check's name.
    pub outcomes: BTreeMap<String, Outcome>,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kernel, self.way)
    }
}

fn data() -> PathBuf {
    paths::root().join("docs/support.json")
}

fn page() -> PathBuf {
    paths::root().join("docs/support.md")
}

/// Writes both files: these runs, and what is known of kernels that they are not of.
pub fn write(mut runs: Vec<Run>) -> Result<()> {
    let is_new = |known: &Run| runs.iter().all(|run| run.kernel != known.kernel);
    let kept: Vec<_> = read().unwrap_or_default().into_iter().filter(is_new).collect();
    runs.extend(kept);
    let place = |run: &Run| KERNELS.iter().position(|kernel| kernel.series == run.kernel);
    runs.retain(|run| place(run).is_some());
    runs.sort_by_key(place);
    let runs = &runs;
    let json = Value::Array(runs.iter().map(to_json).collect());
    fs::write(data(), format!("{json:#}\n"))?;
    fs::write(page(), rendered(runs))?;
    println!("vm: {} and {} are written", data().display(), page().display());
    Ok(())
}

/// Fails where these runs showed something else than is written. A newer release of a series is no
/// difference.
pub fn agrees(runs: &[Run]) -> Result<()> {
    let known = read()?;
    let mut differences = Vec::new();
    for run in runs {
        match known.iter().find(|one| one.kernel == run.kernel && one.way == run.way) {
            None => differences.push(format!("{run} is not in it")),
            Some(one) if one.hooks != run.hooks => {
                differences.push(format!("{run}: hooks {:?}, written {:?}", run.hooks, one.hooks));
            }
            Some(one) if one.outcomes != run.outcomes => {
                let (now, then) = (&run.outcomes, &one.outcomes);
                differences.push(format!("{run}: {now:?}, written {then:?}"));
            }
            Some(_) => {}
        }
    }
    // What only `--full` runs may be missing: the page says so.
    let here = |series: &str| {
        KERNELS.iter().any(|kernel| kernel.series == series && !kernel.core.is_empty())
    };
    let lacking: Vec<_> =
        matrix().filter(|(series, way)| here(series) && !has(&known, series, way)).collect();
    if !lacking.is_empty() {
        differences.push(format!("not run yet: {lacking:?}"));
    }
    if !differences.is_empty() {
        bail!("{}; `{COMMAND}` writes it again", differences.join("\n  "));
    }
    Ok(())
}

/// Kernels and ways of `--full`.
fn matrix() -> impl Iterator<Item = (&'static str, &'static str)> {
    KERNELS.iter().flat_map(|kernel| kernel.full.iter().map(|way| (kernel.series, *way)))
}

fn has(runs: &[Run], series: &str, way: &str) -> bool {
    runs.iter().any(|run| run.kernel == series && run.way == way)
}

fn read() -> Result<Vec<Run>> {
    let text = fs::read_to_string(data())
        .with_context(|| format!("no {}: `{COMMAND}`", data().display()))?;
    let value: Value = serde_json::from_str(&text).context("docs/support.json")?;
    value.as_array().context("docs/support.json is no list")?.iter().map(from_json).collect()
}

fn to_json(run: &Run) -> Value {
    let checks = run.outcomes.iter().map(|(name, outcome)| {
        (name.clone(), json!({"feature": outcome.feature, "result": outcome.result}))
    });
    json!({
        "kernel": run.kernel,
        "hooks asked for": run.way,
        "release": run.release,
        "hooks": run.hooks,
        "checks": checks.collect::<serde_json::Map<_, _>>(),
    })
}

fn from_json(value: &Value) -> Result<Run> {
    let text = |value: &Value| value.as_str().map(str::to_owned).context("a text is missing");
    let map = |name: &str| value[name].as_object().with_context(|| format!("no {name}"));
    let outcome = |value: &Value| -> Result<Outcome> {
        Ok(Outcome { feature: text(&value["feature"])?, result: text(&value["result"])? })
    };
    let hooks = map("hooks")?.iter().map(|(name, hook)| Ok((name.clone(), text(hook)?)));
    let outcomes = map("checks")?.iter().map(|(name, check)| Ok((name.clone(), outcome(check)?)));
    Ok(Run {
        kernel: text(&value["kernel"])?,
        way: text(&value["hooks asked for"])?,
        release: text(&value["release"])?,
        hooks: hooks.collect::<Result<_>>()?,
        outcomes: outcomes.collect::<Result<_>>()?,
    })
}

// --- the page ---

const HEAD: &str = "\
# What works on which kernel

Written by `cargo xtask vm --full` from runs of the core scenario (tests/vm/core) on Debian's cloud kernels
in QEMU; do not edit. `cargo xtask vm core` and the unit tests say when it is no longer true.
";

fn rendered(runs: &[Run]) -> String {
    let mut text = HEAD.to_owned();
    let best: Vec<_> = runs.iter().filter(|run| run.way == "auto").collect();
    text.push_str("\n## Hooks that each kernel gets by itself\n\n");
    let features = names(best.iter().flat_map(|run| run.hooks.keys().map(|name| (name, name))));
    let columns = best.iter().map(|run| format!("{} ({})", run.kernel, run.release));
    table(&mut text, columns, &features, |feature| {
        best.iter().map(|run| run.hooks.get(feature).map_or("?", String::as_str)).collect()
    });
    text.push_str(
        "\n## What works under which hooks\n\nThe same spans in every column; `btf` is `--btf FILE` on a \
         kernel that shows no type information of its own. Calls that a kernel does not show are those that a \
         program misses while another run of it is put off the same processor: under emulation they are far \
         more than on a machine. They are counted (`kernel_skipped`).\n\n",
    );
    let lacking = matrix().filter(|(series, way)| !has(runs, series, way));
    let lacking: Vec<_> = lacking.map(|(series, way)| format!("{series} {way}")).collect();
    if !lacking.is_empty() {
        text.push_str(&format!("Not run yet: {}.\n\n", lacking.join(", ")));
    }
    let checks = names(
        runs.iter().flat_map(|run| run.outcomes.iter().map(|(name, one)| (name, &one.feature))),
    );
    let shown = |run: &Run| {
        let hook = run.hooks.get("payload").map_or("?", String::as_str);
        let asked = if run.way == "btf" { ", btf" } else { "" };
        format!("{} {hook}{asked}", run.kernel)
    };
    table(&mut text, runs.iter().map(shown), &checks, |check| {
        let result =
            |run: &'_ Run| run.outcomes.get(check).map_or("?".to_owned(), |one| one.result.clone());
        runs.iter().map(result).collect::<Vec<_>>()
    });
    text
}

/// Each name once, with how it is shown.
fn names<'a>(all: impl Iterator<Item = (&'a String, &'a String)>) -> Vec<(String, String)> {
    let names: BTreeMap<_, _> = all.collect();
    names.into_iter().map(|(name, shown)| (name.clone(), shown.clone())).collect()
}

fn table<T: AsRef<str>>(
    text: &mut String,
    columns: impl Iterator<Item = String>,
    rows: &[(String, String)],
    cells: impl Fn(&str) -> Vec<T>,
) {
    let heads: Vec<_> = columns.collect();
    text.push_str(&format!("| | {} |\n|---|{}\n", heads.join(" | "), "---|".repeat(heads.len())));
    for (name, shown) in rows {
        let cells = cells(name);
        let cells: Vec<_> = cells.iter().map(|cell| cell.as_ref().replace('|', "/")).collect();
        text.push_str(&format!("| {shown} | {} |\n", cells.join(" | ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// A check, a kernel or a plan that was added, removed or moved to another release since the runs.
    #[test]
    fn the_support_page_is_not_stale() {
        let runs = read().unwrap();
        let page = fs::read_to_string(page()).unwrap();
        assert_eq!(page, rendered(&runs), "docs/support.md is not of docs/support.json: {COMMAND}");
        let have: BTreeSet<_> =
            runs.iter().map(|run| (run.kernel.as_str(), run.way.as_str())).collect();
        // What was not run yet is said on the page, and fails `cargo xtask vm core`.
        let strange: Vec<_> = have.difference(&matrix().collect()).copied().collect();
        assert!(strange.is_empty(), "{strange:?} are no longer run: {COMMAND}");
        for kernel in KERNELS.iter().filter(|kernel| !kernel.full.is_empty()) {
            let mut of = runs.iter().filter(|run| run.kernel == kernel.series);
            assert!(of.all(|run| run.release == kernel.pinned), "{}: {COMMAND}", kernel.pinned);
        }
        let checks = fs::read_dir(paths::root().join("tests/vm/core/checks")).unwrap();
        let checks: BTreeSet<_> = checks
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|suffix| suffix == "py"))
            .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
            .filter(|name| name != "__init__")
            .collect();
        for run in &runs {
            let known: BTreeSet<_> = run.outcomes.keys().cloned().collect();
            assert_eq!(known, checks, "{run}: {COMMAND}");
        }
    }

    #[test]
    fn what_is_written_is_read_and_shown() {
        let outcome = Outcome { feature: "A".into(), result: "no: b|c".into() };
        let run = Run {
            kernel: "6.1".into(),
            way: "auto".into(),
            release: "6.1.0".into(),
            hooks: BTreeMap::from([("payload".into(), "fexit".into())]),
            outcomes: BTreeMap::from([("a".into(), outcome)]),
        };
        assert_eq!(from_json(&to_json(&run)).unwrap(), run);
        let page = rendered(std::slice::from_ref(&run));
        assert!(page.contains("| | 6.1 (6.1.0) |\n|---|---|\n| payload | fexit |\n"), "{page}");
        assert!(page.contains("| | 6.1 fexit |\n|---|---|\n| A | no: b/c |\n"), "{page}");
    }
}
