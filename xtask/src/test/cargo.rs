//! Runs of `cargo test`: what needs no kernel feature, replays, scenarios on this kernel.

use super::Deadline;
use super::libtest::{Reader, Tally};
use super::skips::Skips;
use crate::command::{self, command};
use crate::{build, paths};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;

/// The crate of scenarios.
const SCENARIOS: &str = "kernspan-tests";

/// Part of the name of every test that needs the image.
const IMAGE_TESTS: &str = "the_image_";

/// Tests of every crate, and the scenario crate's own library.
pub fn unit(filter: Option<&str>, deadline: Deadline, tally: &mut Tally) -> Result<()> {
    let object = build::kernel_object()?;
    let crates = ["test", "--workspace", "--exclude", SCENARIOS, "--no-fail-fast"];
    cargo_test("unit", &crates, filter, &["--show-output"], &object, deadline, tally)?;
    let library = ["test", "--package", SCENARIOS, "--lib"];
    cargo_test("tests, library", &library, filter, &["--show-output"], &object, deadline, tally)
}

/// Scenario files whose name begins with `replay`.
pub fn replay(filter: Option<&str>, deadline: Deadline, tally: &mut Tally) -> Result<()> {
    run_files(|name| name.starts_with("replay"), filter, deadline, tally)
}

/// All other scenario files, one test at a time: each attaches an agent to the whole machine.
pub fn scenarios(filter: Option<&str>, deadline: Deadline, tally: &mut Tally) -> Result<()> {
    run_files(|name| !name.starts_with("replay"), filter, deadline, tally)
}

fn run_files(
    wanted: impl Fn(&str) -> bool,
    filter: Option<&str>,
    deadline: Deadline,
    tally: &mut Tally,
) -> Result<()> {
    let object = build::kernel_object()?;
    build::run()?;
    let files: Vec<_> = scenario_files()?.into_iter().filter(|name| wanted(name)).collect();
    ensure!(!files.is_empty(), "no scenario of this phase in tests/tests");
    // Also the workloads in src/bin, which `--test` alone would not rebuild.
    command::run(&mut command("cargo", ["build", "--package", SCENARIOS, "--bins"]))?;
    for file in files {
        if file == "image"
            && filter
                .is_none_or(|filter| filter.contains(IMAGE_TESTS) || IMAGE_TESTS.contains(filter))
        {
            tally.check("image", crate::image::build(None).map(drop));
        }
        let arguments = ["test", "--package", SCENARIOS, "--test", &file];
        let options = ["--test-threads=1", "--nocapture"];
        cargo_test(&file, &arguments, filter, &options, &object, deadline, tally)?;
    }
    Ok(())
}

/// Files directly in `tests/tests`, without their suffix, sorted.
fn scenario_files() -> Result<Vec<String>> {
    let directory = paths::root().join("tests/tests");
    let entries =
        fs::read_dir(&directory).with_context(|| format!("no {}", directory.display()))?;
    let mut names: Vec<_> = entries
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".rs")?.to_owned()))
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// One `cargo test`, its output passed through and counted; stopped at the phase's deadline.
fn cargo_test(
    name: &str,
    arguments: &[&str],
    filter: Option<&str>,
    options: &[&str],
    object: &Path,
    deadline: Deadline,
    tally: &mut Tally,
) -> Result<()> {
    let mut cargo = command("cargo", arguments);
    cargo.arg("--").args(filter).args(options);
    cargo.env("KERNSPAN_OBJECT", object).env("KERNSPAN_BIN", paths::agent());
    cargo.env("KERNSPAN_IMAGE", crate::image::archive());
    let skips = Skips::of_this_kernel();
    let mut reader = Reader::new(&skips);
    let result = command::lines(&mut cargo, deadline.left(), |line| {
        println!("{line}");
        reader.line(line);
    });
    let succeeded = result.as_ref().is_ok_and(|status| status.success());
    tally.add(&reader.finish(name, succeeded));
    if let Err(error) = result {
        println!("FAILED  {name}: {error:#}");
    }
    Ok(())
}
