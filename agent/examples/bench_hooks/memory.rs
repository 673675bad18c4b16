//! Kernel memory of the maps and of sockets, in place of times.

use crate::modes::MODES;
use crate::probes::Probes;
use crate::{MESSAGE, Options, Runs, part};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// What the maps take, and what each connection takes over what it does without probes.
pub fn measure(connections: u32, options: &Options) -> Result<()> {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let most = rustix::process::Rlimit { current: files.maximum, ..files };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, most)?;
    let capturing = MODES.iter().find(|mode| mode.name == "all hooks").context("a mode")?;
    let (_, object) = options.objects.first().context("an object")?;
    let mut without = Vec::new();
    let mut with = Vec::new();
    let mut maps = 0;
    for _ in 0..options.rounds {
        without.push(held(connections)?);
        let probes = Probes::attach(capturing, object, options.rings, MESSAGE as u32)?;
        maps = map_bytes()?;
        with.push(held(connections)?);
        probes.detach(&mut Runs::new())?;
    }
    let [without, with] = [&mut without, &mut with].map(|held| part(held, 2));
    let mib = maps as f64 / f64::from(1 << 20);
    println!("maps: {mib:.1} MiB, of which each payload ring in use has 8");
    println!(
        "a connection with both ends here: {with:.0} bytes of unreclaimable slab, {without:.0} \
         without probes: {:+.0}",
        with - without
    );
    Ok(())
}

/// Unreclaimable slab that a connection holds once it has carried a message each way, bytes.
fn held(connections: u32) -> Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    // What the sockets before left goes back in the background.
    std::thread::sleep(Duration::from_millis(1500));
    let before = slab_bytes()?;
    let mut ends = Vec::new();
    for _ in 0..connections {
        let mut client = TcpStream::connect(address)?;
        let (mut server, _) = listener.accept()?;
        let mut byte = [0];
        client.write_all(&byte)?;
        server.read_exact(&mut byte)?;
        server.write_all(&byte)?;
        client.read_exact(&mut byte)?;
        ends.push((client, server));
    }
    let after = slab_bytes()?;
    Ok((after as f64 - before as f64) / f64::from(connections))
}

fn slab_bytes() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    number(&text, "SUnreclaim:").map(|kib| kib * 1024).context("no SUnreclaim in /proc/meminfo")
}

/// What the kernel says that the maps of this process take.
fn map_bytes() -> Result<u64> {
    let mut maps = BTreeMap::new();
    for entry in std::fs::read_dir("/proc/self/fdinfo")? {
        // The directory's own descriptor is among them, and gone.
        let Ok(text) = std::fs::read_to_string(entry?.path()) else { continue };
        if let (Some(map), Some(bytes)) = (number(&text, "map_id:"), number(&text, "memlock:")) {
            maps.insert(map, bytes);
        }
    }
    Ok(maps.values().sum())
}

/// The number behind a label at the beginning of a line.
fn number(text: &str, label: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(label))?;
    rest.split_whitespace().next()?.parse().ok()
}
