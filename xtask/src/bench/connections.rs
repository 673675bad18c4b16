//! `bench connections`: what an idle connection costs in memory, in the kernel and in the agent. The same
//! number of connections is opened twice, without the agent and with it.

use super::aims::Aim;
use crate::build;
use crate::command::command;
use crate::service::{free_ports, scratch};
use crate::usage;
use crate::watcher::Watcher;
use crate::web::Web;
use anyhow::{Context, Result, ensure};
use clap::Args;
use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

/// How many.
#[derive(Debug, Args)]
pub struct Options {
    /// Connections that are open at a time; both ends are on this machine.
    #[arg(long, default_value_t = 50_000)]
    connections: u32,
    /// An agent that is built already.
    #[arg(long)]
    agent: Option<PathBuf>,
}

/// Of one end: the state of its socket, what its shard and the assembler keep.
const AIM: Aim = Aim { what: "an idle connection, one end", most: 1300.0, unit: "B" };

/// Connections to one address: fewer than there are ports to connect from.
const PER_ADDRESS: u32 = 20_000;

/// Open files that a process may have anywhere.
const PER_PROCESS: u32 = 15_000;

/// Time for records to be worked off, and for memory that is not used any more to go back.
const SETTLE: Duration = Duration::from_secs(4);

/// Time in which the agent looks at all conversations, too: by default every ten seconds.
const LOOKED: Duration = Duration::from_secs(16);

/// Bytes in use.
#[derive(Clone, Copy, Default)]
struct Memory {
    /// Of the kernel: unreclaimable slab, per-CPU and page tables left out.
    kernel: u64,
    /// Of the agent: its own, not that of files and rings.
    agent: u64,
}

/// Measures and prints.
pub fn run(options: &Options) -> Result<()> {
    ensure!(geteuid().is_root(), "the agent needs root: run this as root");
    let agent = build::agent(options.agent.as_deref())?;
    let home = scratch("connections")?;
    let result = both(options, &agent, &home);
    let removed = fs::remove_dir_all(&home);
    let (without, with) = result?;
    print(options.connections, without, with);
    removed.context("the benchmark's directory")
}

fn both(options: &Options, agent: &Path, home: &Path) -> Result<(Memory, Memory)> {
    let [web] = free_ports()?;
    let without = once(options, None, web, home)?;
    let agent = Watcher::start(agent, home, None, &[])?;
    let with = once(options, Some(&agent), web, home)?;
    agent.stop()?;
    Ok((without, with))
}

/// What so many connections add.
fn once(options: &Options, agent: Option<&Watcher>, web: u16, home: &Path) -> Result<Memory> {
    let server = Web {
        name: "nginx",
        home,
        // They share the connections by a hash.
        workers: options.connections / 10_000 + 1,
        connections: 18_000,
        plain: Some(web),
        tls: None,
        everywhere: true,
    };
    let nginx = server.nginx()?;
    thread::sleep(SETTLE);
    let before = memory(agent)?;
    let connections = Holders::open(options.connections, web)?;
    thread::sleep(if agent.is_some() { LOOKED } else { SETTLE });
    let after = memory(agent)?;
    if let Some(agent) = agent {
        let metrics = agent.page("/metrics")?;
        let held =
            metrics.lines().find(|line| line.starts_with("kernspan_connection_connections_held "));
        println!("{}", held.unwrap_or("the agent does not say how many connections it knows"));
    }
    drop(connections);
    nginx.stop(Duration::from_secs(10))?;
    Ok(Memory {
        kernel: after.kernel.saturating_sub(before.kernel),
        agent: after.agent.saturating_sub(before.agent),
    })
}

fn memory(agent: Option<&Watcher>) -> Result<Memory> {
    let info = fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
    let kernel = kib(&info, "SUnreclaim:").context("/proc/meminfo has no SUnreclaim")?;
    let agent = agent.map_or(Ok(0), |agent| usage::memory(agent.pid()).map(|(_, own)| own))?;
    Ok(Memory { kernel: kernel * 1024, agent: agent * 1024 })
}

fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Processes that hold connections: one may not have that many open files.
struct Holders(Vec<Child>);

impl Holders {
    /// Opens them, `count` in all.
    fn open(count: u32, port: u16) -> Result<Holders> {
        let this = std::env::current_exe().context("this program's path")?;
        let mut holders = Holders(Vec::new());
        for first in (0..count).step_by(PER_PROCESS as usize) {
            let some = PER_PROCESS.min(count - first);
            let words = ["bench", "hold", &port.to_string(), &first.to_string(), &some.to_string()];
            let mut holder = command(&this.to_string_lossy(), words);
            let child = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
            holders.0.push(child);
            let answers = holders.0.last_mut().and_then(|child| child.stdout.as_mut());
            let mut said = String::new();
            BufReader::new(answers.context("its output")?).read_line(&mut said)?;
            ensure!(
                said.trim() == "held",
                "{some} connections from number {first} on cannot be held"
            );
        }
        Ok(holders)
    }
}

impl Drop for Holders {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // Its input ends, so it does.
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}

/// `bench hold`: kept connections, each after one request, as a pool leaves them, until its input ends.
pub fn hold(port: u16, first: u32, count: u32) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    let mut connections = Vec::with_capacity(count as usize);
    let mut answer = [0; 1024];
    for n in first..first + count {
        let address = format!("127.0.0.{}:{port}", 1 + n / PER_ADDRESS);
        let mut stream =
            TcpStream::connect(&address).with_context(|| format!("connection {n} to {address}"))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")?;
        let read = stream.read(&mut answer)?;
        ensure!(answer.starts_with(b"HTTP/1.1 200") && read > 0, "no answer on connection {n}");
        connections.push(stream);
    }
    println!("held");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn print(connections: u32, without: Memory, with: Memory) {
    let ends = 2.0 * f64::from(connections);
    let kernel = (with.kernel as f64 - without.kernel as f64) / ends;
    let own = with.agent as f64 / ends;
    println!("{connections} connections, {ends} ends:");
    println!("  kernel, without the agent {:>8.0} B an end", without.kernel as f64 / ends);
    println!("  kernel, added             {kernel:>8.0} B an end");
    println!("  the agent's own           {own:>8.0} B an end");
    println!("  {}", AIM.line(kernel + own));
}
