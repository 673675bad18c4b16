//! OTLP/HTTP, protobuf and JSON.

use super::config::{Protocol, SignalConfig};
use super::retry::{self, Outcome};
use super::{StartError, error_chain, gzip, json};
use agent_core::otlp::Signal;
use bytes::{Bytes, BytesMut};
use prost::Message;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Certificate, Client, Identity, Response, Url, redirect};
use std::time::{Duration, SystemTime};

/// Largest response that is read (OTLP specification: 4 MiB).
const MAX_RESPONSE: usize = 4 << 20;

/// A connection pool for one signal.
#[derive(Clone)]
pub struct Http {
    client: Client,
    url: Url,
    headers: HeaderMap,
    signal: Signal,
    json: bool,
    gzip: bool,
}

impl Http {
    /// For `signal`. Connects when first used.
    pub fn new(signal: Signal, config: &SignalConfig) -> Result<Http, StartError> {
        let url = url(config)?;
        let json = config.protocol == Protocol::HttpJson;
        let mut headers = super::headers(&config.headers)?;
        let content = if json { "application/json" } else { "application/x-protobuf" };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content));
        if config.gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let client = client(config)?;
        Ok(Http { client, url, headers, signal, json, gzip: config.gzip })
    }

    /// The body as it is sent.
    pub fn prepare(&self, body: Bytes) -> std::io::Result<Bytes> {
        let body = if self.json { json::of(self.signal, &body)?.into() } else { body };
        if !self.gzip {
            return Ok(body);
        }
        let mut out = Vec::new();
        gzip::append(&mut out, &body)?;
        Ok(out.into())
    }

    /// One attempt.
    pub async fn attempt(&self, body: Bytes) -> Outcome {
        let request =
            self.client.post(self.url.clone()).headers(self.headers.clone()).body(body).send();
        let response = match request.await {
            Ok(response) => response,
            Err(why) => return Outcome::unanswered(&error_chain(&why.without_url())),
        };
        let status = response.status();
        let retry_after = text_of(&response, &header::RETRY_AFTER);
        let is_json = text_of(&response, &header::CONTENT_TYPE)
            .is_some_and(|content| content.starts_with("application/json"));
        let body = match limited(response).await {
            Ok(body) => body,
            // The request was taken; only the receiver's comment is missing.
            Err(why) if status.is_success() => return Outcome::delivered(0, &why),
            Err(why) => Bytes::from(why),
        };
        if !status.is_success() {
            let text = explanation(&body, is_json);
            let retry_after = retry_after.as_deref();
            return retry::of_http(status.as_u16(), retry_after, &text, SystemTime::now());
        }
        if is_json { json::partial_success(&body) } else { super::partial_success(&body) }
    }
}

fn url(config: &SignalConfig) -> Result<Url, StartError> {
    Url::parse(&config.endpoint)
        .map_err(|why| StartError::Transport(format!("endpoint of OTLP/HTTP: {why}")))
}

/// A client that trusts and shows what `config` says.
pub fn client(config: &SignalConfig) -> Result<Client, StartError> {
    let wrong = |why: reqwest::Error| StartError::Transport(error_chain(&why));
    let mut builder = Client::builder()
        .user_agent(super::USER_AGENT)
        .connect_timeout(Duration::from_secs(5))
        // Another receiver than the configured one would get the data and the headers.
        .redirect(redirect::Policy::none());
    if url(config)?.host_str().is_some_and(is_loopback) {
        builder = builder.no_proxy();
    }
    if let Some(pem) = &config.tls.ca {
        builder = builder.tls_certs_only(Certificate::from_pem_bundle(pem).map_err(wrong)?);
    }
    if let Some((cert, key)) = &config.tls.identity {
        let pem = [key.as_slice(), b"\n", cert].concat();
        builder = builder.identity(Identity::from_pem(&pem).map_err(wrong)?);
    }
    builder.build().map_err(wrong)
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

fn text_of(response: &Response, name: &header::HeaderName) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_string)
}

async fn limited(mut response: Response) -> Result<Bytes, String> {
    let mut body = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_RESPONSE => {
                body.extend_from_slice(&chunk);
            }
            Ok(Some(_)) => return Err("response larger than 4 MiB".to_string()),
            Ok(None) => return Ok(body.freeze()),
            Err(why) => return Err(error_chain(&why.without_url())),
        }
    }
}

/// Error bodies are a `google.rpc.Status`; anything else is shown as text when it is text.
fn explanation(body: &[u8], is_json: bool) -> String {
    if is_json {
        let status: Option<serde_json::Value> = serde_json::from_slice(body).ok();
        let message = status.as_ref().and_then(|status| status.get("message")?.as_str());
        return message.unwrap_or_default().to_string();
    }
    match tonic_types::Status::decode(body) {
        Ok(status) if !status.message.is_empty() => status.message,
        _ => std::str::from_utf8(body).unwrap_or_default().to_string(),
    }
}
