//! An authority of a test's own, and certificates that it signed, made with openssl.

use crate::process::output;
use crate::scenario::Scenario;
use std::path::{Path, PathBuf};
use std::process::Command;

const CONFIG: &str = "\
[req]
distinguished_name = name
[name]
[ca]
basicConstraints = critical,CA:TRUE
[server]
basicConstraints = critical,CA:FALSE
subjectAltName = IP:127.0.0.1
extendedKeyUsage = serverAuth
[client]
basicConstraints = critical,CA:FALSE
extendedKeyUsage = clientAuth
";

/// PEM files of a scenario: `ca.crt`, `server.crt`, `server.key`, `client.crt`, `client.key`.
#[derive(Clone, Debug)]
pub struct Certificates {
    dir: PathBuf,
}

impl Certificates {
    /// Makes an authority, a server's certificate for 127.0.0.1 and a client's. Valid two days.
    ///
    /// # Panics
    /// When openssl fails.
    pub fn make(scenario: &Scenario) -> Certificates {
        let config = scenario.file("openssl.cnf", CONFIG.as_bytes());
        let certificates = Certificates { dir: scenario.dir().to_path_buf() };
        certificates.sign(&config, "ca", &[]);
        let [ca, key] = ["ca.crt", "ca.key"].map(|name| certificates.file(name));
        for name in ["server", "client"] {
            certificates.sign(&config, name, &["-CA", &ca, "-CAkey", &key]);
        }
        certificates
    }

    /// The path of one of the files.
    pub fn file(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn sign(&self, config: &Path, name: &str, authority: &[&str]) {
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        openssl.args(["-nodes", "-days", "2", "-subj", &format!("/CN=kernspan test {name}")]);
        openssl.arg("-config").arg(config).args(["-extensions", name]);
        openssl.args(["-out", &self.file(&format!("{name}.crt"))]);
        openssl.args(["-keyout", &self.file(&format!("{name}.key"))]).args(authority);
        output(&mut openssl);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_vouches_for_both() {
        let Some(scenario) = Scenario::begin_without_agent("certificates", &["openssl"]) else {
            return;
        };
        let made = Certificates::make(&scenario);
        for (name, purpose) in [("server.crt", "sslserver"), ("client.crt", "sslclient")] {
            let ca = made.file("ca.crt");
            let mut verify = Command::new("openssl");
            verify.args(["verify", "-purpose", purpose, "-CAfile", &ca, &made.file(name)]);
            assert!(output(&mut verify).contains("OK"), "{name}");
        }
    }
}
