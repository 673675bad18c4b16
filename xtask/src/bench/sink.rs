//! An OTLP receiver over HTTP/1.1 that accepts everything and keeps nothing but how old the spans
//! were. It runs as a process of its own, so that its CPU time can be told apart.

use super::age::{Ages, span_ends};
use anyhow::{Context, Result};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

static AGES: Mutex<Option<Ages>> = Mutex::new(None);

/// Of so many requests one is read for the ages of its spans: a receiver that works takes caches
/// and turns on the processors from what is measured, which subtracting its CPU time does not undo.
const LOOK_AT: u32 = 16;

/// A head has a few hundred bytes; more is not ours.
const MAX_HEAD: u64 = 64 * 1024;

/// Serves for ever.
pub fn serve(port: u16) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).context("the receiver's port")?;
    for stream in listener.incoming().flatten() {
        // A connection that breaks ends its own thread only.
        thread::spawn(move || drop(connection(&stream)));
    }
    Ok(())
}

fn connection(stream: &TcpStream) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(64 * 1024, stream);
    let mut body = Vec::new();
    let mut requests = 0_u32;
    while let Some((what, length)) = head(&mut reader)? {
        let mut stream = stream;
        if what == Ask::Ages {
            return stream.write_all(ages().as_bytes());
        }
        body.clear();
        (&mut reader).take(length).read_to_end(&mut body)?;
        if what == Ask::Traces && requests.is_multiple_of(LOOK_AT) {
            note(&body);
        }
        requests = requests.wrapping_add(1);
        stream.write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n",
        )?;
    }
    Ok(())
}

/// Takes the ages of the spans of a request that is here now.
fn note(request: &[u8]) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
    let mut ages = AGES.lock().unwrap_or_else(PoisonError::into_inner);
    let ages = ages.get_or_insert_default();
    span_ends(request, &mut |end| ages.add(now.saturating_sub(end)));
}

/// The ages since this was last asked, as a response: spans, median and 99 % in ms.
fn ages() -> String {
    let ages = AGES.lock().unwrap_or_else(PoisonError::into_inner).take();
    let (spans, median, most) = ages.unwrap_or_default().summary();
    let body = format!("{spans} {median} {most}");
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ask {
    Traces,
    Other,
    Ages,
}

/// Reads a request's head: what it asks, and the length of its body. `None` at the end of the
/// connection, or of an export without a length.
fn head(reader: &mut impl BufRead) -> io::Result<Option<(Ask, u64)>> {
    let mut head = reader.take(MAX_HEAD);
    let mut line = String::new();
    head.read_line(&mut line)?;
    if line.starts_with("GET /ages ") {
        return Ok(Some((Ask::Ages, 0)));
    }
    let ask = if line.starts_with("POST /v1/traces ") { Ask::Traces } else { Ask::Other };
    let mut length = None;
    loop {
        line.clear();
        if head.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if line.trim_end().is_empty() {
            return Ok(length.map(|length| (ask, length)));
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_follow_each_other_on_a_connection() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || connection(&listener.accept().unwrap().0).unwrap());
        let mut stream = TcpStream::connect(address).unwrap();
        let request = b"POST /v1/traces HTTP/1.1\r\nContent-Length: 5\r\n\r\n12345";
        stream.write_all(&[&request[..], request].concat()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).unwrap();
        assert_eq!(answers.matches("HTTP/1.1 200").count(), 2);
        server.join().unwrap();
    }

    #[test]
    fn a_request_without_a_length_ends_the_connection() {
        for head in ["GET / HTTP/1.1\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", ""] {
            assert_eq!(super::head(&mut head.as_bytes()).unwrap(), None, "{head:?}");
        }
    }
}
