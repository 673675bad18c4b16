//! What a connection's bytes come to, feature by feature.

#[path = "../http1_support/mod.rs"]
mod http1_support;
mod losses;

use agent_core::message::{Failure, Name, Role};
use agent_core::protocol::Progress;
use agent_core::protocol::http1::Http1;
use http1_support::{Player, REQUEST_START, Side};

type Play = fn(Player) -> Player;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n")
}

/// Plays at both ends and compares the lines.
fn check(cases: &[(&str, Play, &[&str])]) {
    for (why, play, expected) in cases {
        for role in [Role::Server, Role::Client] {
            let player = play(Player::new(role));
            assert_eq!(player.lines(), *expected, "{why}, {role:?}");
            assert_eq!(player.http.role(), Some(role), "{why}");
        }
    }
}

#[test]
fn exchanges() {
    check(&[
        ("one", |p| p.request(&get("/a")).response(OK), &["/a 200"]),
        (
            "keep-alive",
            |p| p.request(&get("/a")).response(OK).request(&get("/b")).response(OK),
            &["/a 200", "/b 200"],
        ),
        (
            "pipelined",
            |p| {
                let not_found = "HTTP/1.1 404 N\r\nContent-Length: 0\r\n\r\n";
                p.request(&(get("/a") + &get("/b") + &get("/c")))
                    .response(&format!("{OK}{not_found}"))
                    .response(OK)
            },
            &["/a 200", "/b 404", "/c 200"],
        ),
        (
            "HEAD has no body whatever its head says",
            |p| {
                p.request("HEAD /a HTTP/1.1\r\n\r\n")
                    .response("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
                    .request(&get("/b"))
                    .response(OK)
            },
            &["/a 200", "/b 200"],
        ),
        (
            "204 and 304 have no body",
            |p| {
                p.request(&(get("/a") + &get("/b") + &get("/c")))
                    .response(
                        "HTTP/1.1 204 No\r\n\r\nHTTP/1.1 304 Not\r\nContent-Length: 7\r\n\r\n",
                    )
                    .response(OK)
            },
            &["/a 204", "/b 304", "/c 200"],
        ),
        (
            "Expect: 100-continue",
            |p| {
                p.request("POST /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
                    .response("HTTP/1.1 100 Continue\r\n\r\n")
                    .request("abc")
                    .response(OK)
            },
            &["/a 200"],
        ),
        (
            "early hints twice",
            |p| {
                p.request(&get("/a"))
                    .response("HTTP/1.1 103 Early\r\nLink: x\r\n\r\n")
                    .response("HTTP/1.1 103 Early\r\nLink: y\r\n\r\n")
                    .response(OK)
            },
            &["/a 200"],
        ),
        (
            "chunked with trailers, then another",
            |p| {
                p.request("POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
                    .request("3\r\nabc\r\n0\r\nX: GET / HTTP/1.1\r\n\r\n")
                    .response("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nok\r\n")
                    .response("0\r\nDigest: x\r\n\r\n")
                    .request(&get("/b"))
                    .response(OK)
            },
            &["/a 200", "/b 200"],
        ),
        (
            "body until close",
            |p| {
                p.request("GET /a HTTP/1.0\r\n\r\n")
                    .response("HTTP/1.0 200 OK\r\n\r\nsome")
                    .response("HTTP/1.1 500 in the body\r\n\r\n")
                    .end(Side::Response)
            },
            &["/a 200"],
        ),
        (
            "error before the request's body is complete",
            |p| {
                p.request("POST /a HTTP/1.1\r\nContent-Length: 8\r\n\r\nab")
                    .response("HTTP/1.1 413 Large\r\nContent-Length: 0\r\n\r\n")
                    .request("GET / H")
            },
            &["/a 413"],
        ),
        (
            "line feeds alone, and empty lines between",
            |p| {
                p.request("\r\nGET /a HTTP/1.1\nHost: a\n\n")
                    .response("HTTP/1.1 200\nContent-Length: 1\n\nx")
                    .request("\r\n\r\nGET /b HTTP/1.1\r\n\r\n")
                    .response("\r\nHTTP/1.1 201 C\r\nContent-Length: 0\r\n\r\n")
            },
            &["/a 200", "/b 201"],
        ),
        (
            "unsolicited 408 is nobody's",
            |p| {
                p.request(&get("/a"))
                    .response(OK)
                    .response("HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n")
                    .request(&get("/b"))
                    .response(OK)
            },
            &["/a 200", "/b 200"],
        ),
    ]);
}

#[test]
fn a_connection_that_leaves_http() {
    for (why, play, expected) in [
        (
            "upgrade",
            (|p| {
                p.request("GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
                    .response("HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n\x01\x02")
                    .request(&get("/not-http"))
            }) as Play,
            &["/ws 101"][..],
        ),
        (
            "tunnel",
            |p| {
                p.request("CONNECT a.example:443 HTTP/1.1\r\n\r\n")
                    .response("HTTP/1.1 200 Established\r\n\r\n")
                    .request(&get("/inside"))
            },
            &["a.example:443 200"],
        ),
    ] {
        for role in [Role::Server, Role::Client] {
            let player = play(Player::new(role));
            assert_eq!(player.lines(), expected, "{why}");
            assert_eq!(player.progress, Progress::Left, "{why}");
        }
    }
    check(&[(
        "a refused tunnel does not leave",
        |p| {
            p.request("CONNECT a.example:443 HTTP/1.1\r\n\r\n")
                .response("HTTP/1.1 407 Auth\r\nContent-Length: 0\r\n\r\n")
                .request(&get("/b"))
                .response(OK)
        },
        &["a.example:443 407", "/b 200"],
    )]);
    let tls = Player::new(Role::Server).request(b"\x16\x03\x01\x02\x00\x01\x00\x01");
    assert_eq!(tls.progress, Progress::Left, "never was HTTP");
}

#[test]
fn ends_of_connections() {
    let long = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc";
    assert_eq!(long.len(), 41);
    check(&[
        (
            "closed before the response",
            |p| p.request(&get("/a")).closed(Failure::ConnectionClosed),
            &["/a - connection_closed"],
        ),
        (
            "reset within the response",
            |p| {
                p.request(&get("/a"))
                    .response("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
                    .closed(Failure::ConnectionReset)
            },
            &["/a 200 connection_reset"],
        ),
        (
            "the client is done sending: not a failure yet",
            |p| p.request(&get("/a")).end(Side::Request),
            &["/a …"],
        ),
        (
            "half-closed and answered",
            |p| {
                p.request(&get("/a"))
                    .end(Side::Request)
                    .response(OK)
                    .closed(Failure::ConnectionClosed)
            },
            &["/a 200"],
        ),
        (
            "until close, closed properly",
            |p| {
                p.request(&get("/a"))
                    .response("HTTP/1.1 200 OK\r\n\r\nabc")
                    .closed(Failure::ConnectionClosed)
            },
            &["/a 200"],
        ),
        (
            "until close, timed out",
            |p| p.request(&get("/a")).response("HTTP/1.1 200 OK\r\n\r\n").closed(Failure::Timeout),
            &["/a 200 timeout"],
        ),
        (
            "chunks not captured, closed properly",
            |p| {
                p.request(&get("/a"))
                    .moved(
                        Side::Response,
                        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                        9,
                    )
                    .closed(Failure::ConnectionClosed)
            },
            &["/a 200"],
        ),
        (
            "lost response, closed",
            |p| p.request(&get("/a")).gap(Side::Response, 9).closed(Failure::ConnectionClosed),
            &["/a - unobserved"],
        ),
        (
            "no response of the protocol",
            |p| p.request(&get("/a")).response("<html>\r\n\r\n").closed(Failure::ConnectionClosed),
            &["/a - invalid_response"],
        ),
    ]);
}

#[test]
fn older_connections_are_used_at_once() {
    check(&[(
        "first seen at a response",
        |p| p.response(OK).request(&get("/b")).response(OK),
        &["/b 200"],
    )]);
}

#[test]
fn segments_in_the_wrong_order_between_directions() {
    let (a, b) = (get("/a"), get("/b"));
    let (a_len, b_len, ok_len) = (a.len() as u64, b.len() as u64, OK.len() as u64);
    for role in [Role::Server, Role::Client] {
        let mut player = Player::new(role).request(&a).response(OK);
        let (request, response) = (player.position(Side::Request), player.position(Side::Response));
        // The response to /b is reported before /b, and /c before the end of that response.
        player.raw(Side::Response, response, request + b_len, OK.as_bytes(), ok_len);
        assert_eq!(player.lines(), ["/a 200"], "held, not invented");
        player.raw(Side::Request, request, response, b.as_bytes(), b_len);
        assert_eq!(player.lines(), ["/a 200", "/b 200"], "{role:?}");
        let (request, response) = (request + b_len, response + ok_len);
        player.raw(Side::Request, request, response + ok_len, a.as_bytes(), a_len);
        player.raw(Side::Response, response, request, OK.as_bytes(), ok_len);
        assert_eq!(player.lines(), ["/a 200", "/b 200", "/a …"], "unasked, then /a");
    }
}

#[test]
fn times_positions_and_sizes() {
    for role in [Role::Server, Role::Client] {
        let head = "POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\n";
        let player = Player::new(role)
            .request(head)
            .request("abc")
            .response("HTTP/1.1 100 C\r\n\r\n")
            .response("HTTP/1.1 2")
            .response("00 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n")
            .response("0\r\n\r\n");
        let started = &player.log.started[0];
        assert_eq!(started.position, REQUEST_START);
        assert_eq!((started.start_ns, started.taken_ns), (1010, 1015));
        assert_eq!((started.thread.tid, started.version, started.true_start), (7, 1, true));
        let end = player.log.end_of(0).expect("ended");
        assert_eq!(end.first_byte_ns, Some(1040), "of the final response");
        assert_eq!(end.end_ns, if role == Role::Client { 1063 } else { 1060 });
        assert_eq!((end.request_body, end.response_body), (Some(3), Some(4)));
    }
}

#[test]
fn pipelined_requests_have_positions_of_their_own() {
    let (a, b) = (get("/a"), get("/b"));
    let player = Player::new(Role::Server).request(&format!("\r\n{a}{b}"));
    let positions: Vec<u64> = player.log.started.iter().map(|started| started.position).collect();
    assert_eq!(positions, [REQUEST_START + 2, REQUEST_START + 2 + a.len() as u64]);
}

#[test]
fn sizes() {
    let none = (None, None);
    for (why, request, response, expected) in [
        ("GET", get("/"), OK.to_string(), (Some(0), Some(2))),
        (
            "HEAD",
            "HEAD / HTTP/1.1\r\n\r\n".into(),
            "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n".into(),
            (Some(0), Some(0)),
        ),
        ("204", get("/"), "HTTP/1.1 204 N\r\n\r\n".into(), (Some(0), Some(0))),
        (
            "early error",
            "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n".into(),
            "HTTP/1.1 413 L\r\nContent-Length: 0\r\n\r\n".into(),
            (None, Some(0)),
        ),
        ("until close", get("/"), "HTTP/1.0 200 OK\r\n\r\nabc".into(), (Some(0), Some(3))),
        (
            "until close, and what it would be without its coding is not known",
            get("/"),
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc".into(),
            (Some(0), None),
        ),
        (
            "not trusted",
            "POST / HTTP/1.1\r\nContent-Length: 1, 2\r\n\r\n".into(),
            "HTTP/1.1 200 L\r\nContent-Length: 1, 2\r\n\r\nx".into(),
            none,
        ),
    ] {
        let player = Player::new(Role::Client)
            .request(&request)
            .response(&response)
            .closed(Failure::ConnectionClosed);
        let end = player.log.end_of(0).expect("ended");
        assert_eq!((end.request_body, end.response_body), expected, "{why}");
    }
}

#[test]
fn texts_of_a_head_in_pieces() {
    let head = "GET http://b.example/p?q=1 HTTP/1.1\r\nHost: a\r\nTraceparent: 00-1-2-01\r\n\
                X-Request-ID: r1\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\n\r\n";
    for cut in 0..head.len() {
        let (first, second) = head.split_at(cut);
        let mut player = Player::new(Role::Server);
        if cut > 0 {
            player = player.request(first);
        }
        let player = player.request(second);
        let started = player.log.started.first().unwrap_or_else(|| panic!("none, cut at {cut}"));
        for (name, text) in [
            (Name::Method, "GET"),
            (Name::Scheme, "http"),
            (Name::Authority, "b.example"),
            (Name::Path, "/p"),
            (Name::Query, "q=1"),
            (Name::Host, "a"),
            (Name::Traceparent, "00-1-2-01"),
            (Name::RequestId, "r1"),
            (Name::ForwardedFor, "1.2.3.4"),
        ] {
            assert_eq!(started.head.get(name), Some(text.as_bytes()), "{name:?}, cut at {cut}");
        }
        assert_eq!(started.position, REQUEST_START);
        assert_eq!(started.start_ns, 1010);
    }
}

#[test]
fn pipelining_without_bound_is_bounded() {
    let mut player = Player::new(Role::Server);
    for _ in 0..2000 {
        player = player.request(&get("/a"));
    }
    assert_eq!(player.http.open_requests(), 1024);
    assert_eq!(player.log.started.len(), 1025);
    assert_eq!(player.log.finished.len(), 1, "the excess is reported once");
    for _ in 0..1024 {
        player = player.response(OK);
    }
    let answered = player.log.finished.iter().filter(|end| end.status == Some(200)).count();
    assert_eq!(answered, 1024);
}

#[test]
fn an_idle_connection_is_small() {
    let player =
        Player::new(Role::Server).request(&get("/a")).response("HTTP/1.1 2").response("00 K\r\n");
    assert!(player.http.held_bytes() > 0, "a head in pieces");
    let player = player.response("Content-Length: 0\r\n\r\n");
    assert_eq!(player.http.held_bytes(), 0);
    assert!(size_of::<Http1>() <= 400, "{}", size_of::<Http1>());
}
