//! `kernspan top` and `kernspan trace`: runs of their own that are looked at, and send nothing.

use super::args::{Capture, Common, TopArgs, TraceArgs};
use super::read::Read;
use crate::config::{
    self, Environment, LogLevel, Output, Probe, Problems, Resolved, Settings, TraceFilter,
    problem::Wrong, value,
};
use agent_core::trace::Sampling;
use std::time::Duration;

/// Between two screens.
const EVERY: Duration = Duration::from_secs(2);

/// Settings of `kernspan top`.
///
/// # Errors
/// All values that are wrong.
pub fn top(
    asked: &TopArgs,
    capture: Capture,
    common: Common,
    env: Environment<'_>,
) -> Result<Settings, Problems> {
    let mut problems = Problems::default();
    let every = Read { problems: &mut problems }.one("every", &asked.every, every);
    let settings = settings(capture, common, env, &mut problems);
    let settings = settings.map(|settings| Settings {
        outputs: vec![Output::Top(every.unwrap_or(EVERY))],
        probes: only(settings.probes, &[Probe::Process, Probe::Http, Probe::Tls]),
        ..settings
    });
    problems.or(settings).and_then(|settings| settings.ok_or_else(Problems::default))
}

/// Settings of `kernspan trace`.
///
/// # Errors
/// All values that are wrong.
pub fn trace(
    asked: TraceArgs,
    capture: Capture,
    common: Common,
    env: Environment<'_>,
) -> Result<Settings, Problems> {
    let mut problems = Problems::default();
    let mut read = Read { problems: &mut problems };
    let filter = TraceFilter {
        services: read.all("service", &asked.service, value::glob),
        requests: asked.request,
        slower: read.one("slower", &asked.slower, slower),
        errors: asked.errors,
    };
    let settings = settings(capture, common, env, &mut problems);
    let settings = settings.map(|settings| Settings {
        outputs: vec![Output::Trace(filter)],
        probes: only(settings.probes, &[Probe::Process, Probe::Http, Probe::Tls, Probe::Exec]),
        ..settings
    });
    problems.or(settings).and_then(|settings| settings.ok_or_else(Problems::default))
}

/// What a run goes by that sends no metrics and speaks up only when something fails. The file may be that of the
/// agent: what it watches and how it is named is taken, not what that agent keeps, where it listens and what it logs.
fn settings(
    capture: Capture,
    common: Common,
    env: Environment<'_>,
    problems: &mut Problems,
) -> Option<Settings> {
    let flags = [vec![("output", vec!["none".to_owned()])], capture.flags(), common.flags()];
    match config::load(flags.concat(), &[], env) {
        Ok(Resolved { settings, given, .. }) => {
            let typed = |key| given.flags.iter().any(|value| value.key == key);
            Some(Settings {
                process_metrics: None,
                request_metrics: None,
                sampling: Sampling::default(),
                max_request_rate: settings.max_request_rate.filter(|_| typed("max-request-rate")),
                listen: settings.listen.filter(|_| typed("listen")),
                log_level: if typed("log-level") { settings.log_level } else { LogLevel::Error },
                ..settings
            })
        }
        Err(more) => {
            problems.extend(more);
            None
        }
    }
}

/// Settings of a run of which nothing leaves, and that speaks up only when something fails.
pub fn silent(settings: Settings) -> Settings {
    Settings {
        process_metrics: None,
        request_metrics: None,
        listen: None,
        log_level: LogLevel::Error,
        ..settings
    }
}

fn only(probes: Vec<Probe>, wanted: &[Probe]) -> Vec<Probe> {
    probes.into_iter().filter(|probe| wanted.contains(probe)).collect()
}

fn every(text: &str) -> Result<Duration, Wrong> {
    value::duration_within(text, Duration::from_millis(500), Duration::from_secs(3600), "2s")
}

fn slower(text: &str) -> Result<Duration, Wrong> {
    value::duration_within(text, Duration::from_micros(1), Duration::from_secs(3600), "100ms")
}
