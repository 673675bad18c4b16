//! Another configuration for an agent that runs: all of it, or nothing.

use super::changes::Why;
use crate::cli::{Failure, Run};
use crate::config::given::AsTyped;
use crate::config::{LogLevel, Look, Settings, Source};
use crate::telemetry;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What is the process's and not a run's.
const FIXED: [&str; 2] = ["listen", "expose-status"];

/// The same, as in force, whoever gave it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Fixed {
    listen: Option<SocketAddr>,
    expose_status: bool,
}

impl Fixed {
    fn of(settings: &Settings) -> Fixed {
        Fixed { listen: settings.listen, expose_status: settings.expose_status }
    }

    fn shown(&self) -> [String; 2] {
        let listen = self.listen.map_or("none".to_owned(), |address| address.to_string());
        [listen, self.expose_status.to_string()]
    }

    /// The first that would be another.
    fn differs(&self, then: &Fixed) -> Option<String> {
        let all = FIXED.iter().zip(self.shown()).zip(then.shown());
        all.filter(|((_, now), then)| now != then)
            .map(|((key, now), then)| {
                format!("{key} cannot change while kernspan runs ({now} to {then}): start it anew")
            })
            .next()
    }
}

/// Reads the configuration again, and knows what came of it.
pub struct Reloader {
    source: Option<Source>,
    fixed: Fixed,
    given: AsTyped,
    /// Read, and not yet in use.
    next: AsTyped,
    reloads: Reloads,
}

/// How often it was read again, for whoever asks.
#[derive(Clone, Default)]
pub struct Reloads(Arc<Mutex<Counted>>);

#[derive(Default)]
struct Counted {
    file: Option<String>,
    taken_up: u64,
    refused: u64,
    /// Why the latest was, until one is taken up.
    refusal: Option<String>,
}

impl Reloader {
    /// Of an agent that was started so.
    pub fn new(run: &Run) -> Reloader {
        let reloads = Reloads::default();
        reloads.change(|counted| {
            counted.file = run.source.file().map(|file| file.display().to_string());
        });
        let source = Some(run.source.clone());
        let (fixed, given) = (Fixed::of(&run.settings), run.given.clone());
        Reloader { source, fixed, given, next: AsTyped::default(), reloads }
    }

    /// For what keeps its configuration.
    pub fn never() -> Reloader {
        let (given, next) = (AsTyped::default(), AsTyped::default());
        Reloader { source: None, fixed: Fixed::default(), given, next, reloads: Reloads::default() }
    }

    /// The file, when there is one, and what it was like before it was read.
    pub fn file(&self) -> Option<(&Path, Option<Look>)> {
        let source = self.source.as_ref()?;
        Some((source.file()?, source.before()))
    }

    /// To be asked for what came of it.
    pub fn reloads(&self) -> Reloads {
        self.reloads.clone()
    }

    /// Reads it. Gives settings for a new run, when one is needed.
    pub fn read(&mut self, why: Why) -> Option<Settings> {
        let source = self.source.as_ref()?;
        let read = match source.read_again(&|name| std::env::var(name).ok()) {
            Ok(read) => read,
            Err(problems) => {
                self.refuse(&problems.to_string());
                return None;
            }
        };
        let changed = self.given.differing(&read.given);
        if let Some(why) = self.fixed.differs(&Fixed::of(&read.settings)) {
            self.refuse(&why);
            return None;
        }
        // Asked for by a signal, files that the configuration names (certificates) may be others.
        let needs_run = why == Why::Signal
            || changed.iter().any(|key| *key != "log-level" && !FIXED.contains(key));
        let what = if changed.is_empty() { "nothing".to_owned() } else { changed.join(", ") };
        tracing::info!("the configuration was read again; changed: {what}");
        self.next = read.given;
        if !needs_run {
            self.given = std::mem::take(&mut self.next);
            self.take_up(read.settings.log_level, !changed.is_empty());
            return None;
        }
        Some(read.settings)
    }

    /// A run with these settings has taken over.
    pub fn accepted(&mut self, level: LogLevel, after: Duration) {
        self.given = std::mem::take(&mut self.next);
        self.take_up(level, true);
        tracing::info!("the new configuration is in use, after {:.1} s", after.as_secs_f64());
    }

    /// Nothing of it is left to be refused.
    fn take_up(&self, level: LogLevel, is_new: bool) {
        if let Err(error) = telemetry::change_level(level.name()) {
            tracing::warn!("the log level stays: {error}");
        }
        self.reloads.change(|counted| {
            counted.taken_up += u64::from(is_new);
            counted.refusal = None;
        });
    }

    /// None can be made with them.
    pub fn refused(&mut self, failure: &Failure) {
        self.refuse(&failure.to_string());
    }

    fn refuse(&mut self, why: &str) {
        tracing::error!("the new configuration is refused, the one of before stays: {why}");
        self.reloads.change(|counted| {
            counted.refused += 1;
            counted.refusal = Some(why.to_owned());
        });
    }
}

impl Reloads {
    /// As `/status` tells it.
    pub fn to_json(&self) -> Value {
        self.change(|counted| {
            json!({
                "file": counted.file,
                "taken_up": counted.taken_up,
                "refused": counted.refused,
                "refusal": counted.refusal,
            })
        })
    }

    /// Taken up and refused.
    pub fn counts(&self) -> (u64, u64) {
        self.change(|counted| (counted.taken_up, counted.refused))
    }

    fn change<T>(&self, act: impl FnOnce(&mut Counted) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Command, parse};
    use rustix::fs::{CWD, mkfifoat};
    use std::os::unix::fs::symlink;
    use std::sync::mpsc;

    /// What comes of it when an agent that listens at `:1`, by a flag or the first file, reads another one.
    fn reloaded(flag: bool, first: &str, then: &str) -> (bool, (u64, u64), String) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("kernspan.yaml");
        std::fs::write(&path, first).unwrap();
        let config = path.display().to_string();
        let mut line = vec!["kernspan", "run", "--output=none", "--config", &config];
        line.extend(flag.then_some("--listen=:1"));
        let Ok(Command::Run(run)) = parse(line, &|_| None) else { panic!("{first}") };
        let mut reloader = Reloader::new(&run);
        std::fs::write(&path, then).unwrap();
        let needs_run = reloader.read(Why::File).is_some();
        let refusal = reloader.reloads().to_json()["refusal"].as_str().unwrap_or("").to_owned();
        (needs_run, reloader.reloads().counts(), refusal)
    }

    #[test]
    fn the_address_in_force_may_be_written_into_the_file_and_no_other_one() {
        for (why, first, then, needs_run, counts) in [
            ("added", "", "listen: '[::]:1'\n", false, (1, 0)),
            ("added with more", "", "listen: :1\nsample: 0.5\n", true, (0, 0)),
            ("taken out", "listen: :1\n", "", false, (1, 0)),
            ("hidden by the flag", "listen: :2\n", "listen: :3\n", false, (1, 0)),
        ] {
            let found = reloaded(true, first, then);
            assert_eq!(found, (needs_run, counts, String::new()), "{why}");
        }
        for (then, to) in [("listen: :2\nsample: 0.5\n", "[::]:2"), ("sample: 0.5\n", "none")] {
            let (needs_run, counts, refusal) = reloaded(false, "listen: :1\n", then);
            assert_eq!((needs_run, counts), (false, (0, 1)), "{then}");
            let said = format!("listen cannot change while kernspan runs ([::]:1 to {to})");
            assert!(refusal.starts_with(&said), "{refusal}");
        }
        let (needs_run, counts, refusal) = reloaded(true, "", "expose-status: true\n");
        assert_eq!((needs_run, counts), (false, (0, 1)));
        assert!(refusal.starts_with("expose-status cannot change"), "{refusal}");
    }

    /// Whatever comes to lie at the path, it is read without waiting.
    #[test]
    fn what_is_no_regular_file_is_refused_at_once_while_the_agent_runs() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("kernspan.yaml");
        let config = path.display().to_string();
        std::fs::write(&path, "sample: 0.5\n").unwrap();
        let line = ["kernspan", "run", "--output=none", "--config", &config];
        let Ok(Command::Run(run)) = parse(line, &|_| None) else { panic!("a file") };
        for why in ["a pipe", "a device", "a directory"] {
            let _ = std::fs::remove_file(&path);
            match why {
                "a pipe" => mkfifoat(CWD, &path, 0o600.into()).unwrap(),
                "a device" => symlink("/dev/zero", &path).unwrap(),
                _ => std::fs::create_dir(&path).unwrap(),
            }
            let mut reloader = Reloader::new(&run);
            let (reloads, (to, from)) = (reloader.reloads(), mpsc::channel());
            std::thread::spawn(move || to.send(reloader.read(Why::Signal).is_none()));
            let patience = Duration::from_secs(20);
            assert_eq!(from.recv_timeout(patience), Ok(true), "{why} is waited for");
            let refusal = reloads.to_json()["refusal"].as_str().unwrap_or("").to_owned();
            assert!(refusal.contains("no regular file"), "{why}: {refusal}");
            assert!(refusal.contains(&config), "{why}: {refusal}");
        }
    }
}
