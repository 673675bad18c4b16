//! `OTEL_EXPORTER_OTLP_*` and the flags to an [`OtlpConfig`].
//!
//! For each value: flag, then the variable of the signal, then the general variable, then the
//! default (OpenTelemetry specification, protocol/exporter.md). An empty variable is an unset one.

use super::config::{OtlpConfig, OtlpFlags, Problem, Protocol, SignalConfig, Tls};
use super::value::{self, Wrong};
use agent_core::otlp::Signal;
use reqwest::Url;
use std::time::Duration;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_QUEUE_BYTES: usize = 16 << 20;

/// Reads one environment variable.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

impl OtlpConfig {
    /// Configuration from environment and flags; none when no endpoint is set anywhere and
    /// `flags.required` is not.
    ///
    /// A general endpoint serves all signals; a signal's own endpoint only that signal, so that a
    /// receiver of traces alone is not sent logs. `OTEL_TRACES_EXPORTER=none` and its like switch
    /// a signal off. Without a protocol, port 4317 means gRPC: nothing else is served there.
    ///
    /// # Errors
    /// Every wrong value, in the order of the variables.
    pub fn resolve(env: Env<'_>, flags: &OtlpFlags) -> Result<Option<OtlpConfig>, Vec<Problem>> {
        let mut resolver = Resolver { env, flags, problems: Vec::new() };
        let [traces, logs, metrics] = Signal::ALL.map(|signal| resolver.signal(signal));
        let queue_bytes = match &flags.queue_bytes {
            Some(text) => resolver.checked("--otlp-queue-bytes", value::queue_bytes(text)),
            None => None,
        };
        let mut problems = resolver.problems;
        let mut seen: Vec<Problem> = Vec::new();
        problems.retain(|problem| {
            let new = !seen.contains(problem);
            seen.push(problem.clone());
            new
        });
        if !problems.is_empty() {
            return Err(problems);
        }
        let queue_bytes = queue_bytes.unwrap_or(DEFAULT_QUEUE_BYTES);
        let any = traces.is_some() || logs.is_some() || metrics.is_some();
        Ok(any.then_some(OtlpConfig { traces, logs, metrics, queue_bytes }))
    }
}

/// A text and where it was found.
struct Found {
    name: String,
    text: String,
    /// From the variable of the signal itself.
    own: bool,
}

struct Resolver<'a> {
    env: Env<'a>,
    flags: &'a OtlpFlags,
    problems: Vec<Problem>,
}

impl Resolver<'_> {
    fn signal(&mut self, signal: Signal) -> Option<SignalConfig> {
        let switch = format!("OTEL_{}_EXPORTER", infix(signal));
        if self.variable(&switch).is_some_and(|text| text == "none") {
            return None;
        }
        let endpoint =
            self.find(signal, "ENDPOINT", self.flags.endpoint.as_ref(), "--otlp-endpoint");
        let protocol = self.parsed(
            signal,
            "PROTOCOL",
            self.flags.protocol.as_ref(),
            "--otlp-protocol",
            value::protocol,
        );
        let insecure = self.insecure(signal);
        let gzip = self.parsed(
            signal,
            "COMPRESSION",
            self.flags.compression.as_ref(),
            "--otlp-compression",
            value::gzip,
        );
        let timeout = self.parsed(
            signal,
            "TIMEOUT",
            self.flags.timeout.as_ref(),
            "--otlp-timeout",
            value::timeout,
        );
        let headers = self.headers(signal);
        let tls = self.tls(signal);
        if endpoint.is_none() && !self.flags.required {
            return None;
        }
        let protocol = protocol.unwrap_or_else(|| default_protocol(endpoint.as_ref()));
        let endpoint = self.endpoint(signal, endpoint, protocol, insecure)?;
        Some(SignalConfig {
            endpoint,
            protocol,
            headers,
            gzip: gzip.unwrap_or(false),
            timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
            tls,
        })
    }

    fn endpoint(
        &mut self,
        signal: Signal,
        found: Option<Found>,
        protocol: Protocol,
        insecure: bool,
    ) -> Option<String> {
        let found = found.unwrap_or_else(|| Found {
            name: "the default endpoint".to_string(),
            text: match protocol {
                Protocol::Grpc => "http://localhost:4317".to_string(),
                Protocol::HttpProtobuf | Protocol::HttpJson => "http://localhost:4318".to_string(),
            },
            own: false,
        });
        let url = match protocol {
            Protocol::Grpc => value::grpc_url(&found.text, insecure),
            Protocol::HttpProtobuf | Protocol::HttpJson => value::http_url(&found.text)
                .map(|url| if found.own { url } else { with_path_of(signal, url) }),
        };
        self.checked(&found.name, url).map(String::from)
    }

    fn insecure(&mut self, signal: Signal) -> bool {
        if self.flags.insecure {
            return true;
        }
        self.parsed(signal, "INSECURE", None, "", value::truth).unwrap_or(false)
    }

    /// Headers of the environment, with those of the flags over them.
    fn headers(&mut self, signal: Signal) -> Vec<(String, String)> {
        let mut headers = match self.find(signal, "HEADERS", None, "") {
            Some(found) => self.checked(&found.name, value::headers(&found.text)),
            None => None,
        }
        .unwrap_or_default();
        let flags = self.flags;
        for text in &flags.headers {
            if let Some((name, value)) = self.checked("--otlp-header", value::header(text)) {
                headers.retain(|(known, _)| *known != name);
                headers.push((name, value));
            }
        }
        headers
    }

    fn tls(&mut self, signal: Signal) -> Tls {
        let flags = self.flags;
        let ca = self.file(signal, "CERTIFICATE", flags.ca.as_ref(), "--otlp-ca");
        let cert = self.file(
            signal,
            "CLIENT_CERTIFICATE",
            flags.client_cert.as_ref(),
            "--otlp-client-cert",
        );
        let key = self.file(signal, "CLIENT_KEY", flags.client_key.as_ref(), "--otlp-client-key");
        let ca = ca.and_then(|(_, pem)| pem);
        let identity = match (cert, key) {
            (Some((_, cert)), Some((_, key))) => cert.zip(key),
            (None, None) => None,
            (Some((name, _)), None) | (None, Some((name, _))) => {
                let hint = "give both the client certificate and its private key";
                self.checked::<()>(&name, Err(("the other half is missing".to_string(), hint)));
                None
            }
        };
        Tls { ca, identity }
    }

    /// Name of the option and contents of the file that it names, if that can be read.
    fn file(
        &mut self,
        signal: Signal,
        suffix: &str,
        flag: Option<&String>,
        flag_name: &str,
    ) -> Option<(String, Option<Vec<u8>>)> {
        let found = self.find(signal, suffix, flag, flag_name)?;
        let pem = self.checked(&found.name, read_pem(&found.text));
        Some((found.name, pem))
    }

    fn parsed<T>(
        &mut self,
        signal: Signal,
        suffix: &str,
        flag: Option<&String>,
        flag_name: &str,
        parse: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        let found = self.find(signal, suffix, flag, flag_name)?;
        self.checked(&found.name, parse(&found.text))
    }

    fn find(
        &self,
        signal: Signal,
        suffix: &str,
        flag: Option<&String>,
        flag_name: &str,
    ) -> Option<Found> {
        if let Some(text) = flag {
            return Some(Found { name: flag_name.to_string(), text: text.clone(), own: false });
        }
        let own = format!("OTEL_EXPORTER_OTLP_{}_{suffix}", infix(signal));
        let general = format!("OTEL_EXPORTER_OTLP_{suffix}");
        let found = |name: String, own| self.variable(&name).map(|text| Found { name, text, own });
        found(own, true).or_else(|| found(general, false))
    }

    fn variable(&self, name: &str) -> Option<String> {
        (self.env)(name).map(|text| text.trim().to_string()).filter(|text| !text.is_empty())
    }

    fn checked<T>(&mut self, name: &str, result: Result<T, Wrong>) -> Option<T> {
        result
            .map_err(|(message, hint)| {
                let (name, hint) = (name.to_string(), hint.to_string());
                self.problems.push(Problem { name, message, hint });
            })
            .ok()
    }
}

fn infix(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "TRACES",
        Signal::Logs => "LOGS",
        Signal::Metrics => "METRICS",
    }
}

fn default_protocol(endpoint: Option<&Found>) -> Protocol {
    let url = endpoint.and_then(|found| Url::parse(&found.text).ok());
    let bare = endpoint.is_some_and(|found| !found.text.contains("://"));
    if url.is_some_and(|url| url.port() == Some(4317))
        || bare && endpoint.is_some_and(|found| found.text.ends_with(":4317"))
    {
        return Protocol::Grpc;
    }
    Protocol::HttpProtobuf
}

/// A general endpoint names a prefix: `v1/traces` and its like are added.
fn with_path_of(signal: Signal, mut url: Url) -> Url {
    let prefix = url.path().trim_end_matches('/').to_string();
    url.set_path(&format!("{prefix}/v1/{}", infix(signal).to_ascii_lowercase()));
    url
}

fn read_pem(path: &str) -> Result<Vec<u8>, Wrong> {
    const HINT: &str = "give the path of a PEM file that the agent may read";
    let pem = std::fs::read(path).map_err(|why| (format!("{path:?}: {why}"), HINT))?;
    if !pem.windows(11).any(|window| window == b"-----BEGIN ") {
        return Err((format!("{path:?} holds no PEM block"), HINT));
    }
    Ok(pem)
}

#[cfg(test)]
mod tests;
