//! A Kubernetes API server as far as an agent asks it: lists and watches of pods, on loopback.

use crate::certificates::Certificates;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A running server. It ends with the test's process.
#[derive(Debug)]
pub struct ApiServer {
    /// Where.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    pods: Vec<Value>,
    version: u64,
    gone: bool,
    /// What a request has to bring, where anything.
    token: Option<String>,
    /// Requests by the status that they were answered with.
    answered: Vec<u16>,
    watchers: Vec<Watcher>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} pods, {} who watch", self.pods.len(), self.watchers.len())
    }
}

struct Watcher {
    stream: Box<dyn Stream>,
    connection: TcpStream,
}

/// A connection, in the clear or over TLS.
trait Stream: Read + Write + Send {
    /// Ends it as its protocol wants: over TLS, what ends otherwise was cut.
    fn end(&mut self);
}

impl Stream for TcpStream {
    fn end(&mut self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

impl Stream for StreamOwned<ServerConnection, TcpStream> {
    fn end(&mut self) {
        self.conn.send_close_notify();
        let _ = self.flush();
    }
}

impl ApiServer {
    /// Starts one with these pods, in the clear.
    ///
    /// # Panics
    /// When there is no port.
    pub fn start(pods: Vec<Value>) -> ApiServer {
        ApiServer::serve(pods, None, None)
    }

    /// The same over TLS, for those who bring this token.
    ///
    /// # Panics
    /// When there is no port, or the certificate is none.
    pub fn start_tls(pods: Vec<Value>, made: &Certificates, token: &str) -> ApiServer {
        let chain = CertificateDer::pem_file_iter(made.file("server.crt")).expect("a certificate");
        let chain = chain.collect::<Result<Vec<_>, _>>().expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(made.file("server.key")).expect("its key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .expect("a key that fits");
        ApiServer::serve(pods, Some(Arc::new(config)), Some(token.to_owned()))
    }

    fn serve(pods: Vec<Value>, tls: Option<Arc<ServerConfig>>, token: Option<String>) -> ApiServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let state = State { pods, version: 1, token, ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let served = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (served, tls) = (Arc::clone(&served), tls.clone());
                // Who connects and says nothing keeps nobody waiting.
                std::thread::spawn(move || accept(stream, tls, &served));
            }
        });
        ApiServer { address, state }
    }

    /// A pod is as this from now on: those who watch are told.
    pub fn put(&self, pod: Value) {
        let mut state = lock(&self.state);
        state.version += 1;
        let uid = pod["metadata"]["uid"].clone();
        state.pods.retain(|known| known["metadata"]["uid"] != uid);
        let event = json!({"type": "MODIFIED", "object": pod});
        state.pods.push(pod);
        for watcher in &mut state.watchers {
            let _ = writeln!(watcher.stream, "{event}");
        }
    }

    /// It goes away, or is there again.
    pub fn gone(&self, gone: bool) {
        let mut state = lock(&self.state);
        state.gone = gone;
        for watcher in state.watchers.drain(..) {
            let _ = watcher.connection.shutdown(Shutdown::Both);
        }
    }

    /// How many requests were answered with this status.
    pub fn answered(&self, status: u16) -> usize {
        lock(&self.state).answered.iter().filter(|answered| **answered == status).count()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(connection: TcpStream, tls: Option<Arc<ServerConfig>>, state: &Mutex<State>) {
    let Ok(stream) = connection.try_clone() else { return };
    let stream: Box<dyn Stream> = match tls.map(ServerConnection::new) {
        None => Box::new(stream),
        Some(Ok(tls)) => Box::new(StreamOwned::new(tls, stream)),
        Some(Err(_)) => return,
    };
    answer(Watcher { stream, connection }, state);
}

fn answer(mut asks: Watcher, state: &Mutex<State>) {
    let lines = BufReader::new(&mut asks.stream).lines().map_while(Result::ok);
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let path = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    let mut state = lock(state);
    if state.gone {
        return;
    }
    let (status, body) = state.answer(path, &head);
    state.answered.push(status);
    let watches = status == 200 && body.is_none();
    let _ = write!(asks.stream, "HTTP/1.1 {status} X\r\nConnection: close\r\n\r\n");
    if watches {
        let _ = asks.stream.flush();
        state.watchers.push(asks);
        return;
    }
    let _ = write!(asks.stream, "{}", body.unwrap_or_default());
    asks.stream.end();
}

impl State {
    /// Status and body; a watch that begins has none.
    fn answer(&self, path: &str, head: &[String]) -> (u16, Option<Value>) {
        let brought = |token: &String| {
            let wanted = format!("authorization: Bearer {token}");
            head.iter().any(|line| line.eq_ignore_ascii_case(&wanted))
        };
        if !self.token.iter().all(brought) {
            return (401, Some(json!({"kind": "Status", "message": "Unauthorized"})));
        }
        if !path.starts_with("/api/v1/pods?fieldSelector=spec.nodeName%3D") {
            return (403, Some(json!({"kind": "Status", "message": "forbidden"})));
        }
        if path.contains("&watch=1") {
            return (200, None);
        }
        let version = self.version.to_string();
        let list = json!({"metadata": {"resourceVersion": version}, "items": self.pods});
        (200, Some(list))
    }
}
