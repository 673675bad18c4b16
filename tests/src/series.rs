//! What metrics of requests count.

use crate::otlp::Telemetry;
use serde_json::Value;
use std::collections::BTreeMap;

/// Of servers.
pub const SERVER: &str = "http.server.request.duration";
/// Of clients.
pub const CLIENT: &str = "http.client.request.duration";

/// Counts by service, metric and status, out of all reports: added up when they are deltas, else the newest.
///
/// # Panics
/// When a report says something else of itself than `temporality`, or its buckets do not add up.
pub fn counted(telemetry: &Telemetry, temporality: u64) -> BTreeMap<(String, String, i64), u64> {
    let mut points: BTreeMap<String, ((String, String, i64), u64)> = BTreeMap::new();
    for group in telemetry.metrics.iter().flat_map(|request| array(&request["resourceMetrics"])) {
        let service = attribute(&group["resource"], "service.name").unwrap_or_default();
        for metric in
            array(&group["scopeMetrics"]).iter().flat_map(|scope| array(&scope["metrics"]))
        {
            let name = metric["name"].as_str().unwrap_or_default();
            if ![SERVER, CLIENT].contains(&name) {
                continue;
            }
            assert_eq!(metric["histogram"]["aggregationTemporality"], temporality);
            for point in array(&metric["histogram"]["dataPoints"]) {
                let status = attribute(point, "http.response.status_code").unwrap_or_default();
                let count: u64 = text(&point["count"]).parse().expect("a count");
                let buckets = array(&point["bucketCounts"]).iter().map(|n| text(n).parse::<u64>());
                assert_eq!(buckets.map(|n| n.expect("a count")).sum::<u64>(), count);
                let identity = format!("{} {name} {}", group["resource"], point["attributes"]);
                let key = (service.clone(), name.to_owned(), status.parse().unwrap_or(0));
                let known = points.entry(identity).or_insert((key, 0));
                known.1 = if temporality == 1 { known.1 + count } else { count };
            }
        }
    }
    let mut sums = BTreeMap::new();
    for (key, count) in points.into_values() {
        *sums.entry(key).or_insert(0) += count;
    }
    sums
}

/// How many requests of a service took how long: upper bounds, seconds, and the cumulative counts below them and
/// of all, out of the newest reports.
///
/// # Panics
/// When points of the service have other bounds than each other.
pub fn distribution(telemetry: &Telemetry, service: &str, name: &str) -> (Vec<f64>, Vec<u64>) {
    let mut newest: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut bounds: Vec<f64> = Vec::new();
    for group in telemetry.metrics.iter().flat_map(|request| array(&request["resourceMetrics"])) {
        if attribute(&group["resource"], "service.name").as_deref() != Some(service) {
            continue;
        }
        let metrics =
            array(&group["scopeMetrics"]).iter().flat_map(|scope| array(&scope["metrics"]));
        for metric in metrics.filter(|metric| metric["name"] == name) {
            for point in array(&metric["histogram"]["dataPoints"]) {
                let own =
                    array(&point["explicitBounds"]).iter().filter_map(Value::as_f64).collect();
                assert!(bounds.is_empty() || bounds == own, "{bounds:?} and {own:?}");
                bounds = own;
                let counts = array(&point["bucketCounts"]).iter().map(|n| text(n).parse());
                let counts = counts.collect::<Result<Vec<u64>, _>>().expect("counts");
                newest.insert(format!("{} {}", group["resource"], point["attributes"]), counts);
            }
        }
    }
    let mut below = vec![0; bounds.len() + 1];
    for counts in newest.values() {
        let mut sum = 0;
        for (all, count) in below.iter_mut().zip(counts) {
            sum += count;
            *all += sum;
        }
    }
    (bounds, below)
}

/// The elements; none where there is no array.
pub fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A text as it is, anything else as JSON.
pub fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The value of an attribute of a resource or a point.
pub fn attribute(of: &Value, key: &str) -> Option<String> {
    let found = array(&of["attributes"]).iter().find(|attribute| attribute["key"] == key)?;
    found["value"].as_object()?.values().next().map(text)
}
