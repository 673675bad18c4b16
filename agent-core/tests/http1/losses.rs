//! What is missing from the bytes, or contradicts itself.

use super::http1_support::{Player, Side};
use super::{OK, check, get};
use agent_core::message::Role;
use agent_core::protocol::Progress;

#[test]
fn holes_in_what_was_captured() {
    check(&[
        (
            "bodies by Content-Length",
            |p| {
                p.moved(Side::Request, b"POST /a HTTP/1.1\r\nContent-Length: 900\r\n\r\nabc", 897)
                    .moved(Side::Response, b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n", 5000)
                    .moved(Side::Response, b"HTTP/1.1 500 in the body\r\n\r\n", 4000 - 28)
                    .request(&get("/b"))
                    .response(OK)
            },
            &["/a 200", "/b 200"],
        ),
        (
            "chunk sizes: the turn ends it",
            |p| {
                p.request(&get("/a"))
                    .moved(
                        Side::Response,
                        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                        900,
                    )
                    .response("HTTP/1.1 500 in the body\r\n\r\n")
                    .request(&get("/b"))
                    .response(OK)
            },
            &["/a 200", "/b 200"],
        ),
        (
            "request head: it starts with what is known, the next one at a turn",
            |p| {
                p.moved(Side::Request, b"GET /a HTTP/1.1\r\nHost: a\r\nCookie: abc", 9000)
                    .response(OK)
                    .request(&get("/b"))
                    .response(OK)
            },
            &["/a 200", "/b 200"],
        ),
        (
            "request head cut before its 100-continue: the body is no request",
            |p| {
                p.moved(Side::Request, b"POST /a HTTP/1.1\r\nCookie: abc", 9000)
                    .response("HTTP/1.1 100 Continue\r\n\r\n")
                    .request(&get("/body"))
                    .response(OK)
                    .request(&get("/b"))
                    .response(OK)
            },
            &["/a 200", "/b 200"],
        ),
        (
            "response head: its status is known",
            |p| {
                p.request(&get("/a"))
                    .moved(Side::Response, b"HTTP/1.1 302 Found\r\nLocation: abc", 9000)
                    .request(&get("/b"))
                    .response(OK)
            },
            &["/a 302", "/b 200"],
        ),
        (
            "request line: not known, so not reported",
            |p| {
                p.request(&get("/a"))
                    .response(OK)
                    .moved(Side::Request, b"GET /looong", 9000)
                    .response(OK)
                    .request(&get("/c"))
                    .response(OK)
            },
            &["/a 200", "/c 200"],
        ),
    ]);
}

#[test]
fn conflicting_framing_is_not_trusted() {
    check(&[
        (
            "two lengths in a request",
            |p| {
                p.request("POST /a HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\n")
                    .request(&get("/smuggled"))
                    .response(OK)
                    .request(&get("/b"))
                    .response(OK)
            },
            &["/a 200", "/b 200"],
        ),
        (
            "length and chunked in a request",
            |p| {
                p.request(
                    "POST /a HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
                )
                .request(&format!("0\r\n\r\n{}", get("/smuggled")))
                .response(OK)
            },
            &["/a 200"],
        ),
        (
            "two lengths in a response: the turn ends it",
            |p| {
                p.request(&get("/a"))
                    .response("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 9\r\n\r\n")
                    .response("HTTP/1.1 500 in the body\r\n\r\n")
                    .request(&get("/b"))
                    .response(OK)
            },
            &["/a 200", "/b 200"],
        ),
        (
            "a body that looks like a request",
            |p| {
                let inner = get("/inner");
                p.request(&format!("POST /a HTTP/1.1\r\nContent-Length: {}\r\n\r\n", inner.len()))
                    .request(&inner)
                    .response(OK)
            },
            &["/a 200"],
        ),
    ]);
}

#[test]
fn gaps() {
    check(&[
        (
            "inside a body of known length",
            |p| {
                p.request("POST /a HTTP/1.1\r\nContent-Length: 100\r\n\r\n")
                    .gap(Side::Request, 60)
                    .request(&"x".repeat(40))
                    .response("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n")
                    .gap(Side::Response, 49)
                    .response("x")
            },
            &["/a 200"],
        ),
        (
            "over a response's end: nobody saw when",
            |p| {
                p.request(&get("/a"))
                    .response("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n")
                    .gap(Side::Response, 50)
                    .request(&get("/b"))
                    .response(OK)
            },
            &["/a 200 unobserved", "/b 200"],
        ),
        (
            "over a whole response",
            |p| {
                p.request(&get("/a"))
                    .gap(Side::Response, OK.len() as u64)
                    .request(&get("/b"))
                    .response(OK)
            },
            &["/a - unobserved", "/b 200"],
        ),
        (
            "over a whole request: its response is nobody's",
            |p| {
                p.request(&get("/a"))
                    .response(OK)
                    .gap(Side::Request, 100)
                    .response("HTTP/1.1 500 E\r\nContent-Length: 0\r\n\r\n")
                    .request(&get("/c"))
                    .response(OK)
            },
            &["/a 200", "/c 200"],
        ),
        (
            "over a request's head: its body is no request",
            |p| {
                p.request(&get("/a"))
                    .response(OK)
                    .gap(Side::Request, 100)
                    .request(&get("/body"))
                    .response(OK)
                    .request(&get("/c"))
                    .response(OK)
            },
            &["/a 200", "/c 200"],
        ),
        (
            "over a request's head before its 100-continue",
            |p| {
                p.request(&get("/a"))
                    .response(OK)
                    .gap(Side::Request, 100)
                    .response("HTTP/1.1 100 Continue\r\n\r\n")
                    .request(&get("/body"))
                    .response(OK)
                    .request(&get("/c"))
                    .response(OK)
            },
            &["/a 200", "/c 200"],
        ),
        (
            "over a request's head and its 100-continue",
            |p| {
                p.request(&get("/a"))
                    .response(OK)
                    .gap(Side::Request, 100)
                    .gap(Side::Response, 25)
                    .request(&get("/body"))
                    .response(OK)
                    .request(&get("/c"))
                    .response(OK)
            },
            &["/a 200", "/c 200"],
        ),
    ]);
}

#[test]
fn a_pipelining_client_is_not_followed_after_a_loss() {
    for role in [Role::Server, Role::Client] {
        let player = Player::new(role)
            .request(&(get("/a") + &get("/b")))
            .gap(Side::Response, OK.len() as u64)
            .request(&get("/c"))
            .response("HTTP/1.1 500 for b\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(player.lines(), ["/a - unobserved", "/b - unobserved"]);
        assert_eq!(player.progress, Progress::Left);
    }
}
