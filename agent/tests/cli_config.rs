//! Flags and files to settings, and every mistake in them at once.

#![expect(clippy::unwrap_used, reason = "a test helper that fails fails its test")]

use agent::cli::{self, Command, Failure, Stop};
use agent::config::{Hooks, LogLevel, OtlpProtocol, Output, Probe, Settings};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::NamedTempFile;

fn no_environment(_: &str) -> Option<String> {
    None
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn parse(arguments: &[&str]) -> Result<Command, Stop> {
    cli::parse([&["kernspan"], arguments].concat(), &no_environment)
}

fn run(arguments: &[&str]) -> Settings {
    match parse(&[&["run"], arguments].concat()) {
        Ok(Command::Run(settings)) => *settings,
        other => panic!("{arguments:?}: {other:?}"),
    }
}

fn run_with_file(text: &str, arguments: &[&str]) -> Settings {
    let file = file(text);
    let path = file.path().to_str().unwrap();
    run(&[&["--config", path], arguments].concat())
}

/// Problems as printed, the file's path replaced by `FILE`.
fn problems(command: &str, flags: &[&str], text: Option<&str>) -> Vec<String> {
    let file = text.map(file);
    let path = file.as_ref().map(|file| file.path().to_str().unwrap().to_owned());
    let mut arguments: Vec<&str> = command.split(' ').chain(flags.iter().copied()).collect();
    if let Some(path) = &path {
        arguments.extend(["--config", path]);
    }
    match parse(&arguments) {
        Err(Stop::Failure(failure @ Failure::Configuration(_))) => {
            assert_eq!(failure.exit_code(), 2);
            let Failure::Configuration(problems) = failure else { unreachable!() };
            let place = |text: String| match &path {
                Some(path) => text.replace(path.as_str(), "FILE"),
                None => text,
            };
            problems.iter().map(|problem| place(problem.to_string())).collect()
        }
        other => panic!("{arguments:?} {text:?}: {other:?}"),
    }
}

#[test]
fn wrong_flags_are_all_reported() {
    let flags = [
        "--output=jsn",
        "--listen=9464",
        "--include=[",
        "--pid=0",
        "--pid=x",
        "--port=70000",
        "--cgroup=/no/such/group",
        "--probes=http,htttp",
        "--head-bytes=255",
        "--payload-rings=3",
        "--ring-size=2TiB",
        "--poll-interval=5",
        "--sample",
        "-0.5",
        "--log-level=loud",
        "--hooks=kprobe",
        "--otlp-endpoint=ftp://x",
        "--otlp-protocol=http",
        "--otlp-header=hunter2",
        "--otlp-compression=zstd",
        "--otlp-timeout=1h",
        "--otlp-ca=/no/such/ca.pem",
        "--otlp-queue-bytes=1",
    ];
    let mut found = problems("run", &flags, None);
    found.sort();
    let mut expected = vec![
        r#"--output: "jsn" is no output; did you mean json? allowed: otlp, console, json, json:FILE, none"#,
        r#"--listen: "9464" is no address to listen on; write IP:PORT, for example 127.0.0.1:9464 or [::1]:9464, or :9464 for all addresses"#,
        r#"--include: "[" is no valid glob (unclosed character class; missing ']'); a glob such as nginx, /usr/bin/python3* or /opt/**"#,
        r#"--pid: "0" is out of range; a process number from 1 to 4194304"#,
        r#"--pid: "x" is no whole number; a process number from 1 to 4194304"#,
        r#"--port: "70000" is out of range; a port from 1 to 65535"#,
        r#"--cgroup: "/no/such/group" is no version 2 cgroup, here or under /sys/fs/cgroup; a cgroup directory, for example /sys/fs/cgroup/system.slice/nginx.service"#,
        r#"--probes: "htttp" is no probe; did you mean http? allowed: process, http, exec"#,
        r#"--head-bytes: "255" is out of range; a size from 256 to 4KiB"#,
        r#"--payload-rings: "3" is no number of rings; allowed: 1, 2, 4"#,
        r#"--ring-size: "2TiB" is no size; a size from 64KiB to 1GiB, for example 8MiB"#,
        r#"--poll-interval: "5" has no unit; a time from 1ms to 1s, for example 5ms"#,
        r#"--sample: "-0.5" is not between 0 and 1; a number from 0 to 1, for example 0.1 for every tenth trace"#,
        r#"--log-level: "loud" is no log level; allowed: off, error, warn, info, debug, trace"#,
        r#"--hooks: "kprobe" is no way to attach; allowed: auto, tracepoint, fexit"#,
        r#"--otlp-endpoint: "ftp://x" is neither http nor https; a URL such as http://localhost:4317 or https://collector.example:4318"#,
        r#"--otlp-protocol: "http" is no OTLP protocol; allowed: grpc, http/protobuf, http/json"#,
        r#"--otlp-header: the header has no =; NAME=VALUE, for example x-api-key=…"#,
        r#"--otlp-compression: "zstd" is no compression; allowed: none, gzip"#,
        r#"--otlp-timeout: "1h" is out of range; a time from 1ms to 10m"#,
        r#"--otlp-ca: "/no/such/ca.pem" is no file that can be reached; the path of a PEM file"#,
        r#"--otlp-queue-bytes: "1" is out of range; a size from 64KiB to 4GiB"#,
    ];
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn single_mistakes_of_flags() {
    let seventeen: Vec<String> = (1..=17).map(|port| format!("--port={port}")).collect();
    let seventeen: Vec<&str> = seventeen.iter().map(String::as_str).collect();
    for (why, command, flags, expected) in [
        ("too many ports", "run", seventeen.as_slice(), "--port: 17 values; at most 16"),
        (
            "twice",
            "run",
            &["--sample=1", "--sample=0"],
            "--sample: given more than once; it takes one value",
        ),
        (
            "none and another",
            "run",
            &["--output=none", "--output=console"],
            "--output: none stands beside another output; remove one of them",
        ),
        (
            "same twice",
            "run",
            &["--output=otlp", "--output=otlp"],
            "--output: the same output is given twice; remove one of them",
        ),
        (
            "two on stdout",
            "run",
            &["--output=console", "--output=json"],
            "--output: console and json would both write to standard output; give json a file: json:FILE",
        ),
        (
            "no file",
            "run",
            &["--output=json:"],
            "--output: \"json:\" has no file after the colon; write json or json:FILE",
        ),
        (
            "no probe at all",
            "run",
            &["--probes="],
            "--probes: \"\" is no probe; allowed: process, http, exec",
        ),
        (
            "cert without key",
            "run",
            &["--otlp-client-cert=/dev/null"],
            "--otlp-client-cert: \"/dev/null\" is no file that can be reached; the path of a PEM file",
        ),
        (
            "a password stays hidden",
            "run",
            &["--otlp-endpoint=ftp://a:hunter2@x"],
            "--otlp-endpoint: the URL is neither http nor https; a URL such as http://localhost:4317 or https://collector.example:4318",
        ),
        (
            "not a number",
            "run",
            &["--sample=NaN"],
            "--sample: \"NaN\" is not between 0 and 1; a number from 0 to 1, for example 0.1 for every tenth trace",
        ),
        (
            "overflow",
            "run",
            &["--ring-size=99999999999999999999GiB"],
            "--ring-size: \"99999999999999999999GiB\" is no size; a size from 64KiB to 1GiB, for example 8MiB",
        ),
        (
            "no such file",
            "run",
            &["--config=/no/such.yaml"],
            "--config: \"/no/such.yaml\" cannot be read: No such file or directory (os error 2); the path of a YAML file",
        ),
        (
            "endless file",
            "run",
            &["--config=/dev/zero"],
            "--config: \"/dev/zero\" is larger than 256 KiB; the path of a YAML file",
        ),
        (
            "duration",
            "record /tmp/x",
            &["--duration=10"],
            "--duration: \"10\" has no unit; a time from 100ms to 168h, for example 10s",
        ),
        (
            "record has the rest too",
            "record /tmp/x",
            &["--port=0"],
            "--port: \"0\" is out of range; a port from 1 to 65535",
        ),
        (
            "replay",
            "replay /tmp/x",
            &["--sample=2"],
            "--sample: \"2\" is not between 0 and 1; a number from 0 to 1, for example 0.1 for every tenth trace",
        ),
    ] {
        let found = problems(command, flags, None);
        let expected = match why {
            "cert without key" => vec![
                expected,
                "--otlp-client-cert: a client certificate and its key go together; give otlp-client-key too",
            ],
            _ => vec![expected],
        };
        assert_eq!(found, expected, "{why}");
    }
}

#[test]
fn wrong_files_are_all_reported_with_line_and_column() {
    let text = "\
sampl: 0.5
head_bytes: 1024
port: [80, 99999, [1]]
ring-size: 1
pid:
include: {a: b}
sample: [0.1]
listen: 127.0.0.1:1
listen: 127.0.0.1:2
config: other.yaml
verbose: true
[1, 2]: x
otlp:
  endpoint: gopher://x
  header: hunter2
  timeot: 1s
  insecure: maybe
otlp-endpoint: http://x
";
    let expected = [
        r#"--poll-interval: "0ms" is out of range; a time from 1ms to 1s"#,
        r#"FILE:1:1: unknown key "sampl"; did you mean sample?"#,
        r#"FILE:2:1: unknown key "head_bytes"; did you mean head-bytes?"#,
        r#"FILE:3:12: "99999" is out of range; a port from 1 to 65535"#,
        r#"FILE:3:19: port: an item is no value; write a value or a list of values"#,
        r#"FILE:4:12: "1" is out of range; a size from 64KiB to 1GiB"#,
        r#"FILE:5:4: pid: there is no value; write a value or a list of values"#,
        r#"FILE:6:10: include: a map is not possible here; write a value or a list of values"#,
        r#"FILE:7:9: sample: a list is not possible here; write one value"#,
        r#"FILE:9:1: "listen" is already given in line 8; keep one; several values go in a list"#,
        r#"FILE:10:1: config cannot be given in a file; give it on the command line"#,
        r#"FILE:11:1: unknown key "verbose"; known are output, listen, include, exclude, pid, port, cgroup, probes, head-bytes, payload-rings, ring-size, poll-interval, sample, log-level, hooks, capture, link, otlp-endpoint, otlp-protocol, otlp-header, otlp-compression, otlp-timeout, otlp-ca, otlp-client-cert, otlp-client-key, otlp-insecure, otlp-queue-bytes"#,
        r#"FILE:12:1: the key is not a name; write lines such as sample: 0.1"#,
        r#"FILE:14:13: "gopher://x" is neither http nor https; a URL such as http://localhost:4317 or https://collector.example:4318"#,
        r#"FILE:15:11: the header has no =; NAME=VALUE, for example x-api-key=…"#,
        r#"FILE:16:3: unknown key "timeot" in otlp; did you mean timeout?"#,
        r#"FILE:17:13: "maybe" is neither true nor false; allowed: true, false"#,
        r#"FILE:18:1: "otlp-endpoint" is already given in line 14; keep one; several values go in a list"#,
    ];
    assert_eq!(problems("run", &["--poll-interval=0ms"], Some(text)), expected);
}

#[test]
fn single_mistakes_of_files() {
    let large = format!("# {}\n", "x".repeat(300 << 10));
    for (why, text, expected) in [
        ("no map", "- a\n- b\n", vec!["FILE:1:1: not a map; write lines such as sample: 0.1"]),
        ("a word", "run\n", vec!["FILE:1:1: not a map; write lines such as sample: 0.1"]),
        (
            "otlp is text",
            "otlp: x\n",
            vec![
                "FILE:1:7: otlp is not a map; write indented lines below it such as endpoint: http://localhost:4317",
            ],
        ),
        (
            "header twice",
            "otlp:\n  headers:\n    a: 1\n    a: 2\n",
            vec!["FILE:4:5: the header \"a\" is given twice; keep one"],
        ),
        (
            "too large",
            &large,
            vec!["--config: \"FILE\" is larger than 256 KiB; the path of a YAML file"],
        ),
        (
            "no YAML",
            "sample: [0.1\n",
            vec![
                "FILE:1:9: unclosed bracket '['; the file must be one YAML map of option names and values",
            ],
        ),
        // What a flag hides is wrong all the same.
        (
            "hidden by a flag",
            "log-level: loud\n",
            vec![
                "FILE:1:12: \"loud\" is no log level; allowed: off, error, warn, info, debug, trace",
            ],
        ),
    ] {
        assert_eq!(problems("run", &["--log-level=warn"], Some(text)), expected, "{why}");
    }
}

#[test]
fn defaults_are_as_documented() {
    let settings = run(&[]);
    assert_eq!(settings.outputs, [Output::Console]);
    assert_eq!(settings.listen, None);
    assert!(settings.selection.executables.is_everything());
    assert_eq!(settings.probes, [Probe::Process, Probe::Http, Probe::Exec]);
    assert_eq!(
        (settings.head_bytes, settings.payload_rings, settings.ring_size),
        (4096, None, None)
    );
    assert_eq!(settings.poll_interval, Duration::from_millis(5));
    assert_eq!((settings.sample, settings.hooks), (1.0, Hooks::Auto));
    assert_eq!(settings.log_level, LogLevel::Info);
}

#[test]
fn spans_go_where_an_endpoint_is() {
    let with = |name: &'static str, value: &'static str| {
        move |asked: &str| (asked == name).then(|| value.to_owned())
    };
    let outputs = |environment: &dyn Fn(&str) -> Option<String>, flags: &[&str]| match cli::parse(
        [&["kernspan", "run"], flags].concat(),
        environment,
    ) {
        Ok(Command::Run(settings)) => settings.outputs,
        other => panic!("{other:?}"),
    };
    let endpoint = with("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x:4317");
    let traces = with("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://x:4317");
    let empty = with("OTEL_EXPORTER_OTLP_ENDPOINT", "");
    assert_eq!(outputs(&no_environment, &["--otlp-endpoint=http://x"]), [Output::Otlp]);
    assert_eq!(outputs(&endpoint, &[]), [Output::Otlp]);
    assert_eq!(outputs(&traces, &[]), [Output::Otlp]);
    assert_eq!(outputs(&empty, &[]), [Output::Console], "an empty variable counts as unset");
    assert_eq!(outputs(&endpoint, &["--output=console"]), [Output::Console]);
    assert_eq!(outputs(&endpoint, &["--output=none"]), []);
}

#[test]
fn a_file_says_what_flags_say() {
    let text = "\
output: [otlp, 'json:/tmp/a.json']
listen: '[::1]:0'
include: nginx
exclude: [curl, /opt/**]
pid: [3, 1, 3]
port: 0080
probes: [exec]
head-bytes: 4KiB
payload-rings: 2
ring-size: 100 KiB
poll-interval: 10ms
sample: 0.25
log-level: debug
hooks: fexit
otlp:
  endpoint: https://x:4318/base
  protocol: http/protobuf
  headers: {x-api-key: 0012, b: 'c=d'}
  compression: gzip
  timeout: 3s
  ca: CA
  client-cert: CA
  client-key: CA
  insecure: false
  queue-bytes: 1MiB
";
    let pem = file("");
    let settings = run_with_file(&text.replace("CA", pem.path().to_str().unwrap()), &[]);
    let json = Output::Json(Some(PathBuf::from("/tmp/a.json")));
    assert_eq!(settings.outputs, [Output::Otlp, json]);
    assert_eq!(settings.listen, Some("[::1]:0".parse().unwrap()));
    assert_eq!(settings.selection.pids, [1, 3]);
    assert_eq!(settings.selection.ports, [80]);
    assert!(settings.selection.executables.watches("/usr/sbin/nginx"));
    assert!(!settings.selection.executables.watches("/opt/a/nginx"));
    assert_eq!(settings.probes, [Probe::Process, Probe::Exec]);
    assert_eq!((settings.head_bytes, settings.payload_rings), (4096, Some(2)));
    assert_eq!(settings.ring_size, Some(128 << 10));
    assert_eq!(settings.poll_interval, Duration::from_millis(10));
    assert_eq!((settings.sample, settings.log_level), (0.25, LogLevel::Debug));
    assert_eq!(settings.hooks, Hooks::Fexit);
    let otlp = settings.otlp;
    assert_eq!(otlp.endpoint.as_deref(), Some("https://x:4318/base"));
    assert_eq!(otlp.protocol, Some(OtlpProtocol::HttpProtobuf));
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(otlp.headers, [pair("x-api-key", "0012"), pair("b", "c=d")]);
    assert_eq!(otlp.timeout, Some(Duration::from_secs(3)));
    assert_eq!(otlp.client_key.as_deref(), Some(pem.path()));
    assert_eq!((otlp.insecure, otlp.queue_bytes), (Some(false), Some(1 << 20)));
}

#[test]
fn flags_win_over_the_file() {
    let text = "sample: 0.5\nport: [1, 2]\noutput: console\nlog-level: warn\n";
    let settings = run_with_file(text, &["--sample=1", "--port=3", "--output=none"]);
    assert_eq!((settings.sample, settings.selection.ports), (1.0, vec![3]));
    assert!(settings.outputs.is_empty());
    assert_eq!(settings.log_level, LogLevel::Warn);
    // An empty file, and one of comments only, say nothing.
    for text in ["", "# nothing\n", "---\n", "otlp:\n"] {
        assert_eq!(run_with_file(text, &[]).sample, 1.0, "{text:?}");
    }
}

#[test]
fn record_and_replay_have_their_own_arguments() {
    let shared = file("output: console\nsample: 0.5\nport: 80\n");
    let config = shared.path().to_str().unwrap();
    let line = ["record", "/tmp/a", "--raw", "--duration", "2m", "--config", config];
    let Ok(Command::Record(record)) = parse(&line) else { panic!("no record") };
    assert_eq!((record.file.as_path(), record.raw), (Path::new("/tmp/a"), true));
    assert_eq!(record.duration, Some(Duration::from_secs(120)));
    assert_eq!(record.settings.outputs, [], "a shared file's outputs are not the recording's");
    assert_eq!(record.settings.selection.ports, [80]);
    let Ok(Command::Replay(replay)) = parse(&["replay", "/tmp/a", "--output", "json"]) else {
        panic!("no replay")
    };
    assert_eq!(replay.settings.outputs, [Output::Json(None)]);
    assert!(matches!(parse(&["doctor", "--json"]), Ok(Command::Doctor { json: true, btf: None })));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]
    #[test]
    fn no_file_panics_and_no_secret_is_told(
        lines in proptest::collection::vec("(otlp|pid|output|otlp-header|sample|  header|  headers|- |x):? ?[\\[\\]{}a-z0-9,:&* ]{0,8}", 0..6),
    ) {
        let text = format!("{}\notlp-header: hunter2", lines.join("\n"));
        let file = file(&text);
        let config = format!("--config={}", file.path().display());
        if let Err(Stop::Failure(failure)) = parse(&["run", &config]) {
            assert!(!failure.to_string().contains("hunter2"), "{text}\n{failure}");
        }
    }
}
