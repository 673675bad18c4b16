//! OTLP/gRPC.
//!
//! Bodies are already protobuf, so a request is one length-prefixed message (gRPC over HTTP/2,
//! "Length-Prefixed-Message") built once and sent again as it is; tonic gives connection, TLS and
//! status.

use super::config::{SignalConfig, Tls};
use super::retry::{self, Outcome};
use super::{StartError, error_chain, gzip};
use agent_core::otlp::Signal;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use std::future::poll_fn;
use std::time::Duration;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::http::{HeaderMap, Request, StatusCode, header};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};

/// Largest response that is read (OTLP specification: 4 MiB).
const MAX_RESPONSE: usize = 4 << 20;
/// Length prefix: one byte for compression, four for the length.
const PREFIX: usize = 5;

/// A connection for one signal.
#[derive(Clone)]
pub struct Grpc {
    channel: Channel,
    path: &'static str,
    headers: HeaderMap,
    gzip: bool,
}

/// Connects when first used, and again whenever needed.
pub fn channel(endpoint: &str, tls: &Tls) -> Result<Channel, StartError> {
    let wrong = |why: tonic::transport::Error| StartError::Transport(error_chain(&why));
    let mut builder = Endpoint::from_shared(endpoint.to_string())
        .and_then(|builder| builder.user_agent(super::USER_AGENT))
        .map_err(wrong)?
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true)
        // A receiver that vanished without a word is noticed.
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10));
    if endpoint.starts_with("https:") {
        builder = builder.tls_config(client_tls(tls)).map_err(wrong)?;
    }
    Ok(builder.connect_lazy())
}

fn client_tls(tls: &Tls) -> ClientTlsConfig {
    let config = ClientTlsConfig::new();
    let config = match &tls.ca {
        Some(pem) => config.ca_certificate(Certificate::from_pem(pem)),
        None => config.with_native_roots(),
    };
    match &tls.identity {
        Some((cert, key)) => config.identity(Identity::from_pem(cert, key)),
        None => config,
    }
}

impl Grpc {
    /// For `signal` over `channel`.
    pub fn new(
        signal: Signal,
        config: &SignalConfig,
        channel: Channel,
    ) -> Result<Grpc, StartError> {
        let mut headers = super::headers(&config.headers)?;
        let mut set = |name: &'static str, value: &'static str| {
            headers.insert(name, header::HeaderValue::from_static(value));
        };
        set("content-type", "application/grpc");
        set("te", "trailers");
        // Receivers written in Go answer in the encoding of the request, asked for or not.
        set("grpc-accept-encoding", "gzip");
        if config.gzip {
            set("grpc-encoding", "gzip");
        }
        let timeout = format!("{}m", config.timeout.as_millis().min(99_999_999));
        if let Ok(value) = header::HeaderValue::from_str(&timeout) {
            headers.insert("grpc-timeout", value);
        }
        let path = match signal {
            Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        };
        Ok(Grpc { channel, path, headers, gzip: config.gzip })
    }

    /// The length-prefixed message of a body.
    pub fn prepare(&self, body: &[u8]) -> std::io::Result<Bytes> {
        let mut message = vec![u8::from(self.gzip), 0, 0, 0, 0];
        if self.gzip {
            gzip::append(&mut message, body)?;
        } else {
            message.extend_from_slice(body);
        }
        let len = u32::try_from(message.len() - PREFIX).map_err(std::io::Error::other)?;
        if let Some(prefix) = message.get_mut(1..PREFIX) {
            prefix.copy_from_slice(&len.to_be_bytes());
        }
        Ok(message.into())
    }

    /// One attempt.
    pub async fn attempt(&self, message: Bytes) -> Outcome {
        match self.call(message).await {
            Ok(response) => super::partial_success(&response),
            Err(Failure::Unanswered(why)) => Outcome::unanswered(&why),
            Err(Failure::Status(status)) => retry::of_grpc(&status),
        }
    }

    async fn call(&self, message: Bytes) -> Result<Bytes, Failure> {
        let mut request = Request::new(Body::new(Full::new(message)));
        *request.method_mut() = tonic::codegen::http::Method::POST;
        *request.version_mut() = tonic::codegen::http::Version::HTTP_2;
        *request.uri_mut() = tonic::codegen::http::Uri::from_static(self.path);
        request.headers_mut().clone_from(&self.headers);

        let mut channel = self.channel.clone();
        let unanswered = |why: tonic::transport::Error| Failure::Unanswered(error_chain(&why));
        poll_fn(|context| GrpcService::poll_ready(&mut channel, context))
            .await
            .map_err(unanswered)?;
        let response = GrpcService::call(&mut channel, request).await.map_err(unanswered)?;
        let (head, body) = response.into_parts();
        if head.status != StatusCode::OK {
            return Err(Failure::Status(of_http_status(head.status)));
        }
        if let Some(status) = Status::from_header_map(&head.headers) {
            return ok_or_failure(status).map(|()| Bytes::new());
        }
        let body = Limited::new(body, MAX_RESPONSE).collect().await.map_err(|why| {
            if why.is::<LengthLimitError>() {
                // Status OK or not is behind it; the request was taken in.
                Failure::Status(Status::internal("response larger than 4 MiB"))
            } else {
                Failure::Unanswered(error_chain(why.as_ref()))
            }
        })?;
        let status = body.trailers().and_then(Status::from_header_map);
        ok_or_failure(status.unwrap_or_else(|| Status::unavailable("answer without a status")))?;
        Ok(message_of(&body.to_bytes()))
    }
}

enum Failure {
    Unanswered(String),
    Status(Status),
}

fn ok_or_failure(status: Status) -> Result<(), Failure> {
    if status.code() == Code::Ok { Ok(()) } else { Err(Failure::Status(status)) }
}

/// The message behind the length prefix, decompressed. The status was OK, so what cannot be read
/// is a comment that is missing and no failure: an empty response.
fn message_of(body: &[u8]) -> Bytes {
    match body.split_at_checked(PREFIX) {
        Some(([0, ..], message)) => Bytes::copy_from_slice(message),
        Some(([1, ..], message)) => gzip::decompressed(message, MAX_RESPONSE).unwrap_or_default(),
        _ => Bytes::new(),
    }
}

/// gRPC's "HTTP to gRPC Status Code Mapping", for proxies that do not speak gRPC.
fn of_http_status(status: StatusCode) -> Status {
    let code = match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    };
    Status::new(code, format!("HTTP status {status} in place of a gRPC answer"))
}
