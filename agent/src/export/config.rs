//! Where OTLP goes and how: resolved once, then only read.

use agent_core::otlp::Signal;
use std::fmt;
use std::time::Duration;

/// OTLP transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC over HTTP/2.
    Grpc,
    /// Protobuf bodies over HTTP.
    HttpProtobuf,
    /// JSON bodies over HTTP.
    HttpJson,
}

/// PEM files as read; never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates that the receiver's chain must end in, instead of the system's.
    pub ca: Option<Vec<u8>>,
    /// Own certificate chain and private key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Tls {{ ca: {}, identity: {} }}", self.ca.is_some(), self.identity.is_some())
    }
}

/// Where and how one signal is sent.
#[derive(Clone, PartialEq, Eq)]
pub struct SignalConfig {
    /// gRPC: scheme, host and port. HTTP: the whole URL.
    pub endpoint: String,
    /// Transport.
    pub protocol: Protocol,
    /// Added to every request; may hold secrets. Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Compress bodies.
    pub gzip: bool,
    /// For one attempt.
    pub timeout: Duration,
    /// Certificates.
    pub tls: Tls,
}

impl fmt::Debug for SignalConfig {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        out.debug_struct("SignalConfig")
            .field("endpoint", &self.endpoint)
            .field("protocol", &self.protocol)
            .field("headers", &names)
            .field("gzip", &self.gzip)
            .field("timeout", &self.timeout)
            .field("tls", &self.tls)
            .finish()
    }
}

/// Everything the exporter needs. A signal without configuration is not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpConfig {
    /// Spans.
    pub traces: Option<SignalConfig>,
    /// Log records.
    pub logs: Option<SignalConfig>,
    /// Metrics.
    pub metrics: Option<SignalConfig>,
    /// Bound of what waits or is under way, in bytes of uncompressed protobuf.
    pub queue_bytes: usize,
}

impl OtlpConfig {
    /// That of one signal.
    pub fn signal(&self, signal: Signal) -> Option<&SignalConfig> {
        match signal {
            Signal::Traces => self.traces.as_ref(),
            Signal::Logs => self.logs.as_ref(),
            Signal::Metrics => self.metrics.as_ref(),
        }
    }
}

/// Values of the command line, unchecked: [`OtlpConfig::resolve`] reports what is wrong with them
/// together with what is wrong in the environment.
#[derive(Clone, Debug, Default)]
pub struct OtlpFlags {
    /// `--otlp-endpoint`
    pub endpoint: Option<String>,
    /// `--otlp-protocol`
    pub protocol: Option<String>,
    /// `--otlp-header NAME=VALUE`, repeatable.
    pub headers: Vec<String>,
    /// `--otlp-compression`
    pub compression: Option<String>,
    /// `--otlp-timeout`, `500ms`, `10s` or milliseconds.
    pub timeout: Option<String>,
    /// `--otlp-ca`
    pub ca: Option<String>,
    /// `--otlp-client-cert`
    pub client_cert: Option<String>,
    /// `--otlp-client-key`
    pub client_key: Option<String>,
    /// `--otlp-insecure`
    pub insecure: bool,
    /// `--otlp-queue-bytes`, `16MiB` or bytes.
    pub queue_bytes: Option<String>,
    /// `--output otlp` was given: without any endpoint the specification's default is used.
    pub required: bool,
}

/// One wrong value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Variable or flag.
    pub name: String,
    /// What is wrong; repeats the value unless it may be a secret.
    pub message: String,
    /// What would be right.
    pub hint: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}; {}", self.name, self.message, self.hint)
    }
}
