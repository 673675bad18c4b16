//! The configuration as the rest of the agent needs it: every value checked, every default made.

use super::kubernetes::KubernetesSettings;
use agent_core::flow::PeerLabels;
use agent_core::histogram::Buckets;
use agent_core::metric::Temporality;
use agent_core::process::NameRules;
use agent_core::route::RouteConfig;
use agent_core::trace::Sampling;
use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What `run`, `record` and `replay` go by.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where spans go. Empty for `none` (and for `record`).
    pub outputs: Vec<Output>,
    /// How `otlp` sends. `OTEL_*` variables fill what is absent here.
    pub otlp: OtlpSettings,
    /// Address of the admin endpoint, none by default.
    pub listen: Option<SocketAddr>,
    /// Other hosts may ask it for everything, too.
    pub expose_status: bool,
    /// Which processes and connections are watched.
    pub selection: Selection,
    /// Names that the operator gives to processes.
    pub names: NameRules,
    /// What is observed of them, sorted, each once; [`Probe::Process`] always.
    pub probes: Vec<Probe>,
    /// Bytes captured of a message's head, 256 to 4096.
    pub head_bytes: u32,
    /// Rings that carry payload: 1, 2 or 4; by the processors that the agent may use when absent.
    pub payload_rings: Option<u32>,
    /// Bytes of each payload ring, a power of two from 64 KiB to 1 GiB; by their number when absent.
    pub ring_size: Option<u32>,
    /// How often the rings are looked at, 1 ms to 1 s.
    pub poll_interval: Duration,
    /// What the agent may use of one processor, its kernel side included; without a bound when absent.
    pub max_cpu: Option<f64>,
    /// Bytes that tables, buffers and kernel maps together may take; 512 MiB when absent.
    pub max_memory: Option<u64>,
    /// Requests a second that each process may begin; without a bound when absent.
    pub max_request_rate: Option<u32>,
    /// How often what processes use is read and sent; never when absent.
    pub process_metrics: Option<Duration>,
    /// How often metrics of requests are sent; none when absent.
    pub request_metrics: Option<Duration>,
    /// Since when metrics of requests count.
    pub temporality: Temporality,
    /// Which buckets the durations of requests have.
    pub buckets: Buckets,
    /// Which traces are kept.
    pub sampling: Sampling,
    /// Where routes come from.
    pub routes: RouteConfig,
    /// How much the agent says about itself.
    pub log_level: LogLevel,
    /// How payload capture is attached.
    pub hooks: Hooks,
    /// File with the kernel's type information.
    pub btf: Option<PathBuf>,
    /// How much of each call is captured; for tests.
    pub capture: Capture,
    /// Which evidence may link spans within a process; for tests.
    pub link: LinkEvidence,
    /// Conversations.
    pub flows: FlowSettings,
    /// What is asked of a Kubernetes API server.
    pub kubernetes: KubernetesSettings,
}

/// What is made of conversations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowSettings {
    /// How often those that live are looked at and metrics are sent, 1 s to 1 h.
    pub interval: Duration,
    /// What of the other end tells series of metrics apart.
    pub labels: PeerLabels,
    /// Which are log records.
    pub logs: FlowLogs,
    /// Series of metrics, 1 to 100,000; more fold into one.
    pub series: usize,
    /// Conversations that are known at once; the kernel counts half as many of UDP.
    pub table: u32,
    /// DNS answers are read, for names.
    pub dns: bool,
}

impl Default for FlowSettings {
    fn default() -> Self {
        FlowSettings {
            interval: Duration::from_secs(10),
            labels: PeerLabels::default(),
            logs: FlowLogs::None,
            series: agent_core::flow::metrics::MAX_SERIES,
            table: 32_768,
            dns: true,
        }
    }
}

/// A place for spans and events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// OTLP over the network.
    Otlp,
    /// A readable tree per trace on standard output.
    Console,
    /// OTLP/JSON, a line per request, to a file or standard output.
    Json(Option<PathBuf>),
    /// Like the console, of some traces: `kernspan trace`.
    Trace(TraceFilter),
    /// A screen of services, anew after this time: `kernspan top`.
    Top(Duration),
}

/// Traces that have a span which is all of this.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceFilter {
    /// Of one of these services (globs); of any when empty.
    pub services: Vec<String>,
    /// Its method and target contain one of these; anything when empty.
    pub requests: Vec<String>,
    /// It took at least so long.
    pub slower: Option<Duration>,
    /// It failed.
    pub errors: bool,
}

impl Output {
    /// Whether it writes to standard output.
    pub fn is_stdout(&self) -> bool {
        matches!(self, Output::Console | Output::Json(None) | Output::Trace(_) | Output::Top(_))
    }
}

/// What of the machine is watched. Everything by default.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// By executable.
    pub executables: Executables,
    /// Only these processes; all when empty. Sorted, each once.
    pub pids: Vec<u32>,
    /// Only connections with one of these ports at either end; all when empty. Sorted, each once,
    /// at most [`agent_common::settings::MAX_PORTS`].
    pub ports: Vec<u16>,
    /// Only tasks under this directory of the cgroup tree.
    pub cgroup: Option<PathBuf>,
}

/// Executables by glob. A pattern without `/` is matched against the file name, one with `/`
/// against the whole path, where `*` stays within a directory and `**` does not.
#[derive(Clone, Debug, Default)]
pub struct Executables {
    /// Patterns of `--include`.
    pub include: Vec<String>,
    /// Patterns of `--exclude`.
    pub exclude: Vec<String>,
    included: Option<GlobSet>,
    excluded: Option<GlobSet>,
}

impl Executables {
    /// From patterns.
    ///
    /// # Errors
    /// The first pattern that is no glob.
    pub fn new(include: Vec<String>, exclude: Vec<String>) -> Result<Self, globset::Error> {
        let (included, excluded) = (glob_set(&include)?, glob_set(&exclude)?);
        Ok(Self { include, exclude, included, excluded })
    }

    /// Whether a process with this executable is watched. What is excluded stays out, even when
    /// it is also included.
    pub fn watches(&self, path: &str) -> bool {
        let matches = |set: &Option<GlobSet>| set.as_ref().map(|set| set.is_match(path));
        matches(&self.included).unwrap_or(true) && !matches(&self.excluded).unwrap_or(false)
    }

    /// Whether every process is watched.
    pub fn is_everything(&self) -> bool {
        self.included.is_none() && self.excluded.is_none()
    }
}

fn glob_set(patterns: &[String]) -> Result<Option<GlobSet>, globset::Error> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(executable_glob(pattern)?);
    }
    set.build().map(Some)
}

/// See [`Executables`].
pub(super) fn executable_glob(pattern: &str) -> Result<Glob, globset::Error> {
    let anywhere = format!("**/{pattern}");
    let pattern = if pattern.contains('/') { pattern } else { &anywhere };
    GlobBuilder::new(pattern).literal_separator(true).build()
}

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// Every one.
            pub const ALL: [Self; [$($text),*].len()] = [$(Self::$variant),*];

            /// As it is typed.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(self.name())
            }
        }
    };
}

named! {
    /// What is observed.
    Probe {
        /// Fork, exec and exit: who a process is. Always on.
        Process = "process",
        /// HTTP requests from the payload of sockets.
        Http = "http",
        /// Every exec as an event of its own.
        Exec = "exec",
        /// What TLS libraries carry, in clear.
        Tls = "tls",
        /// Conversations over TCP and UDP: bytes, round trips, retransmits, failures.
        Flow = "flow",
    }
}

named! {
    /// Which conversations are log records.
    FlowLogs {
        /// None.
        None = "none",
        /// Each at its end.
        Ends = "ends",
        /// Also while they live, once an interval.
        Intervals = "intervals",
    }
}

named! {
    /// What of the other end tells series of flow metrics apart.
    FlowLabel {
        /// Nothing.
        None = "none",
        /// Name that a client asked for.
        Name = "name",
        /// Address of the other end.
        Address = "address",
        /// Port that was connected to.
        Port = "port",
    }
}

named! {
    /// How payload capture is attached.
    Hooks {
        /// What this kernel does best.
        Auto = "auto",
        /// BTF tracepoints, or nothing.
        Tracepoint = "tracepoint",
        /// fexit, or nothing.
        Fexit = "fexit",
        /// Pairs of kprobes, or nothing.
        Kprobe = "kprobe",
    }
}

named! {
    /// How much of each call is captured.
    Capture {
        /// The head of each message, little of the rest.
        Heads = "heads",
        /// Up to the largest size class of every call, of any protocol.
        Full = "full",
    }
}

named! {
    /// Which evidence may link spans within a process.
    LinkEvidence {
        /// Headers and threads.
        All = "all",
        /// None: only both ends of a connection meet.
        None = "none",
    }
}

named! {
    /// Least level of the agent's own log.
    LogLevel {
        /// Silent.
        Off = "off",
        /// What failed.
        Error = "error",
        /// What costs a feature or data.
        Warn = "warn",
        /// Start, stop, and what was picked.
        Info = "info",
        /// For finding a fault.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

named! {
    /// OTLP transport and encoding, named as in `OTEL_EXPORTER_OTLP_PROTOCOL`.
    OtlpProtocol {
        /// Protobuf over gRPC.
        Grpc = "grpc",
        /// Protobuf over HTTP.
        HttpProtobuf = "http/protobuf",
        /// JSON over HTTP.
        HttpJson = "http/json",
    }
}

named! {
    /// Compression of requests, named as in `OTEL_EXPORTER_OTLP_COMPRESSION`.
    OtlpCompression {
        /// As they are.
        None = "none",
        /// gzip.
        Gzip = "gzip",
    }
}

/// OTLP as given by flags and file. Absent values come from `OTEL_EXPORTER_OTLP_*`, then from the
/// specification's defaults; both are the exporter's.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct OtlpSettings {
    /// `http://…`, `https://…` or `HOST:PORT`.
    pub endpoint: Option<String>,
    /// Transport.
    pub protocol: Option<OtlpProtocol>,
    /// Names and values, values as sent (nothing is percent-encoded here).
    pub headers: Vec<(String, String)>,
    /// Compression.
    pub compression: Option<OtlpCompression>,
    /// Limit of a request.
    pub timeout: Option<Duration>,
    /// PEM file of the authority that signed the server's certificate.
    pub ca: Option<PathBuf>,
    /// PEM file of the client certificate.
    pub client_cert: Option<PathBuf>,
    /// PEM file of its key.
    pub client_key: Option<PathBuf>,
    /// No TLS for an endpoint without a scheme.
    pub insecure: Option<bool>,
    /// Bound of the queue, bytes.
    pub queue_bytes: Option<u64>,
}

impl fmt::Debug for OtlpSettings {
    /// Header values are secrets, and a URL may hold one.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        let endpoint = self.endpoint.as_deref().map(|url| match url.split_once('@') {
            Some((_, host)) => format!("…@{host}"),
            None => url.to_owned(),
        });
        out.debug_struct("OtlpSettings")
            .field("endpoint", &endpoint)
            .field("protocol", &self.protocol)
            .field("headers", &names)
            .field("compression", &self.compression)
            .field("timeout", &self.timeout)
            .field("ca", &self.ca)
            .field("client_cert", &self.client_cert)
            .field("client_key", &self.client_key)
            .field("insecure", &self.insecure)
            .field("queue_bytes", &self.queue_bytes)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_chosen_by_name_or_path() {
        let set = |patterns: &[&str]| patterns.iter().map(|&text| text.to_owned()).collect();
        for (why, include, exclude, path, expected) in [
            ("no pattern", &[][..], &[][..], "/usr/bin/curl", true),
            ("file name", &["curl"], &[], "/usr/bin/curl", true),
            ("another name", &["curl"], &[], "/usr/bin/curlie", false),
            ("name with star", &["python3*"], &[], "/usr/bin/python3.11", true),
            ("a star stays in its directory", &["/usr/*"], &[], "/usr/bin/curl", false),
            ("two stars do not", &["/usr/**"], &[], "/usr/bin/curl", true),
            ("left out", &[], &["curl"], "/usr/bin/curl", false),
            ("not left out", &[], &["curl"], "/usr/bin/wget", true),
            ("out wins over in", &["/usr/bin/*"], &["curl"], "/usr/bin/curl", false),
        ] {
            let executables = Executables::new(set(include), set(exclude)).unwrap();
            assert_eq!(executables.watches(path), expected, "{why}");
        }
    }

    #[test]
    fn secrets_are_not_in_the_debug_text() {
        let otlp = OtlpSettings {
            endpoint: Some("https://me:hunter2@host:4318".to_owned()),
            headers: vec![("x-api-key".to_owned(), "hunter2".to_owned())],
            ..OtlpSettings::default()
        };
        let text = format!("{otlp:?}");
        assert!(text.contains("x-api-key") && text.contains("host:4318"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}
