//! `cargo xtask k8s`: the image and the chart on a real Kubernetes of one node (tests/k8s).
//!
//! Kubernetes' own programs, built from its module (some five minutes, kept by version), Debian's
//! etcd and containerd, in network and mount namespaces that end with it.

use crate::command::{self, command};
use crate::setup::{debian, receivers};
use crate::{chart, image, paths};
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::fs;
use std::path::{Path, PathBuf};

/// Kubernetes, and the modules that are published from its tree.
const KUBERNETES: &str = "1.34.1";
const STAGING: &str = "0.34.1";

/// What runs, and what asks.
const PROGRAMS: [&str; 5] =
    ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl"];

/// Packages, with a file of each.
const PACKAGES: [(&str, &str); 3] = [
    ("etcd-server", "/usr/bin/etcd"),
    ("containerd", "/usr/bin/containerd"),
    ("containernetworking-plugins", "/usr/lib/cni/bridge"),
];

/// How to run it.
#[derive(Debug, Args)]
pub struct Options {
    /// Seconds without the API server.
    #[arg(long, default_value_t = 60)]
    absent: u32,
    /// An archive of `cargo xtask image` that is built already.
    #[arg(long)]
    image: Option<PathBuf>,
}

/// Builds what is missing, and runs it.
pub fn run(options: &Options) -> Result<()> {
    let missing = PACKAGES.iter().filter(|(_, file)| !Path::new(file).exists());
    let missing: Vec<&str> = missing.map(|(package, _)| *package).collect();
    if !missing.is_empty() {
        debian::fetch(&missing)?;
    }
    let programs = programs()?;
    let collector = receivers::collector();
    ensure!(collector.is_file(), "no Collector: cargo xtask setup builds it where Go is");
    let helm = chart::helm()?;
    let image = match &options.image {
        Some(archive) => archive.canonicalize().with_context(|| archive.display().to_string())?,
        None => image::build(None)?,
    };
    let script = paths::root().join("tests/k8s/run.py");
    let mut python = command("unshare", ["--net", "--mount", "--propagation", "private"]);
    python
        .args(["/usr/bin/python3", "-u", "-B"])
        .arg(script)
        .args([programs, helm, collector, image]);
    command::run(python.env("KERNSPAN_ABSENT", options.absent.to_string()))
}

/// The directory with Kubernetes' programs; builds those that are missing.
fn programs() -> Result<PathBuf> {
    let directory = paths::cache("kubernetes").join(KUBERNETES);
    if PROGRAMS.iter().all(|program| directory.join(program).is_file()) {
        return Ok(directory);
    }
    let module = directory.join("module");
    fs::create_dir_all(&module)?;
    fs::write(module.join("go.mod"), "module tools\n\ngo 1.24\n")?;
    let go = |arguments: &[&str]| {
        let mut go = command("go", arguments);
        go.current_dir(&module).env("GOFLAGS", "-mod=mod");
        go
    };
    let whole = format!("k8s.io/kubernetes@v{KUBERNETES}");
    // It refuses `go install`, since it replaces these by directories of its own tree.
    let told = command::output(&mut go(&["mod", "download", "-json", &whole]))?;
    let told: serde_json::Value = serde_json::from_str(&told)?;
    let text = fs::read_to_string(told["GoMod"].as_str().context("a module without go.mod")?)?;
    let mut edit = go(&["mod", "edit", &format!("-require={whole}")]);
    for line in text.lines().filter(|line| line.contains("=> ./staging/")) {
        let name = line.split_whitespace().find(|word| word.starts_with("k8s.io/"));
        let name = name.with_context(|| line.to_owned())?;
        edit.arg(format!("-replace={name}={name}@v{STAGING}"));
    }
    edit.args(PROGRAMS.map(|program| format!("-tool=k8s.io/kubernetes/cmd/{program}")));
    command::run(&mut edit)?;
    command::run(&mut go(&["mod", "tidy"]))?;
    let version = "k8s.io/component-base/version";
    let flags = format!(
        "-s -w -X {version}.gitVersion=v{KUBERNETES} -X {version}.gitMajor=1 -X {version}.gitMinor=34"
    );
    for program in PROGRAMS {
        let (to, package) = (directory.join(program), format!("k8s.io/kubernetes/cmd/{program}"));
        let to = to.to_string_lossy();
        command::run(&mut go(&["build", "-ldflags", &flags, "-o", &to, &package]))?;
    }
    Ok(directory)
}
