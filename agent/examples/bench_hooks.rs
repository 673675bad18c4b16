//! Time that the attached programs add to single calls: `cargo xtask bench hooks [--rounds N]`.
//!
//! Every mode is measured once a round, so that a slow minute of the machine hits all of them. The
//! 25th percentile of a round's batches stands for it; what it has over no probe in the same round
//! is the cost, and the median of the rounds is shown.
//!
//! To compare kernel objects in one run, `--object FILE` (repeatable) stands in for the one inside.
//! `--only WORD` measures the modes whose name has it, next to no probe. `--stats` has the kernel
//! time each program: what it adds to a program's time is part of every figure then.
//! `--rings N` uses so many payload rings. `--memory N` measures kernel memory instead: of the maps, and of N connections' sockets.

use agent::probe::control::Maps;
use agent::probe::load::{LoadConfig, Loaded, load};
use agent::probe::plan::Feature;
use agent::probe::{OBJECTS, Objects};
use agent_common::settings::{Settings, socket_verdict};
use anyhow::{Context, Result, bail};
use aya::sys::{Stats, enable_stats};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Rounds, unless the command line says.
const ROUNDS: usize = 6;

/// Batches of each subject in one round of one mode.
const BATCHES: usize = 60;

/// Bytes of one send and of one receive.
const MESSAGE: usize = 256;

/// Between two looks at the rings, as the agent does.
const POLL: Duration = Duration::from_millis(5);

const ALL: &[Feature] = &[
    Feature::Processes,
    Feature::ConnectionState,
    Feature::Payload,
    Feature::SendTime,
    Feature::Arrival,
];

/// What is attached, and what it does with the measured socket.
struct Mode {
    name: &'static str,
    hooks: &'static [Feature],
    /// The programs take this process for the agent: they leave at their first question.
    leaves: bool,
    muted: bool,
}

const MODES: &[Mode] = &[
    Mode { name: "no probe", hooks: &[], leaves: false, muted: false },
    Mode { name: "payload, left at once", hooks: &[Feature::Payload], leaves: true, muted: false },
    Mode { name: "payload, muted", hooks: &[Feature::Payload], leaves: false, muted: true },
    Mode { name: "payload, capturing", hooks: &[Feature::Payload], leaves: false, muted: false },
    Mode { name: "all hooks, muted", hooks: ALL, leaves: false, muted: true },
    Mode { name: "all hooks, capturing", hooks: ALL, leaves: false, muted: false },
];

/// Calls of each subject in a batch, and its name.
const SUBJECTS: [(&str, u32); 3] = [("getppid", 2000), ("zero+null", 500), ("send+recv", 150)];

/// What the command line says.
struct Options {
    rounds: usize,
    /// Kernel objects, with what to call them.
    objects: Vec<(String, Cow<'static, [u8]>)>,
    only: String,
    stats: bool,
    /// Payload rings in use.
    rings: u32,
    /// Connections to hold.
    memory: Option<u32>,
}

/// One line of the result.
struct Line<'a> {
    name: String,
    mode: &'static Mode,
    object: &'a [u8],
    /// ns a call, by subject and round.
    rounds: [Vec<f64>; 3],
    /// By program: runs and ns, when the kernel timed them.
    runs: BTreeMap<String, (u64, Duration)>,
}

fn main() -> Result<()> {
    let options = options()?;
    // A process of one thread looks its files up without counting references. The modes with
    // probes have a second one, which reads the rings; so all have one.
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(Duration::from_secs(3600));
        }
    });
    if let Some(connections) = options.memory {
        return memory(connections, &options);
    }
    let _stats = if options.stats { Some(enable_stats(Stats::RunTime)?) } else { None };
    let mut lines = lines(&options);
    for round in 0..options.rounds {
        for line in &mut lines {
            let failed = || format!("{}, round {round}", line.name);
            let times = measure(line.mode, line.object, options.rings, &mut line.runs)
                .with_context(failed)?;
            for (all, one) in line.rounds.iter_mut().zip(times) {
                all.push(one);
            }
        }
    }
    print(&mut lines);
    Ok(())
}

fn lines(options: &Options) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    for mode in
        MODES.iter().filter(|mode| mode.hooks.is_empty() || mode.name.contains(&options.only))
    {
        for (name, object) in &options.objects {
            lines.push(Line {
                name: format!("{}{name}", mode.name),
                mode,
                object,
                rounds: Default::default(),
                runs: BTreeMap::new(),
            });
            if mode.hooks.is_empty() {
                break;
            }
        }
    }
    lines
}

fn options() -> Result<Options> {
    let mut options = Options {
        rounds: ROUNDS,
        objects: Vec::new(),
        only: String::new(),
        stats: false,
        rings: 1,
        memory: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--rounds" => options.rounds = value()?.parse()?,
            "--memory" => options.memory = Some(value()?.parse()?),
            "--only" => options.only = value()?,
            "--stats" => options.stats = true,
            "--rings" => options.rings = value()?.parse()?,
            "--object" => {
                let path = value()?;
                let object = std::fs::read(&path).with_context(|| path.clone())?;
                let name = Path::new(&path).file_name().unwrap_or_default().to_string_lossy();
                options.objects.push((format!(" ({name})"), Cow::Owned(object)));
            }
            _ => bail!(
                "usage: bench_hooks [--rounds N] [--object FILE]… [--only WORD] [--stats] [--rings N] \
                 [--memory N]"
            ),
        }
    }
    if options.objects.is_empty() {
        options.objects.push((String::new(), Cow::Borrowed(OBJECTS.typed)));
    }
    Ok(options)
}

/// One round of one mode: attaches, measures, detaches.
fn measure(
    mode: &Mode,
    object: &[u8],
    rings: u32,
    runs: &mut BTreeMap<String, (u64, Duration)>,
) -> Result<[f64; 3]> {
    let mut probes =
        if mode.hooks.is_empty() { None } else { Some(Probes::attach(mode, object, rings)?) };
    let mut subjects = Subjects::open()?;
    subjects.pair(10)?;
    if mode.muted
        && let Some(probes) = &mut probes
    {
        probes.mute(&subjects)?;
    }
    let mut times: [Vec<f64>; 3] = Default::default();
    // Warm: caches, the verdict, the connection's own records.
    subjects.pair(100)?;
    for _ in 0..BATCHES {
        for (subject, ((_, calls), times)) in SUBJECTS.iter().zip(times.iter_mut()).enumerate() {
            let began = Instant::now();
            match subject {
                0 => subjects.nothing(*calls),
                1 => subjects.devices(*calls)?,
                _ => subjects.pair(*calls)?,
            }
            times.push(began.elapsed().as_nanos() as f64 / f64::from(*calls));
        }
    }
    if let Some(probes) = probes {
        probes.detach(runs)?;
    }
    Ok(times.each_mut().map(|times| part(times, 4)))
}

/// Attached programs, and the thread that empties their rings.
struct Probes {
    loaded: Loaded,
    verdicts: agent::probe::control::Verdicts,
    stop: Arc<AtomicBool>,
    reader: JoinHandle<()>,
}

impl Probes {
    fn attach(mode: &Mode, object: &[u8], rings: u32) -> Result<Probes> {
        let settings = Settings {
            own_tgid: if mode.leaves { std::process::id() } else { 0 },
            head_bytes: 4096,
            later_bytes: MESSAGE as u32,
            payload_rings: rings,
            ..Settings::default()
        };
        let config = LoadConfig {
            wanted: mode.hooks.iter().copied().collect(),
            payload_hooks: None,
            btf: None,
            settings,
            ring_size: 8 << 20,
            process_filter_size: 1,
            flows: None,
        };
        let mut loaded = load(Objects { typed: object, ..OBJECTS }, &config)?;
        for feature in mode.hooks {
            if !loaded.has(*feature) {
                bail!("{feature:?} cannot be attached to this kernel");
            }
        }
        let Maps { mut process_ring, mut payload_rings, verdicts, .. } =
            Maps::take(&mut loaded.ebpf, rings)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let reader = std::thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                for ring in &mut payload_rings {
                    while ring.next().is_some() {}
                }
                while process_ring.next().is_some() {}
                std::thread::sleep(POLL);
            }
        });
        Ok(Probes { loaded, verdicts, stop, reader })
    }

    fn mute(&mut self, subjects: &Subjects) -> Result<()> {
        for end in [&subjects.sender, &subjects.receiver] {
            let cookie = rustix::net::sockopt::socket_cookie(end)?;
            self.verdicts.set(cookie, socket_verdict::MUTE)?;
        }
        Ok(())
    }

    fn detach(self, runs: &mut BTreeMap<String, (u64, Duration)>) -> Result<()> {
        for (name, program) in self.loaded.ebpf.programs() {
            // Not every program was loaded.
            let Ok(info) = program.info() else { continue };
            let sum = runs.entry(name.to_owned()).or_default();
            sum.0 += info.run_count();
            sum.1 += info.run_time();
        }
        self.stop.store(true, Ordering::Release);
        match self.reader.join() {
            Ok(()) => Ok(()),
            Err(_) => bail!("the reader of the rings panicked"),
        }
    }
}

/// What is measured.
struct Subjects {
    zero: File,
    null: File,
    sender: TcpStream,
    receiver: TcpStream,
}

impl Subjects {
    fn open() -> Result<Subjects> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let sender = TcpStream::connect(listener.local_addr()?)?;
        let (receiver, _) = listener.accept()?;
        sender.set_nodelay(true)?;
        let zero = File::open("/dev/zero")?;
        let null = OpenOptions::new().write(true).open("/dev/null")?;
        Ok(Subjects { zero, null, sender, receiver })
    }

    /// A call that does nothing.
    fn nothing(&self, calls: u32) {
        for _ in 0..calls {
            std::hint::black_box(rustix::process::getppid());
        }
    }

    /// Calls by the numbers of send and receive, on files.
    fn devices(&mut self, calls: u32) -> Result<()> {
        let mut buffer = [0; MESSAGE];
        for _ in 0..calls {
            self.zero.read_exact(&mut buffer)?;
            self.null.write_all(&buffer)?;
        }
        Ok(())
    }

    /// One send and one receive.
    fn pair(&mut self, calls: u32) -> Result<()> {
        let mut buffer = [7; MESSAGE];
        for _ in 0..calls {
            self.sender.write_all(&buffer)?;
            self.receiver.read_exact(&mut buffer)?;
        }
        Ok(())
    }
}

// --- kernel memory ---

/// What the maps take, and what each connection takes over what it does without probes.
fn memory(connections: u32, options: &Options) -> Result<()> {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let most = rustix::process::Rlimit { current: files.maximum, ..files };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, most)?;
    let capturing = MODES.last().context("a mode")?;
    let (_, object) = options.objects.first().context("an object")?;
    let mut without = Vec::new();
    let mut with = Vec::new();
    let mut maps = 0;
    for _ in 0..options.rounds {
        without.push(held(connections)?);
        let probes = Probes::attach(capturing, object, options.rings)?;
        maps = map_bytes()?;
        with.push(held(connections)?);
        probes.detach(&mut BTreeMap::new())?;
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

/// The value below which one part in so many lies: 2 is the median, 4 the 25th percentile.
fn part(values: &mut [f64], of: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / of).copied().unwrap_or(f64::NAN)
}

/// ns a call, what that is over no probe, and the ratio to it.
fn cell((rounds, base): (&mut Vec<f64>, &Vec<f64>)) -> String {
    let mut over: Vec<f64> = rounds.iter().zip(base).map(|(time, base)| time - base).collect();
    let (time, over) = (part(rounds, 2), part(&mut over, 2));
    format!("{time:>10.0}{over:>+7.0}{:>7.2}", time / (time - over))
}

/// One line a mode.
fn print(lines: &mut [Line<'_>]) {
    let wide = lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0) + 2;
    let names = SUBJECTS.map(|(name, _)| format!("{name:>24}"));
    println!("{:wide$}{}   (ns, over no probe, ratio)", "", names.concat());
    let Some(base) = lines.first().map(|line| line.rounds.clone()) else { return };
    for line in lines {
        let cells: Vec<String> = line.rounds.iter_mut().zip(&base).map(cell).collect();
        println!("{:wide$}{}", line.name, cells.concat());
        for (program, (count, time)) in line.runs.iter().filter(|(_, (count, _))| *count > 0) {
            println!("  {program}: {count} runs, {} ns each", time.as_nanos() / u128::from(*count));
        }
    }
    println!("getppid is one call, the others are two: halve them for one send or receive.");
}
