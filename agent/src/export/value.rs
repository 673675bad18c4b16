//! One configured text to one typed value. An error is (what is wrong, what would be right).

use super::config::Protocol;
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use std::str::FromStr;
use std::time::Duration;

/// What is wrong, and what would be right.
pub type Wrong = (String, &'static str);

/// Longest timeout and largest queue that are taken for meant: an hour, 4 GiB.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);
const MAX_QUEUE_BYTES: u64 = 4 << 30;
/// Several small requests must fit into the queue.
const MIN_QUEUE_BYTES: u64 = 64 << 10;

/// Names the exporter sets itself.
const RESERVED: [&str; 9] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "te",
    "grpc-encoding",
    "grpc-accept-encoding",
    "transfer-encoding",
];

/// `grpc`, `http/protobuf` or `http/json`.
pub fn protocol(text: &str) -> Result<Protocol, Wrong> {
    match text {
        "grpc" => Ok(Protocol::Grpc),
        "http/protobuf" => Ok(Protocol::HttpProtobuf),
        "http/json" => Ok(Protocol::HttpJson),
        _ => Err((format!("no OTLP protocol: {text:?}"), "use grpc, http/protobuf or http/json")),
    }
}

/// `gzip` or `none`: true for gzip.
pub fn gzip(text: &str) -> Result<bool, Wrong> {
    match text {
        "gzip" => Ok(true),
        "none" => Ok(false),
        _ => Err((format!("no OTLP compression: {text:?}"), "use gzip or none")),
    }
}

/// `true` or `false`, in any case.
pub fn truth(text: &str) -> Result<bool, Wrong> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err((format!("neither true nor false: {text:?}"), "use true or false")),
    }
}

/// Milliseconds, or a number with the unit `ms` or `s`.
pub fn timeout(text: &str) -> Result<Duration, Wrong> {
    const HINT: &str = "use milliseconds, for example 10000, 500ms or 10s, from 1ms to 1h";
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let wrong = || (format!("no usable time: {text:?}"), HINT);
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let time = match &text[digits.len()..] {
        "" | "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        _ => return Err(wrong()),
    };
    if time.is_zero() || time > MAX_TIMEOUT { Err(wrong()) } else { Ok(time) }
}

/// Bytes, or a number with the unit `KiB`, `MiB` or `GiB`.
pub fn queue_bytes(text: &str) -> Result<usize, Wrong> {
    const HINT: &str = "use bytes or a unit, for example 16MiB, from 64KiB to 4GiB";
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let wrong = || (format!("no usable size: {text:?}"), HINT);
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let unit = match &text[digits.len()..] {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    let bytes = number.checked_mul(unit).ok_or_else(wrong)?;
    if !(MIN_QUEUE_BYTES..=MAX_QUEUE_BYTES).contains(&bytes) {
        return Err(wrong());
    }
    usize::try_from(bytes).map_err(|_| wrong())
}

/// `http` or `https` URL with a host and without credentials.
pub fn http_url(text: &str) -> Result<Url, Wrong> {
    const HINT: &str = "use a URL such as http://localhost:4318";
    let url = Url::parse(text).map_err(|why| (format!("no URL: {text:?} ({why})"), HINT))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err((format!("neither http nor https: {text:?}"), HINT));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let hint = "use OTEL_EXPORTER_OTLP_HEADERS or --otlp-header for credentials";
        return Err(("credentials in the URL".to_string(), hint));
    }
    Ok(url)
}

/// URL of a gRPC endpoint; without a scheme, `insecure` says whether it is `http`.
pub fn grpc_url(text: &str, insecure: bool) -> Result<Url, Wrong> {
    let url = if text.contains("://") {
        http_url(text)?
    } else {
        http_url(&format!("{}://{text}", if insecure { "http" } else { "https" }))?
    };
    if !matches!(url.path(), "" | "/") || url.query().is_some() {
        let hint = "give scheme, host and port only, for example http://localhost:4317, \
                    or use the protocol http/protobuf";
        return Err((format!("a gRPC endpoint has no path: {text:?}"), hint));
    }
    Ok(url)
}

/// `name=value,name=value` with percent-encoded values, as in W3C Baggage without properties.
/// Values never appear in errors.
pub fn headers(text: &str) -> Result<Vec<(String, String)>, Wrong> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(header).collect()
}

/// `name=value`, the value percent-encoded.
pub fn header(text: &str) -> Result<(String, String), Wrong> {
    const HINT: &str = "use name=value,name=value with percent-encoded values";
    let (name, value) =
        text.split_once('=').ok_or(("an entry without = in the list".to_string(), HINT))?;
    let name = name.trim().to_ascii_lowercase();
    HeaderName::from_str(&name).map_err(|_| (format!("no header name: {name:?}"), HINT))?;
    if RESERVED.contains(&name.as_str()) {
        return Err((format!("{name} is set by the exporter"), "leave it out"));
    }
    let value = percent_decoded(value.trim())
        .filter(|value| HeaderValue::from_str(value).is_ok())
        .ok_or((format!("the value of {name} is no header value"), HINT))?;
    Ok((name, value))
}

/// Text with `%XX` decoded; a `%` that begins no such triple stays.
fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let decoded = after.get(..2).filter(|_| byte == b'%').and_then(hex_pair);
        out.push(decoded.unwrap_or(byte));
        rest = if decoded.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(out).ok()
}

fn hex_pair(pair: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(pair).ok()?;
    if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_follow_the_baggage_grammar() {
        type Pairs = &'static [(&'static str, &'static str)];
        let table: [(&str, &str, Option<Pairs>); 9] = [
            ("nothing", "", Some(&[])),
            ("one", "api-key=abc", Some(&[("api-key", "abc")])),
            ("space around", " a = b , C=d ", Some(&[("a", "b"), ("c", "d")])),
            ("percent", "authorization=Bearer%20x%3Dy", Some(&[("authorization", "Bearer x=y")])),
            ("equals sign in the value", "a=b==", Some(&[("a", "b==")])),
            ("a percent sign alone", "a=100%,b=%zz%4", Some(&[("a", "100%"), ("b", "%zz%4")])),
            ("no equals sign", "abc", None),
            ("line break in the value", "a=%0d%0aevil", None),
            ("name of our own", "Content-Type=text/plain", None),
        ];
        for (why, input, expected) in table {
            let expected: Option<Vec<(String, String)>> =
                expected.map(|e| e.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect());
            assert_eq!(headers(input).ok(), expected, "{why}");
        }
    }

    #[test]
    fn times_and_sizes_have_units_and_bounds() {
        let table = [
            ("10000", Some(10_000)),
            ("500ms", Some(500)),
            ("10s", Some(10_000)),
            ("0", None),
            ("10m", None),
            ("-1", None),
            ("", None),
            ("99999999999999999999s", None),
        ];
        for (input, expected) in table {
            assert_eq!(timeout(input).ok().map(|t| t.as_millis()), expected, "{input}");
        }
        let table = [
            ("1048576", Some(1 << 20)),
            ("64KiB", Some(64 << 10)),
            ("63KiB", None),
            ("16MiB", Some(16 << 20)),
            ("10", None),
            ("5GiB", None),
            ("18446744073709551615GiB", None),
        ];
        for (input, expected) in table {
            assert_eq!(queue_bytes(input).ok(), expected, "{input}");
        }
    }

    #[test]
    fn a_secret_is_not_repeated_in_an_error() {
        let (message, hint) = headers("ok=1,authorization=s3cret%0a").unwrap_err();
        assert!(!message.contains("s3cret") && !hint.contains("s3cret"), "{message}");
        let (message, _) = http_url("http://user:s3cret@host").unwrap_err();
        assert!(!message.contains("s3cret"), "{message}");
    }
}
