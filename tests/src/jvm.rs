//! The JVM as a server of HTTP, in the clear and over its own TLS (tests/workloads/Secure.java).

use crate::certificates::Certificates;
use crate::process::{Process, output, until};
use crate::scenario::{Scenario, crate_dir};
use std::process::Command;
use std::time::Duration;

/// What a start may take beside other work.
const LIMIT: Duration = Duration::from_secs(120);

/// A JVM that serves until it is dropped, and its ports.
pub struct Jvm {
    /// The program.
    pub process: Process,
    /// Port that speaks in the clear.
    pub plain: String,
    /// Port that speaks TLS.
    pub secure: String,
}

impl Jvm {
    /// Starts it and waits until it listens.
    pub fn start(scenario: &Scenario, certificates: &Certificates) -> Jvm {
        let keys = scenario.path("keys.p12").display().to_string();
        let mut export = Command::new("openssl");
        export.args(["pkcs12", "-export", "-passout", "pass:kernspan", "-out", &keys]);
        export.args(["-in", &certificates.file("server.crt")]);
        output(export.args(["-inkey", &certificates.file("server.key")]));
        let mut java = Command::new("java");
        java.arg(crate_dir("workloads").join("Secure.java")).args([&keys, "kernspan"]);
        let mut process = Process::start(java, scenario.dir(), "java");
        let (plain, secure) = until("the JVM is ready", LIMIT, || {
            assert!(process.is_running(), "{}", process.tail());
            let said = process.stdout();
            let (plain, secure) =
                said.strip_prefix("ready ")?.strip_suffix('\n')?.split_once(' ')?;
            Some((plain.to_owned(), secure.to_owned()))
        });
        Jvm { process, plain, secure }
    }
}
