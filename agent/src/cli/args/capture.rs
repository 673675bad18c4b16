//! Flags of what is watched, and at what cost.

use crate::config::given::Flags;
use clap::Args;

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
    /// Serve /livez, /readyz and /metrics here, for example 127.0.0.1:9464, and to this host /status and
    /// /processes [default: off]
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// Answer /status and /processes, with command lines of this host's programs, to other hosts as well
    #[arg(long)]
    expose_status: bool,
}

impl Capture {
    pub fn flags(self) -> Flags {
        let expose = if self.expose_status { vec!["true".to_owned()] } else { Vec::new() };
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
            ("expose-status", expose),
        ]
    }
}
