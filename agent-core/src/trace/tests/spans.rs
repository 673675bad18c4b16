//! Attributes, names and status by the semantic conventions.

use super::script::*;
use crate::message::{Failure, Finished, Head, Name};
use crate::trace::{AssemblerConfig, Sampling};

/// A request with `texts` and nothing else, both ends; client span, server span.
fn exchange(texts: &[(Name, &[u8])], end: Finished) -> (Owned, Owned) {
    let mut script = Script::default();
    let mut link = script.tcp();
    let call = script.call(&mut link, 100, thread(100, 1), thread(101, 2));
    for step in &mut script.steps {
        if let What::Started(started) = &mut step.what {
            started.head = Head::default();
            for (name, text) in texts {
                started.head.set(*name, text);
            }
        }
    }
    script.reply(call, 300);
    for step in &mut script.steps {
        if let What::Finished(finished) = &mut step.what {
            *finished = Finished {
                span: finished.span,
                cookie: finished.cookie,
                end_ns: finished.end_ns,
                first_byte_ns: finished.first_byte_ns,
                ..end
            };
        }
    }
    let seen = script.run();
    (seen.span(call.client).clone(), seen.span(call.server).clone())
}

fn ok() -> Finished {
    Finished {
        status: Some(200),
        request_body: Some(3),
        response_body: Some(5),
        ..Finished::default()
    }
}

#[test]
fn a_plain_exchange_has_the_attributes_of_the_conventions() {
    let texts: [(Name, &[u8]); 5] = [
        (Name::Method, b"GET"),
        (Name::Path, b"/cart%20x"),
        (Name::Query, b"id=7&sig=abc"),
        (Name::Host, b"shop.example:8080"),
        (Name::UserAgent, b"curl/8"),
    ];
    let (client, server) = exchange(&texts, ok());
    let both = [
        ("http.request.method", "GET"),
        ("server.address", "shop.example"),
        ("server.port", "8080"),
        ("http.response.status_code", "200"),
        ("http.request.body.size", "3"),
        ("http.response.body.size", "5"),
        ("network.protocol.version", "1.1"),
        ("network.transport", "tcp"),
        ("network.type", "ipv4"),
        ("network.peer.address", "127.0.0.1"),
    ];
    for (key, value) in both {
        assert_eq!((client.get(key), server.get(key)), (value, value), "{key}");
    }
    for (key, value) in [
        ("url.path", "/cart%20x"),
        ("url.query", "id=7&sig=REDACTED"),
        ("url.scheme", "http"),
        ("client.address", "127.0.0.1"),
        ("network.peer.port", "30001"),
        ("user_agent.original", "curl/8"),
        ("kernspan.http.time_to_first_byte", "0.00019"),
        ("kernspan.link.confidence", "1"),
    ] {
        assert_eq!(server.get(key), value, "{key}");
    }
    let url = "http://shop.example:8080/cart%20x?id=7&sig=REDACTED";
    assert_eq!(client.get("url.full"), url);
    assert!(!client.attributes.contains_key("url.path"));
    assert!(!client.attributes.contains_key("error.type"));
    assert_eq!((client.name.as_str(), server.name.as_str()), ("GET", "GET"));
    assert_eq!((client.service.as_str(), server.service.as_str()), ("p100", "p101"));
}

#[test]
fn status_decides_by_side_what_is_an_error() {
    let with = |status, failure| Finished { status, failure, ..ok() };
    for (why, end, client_error, server_error) in [
        ("302", with(Some(302), None), "", ""),
        ("404", with(Some(404), None), "404", ""),
        ("503", with(Some(503), None), "503", "503"),
        (
            "reset",
            with(None, Some(Failure::ConnectionReset)),
            "connection_reset",
            "connection_reset",
        ),
        (
            "cut body",
            with(Some(200), Some(Failure::ConnectionClosed)),
            "connection_closed",
            "connection_closed",
        ),
        ("not seen", with(None, Some(Failure::Unobserved)), "", ""),
    ] {
        let (client, server) = exchange(&[(Name::Method, b"GET")], end);
        for (span, expected) in [(&client, client_error), (&server, server_error)] {
            assert_eq!(span.get("error.type"), expected, "{why}");
            assert_eq!(span.error, !expected.is_empty(), "{why}");
        }
    }
}

#[test]
fn proxies_and_odd_targets() {
    type Row<'a> = (&'a str, &'a [(Name, &'a [u8])], &'a str, &'a str, &'a str, &'a str);
    let rows: [Row<'_>; 6] = [
        (
            "forwarded",
            &[(Name::Host, b"in"), (Name::Forwarded, b"for=192.0.2.9;host=out:444;proto=https")],
            "out",
            "444",
            "192.0.2.9",
            "http://in",
        ),
        (
            "x-forwarded",
            &[
                (Name::Host, b"in"),
                (Name::ForwardedFor, b"192.0.2.1, 10.0.0.1"),
                (Name::ForwardedHost, b"out"),
                (Name::ForwardedProto, b"https"),
            ],
            "out",
            "443",
            "192.0.2.1",
            "http://in",
        ),
        (
            "absolute form with credentials",
            &[
                (Name::Scheme, b"http"),
                (Name::Authority, b"me:pw@origin:81"),
                (Name::Path, b"/p"),
                (Name::Host, b"proxy"),
            ],
            "origin",
            "81",
            "127.0.0.1",
            "http://REDACTED:REDACTED@origin:81/p",
        ),
        (
            "no host",
            &[(Name::Path, b"/p")],
            "127.0.0.1",
            "8080",
            "127.0.0.1",
            "http://127.0.0.1:8080/p",
        ),
        ("asterisk", &[(Name::Path, b"*"), (Name::Host, b"h")], "h", "80", "127.0.0.1", "http://h"),
        (
            "not UTF-8",
            &[(Name::Path, b"/\xff"), (Name::Host, b"h")],
            "h",
            "80",
            "127.0.0.1",
            "http://h/\u{fffd}",
        ),
    ];
    for (why, texts, host, port, client_address, url) in rows {
        let (client, server) = exchange(texts, ok());
        assert_eq!(server.get("server.address"), host, "{why}");
        assert_eq!(server.get("server.port"), port, "{why}");
        assert_eq!(server.get("client.address"), client_address, "{why}");
        assert_eq!(client.get("url.full"), url, "{why}");
    }
}

#[test]
fn unknown_methods_keep_their_text_and_not_the_name() {
    let long = [b'M'; 200];
    for (why, sent, original) in [("unknown", &b"BREW"[..], "BREW"), ("lower case", b"get", "get")]
    {
        let (client, _) = exchange(&[(Name::Method, sent)], ok());
        assert_eq!(client.get("http.request.method"), "_OTHER", "{why}");
        assert_eq!(client.get("http.request.method_original"), original, "{why}");
        assert_eq!(client.name, "HTTP", "{why}");
    }
    let (client, _) = exchange(&[(Name::Method, &long)], ok());
    assert_eq!(client.get("http.request.method_original").len(), 64);
}

#[test]
fn sampling_drops_whole_traces_and_counts_them() {
    let mut script = Script::default();
    for n in 0..400 {
        let (mut front, mut back) = (script.tcp(), script.tcp());
        let at = 100 + n * 1000;
        let outer = script.call(&mut front, at, thread(100, 1), thread(101, 2));
        let inner = script.call(&mut back, at + 100, thread(101, 2), thread(102, 3));
        script.reply(inner, at + 200);
        script.reply(outer, at + 300);
    }
    let config = AssemblerConfig {
        sampling: Sampling { ratio: 0.25, ..Sampling::default() },
        ..AssemblerConfig::default()
    };
    let seen = script.run_with(config);
    let kept = seen.spans.len();
    assert!((60..140).contains(&(kept / 4)), "{kept} spans");
    assert_eq!(kept as u64 + seen.count("sampled_out"), 1600);
    for span in seen.spans.iter().filter(|span| span.parent.is_some()) {
        assert!(seen.spans.iter().any(|other| Some(other.id) == span.parent), "whole traces");
    }
}
