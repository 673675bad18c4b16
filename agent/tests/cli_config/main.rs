//! Flags and files to settings, and every mistake in them at once.

#![expect(clippy::unwrap_used, reason = "a test helper that fails fails its test")]

mod mistakes;

use agent::cli::{self, Command, Failure, Stop};
use agent::config::{ApiServer, Hooks, LogLevel, OtlpProtocol, Output, Probe, Settings};
use agent_core::histogram::Buckets;
use agent_core::trace::{Rules, Slow};
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
        Ok(Command::Run(run)) => run.settings,
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
fn defaults_are_as_documented() {
    let settings = run(&[]);
    assert_eq!(settings.outputs, [Output::Console]);
    assert_eq!(settings.listen, None);
    assert!(settings.selection.executables.is_everything());
    assert_eq!(settings.probes, Probe::ALL, "all of them");
    assert_eq!(run(&["--probes=all"]).probes, Probe::ALL, "as the help calls them");
    assert_eq!(
        (settings.head_bytes, settings.payload_rings, settings.ring_size),
        (4096, None, None)
    );
    assert_eq!(settings.poll_interval, Duration::from_millis(5));
    assert_eq!((settings.sampling.ratio, settings.hooks), (1.0, Hooks::Auto));
    assert_eq!(settings.log_level, LogLevel::Info);
}

#[test]
fn rules_for_names_are_the_same_from_flags_and_file() {
    let facts = |args: &str| agent_core::process::ProcessFacts {
        executable: "/usr/bin/java".into(),
        args: vec!["java".into(), args.into()],
        ..Default::default()
    };
    let named = |settings: &Settings, args: &str| {
        let naming = settings.names.naming(&facts(args)).cloned().unwrap_or_default();
        format!("{}/{}", naming.namespace.unwrap_or_default(), naming.name)
    };
    let flags = run(&[
        "--name-rule=exe=java,args=*a\\,b*,name=one",
        "--name-rule",
        "exe=/usr/bin/*,name=two,namespace=shop",
    ]);
    let text = "name-rule:
  - exe: java
    args: '*a,b*'
    name: one
  - exe=/usr/bin/*,name=two,namespace=shop
";
    for settings in [flags, run_with_file(text, &[])] {
        assert_eq!(named(&settings, "a,b"), "/one");
        assert_eq!(named(&settings, "c"), "shop/two");
    }
    let single = run_with_file("name-rule: {exe: java, name: one}", &[]);
    assert_eq!(named(&single, ""), "/one");
    let backslash = "name-rule: {exe: java, args: '*\\\\', name: one}";
    let settings = run_with_file(backslash, &[]);
    assert_eq!((named(&settings, "a\\"), named(&settings, "a")), ("/one".into(), "/".into()));
    let open = problems("run", &[], Some("name-rule: {exe: java, args: 'x\\', name: y}"));
    assert!(open.len() == 1 && open[0].contains("args=x\\ is no valid glob"), "{open:?}");
    assert!(!open[0].contains("no name"), "{open:?}");
    let wins = run_with_file(text, &["--name-rule=exe=java,name=flag"]);
    assert_eq!(named(&wins, "a,b"), "/flag", "flags win over the file");
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
        Ok(Command::Run(run)) => run.settings.outputs,
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
    assert_eq!((settings.sampling.ratio, settings.log_level), (0.25, LogLevel::Debug));
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
    assert_eq!((settings.sampling.ratio, settings.selection.ports), (1.0, vec![3]));
    assert!(settings.outputs.is_empty());
    assert_eq!(settings.log_level, LogLevel::Warn);
    // An empty file, and one of comments only, say nothing.
    for text in ["", "# nothing\n", "---\n", "otlp:\n"] {
        assert_eq!(run_with_file(text, &[]).sampling.ratio, 1.0, "{text:?}");
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
    assert!(matches!(parse(&["doctor", "--json"]), Ok(Command::Doctor(asked)) if asked.json));
}

#[test]
fn screens_take_from_a_file_what_is_watched_and_nothing_else() {
    let text = "port: 80\nsample: 0.01\nsample-rate: 5\nkeep: errors\nkeep-wait: 1s\nmax-request-rate: 5\n\
                listen: 127.0.0.1:9464\nlog-level: debug\noutput: otlp\n";
    let file = file(text);
    let config = file.path().to_str().unwrap();
    for command in ["top", "trace"] {
        let shown = |flags: &[&str]| match parse(&[&[command, "--config", config], flags].concat())
        {
            Ok(Command::Show(settings)) => settings,
            other => panic!("{command}: {other:?}"),
        };
        let plain = shown(&[]);
        assert_eq!(plain.selection.ports, [80], "{command}");
        let sampling = plain.sampling;
        assert_eq!((sampling.ratio, sampling.rate), (1.0, None), "{command}: all count");
        assert!(sampling.rules.is_empty(), "{command}: and none waits");
        let others = (plain.max_request_rate, plain.listen, plain.log_level);
        assert_eq!(others, (None, None, LogLevel::Error), "{command}");
        assert_eq!((plain.process_metrics, plain.request_metrics), (None, None), "{command}");
        assert!(matches!(plain.outputs[..], [Output::Top(_) | Output::Trace(_)]), "{command}");
        let asked = shown(&["--listen=127.0.0.1:1", "--log-level=info", "--max-request-rate=7"]);
        let others = (asked.max_request_rate, asked.listen, asked.log_level);
        let here = "127.0.0.1:1".parse().ok();
        assert_eq!(others, (Some(7), here, LogLevel::Info), "{command}: asked for here");
    }
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

#[test]
fn flows_are_configured_by_flag_and_file_and_every_mistake_is_reported() {
    let settings = run(&[
        "--flow-interval=30s",
        "--flow-labels=name,port",
        "--flow-logs=ends",
        "--flow-series=50",
        "--flow-table=1024",
        "--flow-dns=false",
    ]);
    let flows = settings.flows;
    assert_eq!((flows.interval, flows.series, flows.table), (Duration::from_secs(30), 50, 1024));
    assert!(flows.labels.name && flows.labels.port && !flows.labels.address && !flows.dns);
    let defaults = run(&[]).flows;
    assert_eq!((defaults.interval, defaults.series), (Duration::from_secs(10), 2000));
    assert!(!defaults.labels.name && !defaults.labels.port && !defaults.labels.address);
    let wrong = [
        "--flow-interval=10ms",
        "--flow-labels=name,host",
        "--flow-logs=all",
        "--flow-series=0",
        "--flow-table=1",
        "--flow-dns=maybe",
    ];
    assert_eq!(problems("run", &wrong, None).len(), wrong.len());
}

#[test]
fn sampling_and_routes_are_configured_by_flag_and_file_and_every_mistake_is_reported() {
    let text = "sample: 0.01\nsample-rate: 50\nkeep: [errors, \"slow=1s\"]\nkeep-wait: 5s\n\
                route:\n  - shop=/users/{id}\n  - \"*=/static/{file...}\"\nlearn-routes: true\n";
    let settings = run_with_file(text, &[]);
    let (sampling, routes) = (settings.sampling, settings.routes);
    assert_eq!((sampling.ratio, sampling.rate, sampling.wait_ns), (0.01, Some(50), 5_000_000_000));
    let slow = Some(Slow::Above(1_000_000_000));
    assert_eq!(sampling.rules, Rules { errors: true, slow, ..Rules::default() });
    assert_eq!((routes.rules.len(), routes.learn), (2, true));
    let settings = run_with_file(text, &["--keep=slow,events,floor=3", "--sample-rate=off"]);
    let rules = Rules { errors: false, slow: Some(Slow::Usual), events: true, floor: 3 };
    assert_eq!((settings.sampling.rules, settings.sampling.rate), (rules, None));
    assert_eq!(run(&["--metrics-histograms=exponential"]).buckets, Buckets::Exponential);
    let none = run(&[]);
    assert!(none.sampling.rules.is_empty() && none.routes.is_empty());
    let wrong = [
        "--sample-rate=0",
        "--keep=error",
        "--keep=slow,slow=1s",
        "--keep-wait=1h",
        "--metrics-histograms=native",
        "--route=/users/{id}",
        "--route=shop=/{id",
    ];
    let found = problems("run", &wrong, None);
    let expected = [
        r#"--keep: "error" is no rule; did you mean errors? allowed: errors, slow, slow=TIME, events, floor=NUMBER"#,
        "--keep: slow is given twice; keep one of them",
    ];
    assert_eq!(found.len(), wrong.len(), "{found:?}");
    assert!(expected.iter().all(|text| found.iter().any(|one| one == text)), "{found:?}");
}

#[test]
fn kubernetes_is_configured_by_flag_and_file_and_every_mistake_is_reported() {
    let defaults = run(&[]).kubernetes;
    assert_eq!((defaults.server, defaults.name_labels), (ApiServer::Auto, true));
    assert!(defaults.labels.is_empty() && defaults.node.is_none());
    let text =
        "kubernetes: https://10.0.0.1:6443/\nkubernetes-label: [\"app.kubernetes.io/*\", tier]";
    let settings =
        run_with_file(text, &["--kubernetes-node=node-1", "--kubernetes-name-labels=false"]);
    let found = settings.kubernetes;
    assert_eq!(found.server, ApiServer::Url("https://10.0.0.1:6443".to_owned()));
    assert_eq!((found.node.as_deref(), found.name_labels), (Some("node-1"), false));
    for (key, expected) in [("tier", true), ("app.kubernetes.io/name", true), ("tiers", false)] {
        assert_eq!(found.labels.is_match(key), expected, "{key}");
    }
    let wrong = [
        "--kubernetes=10.0.0.1",
        "--kubernetes-node=Node_1",
        "--kubernetes-label=[",
        "--kubernetes-name-labels=perhaps",
        "--kubernetes-ca=/nowhere/ca.crt",
    ];
    assert_eq!(problems("run", &wrong, None).len(), wrong.len());
    let secret = problems("run", &["--kubernetes=https://me:hunter2@api:6443"], None);
    assert!(secret.len() == 1 && !secret[0].contains("hunter2"), "{secret:?}");
}

#[test]
fn what_is_asked_of_the_list_of_flows_is_checked_whole() {
    let parse = |flags: &[&str]| cli::parse([&["kernspan", "flows"], flags].concat(), &|_| None);
    let Ok(Command::Flows(asked)) = parse(&[
        "--process=nginx",
        "--process=12",
        "--port=80",
        "--state=established",
        "--sort=rtt",
        "--watch",
        "--json",
    ]) else {
        panic!("not understood")
    };
    assert_eq!((asked.processes.len(), asked.ports.len(), asked.json), (2, 1, true));
    assert_eq!(asked.watch, Some(Duration::from_secs(2)), "without a time");
    let wrong = ["--port=99999", "--state=open", "--sort=size", "--watch=5"];
    let Err(stop) = parse(&wrong) else { panic!("taken") };
    let text = match stop {
        cli::Stop::Failure(failure) => failure.to_string(),
        other => panic!("{other:?}"),
    };
    for (why, part) in [
        ("port", "\"99999\" is out of range"),
        ("state", "\"open\" is no state"),
        ("column", "\"size\" is no column"),
        ("time", "\"5\" has no unit"),
    ] {
        assert!(text.contains(part), "{why}: {text}");
    }
}
