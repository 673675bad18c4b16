//! The command line, as typed and as understood.

mod args;
pub mod doctor;
mod failure;
pub mod flows;
mod read;
mod screens;

pub use failure::Failure;
pub use flows::Flows;

use crate::config::given::AsTyped;
use crate::config::{self, Environment, Resolved, Settings, Source, value};
use clap::Parser;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Version, as `kernspan version` and the admin endpoint say it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What was asked for.
#[derive(Debug)]
pub enum Command {
    /// Watch and export.
    Run(Box<Run>),
    /// Watch and show.
    Show(Box<Settings>),
    /// Watch and write to a file.
    Record(Box<Record>),
    /// A recording to spans.
    Replay(Box<Replay>),
    /// Conversations that live.
    Flows(Box<Flows>),
    /// What this kernel offers, and what is seen of the programs that run.
    Doctor(Box<Doctor>),
    /// A configuration that is right in itself.
    CheckConfig {
        /// The file.
        file: String,
        /// What it says.
        settings: Box<Settings>,
    },
    /// The version.
    Version,
}

/// `kernspan run`.
#[derive(Debug)]
pub struct Run {
    /// As they are now.
    pub settings: Settings,
    /// As they were given.
    pub given: AsTyped,
    /// Where they come from.
    pub source: Source,
}

/// `kernspan doctor`.
#[derive(Debug)]
pub struct Doctor {
    /// JSON instead of text.
    pub json: bool,
    /// File with the kernel's type information.
    pub btf: Option<PathBuf>,
    /// All processes, not only those that show something.
    pub all: bool,
    /// Where bytes are learnt of.
    pub watch: Watch,
}

/// Who has watched what programs move.
#[derive(Debug)]
pub enum Watch {
    /// An agent that runs on this host, if there is one.
    Found,
    /// The agent that listens there.
    Agent(SocketAddr),
    /// Probes of its own, for so long.
    Own(Duration, Box<Settings>),
}

/// `kernspan record`.
#[derive(Debug)]
pub struct Record {
    /// File to create.
    pub file: PathBuf,
    /// Keep secrets.
    pub raw: bool,
    /// Until then; until interrupted when absent.
    pub duration: Option<Duration>,
    /// What to capture. Has no outputs.
    pub settings: Settings,
}

/// `kernspan replay`.
#[derive(Debug)]
pub struct Replay {
    /// The recording.
    pub file: PathBuf,
    /// Where spans go.
    pub settings: Settings,
}

/// Whether the command with this first argument runs an agent, which follows SIGHUP once it has started. Said before
/// the rest is read, which may take a while.
pub fn follows_signals(first: Option<&OsStr>) -> bool {
    first.is_some_and(|verb| ["run", "record", "top", "trace"].iter().any(|known| verb == *known))
}

/// Arguments that are no command to carry out.
#[derive(Debug)]
pub enum Stop {
    /// Help or version was asked for, or clap refused the arguments: it prints and knows its code.
    Clap(clap::Error),
    /// Values or keys are wrong.
    Failure(Failure),
}

/// Reads a whole command line, with the program's name first.
///
/// # Errors
/// [`Stop`] when there is nothing to carry out.
pub fn parse<I, T>(arguments: I, env: Environment<'_>) -> Result<Command, Stop>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let cli = args::Cli::try_parse_from(arguments).map_err(Stop::Clap)?;
    understand(cli.command, env).map_err(|problems| Stop::Failure(problems.into()))
}

fn understand(command: args::Command, env: Environment<'_>) -> Result<Command, config::Problems> {
    Ok(match command {
        args::Command::Run { out, capture, common, otlp, flows, kubernetes } => {
            let mut flags = vec![out.flags(), capture.flags(), common.flags(), otlp.flags()];
            flags.extend([flows.flags(), kubernetes.flags()]);
            let source = Source::new(flags.concat());
            let Resolved { settings, given, .. } = source.read(env)?;
            Command::Run(Box::new(Run { settings, given, source }))
        }
        args::Command::Record { file, raw, duration, output, capture, common, kubernetes } => {
            // The file may be shared with `run` and name outputs: a recording takes only its own.
            let silent = output.is_empty();
            let flags = [vec![("output", output)], capture.flags(), common.flags()].concat();
            let flags = [flags, kubernetes.flags()].concat();
            let mut resolved = config::load(flags, &duration, env)?;
            if silent {
                resolved.settings.outputs.clear();
            }
            let settings = resolved.settings;
            Command::Record(Box::new(Record { file, raw, duration: resolved.duration, settings }))
        }
        args::Command::Replay { file, out, common, otlp } => {
            let flags = [out.flags(), common.flags(), otlp.flags()].concat();
            let settings = config::load(flags, &[], env)?.settings;
            Command::Replay(Box::new(Replay { file, settings }))
        }
        args::Command::Top { asked, capture, common } => {
            Command::Show(Box::new(screens::top(&asked, capture, common, env)?))
        }
        args::Command::Trace { asked, capture, common } => {
            Command::Show(Box::new(screens::trace(asked, capture, common, env)?))
        }
        args::Command::Config { command: args::ConfigCommand::Check { file } } => {
            let flags = vec![("config", vec![file.clone()])];
            let settings = config::load(flags, &[], env)?.settings;
            Command::CheckConfig { file, settings: Box::new(settings) }
        }
        args::Command::Flows(asked) => Command::Flows(Box::new(flows::understand(asked)?)),
        args::Command::Doctor { json, btf, all, agent, watch } => {
            let watch = watching(&agent, &watch, btf.as_deref(), env)?;
            Command::Doctor(Box::new(Doctor { json, btf, all, watch }))
        }
        args::Command::Version => Command::Version,
    })
}

/// Who has watched, for `kernspan doctor`.
fn watching(
    agent: &[String],
    time: &[String],
    btf: Option<&Path>,
    env: Environment<'_>,
) -> Result<Watch, config::Problems> {
    let mut problems = config::Problems::default();
    let mut read = read::Read { problems: &mut problems };
    let agent = read.one("agent", agent, read::agent_address);
    let time = read.one("for", time, |text| {
        value::duration_within(text, Duration::from_secs(1), Duration::from_secs(3600), "10s")
    });
    problems.or(())?;
    Ok(match (agent, time) {
        (Some(address), _) => Watch::Agent(address),
        (None, None) => Watch::Found,
        (None, Some(time)) => {
            let mut flags = vec![("output", vec!["none".to_owned()])];
            flags.extend(btf.map(|path| ("btf", vec![path.to_string_lossy().into_owned()])));
            let settings = config::load(flags, &[], env)?.settings;
            Watch::Own(time, Box::new(screens::silent(settings)))
        }
    })
}

/// Writes `text` to standard output. A reader that went away (`kernspan doctor | head -1`) is no
/// failure.
///
/// # Errors
/// What else the system says, for example a full disk.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_flag_is_a_key_and_every_key_a_flag() {
        let cli = args::Cli::command();
        let run = cli.find_subcommand("run").unwrap();
        let mut flags: Vec<&str> = run.get_arguments().filter_map(|arg| arg.get_long()).collect();
        flags.retain(|flag| *flag != "help");
        flags.sort_unstable();
        let mut keys = config::given::KEYS.to_vec();
        keys.sort_unstable();
        assert_eq!(flags, keys);
        args::Cli::command().debug_assert();
    }

    #[test]
    fn the_file_in_the_help_is_a_right_one() {
        let (_, example) =
            args::examples::RUN_EXAMPLES.split_once("names of the flags:\n").unwrap();
        let (example, _) = example.split_once("\n\n").unwrap();
        let mut problems = config::Problems::default();
        let given = config::given::from_text("example", example, &mut problems);
        assert_eq!(given.len(), 8, "{given:?}");
        problems.or(()).unwrap();
    }
}
