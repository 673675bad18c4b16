//! Flags of the OTLP export.

use crate::config::given::Flags;
use clap::Args;

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
