//! Debian's nginx with a configuration of its own.

use crate::process::{Process, family, until};
use crate::scenario::Scenario;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long nginx may take to listen.
const READY: Duration = Duration::from_secs(60);

/// What is behind one path prefix.
#[derive(Clone, Debug)]
pub enum Location {
    /// Files of the scenario's `www` directory, sent with sendfile.
    Static,
    /// A server on a TCP port, over kept connections; the prefix becomes `/behind-tcp/`.
    Tcp(u16),
    /// A server on a unix socket, one connection a request; the prefix becomes `/behind-unix/`.
    Unix(PathBuf),
}

/// One line of the access log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Access {
    /// Method.
    pub method: String,
    /// Path with query.
    pub path: String,
    /// Status sent.
    pub status: i64,
    /// Bytes of the response's body.
    pub body: i64,
    /// The client's port.
    pub port: u16,
    /// From the request's first byte to the answer's last, ms.
    pub took_ms: u64,
}

/// A running nginx with one worker a core.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    log: PathBuf,
    wrapped: bool,
}

impl Nginx {
    /// Starts nginx on `listen` (`127.0.0.1:PORT`) with `locations`; it listens on return.
    /// `wrap` is a command to run it by (`ip netns exec …`), empty for none.
    ///
    /// # Panics
    /// When it does not listen.
    pub fn start(
        scenario: &Scenario,
        listen: &str,
        locations: &[(&str, Location)],
        wrap: &[String],
    ) -> Nginx {
        Nginx::start_with(scenario, listen, locations, "", wrap)
    }

    /// The same with more directives for the server: `listen` may have `ssl` behind the address.
    ///
    /// # Panics
    /// When it does not listen.
    pub fn start_with(
        scenario: &Scenario,
        listen: &str,
        locations: &[(&str, Location)],
        directives: &str,
        wrap: &[String],
    ) -> Nginx {
        let dir = scenario.dir();
        let log = dir.join("access.log");
        std::fs::create_dir_all(dir.join("www")).expect("a directory for files");
        let config =
            scenario.file("nginx.conf", config(dir, listen, locations, directives).as_bytes());
        let mut words: Vec<String> = wrap.to_vec();
        words.extend(["/usr/sbin/nginx".into(), "-c".into(), config.display().to_string()]);
        words.extend(["-e".into(), dir.join("nginx.log").display().to_string()]);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        let mut process = Process::start(command, dir, "nginx");
        let pid = dir.join("nginx.pid");
        until("nginx listens", READY, || {
            assert!(process.is_running(), "nginx ended: {}", process.tail());
            // Written once the sockets listen.
            std::fs::read_to_string(&pid).ok().filter(|text| !text.trim().is_empty())
        });
        Nginx { process, log, wrapped: !wrap.is_empty() }
    }

    /// Its processes: master and workers (and the wrapper).
    pub fn pids(&self) -> Vec<u32> {
        family(self.process.pid())
    }

    /// Writes a file to serve.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn page(scenario: &Scenario, name: &str, size: usize) {
        let www = scenario.dir().join("www");
        std::fs::create_dir_all(&www).expect("a directory for files");
        let line = b"kernspan test page, plain text of a known size\n";
        let content: Vec<u8> = line.iter().copied().cycle().take(size).collect();
        std::fs::write(www.join(name), content).expect("a page");
    }

    /// Stops it (all requests answered) and returns its access log.
    ///
    /// # Panics
    /// When it does not stop.
    pub fn stop(self) -> Vec<Access> {
        if self.wrapped {
            // The wrapper passes no signal on. Every line is written as its request ends.
            let _ = self.process.kill();
        } else {
            self.process.signal(rustix::process::Signal::QUIT);
            let _ = self.process.wait(READY);
        }
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().map(access).collect()
    }
}

fn access(line: &str) -> Access {
    let words: Vec<&str> = line.split('\t').collect();
    let [method, path, status, body, port, took] = words[..] else {
        panic!("access log line: {line}")
    };
    let number = |text: &str| text.parse().unwrap_or(-1);
    Access {
        method: method.to_owned(),
        path: path.to_owned(),
        status: number(status),
        body: number(body),
        port: port.parse().unwrap_or(0),
        // Seconds with three digits behind the point.
        took_ms: took.replace('.', "").parse().unwrap_or(0),
    }
}

fn config(dir: &Path, listen: &str, locations: &[(&str, Location)], directives: &str) -> String {
    let dir = dir.display();
    let (mut upstreams, mut places) = (String::new(), String::new());
    for (index, (prefix, location)) in locations.iter().enumerate() {
        let place = match location {
            Location::Static => format!("root {dir}/www;"),
            Location::Tcp(port) => {
                let _ = writeln!(
                    upstreams,
                    "upstream u{index} {{ server 127.0.0.1:{port}; keepalive 32; }}"
                );
                format!(
                    "proxy_pass http://u{index}/behind-tcp/; proxy_http_version 1.1; \
                     proxy_set_header Connection \"\";"
                )
            }
            Location::Unix(path) => {
                format!("proxy_pass http://unix:{}:/behind-unix/;", path.display())
            }
        };
        let _ = writeln!(places, "location {prefix} {{ {place} }}");
    }
    format!(
        "daemon off; user www-data; worker_processes 2; pid {dir}/nginx.pid;
error_log {dir}/nginx.log warn;
events {{ worker_connections 4096; }}
http {{
  log_format truth '$request_method\\t$request_uri\\t$status\\t$body_bytes_sent\\t$remote_port\\t$request_time';
  access_log {dir}/access.log truth;
  sendfile on; keepalive_requests 1000000; proxy_connect_timeout 10s;
  client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
  uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
  {upstreams}
  server {{ listen {listen} backlog=4096; {directives} {places} }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{free_port, output};

    #[test]
    fn serves_and_logs() {
        let Some(scenario) = Scenario::begin_without_agent("nginx", &["nginx", "curl"]) else {
            return;
        };
        Nginx::page(&scenario, "page", 5000);
        let port = free_port();
        let nginx =
            Nginx::start(&scenario, &format!("127.0.0.1:{port}"), &[("/", Location::Static)], &[]);
        let url = format!("http://127.0.0.1:{port}/page?x=1");
        let got = output(Command::new("curl").args(["-s", &url]));
        assert_eq!(got.len(), 5000);
        let log = nginx.stop();
        let [line] = &log[..] else { panic!("one line, not {log:?}") };
        assert_eq!((&*line.method, &*line.path), ("GET", "/page?x=1"));
        assert_eq!((line.status, line.body, line.port > 0), (200, 5000, true));
    }
}
