//! What leaves the agent: OTLP over three transports, and the outputs for people and files.
//!
//! ```text
//! assembler thread                     │ tokio
//! Fanout ─┬─ OtlpOutput ── Batch ── submit ─► Queue ─► Worker ×4 per signal ─► grpc | http
//!         ├─ JsonOutput  ── Batch ── Writer ─► its thread ─► stdout or file
//!         ├─ ConsoleOutput ───────── Writer ─► its thread ─► stdout
//!         └─ NoneOutput
//! ```
//!
//! `config`, `env` and `value` say where to; `retry` what an answer means; `queue` keeps the
//! account: what came in is out, held or lost for a counted cause.

mod config;
mod console;
mod env;
mod grpc;
mod gzip;
mod http;
mod json;
mod output;
mod queue;
mod retry;
mod top;
mod transport;
mod value;
mod worker;
mod writer;

pub use config::{OtlpConfig, OtlpFlags, Problem, Protocol, SignalConfig, Tls};
pub use console::{ConsoleOutput, Style};
pub use env::Env;
pub use output::{Destination, Fanout, JsonOutput, NoneOutput, OtlpOutput};
pub use queue::{Account, Connection};
pub use top::TopOutput;
pub use writer::Writing;

pub(crate) use console::is_unsafe;
pub(crate) use grpc::channel as grpc_channel;
pub(crate) use http::client as http_client;

use agent_core::ledger::Entry;
use agent_core::otlp::Signal;
use bytes::Bytes;
use queue::Queue;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use retry::Outcome;
use std::str::FromStr;
use std::sync::{Arc, Once};
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use transport::Transport;
use worker::Worker;

/// Sent with every request. Its beginning tells other agents to leave the connection out.
pub const USER_AGENT: &str = concat!(
    agent_core::product_token!(),
    env!("CARGO_PKG_VERSION"),
    " OTel-OTLP-Exporter-Rust/",
    env!("CARGO_PKG_VERSION")
);

/// Requests of one signal under way at the same time: enough to fill a distant connection, few
/// enough to keep the receiver's memory and ours small.
const WORKERS: u64 = 4;

/// Why the exporter cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Certificates or endpoint are not usable.
    #[error("OTLP transport cannot be set up: {0}")]
    Transport(String),
    /// A configured header is none.
    #[error("OTLP header {0:?} cannot be sent")]
    Header(String),
}

/// Sends OTLP requests. Cloned handles submit to the same queue.
#[derive(Debug)]
pub struct Exporter {
    submitter: Submitter,
    close: watch::Sender<Option<Instant>>,
    workers: JoinSet<()>,
}

/// Gives requests to an [`Exporter`] and reads its account, from any thread.
#[derive(Clone, Debug)]
pub struct Submitter {
    queue: Arc<Queue>,
    config: Arc<OtlpConfig>,
}

/// One signal's export, for `/status`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct SignalStatus {
    /// `spans`, `log_records` or `data_points`.
    pub unit: &'static str,
    /// Where to.
    pub endpoint: String,
    /// How the receiver is doing.
    pub connection: Connection,
    /// Latest complaint or failure, even if all is well since.
    pub last_error: Option<String>,
    /// Attempts that failed and were to be repeated.
    pub failed_attempts: u64,
}

impl Exporter {
    /// Starts the workers on `handle`. Connects when the first request is sent.
    ///
    /// # Errors
    /// Unusable certificates, endpoint or headers; nothing was started then.
    pub fn start(config: OtlpConfig, handle: &Handle) -> Result<Exporter, StartError> {
        install_crypto();
        // tonic's lazy channel spawns its driver when it is made.
        let _context = handle.enter();
        let transports = Transport::all(&config)?;
        let enabled = Signal::ALL.map(|signal| config.signal(signal).is_some());
        let queue = Arc::new(Queue::new(config.queue_bytes, enabled));
        let (close, closing) = watch::channel(None);
        let mut workers = JoinSet::new();
        let mut seed = random_seed();
        for (signal, transport) in Signal::ALL.into_iter().zip(transports) {
            let (Some(transport), Some(config)) = (transport, config.signal(signal)) else {
                continue;
            };
            for _ in 0..WORKERS {
                seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                let worker = Worker {
                    queue: Arc::clone(&queue),
                    signal,
                    transport: transport.clone(),
                    timeout: config.timeout,
                    closing: closing.clone(),
                    seed,
                };
                workers.spawn_on(worker.run(), handle);
            }
        }
        let submitter = Submitter { queue, config: Arc::new(config) };
        Ok(Exporter { submitter, close, workers })
    }

    /// For other threads.
    pub fn submitter(&self) -> Submitter {
        self.submitter.clone()
    }

    /// See [`Submitter::submit`].
    pub fn submit(&self, signal: Signal, body: Bytes, items: u64) {
        self.submitter.submit(signal, body, items);
    }

    /// Sends what waits until `deadline` and stops. What could not be sent by then is counted as
    /// lost at shutdown, and so is what is submitted from now on.
    pub async fn shutdown(mut self, deadline: std::time::Instant) -> Submitter {
        let deadline = Instant::from_std(deadline);
        self.submitter.queue.close();
        self.close.send_replace(Some(deadline));
        let all = async { while self.workers.join_next().await.is_some() {} };
        if timeout_at(deadline, all).await.is_err() {
            self.workers.shutdown().await;
        }
        self.submitter.queue.abandon();
        self.submitter
    }
}

impl Submitter {
    /// Queues a request, or counts it as lost when the queue is full. Never blocks on the network.
    pub fn submit(&self, signal: Signal, body: Bytes, items: u64) {
        self.queue.push(signal, body, items);
    }

    /// The memory of a trace request that was sent, to be filled again.
    pub fn spare(&self) -> Option<Vec<u8>> {
        self.queue.spare()
    }

    /// The account of one signal.
    pub fn account(&self, signal: Signal) -> Account {
        self.queue.status(signal).0
    }

    /// Adds the accounts of all signals.
    pub fn ledger(&self, entries: &mut Vec<Entry>) {
        self.queue.ledger(entries);
    }

    /// Bytes that wait or are under way.
    pub fn queued_bytes(&self) -> usize {
        self.queue.bytes()
    }

    /// The bound of these.
    pub fn max_queued_bytes(&self) -> usize {
        self.config.queue_bytes
    }

    /// How each configured signal is doing.
    pub fn status(&self) -> Vec<SignalStatus> {
        let of = |signal: Signal| {
            let config = self.config.signal(signal)?;
            let (_, connection, last_error, failed_attempts) = self.queue.status(signal);
            Some(SignalStatus {
                unit: signal.unit(),
                endpoint: without_query(&config.endpoint),
                connection,
                last_error,
                failed_attempts,
            })
        };
        Signal::ALL.into_iter().filter_map(of).collect()
    }
}

/// rustls needs to know which implementation to use, once per process; ring is the one built in.
pub fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that another part of the process was first: then there is one.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// A query may hold a token.
fn without_query(endpoint: &str) -> String {
    endpoint.split('?').next().unwrap_or_default().to_string()
}

fn random_seed() -> u64 {
    let mut seed = [0; 8];
    // Without randomness agents may retry at the same moments; nothing else depends on it.
    let _ = getrandom::fill(&mut seed);
    u64::from_ne_bytes(seed)
}

pub(crate) fn headers(configured: &[(String, String)]) -> Result<HeaderMap, StartError> {
    let mut headers = HeaderMap::new();
    for (name, value) in configured {
        let wrong = || StartError::Header(name.clone());
        let key = HeaderName::from_str(name).map_err(|_| wrong())?;
        let mut value = HeaderValue::from_str(value).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.append(key, value);
    }
    Ok(headers)
}

/// The partial-success part of a response. Export…Response and Export…PartialSuccess have the
/// same fields for all signals, so one structure reads them all.
fn partial_success(body: &[u8]) -> Outcome {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
    // A response that cannot be read is a success all the same: its status says so.
    let response: ExportTraceServiceResponse = prost::Message::decode(body).unwrap_or_default();
    let partial = response.partial_success.unwrap_or_default();
    Outcome::delivered(partial.rejected_spans, &partial.error_message)
}

/// An error with its causes, each once.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = cause.source();
    }
    text
}
