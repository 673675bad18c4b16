//! `cargo xtask image`: the agent as an OCI image, in an archive. Needs buildah, and no daemon.
//!
//! From an empty image: the binary, linked statically, and its licence. Without a libc beside it there
//! is nobody else's code to keep up to date, and nothing to run for whoever gets in.

use crate::command::{self, command};
use crate::{build, paths};
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Largest archive; its one layer is not compressed.
const MAX_BYTES: u64 = 25_000_000;

/// Where the binary and its licence are in the image.
const BINARY: &str = "/usr/bin/kernspan";
const LICENCE: &str = "/usr/share/doc/kernspan/LICENSE";

/// What to make.
#[derive(Debug, Args)]
pub struct Options {
    /// The archive [default: target/image/kernspan-VERSION.tar].
    #[arg(long)]
    output: Option<PathBuf>,
}

/// Builds the image and says what it is.
pub fn run(options: &Options) -> Result<()> {
    let archive = build(options.output.as_deref())?;
    let bytes = fs::metadata(&archive)?.len();
    println!("image: {} ({:.1} MB), {}", archive.display(), bytes as f64 / 1e6, name());
    println!("try: podman load -i {}", archive.display());
    Ok(())
}

/// Name and tag of the image.
pub fn name() -> String {
    format!("localhost/kernspan:{}", env!("CARGO_PKG_VERSION"))
}

/// Where the archive is, unless it is told.
pub fn archive() -> PathBuf {
    paths::target().join(format!("image/kernspan-{}.tar", env!("CARGO_PKG_VERSION")))
}

/// Builds the image; the archive's path.
pub fn build(output: Option<&Path>) -> Result<PathBuf> {
    let directory = paths::target().join("image");
    fs::create_dir_all(&directory)?;
    let binary = static_agent(&directory)?;
    let archive = output.map_or_else(archive, Path::to_path_buf);
    // buildah adds to an archive that is there.
    let _ = fs::remove_file(&archive);
    let storage = Storage(directory.join("storage"));
    storage.commit(&binary, &archive)?;
    drop(storage);
    let bytes = fs::metadata(&archive)?.len();
    // A build without link-time optimisation, for trying things out, is larger by a quarter.
    ensure!(bytes <= MAX_BYTES, "the image has {bytes} bytes, more than {MAX_BYTES}");
    Ok(archive)
}

/// The agent without an interpreter or libraries, stripped. Of what `cargo xtask build` makes only the
/// last step is made again.
fn static_agent(directory: &Path) -> Result<PathBuf> {
    let object = build::kernel_object()?;
    let arguments = ["rustc", "--release", "--package", "agent", "--bin", "kernspan", "--"];
    let mut cargo = command("cargo", arguments);
    cargo.args(["-C", "target-feature=+crt-static", "-C", "strip=symbols"]);
    command::run(cargo.env("KERNSPAN_OBJECT", &object))?;
    let binary = directory.join("kernspan");
    fs::copy(paths::agent(), &binary).context("the static agent was not built")?;
    // The ordinary one goes back to its place: others expect it there.
    build::run()?;
    let bytes = fs::read(&binary)?;
    ensure!(!has_interpreter(&bytes), "{} is not linked statically", binary.display());
    Ok(binary)
}

/// An ELF file that wants a dynamic loader has the loader's path in it.
fn has_interpreter(elf: &[u8]) -> bool {
    let head = elf.get(..4096).unwrap_or(elf);
    head.windows(9).any(|window| window == b"ld-linux-")
}

/// Images of buildah's, apart from the machine's. Removed when dropped.
struct Storage(PathBuf);

impl Storage {
    fn buildah(&self, arguments: &[&str]) -> Command {
        let at = |name: &str| self.0.join(name).to_string_lossy().into_owned();
        let mut buildah = command("buildah", ["--storage-driver", "vfs"]);
        buildah.args(["--root", &at("root"), "--runroot", &at("run")]).args(arguments);
        buildah
    }

    fn commit(&self, binary: &Path, archive: &Path) -> Result<()> {
        let container = command::output(&mut self.buildah(&["from", "scratch"]))?;
        let container = container.trim();
        let licence = paths::root().join("LICENSE");
        for (from, mode, to) in [(binary, "0755", BINARY), (licence.as_path(), "0644", LICENCE)] {
            let from = from.to_string_lossy();
            let copy = ["copy", "--quiet", "--chown", "0:0", "--chmod", mode, container, &from, to];
            command::output(&mut self.buildah(&copy))?;
        }
        let version = concat!("org.opencontainers.image.version=", env!("CARGO_PKG_VERSION"));
        let entry = format!("[{BINARY:?}]");
        let config = [
            ["--entrypoint", entry.as_str()],
            ["--cmd", "run"],
            ["--user", "0:0"],
            ["--label", "org.opencontainers.image.title=kernspan"],
            ["--label", version],
            ["--label", "org.opencontainers.image.licenses=Apache-2.0"],
        ];
        let config: Vec<&str> = config.concat();
        let config = [["config"].as_slice(), &config, &[container]].concat();
        command::output(&mut self.buildah(&config))?;
        let to = format!("oci-archive:{}:{}", archive.display(), name());
        // The same input gives the same image: no time of its making in it.
        let commit = ["commit", "--quiet", "--rm", "--timestamp", "0", container, &to];
        command::output(&mut self.buildah(&commit)).map(drop)
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("image: {} stays behind: {error}", self.0.display());
        }
    }
}
