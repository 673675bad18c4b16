//! Requests to the API server.

use super::access::Access;
use super::knowledge::{Fault, Knowledge};
use crate::export::{USER_AGENT, error_chain};
use agent_core::process::kubernetes::object;
use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use reqwest::{Certificate, ClientBuilder, RequestBuilder, Response, redirect};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Largest answer that is no watch: a list of all pods of a node. A pod has some 10 KiB, etcd takes
/// no object of more than 1.5 MiB.
const MAX_ANSWER: usize = 32 << 20;

/// Longest event of a watch: one object as JSON, with who wrote which field.
const MAX_EVENT: usize = 8 << 20;

/// Longest token, and largest certificate file, that is read.
const MAX_FILE: u64 = 1 << 20;

/// Time for an answer that is no watch.
const ANSWER: Duration = Duration::from_secs(30);

/// Dead connections of a watch, on which nothing may come for minutes, are noticed by these: of a host
/// that is gone by TCP's, of a server that hangs by HTTP/2's.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Only names, owners and the like of an object.
pub const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// Everything.
pub const WHOLE: &str = "application/json";

/// An API server.
pub struct Client {
    access: Access,
    http: reqwest::Client,
    knowledge: Arc<Knowledge>,
}

impl Client {
    /// Connects when first used.
    pub fn new(access: Access, knowledge: Arc<Knowledge>) -> Result<Client, String> {
        let http = http(&access)?;
        Ok(Client { access, http, knowledge })
    }

    /// Takes the certificate anew, where it has been renewed; without one the old one stays.
    pub fn renew(&mut self) {
        match http(&self.access) {
            Ok(http) => self.http = http,
            Err(why) => tracing::debug!("Kubernetes: {why}"),
        }
    }

    /// The answer to a GET of `path` with its query.
    pub async fn get(&self, path: &str, accept: &'static str) -> Result<Bytes, Fault> {
        self.counted(async {
            let mut response = self.send(self.request(path, accept).timeout(ANSWER)).await?;
            body(&mut response, MAX_ANSWER).await
        })
        .await
    }

    /// The lines of a watch that the server ends after `time`.
    pub async fn watch(&self, path: &str, time: Duration) -> Result<Lines, Fault> {
        self.knowledge.asked();
        let request = self.request(path, WHOLE).timeout(time + ANSWER);
        // The server says at once that it watches: only what it then sees may take its time.
        let begun = timeout(ANSWER, self.send(request)).await;
        match begun.unwrap_or_else(|_| Err(silent())) {
            Ok(response) => Ok(Lines { response, buffer: BytesMut::new(), searched: 0 }),
            Err(fault) => {
                self.knowledge.failed(&fault);
                Err(fault)
            }
        }
    }

    async fn counted<T>(&self, what: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        self.knowledge.asked();
        let result = what.await;
        match &result {
            Ok(_) => self.knowledge.answered(),
            Err(fault) => self.knowledge.failed(fault),
        }
        result
    }

    fn request(&self, path: &str, accept: &'static str) -> RequestBuilder {
        let request = self.http.get(format!("{}{path}", self.access.url)).header(ACCEPT, accept);
        let token = self.access.token.as_deref().and_then(|path| read(path).ok());
        let Some(token) = token else { return request };
        let text = [b"Bearer ", token.trim_ascii()].concat();
        match HeaderValue::from_bytes(&text) {
            Ok(mut value) => {
                value.set_sensitive(true);
                request.header(AUTHORIZATION, value)
            }
            // Without it the server refuses, which is said.
            Err(_) => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Fault> {
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = body(&mut response, 64 << 10).await.unwrap_or_default();
        Err(fault(status.as_u16(), object::message(&text)))
    }
}

/// What a status that is no success means.
pub fn fault(status: u16, why: String) -> Fault {
    if status == 410 { Fault::Expired } else { Fault::Refused(status, why) }
}

fn silent() -> Fault {
    Fault::Unreachable(format!("no answer within {} s", ANSWER.as_secs()))
}

fn unreachable(why: reqwest::Error) -> Fault {
    Fault::Unreachable(error_chain(&why.without_url()))
}

fn http(access: &Access) -> Result<reqwest::Client, String> {
    builder(access)?.build().map_err(|why| error_chain(&why))
}

fn builder(access: &Access) -> Result<ClientBuilder, String> {
    let mut builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(Duration::from_secs(5))
        .tcp_keepalive(KEEPALIVE)
        .http2_keep_alive_interval(KEEPALIVE)
        .http2_keep_alive_timeout(KEEPALIVE)
        .no_proxy()
        // Another server would get the token.
        .redirect(redirect::Policy::none());
    if let Some(path) = &access.ca {
        let shown = path.display();
        let pem = read(path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
        let found = Certificate::from_pem_bundle(&pem)
            .map_err(|error| format!("{shown} holds no certificates: {error}"))?;
        builder = builder.tls_certs_only(found);
    }
    Ok(builder)
}

fn read(path: &std::path::Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

async fn body(response: &mut Response, most: usize) -> Result<Bytes, Fault> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > most {
            return Err(Fault::Unreachable(format!("its answer is larger than {most} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// A watch: an event a line.
pub struct Lines {
    response: Response,
    buffer: BytesMut,
    /// Bytes of the buffer without a line feed.
    searched: usize,
}

impl Lines {
    /// The next event; none at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            let rest = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
                let line = self.buffer.split_to(self.searched + end + 1);
                self.searched = 0;
                return Ok(Some(line.freeze()));
            }
            self.searched = self.buffer.len();
            if self.searched > MAX_EVENT {
                let why = format!("an event is larger than {MAX_EVENT} bytes");
                return Err(Fault::Unreachable(why));
            }
            match self.response.chunk().await.map_err(unreachable)? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
#[path = "client_test.rs"]
mod tests;
