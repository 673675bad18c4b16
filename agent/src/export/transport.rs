//! The three OTLP transports behind one face.

use super::StartError;
use super::config::{OtlpConfig, Protocol, Tls};
use super::grpc::{self, Grpc};
use super::http::Http;
use super::retry::Outcome;
use agent_core::otlp::Signal;
use bytes::Bytes;
use tonic::transport::Channel;

/// How one signal is sent.
#[derive(Clone)]
pub enum Transport {
    /// OTLP/gRPC.
    Grpc(Grpc),
    /// OTLP/HTTP.
    Http(Http),
}

impl Transport {
    /// One per configured signal, in the order of [`Signal::ALL`]. Signals with the same gRPC
    /// receiver share a connection.
    pub fn all(config: &OtlpConfig) -> Result<[Option<Transport>; 3], StartError> {
        let mut channels: Vec<(&str, &Tls, Channel)> = Vec::new();
        let mut transports = [None, None, None];
        for (signal, slot) in Signal::ALL.into_iter().zip(&mut transports) {
            let Some(config) = config.signal(signal) else { continue };
            if config.protocol != Protocol::Grpc {
                *slot = Some(Transport::Http(Http::new(signal, config)?));
                continue;
            }
            let same = channels
                .iter()
                .find(|(endpoint, tls, _)| *endpoint == config.endpoint && **tls == config.tls);
            let channel = match same {
                Some((.., channel)) => channel.clone(),
                None => grpc::channel(&config.endpoint, &config.tls)?,
            };
            channels.push((&config.endpoint, &config.tls, channel.clone()));
            *slot = Some(Transport::Grpc(Grpc::new(signal, config, channel)?));
        }
        Ok(transports)
    }

    /// A body as it goes out, made once for all attempts.
    ///
    /// # Errors
    /// The body is not what it should be.
    pub fn prepare(&self, body: Bytes) -> std::io::Result<Bytes> {
        match self {
            Transport::Grpc(grpc) => grpc.prepare(&body),
            Transport::Http(http) => http.prepare(body),
        }
    }

    /// One attempt, without a time limit.
    pub async fn attempt(&self, message: Bytes) -> Outcome {
        match self {
            Transport::Grpc(grpc) => grpc.attempt(message).await,
            Transport::Http(http) => http.attempt(message).await,
        }
    }
}
