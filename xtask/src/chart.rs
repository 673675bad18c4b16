//! `cargo xtask chart`: the Helm chart is sound, and the plain manifests are what it gives.

use crate::command::{self, command};
use crate::paths;
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::fs;
use std::path::PathBuf;

/// Helm, built from its module where Go is.
const HELM: &str = "3.19.0";

/// The Kubernetes that the plain manifests are for, and the oldest that the chart takes.
const KUBERNETES: [&str; 2] = ["1.34.0", "1.23.0"];

/// What to do.
#[derive(Debug, Args)]
pub struct Options {
    /// Write deploy/kubernetes/kernspan.yaml anew.
    #[arg(long)]
    write: bool,
}

/// Lints, renders, compares.
pub fn run(options: &Options) -> Result<()> {
    let helm = helm()?.to_string_lossy().into_owned();
    let chart = paths::root().join("deploy/helm/kernspan");
    let helm = |arguments: &[&str]| {
        let mut helm = command(&helm, arguments.iter().copied());
        command::output(helm.arg(&chart))
    };
    helm(&["lint", "--strict"])?;
    let [newest, oldest] = KUBERNETES;
    let render = |version| {
        helm(&["template", "--namespace", "kernspan", "--kube-version", version, "kernspan"])
    };
    ensure!(render(oldest)?.contains("apparmor.security.beta"), "old clusters know no other word");
    network_policy(&helm)?;
    privileged(&helm)?;
    digits(&helm)?;
    let text = format!("{HEAD}{}", render(newest)?);
    let file = paths::root().join("deploy/kubernetes/kernspan.yaml");
    if options.write {
        fs::write(&file, &text)?;
    }
    let known = fs::read_to_string(&file).context("no plain manifests")?;
    ensure!(known == text, "{} is not what the chart gives: --write", file.display());
    println!("chart: sound, and the plain manifests are what it gives");
    Ok(())
}

/// It is made only where it is asked for, and lets in nobody, or whom the values name.
fn network_policy(helm: &impl Fn(&[&str]) -> Result<String>) -> Result<()> {
    const ENABLED: &str = "networkPolicy.enabled=true";
    let render = |values: &str| {
        helm(&["template", "--kube-version", KUBERNETES[0], "--set", values, "kernspan"])
    };
    ensure!(!render("networkPolicy.enabled=false")?.contains("NetworkPolicy"), "unasked");
    ensure!(render(ENABLED)?.contains("\n  ingress: []\n"), "a policy without peers is open");
    let from = format!("{ENABLED},networkPolicy.from[0].ipBlock.cidr=10.0.0.0/8");
    let one = render(&from)?;
    let rule = "    - from:\n        - ipBlock:\n            cidr: 10.0.0.0/8\n      ports:\n        \
        - {port: metrics, protocol: TCP}\n";
    ensure!(one.contains(rule), "no rule for its peer in {one}");
    Ok(())
}

/// Where it is asked for, it stands in place of what it makes void, or what the API server refuses beside it.
fn privileged(helm: &impl Fn(&[&str]) -> Result<String>) -> Result<()> {
    const SET: &str = "securityContext.privileged=true";
    let text = helm(&["template", "--kube-version", KUBERNETES[0], "--set", SET, "kernspan"])?;
    for line in ["privileged: true", "allowPrivilegeEscalation: true", "runAsUser: 0"] {
        ensure!(text.lines().any(|found| found.trim() == line), "no {line} in {text}");
    }
    for word in ["capabilities:", "seccompProfile:"] {
        ensure!(!text.contains(word), "{word} beside privileged in {text}");
    }
    Ok(())
}

/// Names may be digits, which YAML takes for numbers, and the API server for mistakes.
fn digits(helm: &impl Fn(&[&str]) -> Result<String>) -> Result<()> {
    const SET: &str =
        "networkPolicy.enabled=true,otlp.secret=789,serviceAccount.name=789,priorityClass.name=789";
    let [version, _] = KUBERNETES;
    let render = ["template", "--namespace", "456", "--kube-version", version];
    let text = helm(&[&render[..], &["--set-string", SET, "123"]].concat())?;
    ensure!(text.contains("app.kubernetes.io/instance: \"123\"\n"), "another label in {text}");
    let number = |line: &&str| {
        let (_, value) = line.rsplit_once(": ").unwrap_or_default();
        matches!(value.trim_end_matches('}'), "123" | "456" | "789")
    };
    let wrong: Vec<&str> = text.lines().filter(number).collect();
    ensure!(wrong.is_empty(), "numbers in place of texts: {wrong:?}");
    Ok(())
}

const HEAD: &str = "\
# kernspan on every node: kubectl apply -f kernspan.yaml
# Made from the chart in ../helm by `cargo xtask chart --write`. Change image and endpoint to yours.
apiVersion: v1
kind: Namespace
metadata:
  name: kernspan
  labels:
    # Where clusters admit no more than baseline by themselves: it looks at the node's processes.
    pod-security.kubernetes.io/enforce: privileged
";

/// Helm's path; builds it when it is not there.
pub fn helm() -> Result<PathBuf> {
    let directory = paths::cache("helm").join(HELM);
    let program = directory.join("helm");
    if !program.is_file() {
        let module = format!("helm.sh/helm/v3/cmd/helm@v{HELM}");
        let mut go = command("go", ["install", &module]);
        command::run(go.env("GOBIN", &directory).env("GOFLAGS", "-mod=mod"))?;
    }
    Ok(program)
}
