//! The load: kept and short connections in clear and over TLS, UDP, short processes, and services that
//! are restarted in turn meanwhile. Bounded: about a processor's half in all.

use crate::command::{command, succeeds};
use crate::paths;
use crate::service::{Service, free_ports};
use crate::web::{Certificate, Web};
use anyhow::{Context, Result};
use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Scope};
use std::time::Duration;

/// Between two restarts.
const RESTART: Duration = Duration::from_secs(15);

/// Everything that the load needs.
pub struct Load {
    home: PathBuf,
    certificate: Certificate,
    /// Two of nginx, each with a plain port and one for TLS.
    web: [[u16; 2]; 2],
    python: u16,
    services: Mutex<Vec<Service>>,
    stop: AtomicBool,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    runs: AtomicU64,
    failed: AtomicU64,
    restarts: AtomicU64,
    datagrams: AtomicU64,
}

/// The load goes on until this is dropped.
pub struct Running<'a>(&'a AtomicBool);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Load {
    /// Starts the services.
    pub fn prepare(home: &Path) -> Result<Load> {
        let [a, b, c, d, python] = free_ports()?;
        // wrk: some requests a second on each connection.
        fs::write(home.join("pace.lua"), "function delay() return 10 end\n")?;
        let load = Load {
            home: home.to_owned(),
            certificate: Certificate::make(home)?,
            web: [[a, b], [c, d]],
            python,
            services: Mutex::new(Vec::new()),
            stop: AtomicBool::new(false),
            counts: Counts::default(),
        };
        let services = (0..SERVICES).map(|number| load.service(number)).collect::<Result<_>>()?;
        *load.services() = services;
        Ok(load)
    }

    /// Runs until the value is dropped.
    pub fn start<'s>(&'s self, scope: &'s Scope<'s, '_>) -> Running<'s> {
        let works: [fn(&Load); 6] = [
            |load| load.kept("http", 0),
            |load| load.kept("https", 1),
            Load::short,
            Load::processes,
            Load::datagrams,
            Load::restarts,
        ];
        for work in works {
            scope.spawn(move || work(self));
        }
        Running(&self.stop)
    }

    /// What was done, as shown.
    pub fn done(&self) -> String {
        let Counts { runs, failed, restarts, datagrams } = &self.counts;
        let [runs, failed, restarts, datagrams] =
            [runs, failed, restarts, datagrams].map(|count| count.load(Ordering::Relaxed));
        format!(
            "load: {runs} runs of clients, of which {failed} met a service that restarted; \
             {restarts} restarts; {datagrams} datagrams"
        )
    }

    fn services(&self) -> std::sync::MutexGuard<'_, Vec<Service>> {
        self.services.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Acquire)
    }

    fn pause(&self, time: Duration) {
        let step = Duration::from_millis(100);
        let mut left = time;
        while self.goes_on() && !left.is_zero() {
            thread::sleep(step.min(left));
            left = left.saturating_sub(step);
        }
    }

    fn client(&self, program: &str, arguments: &[&str]) {
        let done = succeeds(&mut command(program, arguments));
        self.counts.runs.fetch_add(1, Ordering::Relaxed);
        self.counts.failed.fetch_add(u64::from(!done), Ordering::Relaxed);
    }

    /// Kept connections, some requests a second on each.
    fn kept(&self, scheme: &str, which: usize) {
        let script = self.home.join("pace.lua").display().to_string();
        while self.goes_on() {
            for ports in self.web {
                let url = format!("{scheme}://127.0.0.1:{}/", ports[which]);
                self.client("wrk", &["-t1", "-c4", "-d5s", "-s", &script, &url]);
            }
        }
    }

    /// A connection for each request.
    fn short(&self) {
        while self.goes_on() {
            for [plain, tls] in self.web {
                for url in [
                    format!("http://127.0.0.1:{plain}/"),
                    format!("https://127.0.0.1:{tls}/"),
                    format!("http://127.0.0.1:{}/", self.python),
                ] {
                    self.client("ab", &["-q", "-n", "50", "-c", "4", &url]);
                    self.pause(Duration::from_millis(500));
                }
            }
        }
    }

    /// Programs that end at once, some of them with a request of their own.
    fn processes(&self) {
        while self.goes_on() {
            for [_, tls] in self.web {
                let url = format!("https://127.0.0.1:{tls}/");
                self.client("curl", &["-sk", "-o", "/dev/null", &url]);
                self.client("sh", &["-c", "/bin/true; /bin/true; /bin/echo"]);
                self.pause(Duration::from_millis(500));
            }
        }
    }

    /// Questions and answers, a socket for a hundred of them.
    fn datagrams(&self) {
        let exchange = || -> std::io::Result<()> {
            let (asks, answers) =
                (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
            asks.connect(answers.local_addr()?)?;
            for socket in [&asks, &answers] {
                socket.set_read_timeout(Some(Duration::from_secs(1)))?;
            }
            let mut buffer = [0; 256];
            for _ in 0..100 {
                asks.send(&[7; 100])?;
                let (len, from) = answers.recv_from(&mut buffer)?;
                answers.send_to(buffer.get(..len).unwrap_or_default(), from)?;
                asks.recv(&mut buffer)?;
                self.counts.datagrams.fetch_add(2, Ordering::Relaxed);
            }
            Ok(())
        };
        while self.goes_on() {
            if exchange().is_err() {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
            }
            self.pause(Duration::from_millis(500));
        }
    }

    /// One service after the other ends and begins anew.
    fn restarts(&self) {
        for number in (0..SERVICES).cycle() {
            self.pause(RESTART);
            if !self.goes_on() {
                break;
            }
            let mut services = self.services();
            let ended = services.remove(number).stop(Duration::from_secs(10));
            match ended.and_then(|_| self.service(number)) {
                Ok(service) => services.insert(number, service),
                Err(error) => {
                    println!("a service does not start again: {error:#}");
                    break;
                }
            }
            self.counts.restarts.fetch_add(1, Ordering::Relaxed);
        }
        self.services().clear();
    }

    fn service(&self, number: usize) -> Result<Service> {
        match self.web.get(number) {
            Some([plain, tls]) => Web {
                name: &format!("web{number}"),
                home: &self.home,
                workers: 1,
                connections: 1024,
                plain: Some(*plain),
                tls: Some((*tls, &self.certificate)),
                everywhere: false,
            }
            .nginx(),
            None => self.python(),
        }
    }

    fn python(&self) -> Result<Service> {
        let program = paths::program("python3").context("python3 is missing")?;
        let port = self.python.to_string();
        let home = self.home.display().to_string();
        let arguments = ["-m", "http.server", &port, "--bind", "127.0.0.1", "--directory", &home];
        let mut python = command(&program.to_string_lossy(), arguments);
        let mut service = Service::start("python", &mut python, &self.home)?;
        service.until_listening(self.python)?;
        Ok(service)
    }
}

/// The two of nginx, and Python's.
const SERVICES: usize = 3;
