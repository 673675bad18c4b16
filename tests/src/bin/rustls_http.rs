//! HTTP over rustls, as Rust programs do it: hyper's server on tokio, a client on tokio, and one without.
//!
//! - `rustls_http serve PORT CERTIFICATE KEY` answers `GET /…/size/N` with N bytes.
//! - `rustls_http ask|ask-blocking PORT PATH REQUESTS CONCURRENCY`: as many requests on as many connections.
//!
//! Environment: `TLS_VERSION=1.2` allows only that one.

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, ServerConfig, SignatureScheme,
    StreamOwned, SupportedProtocolVersion, version,
};
use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", port, certificate, key] => runtime()?.block_on(serve(port, certificate, key)),
        ["ask", port, path, requests, concurrency] => {
            let work = Work::of(port, path, requests, concurrency)?;
            runtime()?.block_on(ask(work))
        }
        ["ask-blocking", port, path, requests, concurrency] => {
            ask_blocking(&Work::of(port, path, requests, concurrency)?)
        }
        _ => anyhow::bail!("see the first lines of the source"),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn versions() -> &'static [&'static SupportedProtocolVersion] {
    static OLD: [&SupportedProtocolVersion; 1] = [&version::TLS12];
    static NEW: [&SupportedProtocolVersion; 1] = [&version::TLS13];
    let old = std::env::var("TLS_VERSION").is_ok_and(|version| version == "1.2");
    if old { &OLD } else { &NEW }
}

// --- server ---

async fn serve(port: &str, certificate: &str, key: &str) -> anyhow::Result<()> {
    let certificates = CertificateDer::pem_file_iter(certificate)?.collect::<Result<_, _>>()?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, PrivateKeyDer::from_pem_file(key)?)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // Who goes away in the middle is none of this server's business.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(answer))
                .await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let size = request.uri().path().rsplit('/').next().and_then(|size| size.parse().ok());
    Ok(Response::new(Full::new(Bytes::from(vec![b'x'; size.unwrap_or(0)]))))
}

// --- clients ---

#[derive(Clone, Debug)]
struct Work {
    port: u16,
    path: String,
    requests: usize,
    concurrency: usize,
}

impl Work {
    fn of(port: &str, path: &str, requests: &str, concurrency: &str) -> anyhow::Result<Work> {
        Ok(Work {
            port: port.parse()?,
            path: path.to_owned(),
            requests: requests.parse()?,
            concurrency: concurrency.parse()?,
        })
    }

    /// Requests of connection `index`.
    fn share(&self, index: usize) -> usize {
        self.requests / self.concurrency + usize::from(index < self.requests % self.concurrency)
    }

    fn request(&self) -> Vec<u8> {
        let Work { port, path, .. } = self;
        format!("GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n").into_bytes()
    }
}

async fn ask(work: Work) -> anyhow::Result<()> {
    let connector = TlsConnector::from(Arc::new(client()?));
    let tasks = (0..work.concurrency).map(|index| {
        let (work, connector) = (work.clone(), connector.clone());
        tokio::spawn(async move {
            let stream = tokio::net::TcpStream::connect(("127.0.0.1", work.port)).await?;
            stream.set_nodelay(true)?;
            let mut stream = connector.connect(name()?, stream).await?;
            for _ in 0..work.share(index) {
                stream.write_all(&work.request()).await?;
                stream.flush().await?;
                let mut answer = Answer::default();
                while !answer.is_whole() {
                    let read = stream.read(answer.room()).await?;
                    answer.add(read)?;
                }
            }
            stream.shutdown().await?;
            anyhow::Ok(())
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await??;
    }
    Ok(())
}

fn ask_blocking(work: &Work) -> anyhow::Result<()> {
    let config = Arc::new(client()?);
    std::thread::scope(|scope| {
        let threads = (0..work.concurrency).map(|index| {
            let config = Arc::clone(&config);
            scope.spawn(move || one_blocking(work, config, work.share(index)))
        });
        for thread in threads.collect::<Vec<_>>() {
            thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        Ok(())
    })
}

fn one_blocking(work: &Work, config: Arc<ClientConfig>, requests: usize) -> anyhow::Result<()> {
    let stream = TcpStream::connect(("127.0.0.1", work.port))?;
    stream.set_nodelay(true)?;
    let mut stream = StreamOwned::new(ClientConnection::new(config, name()?)?, stream);
    for _ in 0..requests {
        stream.write_all(&work.request())?;
        stream.flush()?;
        let mut answer = Answer::default();
        while !answer.is_whole() {
            let read = stream.read(answer.room())?;
            answer.add(read)?;
        }
    }
    stream.conn.send_close_notify();
    stream.flush()?;
    Ok(())
}

/// An answer with `Content-Length`, as it comes in.
#[derive(Default)]
struct Answer {
    bytes: Vec<u8>,
    have: usize,
}

impl Answer {
    fn room(&mut self) -> &mut [u8] {
        self.bytes.resize(self.have + 16_384, 0);
        &mut self.bytes[self.have..]
    }

    fn add(&mut self, read: usize) -> anyhow::Result<()> {
        anyhow::ensure!(read > 0, "the connection ended within an answer");
        self.have += read;
        Ok(())
    }

    fn is_whole(&self) -> bool {
        let text = String::from_utf8_lossy(&self.bytes[..self.have]).to_ascii_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
        let lines = head.lines().filter_map(|line| line.strip_prefix("content-length: "));
        let len = lines.filter_map(|len| len.trim().parse::<usize>().ok()).next();
        len.is_some_and(|len| body.len() >= len)
    }
}

fn name() -> anyhow::Result<ServerName<'static>> {
    Ok(ServerName::try_from("localhost")?)
}

fn client() -> anyhow::Result<ClientConfig> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth())
}

/// The scenarios' certificates are their own.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
