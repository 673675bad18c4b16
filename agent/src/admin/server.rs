//! The socket side: bounded connections, headers and time.
//!
//! A connection that has to wait stays in the kernel's backlog: nothing is allocated for it. Half
//! full, connections close after one answer, so that idle ones do not keep others out.

use super::{AnswerBody, Reader, StatusSource, answer_in_time};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// Connections served at once: scrapers, probes and a person, many times over.
const MAX_CONNECTIONS: usize = 128;

/// Connections that wait in the kernel.
const BACKLOG: u32 = 1024;

/// Request line and headers; a browser with many cookies stays below.
const MAX_HEADER: usize = 16 << 10;

/// Buffer of a connection: also what pipelined requests can pile up to.
const MAX_BUFFER: usize = 32 << 10;

/// Time for a whole header, also between requests of a kept connection.
const HEADER_TIME: Duration = Duration::from_secs(5);

/// Life of a connection, after which a client that does not read its answer is left.
const LIFE: Duration = Duration::from_secs(60);

/// Time for answers under way when the agent stops. The agent has 2 s for everything.
const GRACE: Duration = Duration::from_millis(500);

/// A bound socket. Binding comes first and apart, so that a wrong address is known at start.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    life: Duration,
    expose_status: bool,
    /// Where it listens: the real port when 0 was asked for.
    pub address: SocketAddr,
}

/// Takes the address; `[::]` is all addresses of both families. Needs a tokio runtime.
///
/// # Errors
/// The system's error with the address in its text: the operator's to mend (exit code 2).
pub fn bind(address: SocketAddr) -> io::Result<Server> {
    bind_with(address, TcpSocket::new_v6)
}

fn bind_with(address: SocketAddr, new_v6: fn() -> io::Result<TcpSocket>) -> io::Result<Server> {
    let listen = || {
        let (socket, address) = match address.ip() {
            IpAddr::V4(_) => (TcpSocket::new_v4()?, address),
            IpAddr::V6(ip) => match new_v6() {
                // The kernel has no IPv6 (`ipv6.disable=1`): all addresses are those of IPv4.
                Err(error) if ip.is_unspecified() && has_no_ipv6(&error) => {
                    let all = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
                    (TcpSocket::new_v4()?, all)
                }
                socket => (socket?, address),
            },
        };
        if address.is_ipv6() {
            // Whatever `net.ipv6.bindv6only` says.
            rustix::net::sockopt::set_ipv6_v6only(&socket, false)?;
        }
        // A restart must not wait for connections of the last run to fade out.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        Ok(Server { listener, life: LIFE, expose_status: false, address })
    };
    listen().map_err(|error: io::Error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
    })
}

fn has_no_ipv6(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    number == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

impl Server {
    /// Whether those on other hosts get all pages.
    #[must_use]
    pub fn exposing_status(self, expose_status: bool) -> Server {
        Server { expose_status, ..self }
    }

    /// Serves until `shutdown` is done, then ends open connections.
    pub async fn serve(self, source: Arc<dyn StatusSource>, shutdown: impl Future<Output = ()>) {
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let (stop, stopped) = tokio::sync::watch::channel(());
        tokio::select! {
            () = shutdown => {}
            () = self.accept(&permits, &source, &stopped) => {}
        }
        drop(stop);
        let all = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
        // Connections that do not end in time are cut with the runtime.
        let _ = timeout(GRACE, permits.acquire_many(all)).await;
    }

    async fn accept(
        &self,
        permits: &Arc<Semaphore>,
        source: &Arc<dyn StatusSource>,
        stopped: &tokio::sync::watch::Receiver<()>,
    ) {
        while let Ok(permit) = Arc::clone(permits).acquire_owned().await {
            let Ok((stream, peer)) = self.listener.accept().await else {
                // Out of files or memory, or a client gone again: neither ends the endpoint.
                sleep(Duration::from_millis(50)).await;
                continue;
            };
            let keep = permits.available_permits() > MAX_CONNECTIONS / 2;
            let (source, mut stopped) = (Arc::clone(source), stopped.clone());
            let life = self.life;
            let reader = match stream.local_addr() {
                _ if self.expose_status => Reader::Here,
                Ok(local) if is_here(peer.ip(), local.ip()) => Reader::Here,
                _ => Reader::Elsewhere,
            };
            tokio::spawn(async move {
                let stop = async move {
                    tokio::select! {
                        () = sleep(life) => {}
                        // An error: the sender is dropped when the agent stops.
                        _ = stopped.changed() => {}
                    }
                };
                connection(stream, reader, source, keep, stop).await;
                drop(permit);
            });
        }
    }
}

/// Whether a peer is in this network namespace. The kernel takes neither address from outside, and what it
/// answers would not go there. The rest of 127.0.0.0/8 is not meant: a mesh's proxy beside the program hands
/// on what comes from outside by 127.0.0.6.
fn is_here(peer: IpAddr, local: IpAddr) -> bool {
    let (peer, local) = (peer.to_canonical(), local.to_canonical());
    peer == Ipv4Addr::LOCALHOST || peer == Ipv6Addr::LOCALHOST || peer == local
}

async fn connection(
    stream: TcpStream,
    reader: Reader,
    source: Arc<dyn StatusSource>,
    keep: bool,
    stop: impl Future<Output = ()>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let source = Arc::clone(&source);
        async move {
            let (method, path) = (request.method(), request.uri().path());
            let response = answer_in_time(method, path, reader, source.as_ref()).await;
            Ok::<Response<AnswerBody>, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_header_size(MAX_HEADER)
        .max_buf_size(MAX_BUFFER)
        .keep_alive(keep)
        // A client may close its sending side once it has asked.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // Errors are the client's: a malformed request has had its 4xx, a closed socket needs none.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(GRACE, connection).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_core::ledger::Entry;
    use std::time::Instant;
    use tokio::io::AsyncWriteExt;

    #[test]
    fn here_is_this_network_namespace() {
        for (peer, local, expected) in [
            ("127.0.0.1", "127.0.0.1", true),
            ("::1", "::1", true),
            ("::ffff:127.0.0.1", "::ffff:127.0.0.1", true),
            ("10.1.0.7", "10.1.0.7", true),
            ("::ffff:10.1.0.7", "::ffff:10.1.0.7", true),
            ("10.1.0.8", "10.1.0.7", false),
            ("10.1.0.1", "127.0.0.1", false),
            ("127.0.0.6", "10.1.0.7", false),
            ("fd00::2", "fd00::1", false),
            ("::ffff:10.1.0.8", "::ffff:10.1.0.7", false),
        ] {
            let [peer, local] = [peer, local].map(|text| text.parse().unwrap());
            assert_eq!(is_here(peer, local), expected, "{peer} to {local}");
        }
    }

    struct Source;

    impl StatusSource for Source {
        fn ready(&self) -> Result<(), String> {
            Ok(())
        }

        fn ledger(&self) -> Vec<Entry> {
            Vec::new()
        }

        fn status(&self) -> serde_json::Value {
            "x".repeat(1 << 20).into()
        }
    }

    #[tokio::test]
    async fn all_addresses_are_those_of_both_families_or_of_ipv4_where_there_is_no_other() {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let refused = || Err(rustix::io::Errno::AFNOSUPPORT.into());
        let without = bind_with(any, refused).unwrap();
        assert_eq!(without.address.ip(), Ipv4Addr::UNSPECIFIED);
        let port = without.address.port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let one = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
        let error = bind_with(one, refused).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot listen on [::1]:0: "),
            "another address is not meant: {error}"
        );
        let full = || Err(rustix::io::Errno::MFILE.into());
        assert!(bind_with(any, full).is_err(), "no family is lacking");

        let both = bind(any).unwrap();
        let port = both.address.port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        // Where interfaces have none (`disable_ipv6`), there is nothing to connect to.
        let has_ipv6 = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        if both.address.is_ipv6() && has_ipv6 {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_client_that_never_reads_is_left() {
        let mut server = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        server.life = Duration::from_millis(300);
        let address = server.address;
        tokio::spawn(server.serve(Arc::new(Source), std::future::pending()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let start = Instant::now();
        // More answers than the sockets hold: the server blocks in its send, then this one too.
        let request = "GET /status HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
        let send = async { while stream.write_all(request.as_bytes()).await.is_ok() {} };
        timeout(Duration::from_secs(5), send).await.expect("the connection is never cut");
        let limit = Duration::from_millis(300) + GRACE;
        assert!(start.elapsed() >= limit, "cut after {:?}, not blocked", start.elapsed());
    }
}
