//! The programs that make calls which this one cannot: of OpenSSL, and of Go.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Where they are.
pub struct Programs {
    /// `SSL_write` at one end, `SSL_read` at the other.
    pub tls: PathBuf,
    /// Its certificate and key.
    certificate_file: PathBuf,
    key_file: PathBuf,
    /// The same in clear, from goroutines; none without Go.
    pub go: Option<PathBuf>,
    _directory: TempDir,
}

const TLS_SOURCE: &str = include_str!("tls.c");
const GO_SOURCE: &str = include_str!("pair.go");

impl Programs {
    /// Builds them.
    pub fn build() -> Result<Programs> {
        let directory = tempfile::tempdir()?;
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("tls.c"), TLS_SOURCE)?;
        let library = library().context("no libssl.so.3")?;
        let mut gcc = Command::new("gcc");
        gcc.args(["-O2", "-o"]).arg(path("tls")).arg(path("tls.c")).arg(library);
        run(&mut gcc)?;
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        std::fs::write(path("server.crt"), made.cert.pem())?;
        std::fs::write(path("server.key"), made.signing_key.serialize_pem())?;
        let go = go().map(|go| build_go(&go, &path("pair.go"), path("pair"))).transpose()?;
        Ok(Programs {
            tls: path("tls"),
            certificate_file: path("server.crt"),
            key_file: path("server.key"),
            go,
            _directory: directory,
        })
    }

    /// What the first of them is given.
    pub fn certificate(&self) -> [&Path; 2] {
        [&self.certificate_file, &self.key_file]
    }
}

fn build_go(go: &Path, source: &Path, program: PathBuf) -> Result<PathBuf> {
    std::fs::write(source, GO_SOURCE)?;
    let mut build = Command::new(go);
    build.args(["build", "-o"]).arg(&program).arg(source).env("GOFLAGS", "-mod=mod");
    run(&mut build)?;
    Ok(program)
}

/// Debian's library, without its headers.
fn library() -> Option<PathBuf> {
    let places = ["/usr/lib/x86_64-linux-gnu/libssl.so.3", "/usr/lib64/libssl.so.3"];
    places.map(PathBuf::from).into_iter().find(|path| path.exists())
}

fn go() -> Option<PathBuf> {
    let places = ["/usr/local/go/bin/go", "/usr/bin/go"];
    places.map(PathBuf::from).into_iter().find(|path| path.exists())
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
