//! Spans, log records and resources in OTLP's protobuf encoding. Field numbers are those of
//! `trace.proto`, `logs.proto`, `common.proto` and `resource.proto` of OTLP 1.11.

use super::wire;
use crate::process::{Resource, ResourceValue};
use crate::span::{Attribute, Kind, Link, LogRecord, Span, Value};

/// `SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK`: the next bit means something.
const HAS_IS_REMOTE: u32 = 0x100;
/// `SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK`: the parent is in another process.
const IS_REMOTE: u32 = 0x200;
/// `STATUS_CODE_ERROR`.
const STATUS_ERROR: u64 = 2;

/// Usual length of a span: two bytes of length, as anything from 128 to 16383.
const SPAN_GUESS: usize = 512;

/// Appends `span` as field `field` of the enclosing message.
pub fn span(out: &mut Vec<u8>, field: u32, span: &Span<'_>) {
    wire::nested(out, field, SPAN_GUESS, |out| {
        wire::bytes(out, 1, &span.trace.0);
        wire::bytes(out, 2, &span.id.0);
        wire::text(out, 3, span.tracestate);
        if let Some(parent) = span.parent {
            wire::bytes(out, 4, &parent.0);
        }
        wire::text(out, 5, span.name);
        wire::uint(out, 6, kind(span.kind));
        wire::fixed64(out, 7, span.start_unix_ns);
        wire::fixed64(out, 8, span.end_unix_ns);
        attributes(out, 9, span.attributes);
        for link in span.links {
            self::link(out, 13, link);
        }
        if span.error {
            wire::nested(out, 15, 2, |out| wire::uint(out, 3, STATUS_ERROR));
        }
        let remote = if span.parent_remote { IS_REMOTE } else { 0 };
        wire::fixed32(out, 16, u32::from(span.trace_flags) | HAS_IS_REMOTE | remote);
    });
}

/// Appends `record` as field `field` of the enclosing message.
pub fn log(out: &mut Vec<u8>, field: u32, record: &LogRecord<'_>) {
    wire::nested(out, field, SPAN_GUESS, |out| {
        wire::fixed64(out, 1, record.unix_ns);
        wire::uint(out, 2, u64::from(record.severity));
        wire::text(out, 3, severity_text(record.severity));
        if !record.body.is_empty() {
            value(out, 5, Value::Str(record.body));
        }
        attributes(out, 6, record.attributes);
        if let Some((trace, span)) = record.cause {
            wire::fixed32(out, 8, u32::from(record.trace_flags));
            wire::bytes(out, 9, &trace.0);
            wire::bytes(out, 10, &span.0);
        }
        wire::fixed64(out, 11, record.observed_unix_ns);
        wire::text(out, 12, record.event_name);
    });
}

/// Appends `resource` as field `field` of the enclosing message.
pub fn resource(out: &mut Vec<u8>, field: u32, resource: &Resource) {
    wire::nested(out, field, SPAN_GUESS, |out| {
        for (key, value) in &resource.attributes {
            key_value(out, 1, key, |out| resource_value(out, value));
        }
    });
}

fn kind(kind: Kind) -> u64 {
    match kind {
        Kind::Server => 2,
        Kind::Client => 3,
    }
}

fn link(out: &mut Vec<u8>, field: u32, link: &Link<'_>) {
    wire::nested(out, field, 100, |out| {
        wire::bytes(out, 1, &link.trace.0);
        wire::bytes(out, 2, &link.span.0);
        attributes(out, 4, link.attributes);
    });
}

/// Short name of a severity number as in the logs data model; empty for numbers outside it.
pub fn severity_text(number: u8) -> &'static str {
    match number {
        1..=4 => "TRACE",
        5..=8 => "DEBUG",
        9..=12 => "INFO",
        13..=16 => "WARN",
        17..=20 => "ERROR",
        21..=24 => "FATAL",
        _ => "",
    }
}

/// Appends each attribute as field `field` of the enclosing message.
pub fn attributes(out: &mut Vec<u8>, field: u32, attributes: &[Attribute<'_>]) {
    for (key, value) in attributes {
        match value {
            // Most of a span is these: their lengths are known, so nothing is moved.
            Value::Str(text) if is_short(field, key, text) => short_text(out, field, key, text),
            Value::Str(text) => {
                key_of_len(out, field, key, wire::field_len(text.len()));
                wire::bytes(out, 1, text.as_bytes());
            }
            Value::Int(number) => {
                let number = *number as u64;
                key_of_len(out, field, key, 1 + wire::varint_len(number));
                wire::uint(out, 3, number);
            }
            Value::Double(number) => {
                key_of_len(out, field, key, 9);
                wire::fixed64(out, 4, number.to_bits());
            }
            value => key_value(out, field, key, |out| any_value(out, *value)),
        }
    }
}

/// All lengths of this KeyValue, and the number of its field, take one byte each.
fn is_short(field: u32, key: &str, text: &str) -> bool {
    (1..16).contains(&field) && !key.is_empty() && key.len() + text.len() <= 0x7f - 6
}

/// KeyValue with a text, one that [`is_short`].
fn short_text(out: &mut Vec<u8>, field: u32, key: &str, text: &str) {
    let (key_len, text_len) = (key.len() as u8, text.len() as u8);
    out.reserve(8 + key.len() + text.len());
    out.extend_from_slice(&[(field << 3 | 2) as u8, 6 + key_len + text_len, 1 << 3 | 2, key_len]);
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(&[2 << 3 | 2, 2 + text_len, 1 << 3 | 2, text_len]);
    out.extend_from_slice(text.as_bytes());
}

/// KeyValue up to a value of `len` bytes that is to follow.
fn key_of_len(out: &mut Vec<u8>, field: u32, key: &str, len: usize) {
    let name = if key.is_empty() { 0 } else { wire::field_len(key.len()) };
    let all = name + wire::field_len(len);
    // Once for all that follows: key and length of the whole take at most 11 bytes.
    out.reserve(all + 11);
    wire::length(out, field, all);
    wire::text(out, 1, key);
    wire::length(out, 2, len);
}

/// KeyValue: `key` 1, `value` 2.
fn key_value(out: &mut Vec<u8>, field: u32, key: &str, write: impl FnOnce(&mut Vec<u8>)) {
    wire::nested(out, field, 64, |out| {
        wire::text(out, 1, key);
        wire::nested(out, 2, 32, write);
    });
}

fn value(out: &mut Vec<u8>, field: u32, value: Value<'_>) {
    wire::nested(out, field, 64, |out| any_value(out, value));
}

/// AnyValue: a `oneof`, so defaults are written too.
fn any_value(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Str(text) => wire::bytes(out, 1, text.as_bytes()),
        Value::Bool(truth) => wire::uint(out, 2, u64::from(truth)),
        Value::Int(number) => wire::uint(out, 3, number as u64),
        Value::Double(number) => wire::fixed64(out, 4, number.to_bits()),
        Value::List(texts) => list(out, texts.iter().copied()),
    }
}

fn resource_value(out: &mut Vec<u8>, value: &ResourceValue) {
    match value {
        ResourceValue::Str(text) => any_value(out, Value::Str(text)),
        ResourceValue::Int(number) => any_value(out, Value::Int(*number)),
        ResourceValue::List(texts) => list(out, texts.iter().map(String::as_str)),
    }
}

fn list<'a>(out: &mut Vec<u8>, texts: impl Iterator<Item = &'a str>) {
    wire::nested(out, 5, 64, |out| {
        for text in texts {
            value(out, 1, Value::Str(text));
        }
    });
}
