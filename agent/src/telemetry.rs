//! The agent's telemetry about itself: log lines on standard error, and metrics by OTLP.
//!
//! | metric | instrument | attributes |
//! |---|---|---|
//! | `kernspan.stage.items` | counter | `kernspan.stage`, `kernspan.unit`, `kernspan.side` (`in`, `out`) |
//! | `kernspan.stage.lost` | counter | `kernspan.stage`, `kernspan.unit`, `kernspan.cause` |
//! | `kernspan.stage.held` | up-down counter | `kernspan.stage`, `kernspan.unit` |
//! | `kernspan.stage.info` | gauge | `kernspan.stage`, `kernspan.unit`, `kernspan.name` |
//!
//! For each stage and unit `in = out + held + Σ lost`. Sent every 60 s, or as
//! `OTEL_METRIC_EXPORT_INTERVAL` says, with the resource `service.name=kernspan`.

mod runtime;
mod stderr;

pub use stderr::drain;

use crate::export::{self, OtlpConfig, Protocol, SignalConfig, StartError};
use agent_core::ledger::{Entry, Side};
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_otlp::{
    Compression, MetricExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use runtime::OnRuntime;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use thiserror::Error;
use tokio::runtime::Handle;
use tonic::metadata::MetadataMap;
use tracing_subscriber::EnvFilter;

/// The ledger of all stages, when asked.
pub type Snapshot = Arc<dyn Fn() -> Vec<Entry> + Send + Sync>;

/// Why logging cannot start.
#[derive(Debug, Error)]
pub enum LogError {
    /// The level is none.
    #[error("log level {level:?}: {why}; use error, warn, info, debug, trace or MODULE=LEVEL,…")]
    Level {
        /// As given.
        level: String,
        /// What the parser says.
        why: String,
    },
    /// Something else in this process logs already.
    #[error("logging is set up already")]
    Twice,
}

/// Writes log lines of `level` and above to standard error. `level` may name modules.
///
/// # Errors
/// [`LogError`].
pub fn start_logging(level: &str) -> Result<(), LogError> {
    let filter = filter(level)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr::stderr)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_filter_reloading();
    let handle = lines.reload_handle();
    lines.try_init().map_err(|_| LogError::Twice)?;
    // Taken once, as logging is set up once.
    let _ = LEVEL.set(Box::new(move |filter| drop(handle.reload(filter))));
    Ok(())
}

type SetLevel = Box<dyn Fn(EnvFilter) + Send + Sync>;

static LEVEL: OnceLock<SetLevel> = OnceLock::new();

/// Writes lines of `level` and above from now on.
///
/// # Errors
/// [`LogError::Level`].
pub fn change_level(level: &str) -> Result<(), LogError> {
    let filter = filter(level)?;
    if let Some(set) = LEVEL.get() {
        set(filter);
    }
    Ok(())
}

/// The transports of the exporter log each connection: shown only when asked for by name.
fn filter(level: &str) -> Result<EnvFilter, LogError> {
    const QUIET: &str = "h2=warn,hyper=warn,hyper_util=warn,reqwest=warn,rustls=warn,tonic=warn,\
                         tower=warn,opentelemetry=warn,opentelemetry_sdk=warn,opentelemetry-otlp=warn";
    let simple = level.parse::<tracing::Level>().is_ok();
    let directives = if simple { format!("{level},{QUIET}") } else { level.to_string() };
    EnvFilter::try_new(directives)
        .map_err(|why| LogError::Level { level: level.to_string(), why: why.to_string() })
}

/// Runs the agent's own metrics until it is shut down.
#[derive(Debug)]
pub struct MetricsGuard {
    provider: SdkMeterProvider,
}

impl MetricsGuard {
    /// Sends the last figures. Blocks for `timeout` at most: not for an async task.
    ///
    /// # Errors
    /// What the SDK says: the figures may not have arrived.
    pub fn shutdown(self, timeout: Duration) -> Result<(), String> {
        self.provider.shutdown_with_timeout(timeout).map_err(|why| why.to_string())
    }
}

/// Starts to send the ledger as metrics; nothing when metrics are not configured.
///
/// # Errors
/// As [`export::Exporter::start`].
pub fn start_metrics(
    config: &OtlpConfig,
    handle: &Handle,
    snapshot: Snapshot,
) -> Result<Option<MetricsGuard>, StartError> {
    let Some(config) = &config.metrics else { return Ok(None) };
    export::install_crypto();
    let _context = handle.enter();
    let exporter = OnRuntime::new(exporter(config)?, handle.clone());
    let resource = Resource::builder()
        .with_service_name("kernspan")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let provider = SdkMeterProvider::builder()
        .with_reader(PeriodicReader::builder(exporter).build())
        .with_resource(resource)
        .build();
    observe(&provider, &snapshot);
    Ok(Some(MetricsGuard { provider }))
}

fn exporter(config: &SignalConfig) -> Result<MetricExporter, StartError> {
    let wrong = |why: opentelemetry_otlp::ExporterBuildError| {
        StartError::Transport(format!("metrics: {why}"))
    };
    let headers = config.headers.iter().cloned();
    if config.protocol == Protocol::Grpc {
        let channel = export::grpc_channel(&config.endpoint, &config.tls)?;
        let metadata = MetadataMap::from_headers(export::headers(&config.headers)?);
        let builder = MetricExporter::builder()
            .with_tonic()
            .with_channel(channel)
            .with_timeout(config.timeout)
            .with_metadata(metadata);
        let builder =
            if config.gzip { builder.with_compression(Compression::Gzip) } else { builder };
        return builder.build().map_err(wrong);
    }
    let protocol = match config.protocol {
        Protocol::HttpJson => opentelemetry_otlp::Protocol::HttpJson,
        Protocol::HttpProtobuf | Protocol::Grpc => opentelemetry_otlp::Protocol::HttpBinary,
    };
    let user_agent = [("User-Agent".to_owned(), export::USER_AGENT.to_owned())];
    let builder = MetricExporter::builder()
        .with_http()
        .with_http_client(export::http_client(config)?)
        .with_protocol(protocol)
        .with_endpoint(&config.endpoint)
        .with_timeout(config.timeout)
        // Without it the library sends a name of its own, which other agents would not know.
        .with_headers(user_agent.into_iter().chain(headers).collect());
    let builder = if config.gzip { builder.with_compression(Compression::Gzip) } else { builder };
    builder.build().map_err(wrong)
}

fn observe(provider: &SdkMeterProvider, snapshot: &Snapshot) {
    let meter = provider.meter("kernspan");
    let entries = Arc::clone(snapshot);
    meter
        .u64_observable_counter("kernspan.stage.items")
        .with_description("Items that came into and went out of a stage of the agent")
        .with_callback(move |observer| {
            for entry in entries().iter().filter(|e| matches!(e.side, Side::In | Side::Out)) {
                observer.observe(entry.count, &attributes(entry, "kernspan.side"));
            }
        })
        .build();
    let entries = Arc::clone(snapshot);
    meter
        .u64_observable_counter("kernspan.stage.lost")
        .with_description("Items that a stage of the agent lost, by cause")
        .with_callback(move |observer| {
            for entry in entries().iter().filter(|e| matches!(e.side, Side::Lost(_))) {
                observer.observe(entry.count, &attributes(entry, "kernspan.cause"));
            }
        })
        .build();
    let entries = Arc::clone(snapshot);
    meter
        .i64_observable_up_down_counter("kernspan.stage.held")
        .with_description("Items inside a stage of the agent")
        .with_callback(move |observer| {
            for entry in entries().iter().filter(|e| e.side == Side::Held) {
                let [stage, unit, _] = attributes(entry, "kernspan.side");
                observer.observe(entry.count.cast_signed(), &[stage, unit]);
            }
        })
        .build();
    let entries = Arc::clone(snapshot);
    meter
        .u64_observable_gauge("kernspan.stage.info")
        .with_description("Figures that explain a stage of the agent")
        .with_callback(move |observer| {
            for entry in entries().iter().filter(|e| matches!(e.side, Side::Info(_))) {
                observer.observe(entry.count, &attributes(entry, "kernspan.name"));
            }
        })
        .build();
}

fn attributes(entry: &Entry, side: &'static str) -> [KeyValue; 3] {
    [
        KeyValue::new("kernspan.stage", entry.stage),
        KeyValue::new("kernspan.unit", entry.unit),
        KeyValue::new(side, entry.side.label()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_modules_are_understood_and_nonsense_is_refused() {
        for level in ["info", "TRACE", "warn,agent::export=debug"] {
            assert!(filter(level).is_ok(), "{level}");
        }
        let error = filter("agent=loud").unwrap_err().to_string();
        assert!(error.contains("agent=loud"), "{error}");
    }
}
