//! Time per request and response of a typical exchange on one keep-alive connection:
//! `cargo run --release -p agent-core --example bench_http1`.

use agent_core::id::SpanId;
use agent_core::message::{Finished, Started, Thread};
use agent_core::protocol::http1::Http1;
use agent_core::protocol::{Direction, Input, Segment, Sink};
use std::hint::black_box;
use std::time::Instant;

const CURL: &[u8] = b"GET /index.html?page=2 HTTP/1.1\r\nHost: www.example.org\r\n\
    User-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n";
const NGINX: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sat, 21 Nov 2026 10:00:00 GMT\r\n\
    Content-Type: text/html\r\nContent-Length: 615\r\nLast-Modified: Tue, 01 Nov 2022 09:00:00 GMT\r\n\
    Connection: keep-alive\r\nETag: \"6360e2a0-267\"\r\nAccept-Ranges: bytes\r\n\r\n";
const BODY: u64 = 615;
const ROUNDS: usize = 2000;
const EXCHANGES: u64 = 1000;

/// Hands the same box out again and again, as a shard does.
#[derive(Default)]
struct Reuse {
    spare: Option<Box<Started>>,
    ended: u64,
}

impl Sink for Reuse {
    fn blank(&mut self) -> Box<Started> {
        self.spare.take().unwrap_or_default()
    }

    fn started(&mut self, started: Box<Started>) -> SpanId {
        self.spare = Some(black_box(started));
        SpanId([1; 8])
    }

    fn finished(&mut self, finished: Finished) {
        self.ended += u64::from(black_box(finished).status == Some(200));
    }
}

fn main() {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        let ended = exchanges();
        assert_eq!(ended, EXCHANGES, "every exchange must be seen");
        best = best.min(begin.elapsed().as_nanos() as f64 / EXCHANGES as f64);
    }
    println!("{best:.0} ns per request and response, best of {ROUNDS} rounds of {EXCHANGES}");
    println!("{} bytes per idle connection", size_of::<Http1>());
}

fn exchanges() -> u64 {
    let (mut http, mut sink) = (Http1::new(), Reuse::default());
    let (mut request, mut response, mut now) = (1 << 32, 2 << 32, 0);
    for _ in 0..EXCHANGES {
        for (direction, bytes, len) in [
            (Direction::Receive, CURL, CURL.len() as u64),
            (Direction::Send, NGINX, NGINX.len() as u64 + BODY),
        ] {
            now += 100;
            let (position, opposite) = match direction {
                Direction::Receive => (request, response),
                Direction::Send => (response, request),
            };
            let segment = Segment {
                direction,
                position,
                bytes,
                len,
                opposite,
                first_ns: now,
                last_ns: now,
                taken_ns: now,
                true_first: true,
                thread: Thread::default(),
            };
            match direction {
                Direction::Receive => request += len,
                Direction::Send => response += len,
            }
            let _ = http.input(black_box(&Input::Segment(segment)), &mut sink);
        }
    }
    sink.ended
}
