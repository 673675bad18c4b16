//! Configuration in two steps: as given ([`given`]: texts from flags and file, each with its
//! place), then as needed ([`Settings`]: checked values and defaults).
//!
//! Nothing stops at the first mistake: every wrong value and unknown key of flags and file comes
//! back at once in [`Problems`].
//!
//! ```text
//! flags ─────────────┐
//! --config ─► yaml ──┴─► given::AsTyped ─► resolve (value: one text each) ─► Settings
//!                                └──────────────┴─► Problems
//! ```

pub mod given;
mod kubernetes;
pub mod problem;
mod resolve;
mod settings;
pub(crate) mod value;
mod yaml;

pub use kubernetes::{ApiServer, KubernetesSettings};
pub use problem::{Place, Problem, Problems};
pub use resolve::Environment;
pub use settings::{
    Capture, Executables, FlowLabel, FlowLogs, FlowSettings, Hooks, LinkEvidence, LogLevel,
    OtlpCompression, OtlpProtocol, OtlpSettings, Output, Probe, Selection, Settings, TraceFilter,
};

use given::When;
use problem::Wrong;
use rustix::fs::{FileType, Stat, stat};
use std::path::Path;
use std::time::Duration;

/// Where settings come from, to be read again while they are in use.
#[derive(Clone, Debug)]
pub struct Source {
    flags: given::Flags,
    /// The file, as it was before it was first read.
    before: Option<Look>,
}

/// A file's device, inode, length, and when it was written: others are another file, or another text.
pub type Look = (u64, u64, i64, i64, u64);

/// What a file is like now. A pipe stays the same whatever goes through it: what it gave is gone.
pub fn look(path: &Path) -> Option<Look> {
    let Stat { st_dev, st_ino, st_mode, st_size, st_mtime, st_mtime_nsec, .. } = stat(path).ok()?;
    Some(match FileType::from_raw_mode(st_mode) {
        FileType::RegularFile => (st_dev, st_ino, st_size, st_mtime, st_mtime_nsec),
        _ => (st_dev, st_ino, 0, 0, 0),
    })
}

impl Source {
    /// These flags, and the file that they name.
    pub fn new(flags: given::Flags) -> Source {
        let mut source = Source { flags, before: None };
        source.before = source.file().and_then(look);
        source
    }

    /// What the file was like before it was first read.
    pub fn before(&self) -> Option<Look> {
        self.before
    }

    /// The file, when there is one.
    pub fn file(&self) -> Option<&Path> {
        let (_, files) = self.flags.iter().find(|(key, _)| *key == "config")?;
        files.first().map(Path::new)
    }

    /// What flags and file say, at the start.
    ///
    /// # Errors
    /// Every wrong value and unknown key.
    pub fn read(&self, env: Environment<'_>) -> Result<Resolved, Problems> {
        load(self.flags.clone(), &[], env)
    }

    /// What they say now, while settings of before are in use. Waits for nobody.
    ///
    /// # Errors
    /// Every wrong value and unknown key, and a file that is no regular one.
    pub fn read_again(&self, env: Environment<'_>) -> Result<Resolved, Problems> {
        load_when(self.flags.clone(), &[], When::InUse, env)
    }
}

/// Everything that one command line says.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Checked values and defaults.
    pub settings: Settings,
    /// `--duration` of `record`.
    pub duration: Option<Duration>,
    /// As they were given.
    pub given: given::AsTyped,
}

/// Flags, the file they name, and the environment to settings. `durations` are the texts of
/// `--duration`, which is no setting and may not stand in the file.
///
/// # Errors
/// Every wrong value and unknown key.
pub fn load(
    flags: given::Flags,
    durations: &[String],
    env: Environment<'_>,
) -> Result<Resolved, Problems> {
    load_when(flags, durations, When::Start, env)
}

fn load_when(
    flags: given::Flags,
    durations: &[String],
    when: When,
    env: Environment<'_>,
) -> Result<Resolved, Problems> {
    let mut problems = Problems::default();
    let given = given::collect(flags, when, &mut problems);
    let settings = resolve::resolve(&given, env, &mut problems);
    let duration = duration(durations, &mut problems);
    problems.or(Resolved { settings, duration, given })
}

fn duration(texts: &[String], problems: &mut Problems) -> Option<Duration> {
    let place = Place::Flag("duration");
    if texts.len() > 1 {
        problems.add(&place, Wrong::new("given more than once", "it takes one value"));
    }
    match value::record_duration(texts.first()?.trim()) {
        Ok(duration) => Some(duration),
        Err(wrong) => {
            problems.add(&place, wrong);
            None
        }
    }
}
