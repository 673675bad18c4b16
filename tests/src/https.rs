//! Servers that speak HTTP over TLS, one a library, and their clients.

use crate::certificates::Certificates;
use crate::nginx::{Location, Nginx};
use crate::otlp::Span;
use crate::process::{Process, family, free_port, output, until};
use crate::python::Python;
use crate::scenario::{Scenario, crate_dir};
use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

/// Bytes of the page that every server has.
pub const SIZE: usize = 700;

const READY: Duration = Duration::from_secs(60);
const LIMIT: Duration = Duration::from_secs(120);

/// A server program with its TLS library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// nginx with OpenSSL.
    Nginx,
    /// lighttpd with this module (`openssl`, `gnutls`, `nss`, `mbedtls`).
    Lighttpd(&'static str),
    /// Node.js: OpenSSL linked statically, records through buffers of its own.
    Node,
    /// Node.js of this file, which brings its own OpenSSL.
    NodeAt(&'static str),
    /// CPython's `ssl`: OpenSSL.
    Python,
    /// hyper with rustls: this program.
    Rustls(&'static str),
}

impl Program {
    /// Name, and first part of its paths.
    pub fn name(self) -> String {
        match self {
            Program::Nginx => "nginx".to_owned(),
            Program::Lighttpd(module) => format!("lighttpd-{module}"),
            Program::Node => "node".to_owned(),
            Program::NodeAt(_) => "other-node".to_owned(),
            Program::Python => "python".to_owned(),
            Program::Rustls(_) => "rustls".to_owned(),
        }
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    /// What it is.
    pub program: Program,
    /// Where it listens.
    pub port: u16,
    running: Running,
}

#[derive(Debug)]
enum Running {
    Nginx(Nginx),
    Lighttpd(Process),
    Script(Python),
    Own(Process),
}

impl Server {
    /// Starts it; it listens on return.
    ///
    /// # Panics
    /// When it does not.
    pub fn start(scenario: &Scenario, program: Program, certificates: &Certificates) -> Server {
        let port = free_port();
        let name = program.name();
        let (certificate, key) = (certificates.file("server.crt"), certificates.file("server.key"));
        let text = port.to_string();
        let script =
            ["--port", &text, "--certificate", certificate.as_str(), "--key", key.as_str()];
        let running = match program {
            Program::Nginx => {
                Nginx::page(scenario, "nginx-size", SIZE);
                page(scenario, &name);
                let directives = format!(
                    "ssl_certificate {certificate}; ssl_certificate_key {key}; \
                     ssl_protocols TLSv1.2 TLSv1.3;"
                );
                let listen = format!("127.0.0.1:{port} ssl");
                let places = [("/", Location::Static)];
                Running::Nginx(Nginx::start_with(scenario, &listen, &places, &directives, &[]))
            }
            Program::Lighttpd(module) => {
                page(scenario, &name);
                Running::Lighttpd(lighttpd(scenario, module, port, &certificate, &key))
            }
            Program::Node => {
                Running::Script(Python::serve(scenario, &name, "secure.js", &script, &[]))
            }
            Program::NodeAt(path) => {
                let mut command = Command::new(path);
                command.arg(crate_dir("workloads").join("secure.js")).args(script);
                Running::Own(Process::start(command, scenario.dir(), &name))
            }
            Program::Python => {
                Running::Script(Python::serve(scenario, &name, "server.py", &script, &[]))
            }
            Program::Rustls(path) => {
                let mut command = Command::new(path);
                command.args(["serve", &text, &certificate, &key]);
                Running::Own(Process::start(command, scenario.dir(), &name))
            }
        };
        until(&format!("{name} listens"), READY, || TcpStream::connect(("127.0.0.1", port)).ok());
        Server { program, port, running }
    }

    /// Its page.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}{}", self.port, self.path())
    }

    /// The page's path.
    pub fn path(&self) -> String {
        format!("/{}/size/{SIZE}", self.program.name())
    }

    /// Its processes.
    pub fn pids(&self) -> Vec<u32> {
        match &self.running {
            Running::Nginx(nginx) => nginx.pids(),
            Running::Lighttpd(process) | Running::Own(process) => family(process.pid()),
            Running::Script(script) => family(script.pid()),
        }
    }

    /// Asks by every client at `concurrency`; how many requests that were.
    ///
    /// # Panics
    /// When a client fails.
    pub fn ask(&self, scenario: &Scenario, rounds: u64, concurrency: usize) -> u64 {
        let url = self.url();
        let mut asked = 0;
        let urls = vec![url.clone(); rounds as usize];
        crate::client::curl_with(scenario, &["--insecure", "--http1.1"], &urls, concurrency);
        asked += rounds;
        crate::client::ab(scenario, &[], &url, rounds, concurrency);
        asked += rounds;
        let quiet = ["-q", "--no-check-certificate", "-O", "/dev/null", &url, &url];
        let mut wget = Command::new("wget");
        wget.args(quiet);
        Process::start(wget, scenario.dir(), "wget").succeed(LIMIT);
        asked += 2;
        let (port, count, width) =
            (self.port.to_string(), rounds.to_string(), concurrency.to_string());
        let name = format!("client-{}-{concurrency}", self.program.name());
        let path = self.path();
        let arguments =
            ["--port", &port, "--requests", &count, "--concurrency", &width, "--path", &path];
        for flag in ["--tls", "--tls-buffers"] {
            let arguments = [&arguments[..], &[flag]].concat();
            let client = Python::start(scenario, &name, "client.py", &arguments, &[]);
            client.finish(LIMIT);
            asked += rounds;
        }
        asked
    }
}

/// What is wrong with a span of an encrypted connection, if anything.
pub fn unlike_tls(span: &Span) -> Option<String> {
    let url = span.text("url.full");
    let https = span.text("url.scheme") == "https" || url.starts_with("https://");
    let right = https
        && matches!(span.text("tls.protocol.version"), "1.2" | "1.3")
        && span.text("tls.protocol.name") == "tls"
        && span.text("tls.cipher").starts_with("TLS_");
    (!right).then(|| format!("{}: {:?}", span.brief(), span.attributes))
}

/// What does not differ from one request to the next, nor by what TLS adds: each that there is.
pub fn lasting(spans: &[&Span]) -> BTreeSet<BTreeMap<String, String>> {
    let differs = |key: &str| {
        key.starts_with("tls.")
            || key.starts_with("url.")
            || key.ends_with(".port")
            || key.contains("thread")
            || key.starts_with("kernspan.")
    };
    let of = |span: &&Span| {
        let kept = span.attributes.iter().filter(|(key, _)| !differs(key));
        let kept = kept.map(|(key, value)| (key.clone(), format!("{value:?}")));
        let own = [("kind", format!("{:?}", span.kind)), ("name", span.name.clone())];
        kept.chain(own.map(|(key, value)| (key.to_owned(), value))).collect()
    };
    spans.iter().map(of).collect()
}

/// Whether the installed curl, wget and lighttpd can do all of this.
pub fn modules(names: &[&str]) -> bool {
    let dir = std::path::Path::new("/usr/lib/lighttpd");
    names.iter().all(|name| dir.join(format!("mod_{name}.so")).exists())
}

fn page(scenario: &Scenario, name: &str) {
    std::fs::create_dir_all(scenario.dir().join("www").join(name).join("size"))
        .expect("a directory");
    Nginx::page(scenario, &format!("{name}/size/{SIZE}"), SIZE);
}

fn lighttpd(scenario: &Scenario, module: &str, port: u16, certificate: &str, key: &str) -> Process {
    let dir = scenario.dir().display();
    let config = format!(
        "server.modules = (\"mod_{module}\")
server.document-root = \"{dir}/www\"
server.bind = \"127.0.0.1\"
server.port = {port}
ssl.engine = \"enable\"
ssl.pemfile = \"{certificate}\"
ssl.privkey = \"{key}\"
mimetype.assign = (\"\" => \"text/plain\")
"
    );
    let name = format!("lighttpd-{module}");
    let config = scenario.file(&format!("{name}.conf"), config.as_bytes());
    let mut command = Command::new("/usr/sbin/lighttpd");
    command.arg("-D").arg("-f").arg(config);
    Process::start(command, scenario.dir(), &name)
}

/// Copies the shared libraries that `program` loads and whose names begin with one of `names` into the
/// directory `to`: for it, they are other files than everybody's.
///
/// # Panics
/// When there is none.
pub fn copy_libraries(program: &str, names: &[&str], to: &std::path::Path) {
    std::fs::create_dir_all(to).expect("a directory");
    let listed = output(Command::new("ldd").arg(program));
    let mut copied = 0;
    for line in listed.lines() {
        let mut words = line.split_whitespace();
        let (Some(name), Some(path)) = (words.next(), words.nth(1)) else { continue };
        if names.iter().any(|start| name.starts_with(start)) {
            std::fs::copy(path, to.join(name)).expect("a copy");
            copied += 1;
        }
    }
    assert!(copied > 0, "{program} loads none of {names:?}:\n{listed}");
}
