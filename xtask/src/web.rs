//! Web servers that are measured: Debian's nginx, and lighttpd with a TLS library that is not probed.

use crate::command::{self, command};
use crate::paths;
use crate::service::Service;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// A server's certificate for 127.0.0.1, and its key.
#[derive(Clone, Debug)]
pub struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
}

impl Certificate {
    /// Makes one that signs itself.
    pub fn make(home: &Path) -> Result<Certificate> {
        let (certificate, key) = (home.join("server.crt"), home.join("server.key"));
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let mut openssl = command("openssl", ["req", "-x509", "-days", "2", "-subj"]);
        openssl.args(["/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]).args(curve);
        openssl.arg("-out").arg(&certificate).arg("-keyout").arg(&key);
        command::output(&mut openssl).context("openssl (`cargo xtask setup` installs it)")?;
        Ok(Certificate { certificate, key })
    }
}

/// What a server is to be.
pub struct Web<'a> {
    /// Of the service and its files.
    pub name: &'a str,
    /// Where its files go.
    pub home: &'a Path,
    /// Worker processes of nginx.
    pub workers: u32,
    /// Connections of each.
    pub connections: u32,
    /// Ports on loopback.
    pub plain: Option<u16>,
    /// The same with TLS.
    pub tls: Option<(u16, &'a Certificate)>,
    /// Where 127.0.0.1 alone has too few ports for its clients: all addresses.
    pub everywhere: bool,
}

/// Bytes of the page.
const PAGE: usize = 200;

impl Web<'_> {
    /// nginx; it listens on return.
    pub fn nginx(&self) -> Result<Service> {
        self.page()?;
        let own = self.home.join(format!("{}-files", self.name));
        fs::create_dir_all(&own)?;
        let (home, own) = (self.home.display(), own.display());
        let address = if self.everywhere { "" } else { "127.0.0.1:" };
        let mut server = String::new();
        if let Some(port) = self.plain {
            let shares = if self.everywhere { " reuseport" } else { "" };
            server += &format!("listen {address}{port} backlog=4096{shares}; ");
        }
        if let Some((port, Certificate { certificate, key })) = self.tls {
            let (certificate, key) = (certificate.display(), key.display());
            server += &format!(
                "listen {address}{port} ssl; ssl_certificate {certificate}; ssl_certificate_key {key}; \
                 ssl_protocols TLSv1.2 TLSv1.3; "
            );
        }
        let config = format!(
            "daemon off;\nworker_processes {};\nworker_rlimit_nofile 19000;\nuser root;\n\
             pid {own}/nginx.pid;\nevents {{ worker_connections {}; }}\nhttp {{\naccess_log off;\n\
             keepalive_requests 1000000000;\nkeepalive_timeout 3600;\n\
             client_body_temp_path {own}/body;\nproxy_temp_path {own}/proxy;\n\
             fastcgi_temp_path {own}/fastcgi;\nuwsgi_temp_path {own}/uwsgi;\n\
             scgi_temp_path {own}/scgi;\nserver {{ {server}root {home}; }}\n}}\n",
            self.workers, self.connections
        );
        let file = self.home.join(format!("{}.conf", self.name));
        fs::write(&file, config)?;
        let error_log = format!("{own}/error.log");
        let mut nginx = command(&program("nginx")?, ["-e", &error_log, "-c"]);
        self.start(nginx.arg(file))
    }

    /// lighttpd with mbedTLS, which the agent names and does not read.
    pub fn lighttpd(&self) -> Result<Service> {
        self.page()?;
        let (home, mut config) = (self.home.display(), String::new());
        let port = self.tls.map(|(port, _)| port).or(self.plain).context("no port")?;
        if let Some((_, Certificate { certificate, key })) = self.tls {
            let (certificate, key) = (certificate.display(), key.display());
            config = format!(
                "server.modules = (\"mod_mbedtls\")\nssl.engine = \"enable\"\n\
                 ssl.pemfile = \"{certificate}\"\nssl.privkey = \"{key}\"\n"
            );
        }
        config += &format!(
            "server.document-root = \"{home}\"\nserver.bind = \"127.0.0.1\"\nserver.port = {port}\n\
             server.max-keep-alive-requests = 65535\nserver.max-keep-alive-idle = 60\n\
             index-file.names = (\"index.html\")\nmimetype.assign = (\"\" => \"text/plain\")\n"
        );
        let file = self.home.join(format!("{}.conf", self.name));
        fs::write(&file, config)?;
        self.start(command(&program("lighttpd")?, ["-D", "-f"]).arg(file))
    }

    fn page(&self) -> Result<()> {
        fs::write(self.home.join("index.html"), "x".repeat(PAGE) + "\n").context("the page")
    }

    fn start(&self, command: &mut std::process::Command) -> Result<Service> {
        let mut service = Service::start(self.name, command, self.home)?;
        for port in self.plain.into_iter().chain(self.tls.map(|(port, _)| port)) {
            service.until_listening(port)?;
        }
        Ok(service)
    }
}

fn program(name: &str) -> Result<String> {
    let path = paths::program(name)
        .with_context(|| format!("{name} is missing: run `cargo xtask setup`"))?;
    Ok(path.to_string_lossy().into_owned())
}
