//! An OTLP receiver over HTTP/1.1 that accepts everything and keeps nothing. It runs as a process
//! of its own, so that its CPU time can be told apart.

use anyhow::{Context, Result};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

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
    while let Some(length) = content_length(&mut reader)? {
        io::copy(&mut (&mut reader).take(length), &mut io::sink())?;
        let mut stream = stream;
        stream.write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n",
        )?;
    }
    Ok(())
}

/// Reads a request's head. `None` at the end of the connection, or of a request without a length.
fn content_length(reader: &mut impl BufRead) -> io::Result<Option<u64>> {
    let mut head = reader.take(MAX_HEAD);
    let mut length = None;
    let mut line = String::new();
    loop {
        line.clear();
        if head.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if line.trim_end().is_empty() {
            return Ok(length);
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
            assert_eq!(content_length(&mut head.as_bytes()).unwrap(), None, "{head:?}");
        }
    }
}
