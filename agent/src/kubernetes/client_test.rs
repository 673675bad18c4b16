//! Servers that hang. The clock is stopped once they do: then it jumps from one timer to the next.

use super::*;
use agent_core::ledger::Side;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;
use tokio::sync::oneshot;
use tokio::time::Instant;

const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

/// One connection, served on a thread of its own, that says when it has begun to hang.
struct Hanging<T> {
    url: String,
    hangs: Option<oneshot::Receiver<()>>,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Hanging<T> {
    /// Stops the clock once it hangs.
    async fn stop_the_clock(&mut self) {
        self.hangs.take().unwrap().await.unwrap();
        tokio::time::pause();
    }

    /// Once the client has gone; its connection ends on this thread, which must not wait here.
    async fn ended(self) -> T {
        tokio::task::spawn_blocking(|| self.thread.join().unwrap()).await.unwrap()
    }
}

fn hanging<T: Send + 'static>(
    serve: impl FnOnce(TcpStream, oneshot::Sender<()>) -> T + Send + 'static,
) -> Hanging<T> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, hangs) = oneshot::channel();
    let thread = std::thread::spawn(move || serve(listener.accept().unwrap().0, tell));
    Hanging { url, hangs: Some(hangs), thread }
}

fn client(url: &str, http: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Client {
    crate::export::install_crypto();
    let access = Access { url: url.to_owned(), token: None, ca: None };
    let http = http(builder(&access).unwrap()).build().unwrap();
    Client { access, http, knowledge: Arc::new(Knowledge::new(url.into(), "node-1".into())) }
}

/// Takes a request, says `head`, and then nothing, until the client goes.
fn silent_after(head: &'static str) -> Hanging<()> {
    hanging(move |mut stream, tell| {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        while lines.next().unwrap().unwrap() != "" {}
        stream.write_all(head.as_bytes()).unwrap();
        tell.send(()).unwrap();
        assert!(lines.next().is_none_or(|line| line.is_err()), "more than one request");
    })
}

#[tokio::test]
async fn a_watch_that_does_not_begin_is_given_up_after_thirty_seconds() {
    let mut server = silent_after("");
    let client = client(&server.url, |http| http);
    let asked = Instant::now();
    let watch = async { client.watch("/api/v1/pods?watch=1", Duration::from_secs(290)).await };
    let (watch, ()) = tokio::join!(watch, server.stop_the_clock());
    let Err(fault) = watch else { panic!("it begins") };
    assert_eq!(fault, Fault::Unreachable("no answer within 30 s".into()));
    let took = asked.elapsed();
    assert!((30..=31).contains(&took.as_secs()), "after {took:?}");
    let open = client.knowledge.ledger().into_iter().find(|entry| entry.side == Side::Held);
    assert_eq!(open.map(|entry| entry.count), Some(0), "it is over");
    drop(client);
    server.ended().await;
}

#[tokio::test]
async fn a_watch_that_has_begun_may_be_silent_for_as_long_as_it_was_asked_for() {
    let mut server = silent_after("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    let client = client(&server.url, |http| http);
    let asked = Instant::now();
    let mut lines = client.watch("/watch", Duration::from_secs(290)).await.unwrap();
    server.stop_the_clock().await;
    let fault = lines.next().await.unwrap_err();
    assert!(matches!(&fault, Fault::Unreachable(why) if why.contains("timed out")), "{fault}");
    let took = asked.elapsed();
    assert!((320..=321).contains(&took.as_secs()), "after {took:?}");
    drop((lines, client));
    server.ended().await;
}

/// Answers the first request of an HTTP/2 connection by its head (RFC 9113), and nothing from then on. Gives
/// how many pings came.
fn serve_http2(mut stream: TcpStream, tell: oneshot::Sender<()>) -> usize {
    const SETTINGS: u8 = 4;
    const HEADERS: u8 = 1;
    const PING: u8 = 6;
    stream.read_exact(&mut [0; PREFACE]).unwrap();
    stream.write_all(&[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]).unwrap();
    let (mut tell, mut pings) = (Some(tell), 0);
    let mut head = [0; 9];
    while stream.read_exact(&mut head).is_ok() {
        let [_, high, low, kind, flags, id @ ..] = head;
        let mut payload = vec![0; usize::from(u16::from_be_bytes([high, low]))];
        stream.read_exact(&mut payload).unwrap();
        match kind {
            // Theirs, not the answer to ours.
            SETTINGS if flags & 1 == 0 => {
                stream.write_all(&[0, 0, 0, SETTINGS, 1, 0, 0, 0, 0]).unwrap();
            }
            HEADERS => {
                // `:status: 200` of HPACK's table; the stream stays open.
                let [a, b, c, d] = id;
                stream.write_all(&[0, 0, 1, HEADERS, 4, a, b, c, d, 0x88]).unwrap();
                tell.take().map(|tell| tell.send(()));
            }
            PING if flags & 1 == 0 => pings += 1,
            _ => {}
        }
    }
    pings
}

#[tokio::test]
async fn a_server_that_hangs_within_a_watch_is_noticed_by_pings() {
    let mut server = hanging(serve_http2);
    let client = client(&server.url, ClientBuilder::http2_prior_knowledge);
    let mut lines = client.watch("/watch", Duration::from_secs(290)).await.unwrap();
    server.stop_the_clock().await;
    let begun = Instant::now();
    let fault = lines.next().await.unwrap_err();
    assert!(matches!(&fault, Fault::Unreachable(_)), "{fault}");
    let took = begun.elapsed();
    assert!((29..=31).contains(&took.as_secs()), "after {took:?}");
    drop((lines, client));
    assert_eq!(server.ended().await, 1);
}
