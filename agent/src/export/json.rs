//! OTLP's JSON encoding: hexadecimal ids, enumerations as numbers, 64-bit integers as texts.

use super::retry::Outcome;
use agent_core::otlp::Signal;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use serde::Serialize;
use std::io;

/// The JSON text, on one line, of a protobuf request body.
///
/// # Errors
/// The body is no request of this signal.
pub fn of(signal: Signal, body: &[u8]) -> io::Result<Vec<u8>> {
    match signal {
        Signal::Traces => convert::<ExportTraceServiceRequest>(body),
        Signal::Logs => convert::<ExportLogsServiceRequest>(body),
        Signal::Metrics => convert::<ExportMetricsServiceRequest>(body),
    }
}

fn convert<Request: Message + Default + Serialize>(body: &[u8]) -> io::Result<Vec<u8>> {
    let request = Request::decode(body).map_err(io::Error::other)?;
    serde_json::to_vec(&request).map_err(io::Error::other)
}

/// What a JSON response says: `{"partialSuccess":{"rejectedSpans":"3","errorMessage":"…"}}`.
/// Anything else in place of it is ignored: the request was taken.
pub fn partial_success(body: &[u8]) -> Outcome {
    let response: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let partial = response.get("partialSuccess");
    let rejected = ["rejectedSpans", "rejectedLogRecords", "rejectedDataPoints"]
        .iter()
        .find_map(|name| partial?.get(name))
        .and_then(|number| number.as_i64().or_else(|| number.as_str()?.parse().ok()));
    let message = partial.and_then(|partial| partial.get("errorMessage")?.as_str());
    Outcome::delivered(rejected.unwrap_or(0), message.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_say_what_was_rejected_or_are_taken_as_success() {
        let table = [
            ("empty", "", 0, ""),
            ("no object", "[1]", 0, ""),
            ("all taken", "{}", 0, ""),
            (
                "as a text",
                r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"no"}}"#,
                3,
                "no",
            ),
            ("as a number", r#"{"partialSuccess":{"rejectedLogRecords":4}}"#, 4, ""),
            ("a warning", r#"{"partialSuccess":{"errorMessage":"old"}}"#, 0, "old"),
            ("negative", r#"{"partialSuccess":{"rejectedSpans":"-3"}}"#, 0, ""),
        ];
        for (why, body, rejected, message) in table {
            let expected = Outcome::Delivered { rejected, message: message.into() };
            assert_eq!(partial_success(body.as_bytes()), expected, "{why}");
        }
    }
}
