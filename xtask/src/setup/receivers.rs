//! Receivers of OTLP: built once, cached outside the tree by version.

use super::{Level, announce};
use crate::command::{self, command};
use crate::paths;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

const COLLECTOR: &str = "0.159.0";
const JAEGER: &str = "1.76.0";

/// The OpenTelemetry Collector, once it is built.
pub fn collector() -> PathBuf {
    paths::cache("collector").join(COLLECTOR).join("otelcol")
}

/// Jaeger, once it is built.
fn jaeger() -> PathBuf {
    paths::cache("jaeger").join(JAEGER).join("jaeger")
}

/// Builds the Collector and Jaeger for the tests that export to them. Debian 12 has no Go that is
/// recent enough: where there is none, tests go without, and say so.
pub fn install(level: Level) -> Result<()> {
    if level < Level::Test || (collector().is_file() && jaeger().is_file()) {
        return Ok(());
    }
    if !command::succeeds(&mut command("go", ["version"])) {
        println!("setup: no Go, so no OpenTelemetry Collector and no Jaeger: tests skip them");
        return Ok(());
    }
    if !collector().is_file() {
        announce(&format!("OpenTelemetry Collector {COLLECTOR}"), "export tests; 2 to 3 minutes")?;
        build_collector(&parent(&collector())?)?;
    }
    if !jaeger().is_file() {
        announce(&format!("Jaeger {JAEGER}"), "one export test; 1.3 GB of modules, 3 minutes")?;
        build_jaeger(&parent(&jaeger())?)?;
    }
    Ok(())
}

fn parent(file: &Path) -> Result<PathBuf> {
    let directory = file.parent().context("no directory")?;
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory.to_path_buf())
}

fn build_collector(directory: &Path) -> Result<()> {
    let tools = directory.join("tools");
    let builder = format!("go.opentelemetry.io/collector/cmd/builder@v{COLLECTOR}");
    let mut go = command("go", ["install", &builder]);
    command::run(go.env("GOBIN", &tools).env("GOFLAGS", "-mod=mod"))?;
    let manifest = directory.join("builder.yaml");
    fs::write(&manifest, include_str!("collector-builder.yaml"))?;
    let program = tools.join("builder");
    let mut build = command(&program.to_string_lossy(), ["--config"]);
    command::run(build.arg(&manifest).current_dir(directory))?;
    fs::rename(directory.join("build/otelcol"), directory.join("otelcol"))?;
    fs::remove_dir_all(directory.join("build")).context("the builder's sources")
}

/// `go install` refuses modules with replace lines: a module that names the command as its tool.
fn build_jaeger(directory: &Path) -> Result<()> {
    let module = directory.join("module");
    fs::create_dir_all(&module)?;
    fs::write(module.join("go.mod"), "module tools\n\ngo 1.26\n")?;
    let require = format!("-require=github.com/jaegertracing/jaeger@v{JAEGER}");
    let go = |arguments: &[&str]| {
        let mut go = command("go", arguments);
        command::run(go.current_dir(&module).env("GOFLAGS", "-mod=mod"))
    };
    let tool = "github.com/jaegertracing/jaeger/cmd/jaeger";
    go(&[
        "mod",
        "edit",
        &require,
        &format!("-tool={tool}"),
        "-replace=github.com/Shopify/sarama=github.com/Shopify/sarama@v1.33.0",
    ])?;
    let source = command::output(
        command("go", ["mod", "download", "-json", &require[9..]]).current_dir(&module),
    )?;
    let source: serde_json::Value = serde_json::from_str(&source)?;
    // Two contrib modules have checksums only in Jaeger's own list.
    let sums = source["Dir"].as_str().context("no directory of the module")?;
    fs::copy(Path::new(sums).join("go.sum"), module.join("go.sum"))?;
    go(&["mod", "tidy"])?;
    go(&["build", "-o", &directory.join("jaeger").to_string_lossy(), tool])
}
