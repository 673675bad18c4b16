//! Environment and flags to configuration.

use super::*;
use std::collections::HashMap;

fn resolve(
    variables: &[(&str, &str)],
    flags: &OtlpFlags,
) -> Result<Option<OtlpConfig>, Vec<Problem>> {
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    OtlpConfig::resolve(&|name| variables.get(name).map(|text| (*text).to_string()), flags)
}

fn endpoints(config: &OtlpConfig) -> [Option<&str>; 3] {
    Signal::ALL.map(|signal| config.signal(signal).map(|config| config.endpoint.as_str()))
}

#[test]
fn endpoints_are_found_and_completed_as_specified() {
    const E: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const P: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
    type Case = (
        &'static str,
        &'static [(&'static str, &'static str)],
        Option<&'static str>,
        [Option<&'static str>; 3],
    );
    let table: [Case; 11] = [
        ("nothing set", &[], None, [None; 3]),
        ("empty is unset", &[(E, " ")], None, [None; 3]),
        (
            "general endpoint is a prefix",
            &[(E, "http://h:4318")],
            None,
            [
                Some("http://h:4318/v1/traces"),
                Some("http://h:4318/v1/logs"),
                Some("http://h:4318/v1/metrics"),
            ],
        ),
        (
            "prefix with a path",
            &[(E, "https://h/otlp/")],
            None,
            [
                Some("https://h/otlp/v1/traces"),
                Some("https://h/otlp/v1/logs"),
                Some("https://h/otlp/v1/metrics"),
            ],
        ),
        (
            "a signal's own endpoint is taken as it is",
            &[(E, "http://h"), ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://l:1/in")],
            None,
            [Some("http://h/v1/traces"), Some("http://l:1/in"), Some("http://h/v1/metrics")],
        ),
        (
            "and gets a slash when it has no path",
            &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:1")],
            None,
            [Some("http://t:1/"), None, None],
        ),
        (
            "a flag is over all variables",
            &[
                ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:1/x"),
                ("OTEL_METRICS_EXPORTER", "none"),
            ],
            Some("http://f:2"),
            [Some("http://f:2/v1/traces"), Some("http://f:2/v1/logs"), None],
        ),
        ("gRPC", &[(E, "http://h:1"), (P, "grpc")], None, [Some("http://h:1/"); 3]),
        (
            "gRPC without a scheme is secure",
            &[(E, "h:4317"), (P, "grpc")],
            None,
            [Some("https://h:4317/"); 3],
        ),
        (
            "unless told otherwise",
            &[(E, "h:4317"), ("OTEL_EXPORTER_OTLP_INSECURE", "True")],
            None,
            [Some("http://h:4317/"); 3],
        ),
        ("port 4317 means gRPC", &[(E, "http://h:4317")], None, [Some("http://h:4317/"); 3]),
    ];
    for (why, variables, flag, expected) in table {
        let flags = OtlpFlags { endpoint: flag.map(str::to_string), ..OtlpFlags::default() };
        let config = resolve(variables, &flags).unwrap();
        let found = config.as_ref().map(endpoints).unwrap_or_default();
        assert_eq!(found, expected, "{why}");
    }
}

#[test]
fn output_otlp_without_an_endpoint_uses_the_default_of_the_protocol() {
    for (protocol, expected) in
        [("http/json", "http://localhost:4318/v1/traces"), ("grpc", "http://localhost:4317/")]
    {
        let protocol = Some(protocol.to_string());
        let flags = OtlpFlags { required: true, protocol, ..OtlpFlags::default() };
        let config = resolve(&[], &flags).unwrap().unwrap();
        assert_eq!(endpoints(&config)[0], Some(expected));
        assert_eq!(config.queue_bytes, 16 << 20);
        assert_eq!(config.traces.unwrap().timeout, Duration::from_secs(10));
    }
}

#[test]
fn values_of_a_signal_are_over_general_ones_and_flags_over_both() {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=1,b=2"),
        ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "c=3"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "5000"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "6000"),
        ("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/json"),
    ];
    let flags = OtlpFlags { headers: vec!["B=9".into()], ..OtlpFlags::default() };
    let config = resolve(&variables, &flags).unwrap().unwrap();
    let [traces, logs, metrics] =
        [&config.traces, &config.logs, &config.metrics].map(|signal| signal.clone().unwrap());
    let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        list.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    };
    assert_eq!(traces.headers, pairs(&[("a", "1"), ("b", "9")]));
    assert_eq!(logs.headers, pairs(&[("c", "3"), ("b", "9")]));
    assert_eq!(traces.timeout, Duration::from_secs(6));
    assert_eq!(logs.timeout, Duration::from_secs(5));
    assert_eq!((traces.gzip, metrics.gzip), (false, true));
    assert_eq!(logs.protocol, Protocol::HttpJson);
    assert_eq!(traces.protocol, Protocol::HttpProtobuf);

    let flags = OtlpFlags { timeout: Some("7s".into()), ..OtlpFlags::default() };
    let config = resolve(&variables, &flags).unwrap().unwrap();
    assert_eq!(config.traces.unwrap().timeout, Duration::from_secs(7));
}

#[test]
fn all_wrong_values_are_reported_at_once_each_once_with_its_name() {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://h"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grcp"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "zstd"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization:s3cret"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nonexistent/ca.pem"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/nonexistent/key.pem"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "yes"),
    ];
    let flags = OtlpFlags {
        headers: vec!["x".into()],
        queue_bytes: Some("1".into()),
        ..OtlpFlags::default()
    };
    let problems = resolve(&variables, &flags).unwrap_err();
    let names: Vec<&str> = problems.iter().map(|problem| problem.name.as_str()).collect();
    for (name, _) in variables {
        let expected = if name.ends_with("CLIENT_KEY") { 2 } else { 1 };
        let count = names.iter().filter(|known| **known == name).count();
        assert_eq!(count, expected, "{name} in {names:?}");
    }
    for name in ["--otlp-header", "--otlp-queue-bytes"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    let text: String = problems.iter().map(|problem| format!("{problem}\n")).collect();
    assert!(!text.contains("s3cret"), "{text}");
    assert!(text.contains("\"grcp\"; use grpc, http/protobuf or http/json"), "{text}");
}

#[test]
fn wrong_values_matter_even_when_no_endpoint_is_set() {
    let problems =
        resolve(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "x")], &OtlpFlags::default()).unwrap_err();
    assert_eq!(problems.len(), 1);
}

#[test]
fn a_grpc_endpoint_has_no_path() {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:4317/v1/traces"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ];
    let problems = resolve(&variables, &OtlpFlags::default()).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].message.contains("no path"));
}
