//! A program that runs beside a task and ends with it.

use crate::command::{self, kill_tree, terminate};
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A running program; dropped, it is killed with everything it started.
pub struct Service {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Service {
    /// Starts `command`, its output into `DIRECTORY/NAME.log`.
    pub fn start(name: &str, command: &mut Command, directory: &Path) -> Result<Service> {
        let log = directory.join(format!("{name}.log"));
        let out = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("cannot start {}", command::shown(command)))?;
        Ok(Service { name: name.to_owned(), child, log })
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its output goes.
    pub fn log_file(&self) -> PathBuf {
        self.log.clone()
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Waits until `ready` says so.
    ///
    /// # Errors
    /// When the program ends before, or at the time limit.
    pub fn until(&mut self, limit: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}:\n{}", self.name, self.log().trim());
            }
            if Instant::now() >= deadline {
                bail!(
                    "{} is not ready after {} s:\n{}",
                    self.name,
                    limit.as_secs(),
                    self.log().trim()
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits until something listens on this loopback port.
    pub fn until_listening(&mut self, port: u16) -> Result<()> {
        self.until(Duration::from_secs(15), || TcpStream::connect(("127.0.0.1", port)).is_ok())
    }

    /// Asks it to end and waits; what it said by its exit status.
    pub fn stop(mut self, limit: Duration) -> Result<ExitStatus> {
        terminate(&self.child);
        command::wait(&mut self.child, limit)?.with_context(|| {
            format!("{} was killed: it did not end within {} s", self.name, limit.as_secs())
        })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            kill_tree(self.child.id());
            // Killed: only its exit status remains to be collected.
            let _ = self.child.wait();
        }
    }
}

/// Ports of the loopback interface that are free now, no two the same.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("no free port on loopback")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// A new directory under the system's temporary directory.
pub fn scratch(name: &str) -> Result<PathBuf> {
    let directory = std::env::temp_dir().join(format!("kernspan-{name}-{}", std::process::id()));
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory)
}
