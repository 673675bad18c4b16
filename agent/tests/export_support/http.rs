//! An HTTP/1.1 receiver written by hand, so that it shares no code with the client.

use super::{Answer, SharedInbox};
use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// Listens on any port, for ever.
pub async fn serve(inbox: SharedInbox, tls: Option<ServerConfig>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (inbox, acceptor) = (inbox.clone(), acceptor.clone());
            tokio::spawn(async move {
                match acceptor {
                    Some(acceptor) => match acceptor.accept(stream).await {
                        Ok(stream) => converse(inbox, stream).await,
                        Err(_) => None,
                    },
                    None => converse(inbox, stream).await,
                }
            });
        }
    });
    address
}

async fn converse(
    inbox: SharedInbox,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
) -> Option<()> {
    loop {
        let (head, body) = request(&mut stream).await?;
        let answer = {
            let mut inbox = inbox.lock().unwrap();
            inbox.attempts.push(Instant::now());
            inbox.headers = head.clone();
            inbox.script.pop_front().unwrap_or(Answer::Ok)
        };
        let json = header(&head, "content-type") == "application/json";
        let mut response = ExportTraceServiceResponse::default();
        match answer {
            Answer::Drop => return None,
            Answer::Http(status, lines) => {
                let text = format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\n{lines}\r\n");
                stream.write_all(text.as_bytes()).await.ok()?;
                continue;
            }
            Answer::Late(time) => tokio::time::sleep(time).await,
            Answer::Partial(rejected_spans, message) => {
                let error_message = message.to_string();
                response.partial_success =
                    Some(ExportTracePartialSuccess { rejected_spans, error_message });
            }
            Answer::Ok | Answer::Status(_) => {}
        }
        let body = if header(&head, "content-encoding") == "gzip" { gunzip(&body) } else { body };
        let request = if json {
            serde_json::from_slice(&body).unwrap()
        } else {
            ExportTraceServiceRequest::decode(&body[..]).unwrap()
        };
        inbox.lock().unwrap().taken.push(request);
        let (kind, body) = if json {
            ("application/json", serde_json::to_vec(&response).unwrap())
        } else {
            ("application/x-protobuf", response.encode_to_vec())
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.ok()?;
        stream.write_all(&body).await.ok()?;
    }
}

async fn request(
    stream: &mut (impl AsyncRead + Unpin),
) -> Option<(Vec<(String, String)>, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let text = String::from_utf8(head).unwrap();
    let mut lines = text.trim_end().split("\r\n");
    let target = lines.next().unwrap().split(' ').nth(1).unwrap().to_string();
    let mut headers = vec![(":path".to_string(), target)];
    headers.extend(lines.map(|line| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_ascii_lowercase(), value.trim().to_string())
    }));
    let len: usize = header(&headers, "content-length").parse().unwrap();
    let mut body = vec![0; len];
    stream.read_exact(&mut body).await.ok()?;
    Some((headers, body))
}

pub fn header<'a>(headers: &'a [(String, String)], name: &str) -> &'a str {
    headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
}

fn gunzip(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    GzDecoder::new(body).read_to_end(&mut out).unwrap();
    out
}
