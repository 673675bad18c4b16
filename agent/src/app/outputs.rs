//! The outputs of a run, from the settings.

use super::memory::Memory;
use super::selected::Selected;
use crate::cli::Failure;
use crate::config::{Output, Settings};
use crate::export::{
    ConsoleOutput, Destination, Exporter, Fanout, JsonOutput, NoneOutput, OtlpConfig, OtlpFlags,
    OtlpOutput, Problem, TopOutput, Writing,
};
use std::path::Path;
use tokio::runtime::Handle;

/// Outputs, with the exporter that one of them feeds.
pub struct Outputs {
    /// All of them.
    pub fanout: Fanout,
    /// OTLP over the network.
    pub exporter: Option<Exporter>,
    /// Its configuration.
    pub otlp: Option<OtlpConfig>,
}

/// Makes the outputs; those for people and files write as `writing` says.
///
/// # Errors
/// The operator's: bad `OTEL_*` values, a file that cannot be made, certificates that cannot be
/// read.
pub fn open(settings: &Settings, runtime: &Handle, writing: Writing) -> Result<Outputs, Failure> {
    let mut destinations: Vec<Box<dyn Destination>> = Vec::new();
    let mut exporter = None;
    let mut otlp = None;
    for output in &settings.outputs {
        match output {
            Output::Otlp => {
                let config = resolve(settings)?;
                let started = Exporter::start(config.clone(), runtime)
                    .map_err(|error| Failure::Operator(error.to_string()))?;
                destinations.push(Box::new(OtlpOutput::new(started.submitter())));
                exporter = Some(started);
                otlp = Some(config);
            }
            Output::Console => {
                let output = ConsoleOutput::stdout(writing);
                destinations.push(Box::new(writable("standard output", output)?));
            }
            Output::Trace(filter) => {
                let output = ConsoleOutput::stdout(writing).map(|output| output.only(filter));
                destinations.push(Box::new(writable("standard output", output)?));
            }
            Output::Top(every) => {
                let output = TopOutput::stdout(writing, *every);
                destinations.push(Box::new(writable("standard output", output)?));
            }
            Output::Json(path) => destinations.push(json(path.as_deref(), writing)?),
        }
    }
    if destinations.is_empty() {
        destinations.push(Box::new(NoneOutput::default()));
    }
    let mut fanout = Fanout::new(destinations);
    let executables = &settings.selection.executables;
    if !executables.is_everything() {
        fanout = Fanout::new(vec![Box::new(Selected::new(executables.clone(), fanout))]);
    }
    Ok(Outputs { fanout, exporter, otlp })
}

fn json(path: Option<&Path>, writing: Writing) -> Result<Box<dyn Destination>, Failure> {
    Ok(Box::new(match path {
        None => writable("standard output", JsonOutput::stdout(writing))?,
        Some(path) => writable(path.display(), JsonOutput::file(path, writing))?,
    }))
}

fn writable<T>(place: impl std::fmt::Display, output: std::io::Result<T>) -> Result<T, Failure> {
    output.map_err(|error| Failure::Operator(format!("{place} cannot be written: {error}")))
}

/// How OTLP is sent.
///
/// # Errors
/// The operator's: bad values of flags, file or environment.
pub fn resolve(settings: &Settings) -> Result<OtlpConfig, Failure> {
    let given = &settings.otlp;
    let text = |path: &Option<std::path::PathBuf>| {
        path.as_ref().map(|path| path.to_string_lossy().into_owned())
    };
    let flags = OtlpFlags {
        endpoint: given.endpoint.clone(),
        protocol: given.protocol.map(|protocol| protocol.name().to_owned()),
        headers: given.headers.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        compression: given.compression.map(|compression| compression.name().to_owned()),
        timeout: given.timeout.map(|timeout| format!("{}ms", timeout.as_millis())),
        ca: text(&given.ca),
        client_cert: text(&given.client_cert),
        client_key: text(&given.client_key),
        insecure: given.insecure.unwrap_or(false),
        queue_bytes: Some(given.queue_bytes.unwrap_or(Memory::of(settings).queue()).to_string()),
        required: true,
    };
    let environment = |name: &str| std::env::var(name).ok();
    match OtlpConfig::resolve(&environment, &flags) {
        Ok(Some(config)) => Ok(config),
        Ok(None) => Err(Failure::Operator("OTLP has no endpoint".to_owned())),
        Err(problems) => Err(Failure::Operator(list(&problems))),
    }
}

fn list(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    format!("the OTLP configuration is wrong:\n  {}", lines.join("\n  "))
}
