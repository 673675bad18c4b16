//! What CI runs, and what anyone can run: `cargo xtask COMMAND`.

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

mod bench;
mod build;
mod chart;
mod command;
mod deb;
mod demo;
mod fuzz;
mod image;
mod k8s;
mod paths;
mod promises;
mod service;
mod setup;
mod soak;
mod test;
mod usage;
mod vm;
mod watcher;
mod web;

/// Set-up, build, tests, virtual machines and benchmarks of kernspan.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install what is missing for building and testing; a second run changes nothing.
    Setup(setup::Options),
    /// Build the kernel object and target/release/kernspan, which contains it.
    Build,
    /// Build, then run kernspan with the given arguments.
    Run {
        /// What kernspan is given.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Set up, build, and show linked traces of four untouched programs.
    Demo,
    /// Lint, unit, replay, kernel, vm and fuzz tests; the last line is `N passed, N failed`.
    Test(test::Options),
    /// Run the scenario, or a command, under other Debian kernels in QEMU.
    Vm(vm::Options),
    /// Measure what kernspan costs.
    Bench(bench::Options),
    /// Run a mixed load for long, and check that the agent's use of the machine does not grow.
    Soak(soak::Options),
    /// Fuzz the parsers and decoders.
    Fuzz(fuzz::Options),
    /// Build the OCI image, into an archive.
    Image(image::Options),
    /// Check the Helm chart, and that the plain manifests are what it gives.
    Chart(chart::Options),
    /// Show the image and the chart on a real Kubernetes of one node.
    K8s(k8s::Options),
    /// Build the Debian package.
    Deb(deb::Options),
    /// Check that every promise in docs/promises.md names an existing test.
    Promises,
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Setup(options) => setup::run(&options)?,
        Task::Build => drop(build::run()?),
        Task::Run { arguments } => build::exec(&arguments)?,
        Task::Demo => demo::run()?,
        Task::Test(options) => return test::run(&options),
        Task::Vm(options) => return vm::run_cli(&options),
        Task::Bench(options) => bench::run(&options)?,
        Task::Soak(options) => soak::run(&options)?,
        Task::Fuzz(options) => fuzz::run(&options)?,
        Task::Image(options) => image::run(&options)?,
        Task::Chart(options) => chart::run(&options)?,
        Task::K8s(options) => k8s::run(&options)?,
        Task::Deb(options) => deb::run(&options)?,
        Task::Promises => promises::run()?,
    }
    Ok(ExitCode::SUCCESS)
}
