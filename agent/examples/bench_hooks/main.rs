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

mod memory;
mod modes;
mod probes;
mod programs;
mod subjects;

use agent::probe::OBJECTS;
use anyhow::{Context, Result, bail};
use aya::sys::{Stats, enable_stats};
use modes::{MODES, Mode};
use probes::Probes;
use programs::Programs;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use subjects::SUBJECTS;

/// Rounds, unless the command line says.
const ROUNDS: usize = 6;

/// Batches of each subject in one round of one mode.
const BATCHES: usize = 60;

/// Bytes of one send and of one receive.
const MESSAGE: usize = 256;

/// Between two looks at the rings, as the agent does.
const POLL: Duration = Duration::from_millis(5);

/// By program: runs and ns, when the kernel timed them.
type Runs = BTreeMap<String, (u64, Duration)>;

/// ns a call, by subject.
type Times = [f64; SUBJECTS.len()];

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
    rounds: Vec<Times>,
    runs: Runs,
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
        return memory::measure(connections, &options);
    }
    let programs = Programs::build()?;
    let _stats = if options.stats { Some(enable_stats(Stats::RunTime)?) } else { None };
    let mut lines = lines(&options);
    for round in 0..options.rounds {
        for line in &mut lines {
            let failed = || format!("{}, round {round}", line.name);
            let times = measure(line.mode, line.object, options.rings, &programs, &mut line.runs)
                .with_context(failed)?;
            line.rounds.push(times);
        }
    }
    print(&lines);
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
                rounds: Vec::new(),
                runs: Runs::new(),
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
    programs: &Programs,
    runs: &mut Runs,
) -> Result<Times> {
    let mut probes = match mode.hooks.is_empty() {
        true => None,
        false => Some(Probes::attach(mode, object, rings, MESSAGE as u32)?),
    };
    let mut subjects = subjects::open(programs)?;
    for subject in &mut subjects {
        subject.run(10)?;
    }
    if let Some(probes) = &mut probes {
        probes.learn(&subjects)?;
    }
    let mut times = vec![Vec::new(); subjects.len()];
    // Warm: caches, the verdict, the connection's own records.
    for (subject, (_, calls, _)) in subjects.iter_mut().zip(SUBJECTS) {
        subject.run(calls)?;
    }
    for _ in 0..BATCHES {
        for ((subject, (_, calls, parts)), times) in
            subjects.iter_mut().zip(SUBJECTS).zip(&mut times)
        {
            times.push(subject.run(calls)?.as_nanos() as f64 / f64::from(calls) / parts);
        }
    }
    drop(subjects);
    if let Some(probes) = probes {
        probes.detach(runs)?;
    }
    let mut result = [f64::NAN; SUBJECTS.len()];
    for (result, times) in result.iter_mut().zip(&mut times) {
        *result = part(times, 4);
    }
    Ok(result)
}

/// The value below which one part in so many lies: 2 is the median, 4 the 25th percentile.
fn part(values: &mut [f64], of: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / of).copied().unwrap_or(f64::NAN)
}

/// One line a mode: what a call takes without probes, and what each mode adds to it.
fn print(lines: &[Line<'_>]) {
    let wide = lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0) + 2;
    let names = SUBJECTS.map(|(name, _, _)| format!("{name:>15}"));
    println!("{:wide$}{}   (ns a call; below the first line: added)", "", names.concat());
    let Some(base) = lines.first() else { return };
    for line in lines {
        let cell = |subject: usize| {
            let time = |times: &Times| times.get(subject).copied().unwrap_or(f64::NAN);
            if line.mode.hooks.is_empty() {
                let mut all: Vec<f64> = line.rounds.iter().map(time).collect();
                return format!("{:>15.0}", part(&mut all, 2));
            }
            let mut over: Vec<f64> = line
                .rounds
                .iter()
                .zip(&base.rounds)
                .map(|(with, without)| time(with) - time(without))
                .collect();
            format!("{:>+15.0}", part(&mut over, 2))
        };
        let cells: Vec<String> = (0..SUBJECTS.len()).map(cell).collect();
        println!("{:wide$}{}", line.name, cells.concat());
        for (program, (count, time)) in line.runs.iter().filter(|(_, (count, _))| *count > 0) {
            println!("  {program}: {count} runs, {} ns each", time.as_nanos() / u128::from(*count));
        }
    }
}
