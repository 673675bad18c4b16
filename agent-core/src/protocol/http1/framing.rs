//! How a message's end is found: RFC 9112, 6.3.

use super::body::{Body, Chunked};
use super::fields::{Coding, Fields, Length};

/// Framing of a message by its head.
#[derive(Clone, Copy, Debug)]
pub(super) enum Framing {
    /// It ends with its head.
    NoBody,
    /// A body follows; its exact size when the head says it.
    Body(Body, Option<u64>),
    /// The head is cut, contradicts itself or allows several readings: only a turn ends it.
    Unknown,
}

/// What a response's framing needs to know of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Head,
    Connect,
    Other,
}

impl Method {
    pub(super) fn of(text: &[u8]) -> Method {
        match text {
            b"HEAD" => Method::Head,
            b"CONNECT" => Method::Connect,
            _ => Method::Other,
        }
    }
}

pub(super) fn request(method: Method, minor: u8, fields: &Fields<'_>) -> Framing {
    match (fields.coding, fields.length) {
        // What follows is the tunnel's, if there will be one.
        _ if method == Method::Connect => Framing::Unknown,
        (Coding::Absent, Length::Absent) => Framing::NoBody,
        (Coding::Absent, Length::Bytes(bytes)) => length(bytes),
        (Coding::Chunked, Length::Absent) if minor > 0 => chunked(),
        // Both fields, a coding in HTTP/1.0, or one that is not `chunked`: the two ends may
        // disagree (request smuggling, RFC 9112, 11.2).
        _ => Framing::Unknown,
    }
}

/// `method` is absent when the request is not known.
pub(super) fn response(
    method: Option<Method>,
    status: u16,
    minor: u8,
    fields: &Fields<'_>,
) -> Framing {
    if matches!(status, 100..=199 | 204 | 304) || method == Some(Method::Head) {
        return Framing::NoBody;
    }
    if method.is_none() {
        return Framing::Unknown;
    }
    match (fields.coding, fields.length) {
        (Coding::Absent, Length::Absent) => Framing::Body(Body::UntilClose { size: Some(0) }, None),
        (Coding::Absent, Length::Bytes(bytes)) => length(bytes),
        (Coding::Chunked, Length::Absent) if minor > 0 => chunked(),
        (Coding::Other, Length::Absent) if minor > 0 => {
            Framing::Body(Body::UntilClose { size: None }, None)
        }
        _ => Framing::Unknown,
    }
}

fn length(bytes: u64) -> Framing {
    match bytes {
        0 => Framing::NoBody,
        left => Framing::Body(Body::Length { left }, Some(left)),
    }
}

fn chunked() -> Framing {
    Framing::Body(Body::Chunked(Chunked::new()), None)
}
