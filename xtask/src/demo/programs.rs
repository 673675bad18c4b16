//! nginx before two Python services, and curl.

use super::program;
use crate::command::{command, output};
use crate::paths;
use crate::service::{Service, free_ports};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The running programs, by the ports they listen on.
pub struct Programs {
    /// nginx, which passes every request on to the first service.
    pub web: u16,
    /// A Python service that asks the second one.
    pub first: u16,
    /// A Python service that answers by itself.
    pub second: u16,
    services: Vec<Service>,
}

impl Programs {
    /// Starts them on free ports of the loopback interface.
    pub fn start(directory: &Path) -> Result<Programs> {
        let [web, first, second] = free_ports()?;
        let mut services = Vec::new();
        let next = format!("http://127.0.0.1:{second}");
        start(&mut services, "stock", &mut python("stock.py", second, None)?, second, directory)?;
        start(
            &mut services,
            "shop",
            &mut python("shop.py", first, Some(&next))?,
            first,
            directory,
        )?;
        start(&mut services, "nginx", &mut nginx(web, first, directory)?, web, directory)?;
        Ok(Programs { web, first, second, services })
    }

    /// One request by a curl of its own, as a user types it.
    pub fn request(&self, path: &str) -> Result<()> {
        let url = format!("http://127.0.0.1:{}{path}", self.web);
        let mut curl = command(&program("curl")?, ["-sS", "-f", "--max-time", "10", &url]);
        let answer = output(plain(&mut curl))?;
        let lines = answer.lines().count();
        ensure!(lines == 2, "{url} answered {lines} lines, not one from each service: {answer}");
        Ok(())
    }

    /// Asks all of them to end.
    pub fn stop(self) -> Result<()> {
        for service in self.services {
            service.stop(Duration::from_secs(10))?;
        }
        Ok(())
    }
}

fn start(
    services: &mut Vec<Service>,
    name: &str,
    command: &mut Command,
    port: u16,
    directory: &Path,
) -> Result<()> {
    let mut service = Service::start(name, plain(command), directory)?;
    service.until_listening(port)?;
    services.push(service);
    Ok(())
}

/// Proxies are for the outside world.
fn plain(command: &mut Command) -> &mut Command {
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(name);
    }
    command
}

fn python(script: &str, port: u16, next: Option<&str>) -> Result<Command> {
    let script = paths::root().join("tests/workloads").join(script);
    let mut python = command(&program("python3")?, [script]);
    python.arg(port.to_string()).args(next);
    Ok(python)
}

fn nginx(port: u16, upstream: u16, directory: &Path) -> Result<Command> {
    let home = directory.display();
    let config = format!(
        "daemon off;\nworker_processes 1;\nuser root;\npid {home}/nginx.pid;\n\
         error_log {home}/error.log;\nevents {{ worker_connections 64; }}\nhttp {{\n\
         access_log {home}/access.log;\n\
         client_body_temp_path {home}/body;\nproxy_temp_path {home}/proxy;\n\
         fastcgi_temp_path {home}/fastcgi;\nuwsgi_temp_path {home}/uwsgi;\n\
         scgi_temp_path {home}/scgi;\n\
         server {{ listen 127.0.0.1:{port};\n\
         location / {{ proxy_pass http://127.0.0.1:{upstream}; }} }}\n}}\n"
    );
    let file = directory.join("nginx.conf");
    fs::write(&file, config).context("nginx's configuration")?;
    let error_log = format!("{home}/error.log");
    let mut nginx = command(&program("nginx")?, ["-e", &error_log, "-p", &home.to_string(), "-c"]);
    nginx.arg(file);
    Ok(nginx)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::scratch;

    #[test]
    fn a_request_passes_all_programs() {
        if program("nginx").is_err() {
            println!("SKIP a_request_passes_all_programs: not installed: nginx");
            return;
        }
        let directory = scratch("demo-test").unwrap();
        let programs = Programs::start(&directory).unwrap();
        programs.request("/hello/1").unwrap();
        programs.stop().unwrap();
        fs::remove_dir_all(directory).unwrap();
    }
}
