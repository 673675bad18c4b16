//! Flags, for clap. Values stay texts: [`crate::config`] reads them, so that all mistakes are
//! reported together and not the first one only.

use super::kubernetes::Kubernetes;
use crate::config::given::Flags;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

const AFTER: &str = "\
Exit codes: 0 done; 2 wrong usage or configuration, missing capabilities, or a kernel on which \
nothing can be observed; 1 anything else.";

pub const RUN_EXAMPLES: &str = "\
Examples:
  kernspan run
      Watch everything, print a readable tree per trace
  kernspan run --otlp-endpoint http://localhost:4317
      Send to an OpenTelemetry Collector over gRPC
  kernspan run --include nginx --include '/usr/bin/python3*' --port 8080
      Only these programs, only this port
  kernspan run --output otlp --output json:/var/log/spans.json --listen 127.0.0.1:9464
      Two outputs, and /livez, /readyz, /metrics and /status on port 9464
  kernspan run --name-rule 'exe=java,args=*shop.jar*,name=payments,namespace=shop'
      One's own name for a service
  kernspan run --config /etc/kernspan.yaml --sample 0.1
      Options from a file; flags win

The file has the names of the flags:
  output: [otlp, \"json:/var/log/spans.json\"]
  include: [nginx, /usr/bin/python3*]
  name-rule:
    - {unit: shop@*, name: payments, namespace: shop}
  otlp:
    endpoint: https://collector.example:4318
    protocol: http/protobuf
    headers:
      x-api-key: SECRET

Without --output, spans go to OTLP when an endpoint is set (by flag, file or \
OTEL_EXPORTER_OTLP_ENDPOINT), else to the console.";

const RECORD_EXAMPLES: &str = "\
Examples:
  kernspan record /tmp/events.ksr --duration 10s
      Ten seconds of everything
  kernspan record /tmp/events.ksr --include nginx
      One program, until Ctrl-C

The file is created with mode 0600. Bodies, query secrets and the values of unlisted headers are \
replaced by filler of the same length, unless --raw is given.";

const REPLAY_EXAMPLES: &str = "\
Examples:
  kernspan replay /tmp/events.ksr
      Print the traces, with the same ids as when they were recorded
  kernspan replay /tmp/events.ksr --output json:/tmp/spans.json

Needs no root and no kernel support.";

const FLOWS_EXAMPLES: &str = "\
Examples:
  sudo kernspan flows
  sudo kernspan flows --process nginx --state established --sort rtt
  sudo kernspan flows --json | jq '.flows[] | select(.retransmits > 0)'
  sudo kernspan flows --watch 5s --port 53

Needs no running agent. Bytes of UDP and names from DNS answers are known from when it began to \
watch: with --watch.";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  sudo kernspan doctor
  sudo kernspan doctor --for 10s
      Without an agent that runs: watches by itself for a while
  sudo kernspan doctor --json | jq '.features[] | select(.hook == null)'";

const TOP_EXAMPLES: &str = "\
Examples:
  sudo kernspan top
  sudo kernspan top --every 5s --include nginx
  sudo kernspan top | cat
      One screen below the other";

const TRACE_EXAMPLES: &str = "\
Examples:
  sudo kernspan trace --slower 200ms
  sudo kernspan trace --service shop --request /cart --errors
  sudo kernspan trace --port 8080";

const CONFIG_EXAMPLES: &str = "\
Examples:
  kernspan config check /etc/kernspan.yaml
      Before a running agent takes it up";

/// Traces and security events of unchanged programs, from the kernel, over OTLP.
#[derive(Debug, Parser)]
#[command(name = "kernspan", version, about, after_help = AFTER, max_term_width = 100)]
#[command(disable_help_subcommand = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "one value, read once")]
pub enum Command {
    /// Watch programs and send what they do as traces and events
    #[command(after_help = RUN_EXAMPLES)]
    Run {
        #[command(flatten)]
        out: Out,
        #[command(flatten)]
        capture: Capture,
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        otlp: Otlp,
        #[command(flatten)]
        flows: FlowArgs,
        #[command(flatten)]
        kubernetes: Kubernetes,
    },
    /// Show services with their rates, errors, times and open requests, drawn anew
    #[command(after_help = TOP_EXAMPLES)]
    Top {
        #[command(flatten)]
        asked: TopArgs,
        #[command(flatten)]
        capture: Capture,
        #[command(flatten)]
        common: Common,
    },
    /// Show traces as they end, or only those that are asked for
    #[command(after_help = TRACE_EXAMPLES)]
    Trace {
        #[command(flatten)]
        asked: TraceArgs,
        #[command(flatten)]
        capture: Capture,
        #[command(flatten)]
        common: Common,
    },
    /// List the TCP and UDP conversations of all programs, in all network namespaces
    #[command(after_help = FLOWS_EXAMPLES)]
    Flows(FlowsArgs),
    /// Write what the kernel reports to a file, for replay
    #[command(after_help = RECORD_EXAMPLES)]
    Record {
        /// File to create
        file: PathBuf,
        /// Keep secrets and bodies as they were captured
        #[arg(long)]
        raw: bool,
        /// Stop after this time, for example 10s [default: until interrupted]
        #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
        duration: Vec<String>,
        /// Outputs beside the recording, as for run [default: none]
        #[arg(long, value_name = "OUTPUT")]
        output: Vec<String>,
        #[command(flatten)]
        capture: Capture,
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        kubernetes: Kubernetes,
    },
    /// Turn a recording into traces
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay {
        /// File that `kernspan record` wrote
        file: PathBuf,
        #[command(flatten)]
        out: Out,
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        otlp: Otlp,
    },
    /// Say what this kernel offers, what the running programs are, what of their bytes is seen, and what to do
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Type information of this kernel, where it ships none
        #[arg(long, value_name = "FILE")]
        btf: Option<PathBuf>,
        /// Show all processes, also those without traffic or TLS
        #[arg(long)]
        all: bool,
        /// Where an agent listens that is to be asked [default: one that runs on this host]
        #[arg(long, value_name = "HOST:PORT", conflicts_with = "watch")]
        agent: Vec<String>,
        /// Watch for so long, and ask no agent
        #[arg(long = "for", value_name = "TIME")]
        watch: Vec<String>,
    },
    /// Look at a configuration file without using it
    #[command(after_help = CONFIG_EXAMPLES, arg_required_else_help = true)]
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print the version
    #[command(after_help = "Example:\n  kernspan version")]
    Version,
}

/// `kernspan config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say everything that is wrong with it, with exit code 2, or that nothing is
    #[command(after_help = CONFIG_EXAMPLES)]
    Check {
        /// The file, as for run --config
        file: String,
    },
}

/// Where spans go.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct Out {
    /// otlp, console, json, json:FILE or none; repeatable [default: otlp when an endpoint is set,
    /// else console]. A new FILE gets mode 0600; one that is there is appended to, its mode kept
    #[arg(long, value_name = "OUTPUT")]
    output: Vec<String>,
    /// Part of the traces that is kept, whole traces, the same ones everywhere: 0 to 1 [default: 1]
    #[arg(long, value_name = "RATIO", allow_negative_numbers = true)]
    sample: Vec<String>,
    /// Traces a second that --sample may keep of those that one service begins here, or off; th in
    /// tracestate says how many each stands for [default: off]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    sample_rate: Vec<String>,
    /// Traces that are kept whatever --sample says, separated by commas: errors; slow (slower than 99 of 100
    /// of their route of late) or slow=TIME; events (a request ran a program); floor=NUMBER (the
    /// first of each minute and route) [default: none]
    #[arg(long, value_name = "RULES")]
    keep: Vec<String>,
    /// How long a trace waits at most for its end, with --keep: 100ms to 60s [default: 10s]
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    keep_wait: Vec<String>,
    /// What the paths of a service are called, SERVICE=TEMPLATE, for example shop=/users/{id} or
    /// *=/static/{file...}; repeatable, the first that fits wins
    #[arg(long, value_name = "SERVICE=TEMPLATE")]
    route: Vec<String>,
    /// Learn what other paths are called: http.route, and the span's name, with ids, hashes, dates and slugs
    /// left out
    #[arg(long)]
    learn_routes: bool,
}

/// What is watched.
#[derive(Debug, Args)]
#[command(next_help_heading = "Selection and capture")]
pub struct Capture {
    /// Watch only executables that match; by file name, or by path when it has a slash; repeatable
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Leave out executables that match, also included ones; repeatable
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Watch only this process; repeatable
    #[arg(long, value_name = "PID", allow_negative_numbers = true)]
    pid: Vec<String>,
    /// Watch only connections with this port at either end; repeatable, at most 16
    #[arg(long, value_name = "PORT", allow_negative_numbers = true)]
    port: Vec<String>,
    /// Watch only processes in this cgroup directory or below
    #[arg(long, value_name = "PATH")]
    cgroup: Vec<String>,
    /// What to observe, separated by commas: http, exec, tls (with http), flow (process is always
    /// on) [default: all]
    #[arg(long, value_name = "NAMES")]
    probes: Vec<String>,
    /// Bytes captured of a message's head: 256 to 4096 [default: 4096]
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    head_bytes: Vec<String>,
    /// Rings between kernel and agent that carry payload, each with a thread: 1, 2 or 4 [default: 1 up
    /// to 4 processors, 2 up to 8]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    payload_rings: Vec<String>,
    /// Size of each of these rings: 64KiB to 1GiB, rounded up to a power of two [default: 8MiB, of
    /// four 4MiB]
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true)]
    ring_size: Vec<String>,
    /// How often the rings are looked at: 1ms to 1s [default: 5ms]
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    poll_interval: Vec<String>,
    /// What the agent may use of one processor, its kernel side included: 1% to 6400%, or off. Beyond,
    /// whole requests are left out where they begin, and counted [default: off]
    #[arg(long, value_name = "PERCENT", allow_negative_numbers = true)]
    max_cpu: Vec<String>,
    /// What tables, buffers and kernel maps together may take: 64MiB to 64GiB. When a table is full the
    /// oldest leaves, and is counted [default: 512MiB]
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true)]
    max_memory: Vec<String>,
    /// Requests a second that each process may begin before whole requests are left out, or off
    /// [default: off]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    max_request_rate: Vec<String>,
    /// How often CPU time, memory, disk traffic, descriptors and threads of each process are sent: 1s
    /// to 1h, or off [default: 60s]
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    process_metrics: Vec<String>,
    /// How often metrics of requests are sent, and those at /metrics renewed: 1s to 1h, or off. They
    /// count every request, whatever --sample keeps [default: 10s]
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    request_metrics: Vec<String>,
    /// Since when metrics of requests count: cumulative, or delta, since the last were sent [default:
    /// as OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE says, else cumulative]
    #[arg(long, value_name = "KIND")]
    metrics_temporality: Vec<String>,
    /// Buckets of durations over OTLP: explicit, those of the semantic conventions, or exponential, some 9 %
    /// wide each; /metrics keeps the former [default: explicit]
    #[arg(long, value_name = "KIND")]
    metrics_histograms: Vec<String>,
    /// How payload capture is attached: auto, tracepoint, fexit or kprobe [default: auto]
    #[arg(long, value_name = "WAY")]
    hooks: Vec<String>,
    /// Type information (BTF) of this very kernel, raw or in an ELF file, where it ships none; only
    /// kprobes can do with it
    #[arg(long, value_name = "FILE")]
    btf: Vec<String>,
    /// How much of each call is captured: heads or full; for tests
    #[arg(long, value_name = "AMOUNT", hide = true)]
    capture: Vec<String>,
    /// Evidence that links spans within a process: all or none; for tests
    #[arg(long, value_name = "KINDS", hide = true)]
    link: Vec<String>,
    /// Serve /livez, /readyz, /metrics and /status here, for example 127.0.0.1:9464
    /// [default: off]
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
}

/// What is made of conversations.
#[derive(Debug, Args)]
#[command(next_help_heading = "Flows (with --probes flow)")]
pub struct FlowArgs {
    /// How often living conversations are looked at, and metrics sent: 1s to 1h [default: 10s]
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    flow_interval: Vec<String>,
    /// What of the other end tells series of metrics apart, separated by commas: none, name, address,
    /// port [default: none]
    #[arg(long, value_name = "NAMES")]
    flow_labels: Vec<String>,
    /// Conversations as log records: none, ends, or intervals (also while they live) [default: none]
    #[arg(long, value_name = "KIND")]
    flow_logs: Vec<String>,
    /// Most series of metrics; more fold into one with otel.metric.overflow [default: 2000]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    flow_series: Vec<String>,
    /// Most conversations known at once, 256 to 1048576 [default: 32768]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    flow_table: Vec<String>,
    /// Read DNS answers that programs receive, for names: true or false [default: true]
    #[arg(long, value_name = "BOOL")]
    flow_dns: Vec<String>,
}

impl FlowArgs {
    pub fn flags(self) -> Flags {
        vec![
            ("flow-interval", self.flow_interval),
            ("flow-labels", self.flow_labels),
            ("flow-logs", self.flow_logs),
            ("flow-series", self.flow_series),
            ("flow-table", self.flow_table),
            ("flow-dns", self.flow_dns),
        ]
    }
}

/// `kernspan flows`.
#[derive(Debug, Args)]
pub struct FlowsArgs {
    /// Only this process: its number, or its name; repeatable
    #[arg(long, value_name = "PID|NAME", allow_negative_numbers = true)]
    pub process: Vec<String>,
    /// Only with this port at either end; repeatable
    #[arg(long, value_name = "PORT", allow_negative_numbers = true)]
    pub port: Vec<String>,
    /// Only in this TCP state, for example established; repeatable
    #[arg(long, value_name = "STATE")]
    pub state: Vec<String>,
    /// Only with this address or name at either end; repeatable
    #[arg(long, value_name = "ADDRESS")]
    pub address: Vec<String>,
    /// Sort by process, sent, received, rtt, retransmits, age or remote [default: process]
    #[arg(long, value_name = "COLUMN")]
    pub sort: Vec<String>,
    /// As JSON, a line each time
    #[arg(long)]
    pub json: bool,
    /// Again after each such time, until interrupted [default of the time: 2s]
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "2s")]
    pub watch: Vec<String>,
}

/// `kernspan top`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Screen")]
pub struct TopArgs {
    /// Between two screens: 500ms to 1h [default: 2s]
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    pub every: Vec<String>,
}

/// `kernspan trace`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which traces: those with a span that is all of this")]
pub struct TraceArgs {
    /// Of a service that matches; repeatable
    #[arg(long, value_name = "GLOB")]
    pub service: Vec<String>,
    /// Whose method and target contain this; repeatable
    #[arg(long, value_name = "TEXT")]
    pub request: Vec<String>,
    /// That took at least so long, for example 100ms
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    pub slower: Vec<String>,
    /// That failed
    #[arg(long)]
    pub errors: bool,
}

/// For every command that works.
#[derive(Debug, Args)]
#[command(next_help_heading = "General")]
pub struct Common {
    /// Options from a YAML file with the same names; flags win. `run` takes a changed file up within
    /// seconds, or with SIGHUP: all of it or, when something is wrong, nothing
    #[arg(long, value_name = "FILE")]
    config: Vec<String>,
    /// Names processes that meet all conditions: exe=, args=, dir=, user=, unit= or container=, each with a
    /// GLOB, then name=SERVICE and, if wanted, namespace=NAME, all separated by commas. Wins over the
    /// processes' own environment; the first rule that fits counts; repeatable, at most 256
    #[arg(long, value_name = "RULE")]
    name_rule: Vec<String>,
    /// off, error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Vec<String>,
}

/// How OTLP is sent. Each wins over its OTEL_EXPORTER_OTLP_* variable.
#[derive(Debug, Args)]
#[command(next_help_heading = "OTLP (each wins over its OTEL_EXPORTER_OTLP_* variable)")]
pub struct Otlp {
    /// http://HOST:PORT or https://HOST:PORT
    #[arg(long, value_name = "URL")]
    otlp_endpoint: Vec<String>,
    /// grpc, http/protobuf or http/json
    #[arg(long, value_name = "NAME")]
    otlp_protocol: Vec<String>,
    /// Header of every request, NAME=VALUE; repeatable. Visible in the process list: a file or
    /// OTEL_EXPORTER_OTLP_HEADERS is better for secrets
    #[arg(long, value_name = "NAME=VALUE")]
    otlp_header: Vec<String>,
    /// none or gzip
    #[arg(long, value_name = "NAME")]
    otlp_compression: Vec<String>,
    /// Limit of one request, for example 10s
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    otlp_timeout: Vec<String>,
    /// PEM file of the authority that signed the server's certificate
    #[arg(long, value_name = "FILE")]
    otlp_ca: Vec<String>,
    /// PEM file of the client certificate
    #[arg(long, value_name = "FILE")]
    otlp_client_cert: Vec<String>,
    /// PEM file of its key
    #[arg(long, value_name = "FILE")]
    otlp_client_key: Vec<String>,
    /// No TLS for an endpoint without http:// or https://
    #[arg(long)]
    otlp_insecure: bool,
    /// Bound of the queue before the network: 64KiB to 4GiB [default: 16MiB]
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true)]
    otlp_queue_bytes: Vec<String>,
}

impl Out {
    pub fn flags(self) -> Flags {
        let learn = if self.learn_routes { vec!["true".to_owned()] } else { Vec::new() };
        vec![
            ("output", self.output),
            ("sample", self.sample),
            ("sample-rate", self.sample_rate),
            ("keep", self.keep),
            ("keep-wait", self.keep_wait),
            ("route", self.route),
            ("learn-routes", learn),
        ]
    }
}

impl Capture {
    pub fn flags(self) -> Flags {
        vec![
            ("include", self.include),
            ("exclude", self.exclude),
            ("pid", self.pid),
            ("port", self.port),
            ("cgroup", self.cgroup),
            ("probes", self.probes),
            ("head-bytes", self.head_bytes),
            ("payload-rings", self.payload_rings),
            ("ring-size", self.ring_size),
            ("poll-interval", self.poll_interval),
            ("max-cpu", self.max_cpu),
            ("max-memory", self.max_memory),
            ("max-request-rate", self.max_request_rate),
            ("process-metrics", self.process_metrics),
            ("request-metrics", self.request_metrics),
            ("metrics-temporality", self.metrics_temporality),
            ("metrics-histograms", self.metrics_histograms),
            ("hooks", self.hooks),
            ("btf", self.btf),
            ("capture", self.capture),
            ("link", self.link),
            ("listen", self.listen),
        ]
    }
}

impl Common {
    /// What it says of itself was asked for.
    pub fn says(&self) -> bool {
        !self.log_level.is_empty() || !self.config.is_empty()
    }

    pub fn flags(self) -> Flags {
        vec![("config", self.config), ("name-rule", self.name_rule), ("log-level", self.log_level)]
    }
}

impl Otlp {
    pub fn flags(self) -> Flags {
        let insecure = if self.otlp_insecure { vec!["true".to_owned()] } else { Vec::new() };
        vec![
            ("otlp-endpoint", self.otlp_endpoint),
            ("otlp-protocol", self.otlp_protocol),
            ("otlp-header", self.otlp_header),
            ("otlp-compression", self.otlp_compression),
            ("otlp-timeout", self.otlp_timeout),
            ("otlp-ca", self.otlp_ca),
            ("otlp-client-cert", self.otlp_client_cert),
            ("otlp-client-key", self.otlp_client_key),
            ("otlp-insecure", insecure),
            ("otlp-queue-bytes", self.otlp_queue_bytes),
        ]
    }
}
