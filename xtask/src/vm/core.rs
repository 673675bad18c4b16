//! The core scenario: the same programs under every kernel and plan of hooks have to give the same spans.
//! What the runs show is docs/support.json, and docs/support.md is written from it.
//!
//! The scenario itself is `tests/vm/core/run.py`, one file a check in `tests/vm/core/checks/`: a new file
//! there is a new row, and takes part in every comparison.

mod support;

use super::kernels::{KERNELS, Kernel};
use crate::command::{self, command};
use crate::{build, paths};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;
use std::time::Duration;
use support::{Outcome, Run};

/// What one plan may take: 40 s on a machine that does nothing else.
const ONE_PLAN: Duration = Duration::from_secs(300);
/// What a boot may take.
const BOOT: Duration = Duration::from_secs(60);

/// Begins the line with which a run ends.
const RESULT: &str = "kernspan-vm-core: ";

/// Where the program with Go's TLS lies.
pub(super) const GO_TLS: &str = "tests/workloads/gotls";

/// Programs out of the tests' crate: that with io_uring and MPTCP, and that with rustls.
const OWN: [&str; 2] = ["uring_http", "rustls_http"];

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// What continuous integration runs.
    Core,
    /// Every plan. Writes docs/support.
    Full,
}

/// Runs the scenario on kernels of these names, or all; reports each kernel, the comparison, and whether
/// docs/support says the same.
pub fn run(
    extent: Extent,
    only: &[String],
    mut report: impl FnMut(&str, Result<()>),
) -> Result<()> {
    let agent = match env::var_os("KERNSPAN_BIN") {
        Some(given) => PathBuf::from(given),
        None => build::run()?,
    };
    // Its name is its service.
    let go = go_program("tests/vm/core/go", "core-go")?;
    let programs = programs()?;
    let mut runs = Vec::new();
    for kernel in &KERNELS {
        let ways = ways(kernel, extent);
        if ways.is_empty() || !only.is_empty() && !only.iter().any(|name| name == kernel.series) {
            continue;
        }
        let files = paths::cache("kernels").join(kernel.series);
        let environment = format!("{programs}export KERNSPAN_VM_KERNEL='{}'\n", files.display());
        let script = environment + &script(&agent.display().to_string(), &go, ways);
        // Emulated processors stall at times: a kernel gets one more chance, and it is said.
        let once = || on_kernel(kernel, ways, &script);
        let result = once().or_else(|error| {
            println!("vm: {}: {error:#}; once more", kernel.series);
            once()
        });
        let name = format!("vm core {} ({})", kernel.series, ways.join(", "));
        match result {
            Ok(found) => {
                runs.extend(found);
                report(&name, Ok(()));
            }
            Err(error) => report(&name, Err(error)),
        }
    }
    report("vm core: the same spans everywhere", same(&runs));
    let runs: Vec<_> = runs.into_iter().map(|(run, _)| run).collect();
    match extent {
        Extent::Core => report("docs/support.json says the same", support::agrees(&runs)),
        Extent::Full => support::write(runs)?,
    }
    Ok(())
}

/// Ways to attach that a kernel is run with.
fn ways(kernel: &Kernel, extent: Extent) -> &'static [&'static str] {
    match extent {
        Extent::Core => kernel.core,
        Extent::Full => kernel.full,
    }
}

/// A program in Go, `none` without Go.
pub(super) fn go_program(source: &str, name: &str) -> Result<String> {
    let Some(go) = paths::program("go") else {
        println!("vm: no Go here: the checks that need it are left out");
        return Ok("none".to_owned());
    };
    let program = paths::target().join("vm-core").join(name);
    let mut build = command(&go.display().to_string(), ["build", "-trimpath", "-o"]);
    build.arg(&program).arg(".").current_dir(paths::root().join(source));
    command::run(build.env("CGO_ENABLED", "0"))?;
    Ok(program.display().to_string())
}

/// Other programs that checks need, as lines of the environment: their paths, or `none`.
fn programs() -> Result<String> {
    let mut cargo = command("cargo", ["build", "--package", "kernspan-tests"]);
    cargo.args(OWN.iter().flat_map(|name| ["--bin", name]));
    command::run(cargo.current_dir(paths::root()))?;
    let [uring, rustls] = OWN.map(|name| paths::target().join("debug").join(name));
    let narrow = paths::target().join("vm-core/http32");
    let flags = ["-m32", "-O1", "-static", "-nostdlib", "-ffreestanding", "-fno-pie", "-no-pie"];
    let mut compile = command("gcc", flags);
    compile.arg("-fno-stack-protector").arg("-o").arg(&narrow);
    compile.arg(paths::root().join("tests/vm/core/http32.c"));
    std::fs::create_dir_all(paths::target().join("vm-core"))?;
    let narrow = match command::run(&mut compile) {
        Ok(()) => narrow.display().to_string(),
        Err(error) => {
            println!("vm: no 32-bit program: {error:#}");
            "none".to_owned()
        }
    };
    let gotls = go_program(GO_TLS, "gotls")?;
    Ok(format!(
        "export KERNSPAN_VM_URING='{}' KERNSPAN_VM_HTTP32='{narrow}'\n\
         export KERNSPAN_VM_RUSTLS='{}' KERNSPAN_VM_GOTLS='{gotls}'\n",
        uring.display(),
        rustls.display(),
    ))
}

/// `btf` is the kprobe plan where the kernel's own type information is hidden, and given as a file.
fn script(agent: &str, go: &str, ways: &[&str]) -> String {
    let run = paths::root().join("tests/vm/core/run.py").display().to_string();
    let mut script = "worst=0\n".to_owned();
    for way in ways {
        let (before, hooks, after) = match *way {
            "btf" => (
                "cp /sys/kernel/btf/vmlinux /run/vmlinux.btf; mount -n -t tmpfs none /sys/kernel/btf\n\
                 KERNSPAN_VM_BTF=/run/vmlinux.btf ",
                "auto",
                "umount /sys/kernel/btf\n",
            ),
            hooks => ("", hooks, ""),
        };
        script.push_str(&format!(
            "{before}timeout {limit} /usr/bin/python3 '{run}' '{agent}' '{go}' {hooks} || {{\n\
             echo \"WRONG: {way} ended with $?\"; worst=1; }}\n{after}",
            limit = ONE_PLAN.as_secs(),
        ));
    }
    script.push_str("exit $worst\n");
    script
}

/// What a check reported, by its name.
type Seen = BTreeMap<String, Vec<String>>;

fn on_kernel(kernel: &Kernel, ways: &[&str], script: &str) -> Result<Vec<(Run, Seen)>> {
    // In a shell of its own: the guest has something to say after it.
    let script = format!("(\n{script})");
    let limit = ONE_PLAN * u32::try_from(ways.len()).unwrap_or(u32::MAX) + BOOT;
    let output = super::run(kernel, &script, limit)?;
    let (results, text): (Vec<_>, Vec<_>) =
        output.text.lines().partition(|line| line.starts_with(RESULT));
    let text = text.join("\n");
    ensure!(output.status == 0, "the scenario ended with {}:\n{text}", output.status);
    ensure!(results.len() == ways.len(), "{} results, {} expected", results.len(), ways.len());
    let read = |(line, way): (&str, &&str)| {
        let json = line.strip_prefix(RESULT).unwrap_or(line);
        let value = serde_json::from_str(json).context("a result is no JSON")?;
        one(kernel.series, way, &value)
    };
    results.into_iter().zip(ways).map(read).collect()
}

fn one(series: &str, way: &str, value: &Value) -> Result<(Run, Seen)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let hooks = value["hooks"].as_object().context("a result without hooks")?;
    let checks = value["checks"].as_object().context("a result without checks")?;
    let mut seen = Seen::new();
    let mut outcomes = BTreeMap::new();
    for (name, check) in checks {
        let lines = check["seen"].as_array().map(Vec::as_slice).unwrap_or_default();
        let lacks = check["lacks"].as_str();
        let skipped = check["skipped"].as_u64().is_some();
        if lacks.is_none() && !skipped {
            seen.insert(name.clone(), lines.iter().map(text).collect());
        }
        let result = match lacks {
            Some(reason) => format!("no: {reason}"),
            None if skipped => "yes, but for calls that the kernel does not show".to_owned(),
            None => "yes".to_owned(),
        };
        outcomes.insert(name.clone(), Outcome { feature: text(&check["feature"]), result });
    }
    let hooks = hooks.iter().map(|(feature, hook)| (feature.clone(), text(hook))).collect();
    let release = text(&value["release"]);
    let run = Run { kernel: series.to_owned(), way: way.to_owned(), release, hooks, outcomes };
    Ok((run, seen))
}

/// Every check was reported the same wherever it ran.
fn same(runs: &[(Run, Seen)]) -> Result<()> {
    let mut first: BTreeMap<&str, (&Run, &[String])> = BTreeMap::new();
    let mut differences = Vec::new();
    for (run, seen) in runs {
        for (check, lines) in seen {
            let (other, expected) = *first.entry(check).or_insert((run, lines));
            if expected != lines.as_slice() {
                differences
                    .push(format!("{check}: {run} and {other}: {}", difference(lines, expected)));
            }
        }
    }
    if differences.is_empty() { Ok(()) } else { bail!("{}", differences.join("\n  ")) }
}

/// The first lines that only one of two has.
fn difference(one: &[String], other: &[String]) -> String {
    let only = |a: &[String], b: &[String]| {
        let lines: Vec<_> = a.iter().filter(|line| !b.contains(line)).take(3).cloned().collect();
        lines.join("; ")
    };
    format!("only the first has [{}], only the second [{}]", only(one, other), only(other, one))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(line: &str) -> Value {
        let checks =
            format!(r#"{{"a": {{"feature": "A", "wrong": [], "seen": ["x", "{line}"]}}}}"#);
        let text = format!(
            r#"{{"release": "6.1.0", "hooks": {{"payload": "fexit"}}, "checks": {checks}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn runs_that_report_otherwise_are_named_with_what_differs() {
        let run = |series, line| one(series, "auto", &result(line)).unwrap();
        assert!(same(&[run("6.1", "y"), run("6.12", "y")]).is_ok());
        let error = same(&[run("6.1", "y"), run("6.12", "z")]).unwrap_err().to_string();
        assert_eq!(error, "a: 6.12 auto and 6.1 auto: only the first has [z], only the second [y]");
    }

    #[test]
    fn a_check_that_lost_calls_to_the_kernel_is_not_compared() {
        let text =
            r#"{"release": "7.3", "hooks": {}, "checks": {"a": {"feature": "A", "skipped": 3}}}"#;
        let (run, seen) = one("newest", "auto", &serde_json::from_str(text).unwrap()).unwrap();
        assert!(run.outcomes["a"].result.starts_with("yes, but"), "{:?}", run.outcomes);
        assert!(seen.is_empty());
    }

    #[test]
    fn a_check_that_a_kernel_lacks_is_not_compared() {
        let text = r#"{"release": "5.10", "hooks": {}, "checks": {"a": {"feature": "A", "lacks": "why"}}}"#;
        let (run, seen) = one("5.10", "auto", &serde_json::from_str(text).unwrap()).unwrap();
        assert_eq!(run.outcomes["a"].result, "no: why");
        assert!(seen.is_empty());
    }
}
