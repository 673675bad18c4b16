//! Every mistake is named, with where it stands.

use super::problems;

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
        "--name-rule=exee=java,args=[",
        "--name-rule=exe=java,name=a\u{1b}[2Jb",
        "--probes=http,htttp",
        "--head-bytes=255",
        "--payload-rings=3",
        "--ring-size=2TiB",
        "--poll-interval=5",
        "--sample",
        "-0.5",
        "--log-level=loud",
        "--hooks=dtrace",
        "--btf=/no/such/file",
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
        r#"--name-rule: "exee=java,args=[": unknown key "exee", args=[ is no valid glob (unclosed character class; missing ']'), it gives no name; known are exe, args, dir, user, unit, container, name, namespace; for example *shop*; name=SERVICE"#,
        r#"--name-rule: "exe=java,name=a\u{1b}[2Jb": name holds the control character '\u{1b}'; only characters that can be printed"#,
        r#"--probes: "htttp" is no probe; did you mean http? allowed: all, process, http, exec, tls, flow"#,
        r#"--head-bytes: "255" is out of range; a size from 256 to 4KiB"#,
        r#"--payload-rings: "3" is no number of rings; allowed: 1, 2, 4"#,
        r#"--ring-size: "2TiB" is no size; a size from 64KiB to 1GiB, for example 8MiB"#,
        r#"--poll-interval: "5" has no unit; a time from 1ms to 1s, for example 5ms"#,
        r#"--sample: "-0.5" is not between 0 and 1; a number from 0 to 1, for example 0.1 for every tenth trace"#,
        r#"--log-level: "loud" is no log level; allowed: off, error, warn, info, debug, trace"#,
        r#"--hooks: "dtrace" is no way to attach; allowed: auto, tracepoint, fexit, kprobe"#,
        r#"--btf: "/no/such/file" cannot be opened (No such file or directory (os error 2)); a file with this kernel's type information, for example vmlinux.btf"#,
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
            "--probes: \"\" is no probe; allowed: all, process, http, exec, tls, flow",
        ),
        (
            "encrypted requests, but no requests",
            "run",
            &["--probes=flow", "--probes=tls,exec"],
            "--probes: tls without http shows nothing: what it reads are requests; add http, or leave out tls",
        ),
        (
            "http may have been meant",
            "record /tmp/x",
            &["--probes=htttp", "--probes=tls"],
            "--probes: \"htttp\" is no probe; did you mean http? allowed: all, process, http, exec, tls, flow",
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
        r#"FILE:11:1: unknown key "verbose"; known are output, listen, expose-status, include, exclude, pid, port, cgroup, name-rule, probes, head-bytes, payload-rings, ring-size, poll-interval, max-cpu, max-memory, max-request-rate, process-metrics, request-metrics, metrics-temporality, metrics-histograms, sample, sample-rate, keep, keep-wait, route, learn-routes, log-level, hooks, btf, capture, link, otlp-endpoint, otlp-protocol, otlp-header, otlp-compression, otlp-timeout, otlp-ca, otlp-client-cert, otlp-client-key, otlp-insecure, otlp-queue-bytes, flow-interval, flow-labels, flow-logs, flow-series, flow-table, flow-dns, kubernetes, kubernetes-node, kubernetes-label, kubernetes-name-labels, kubernetes-token-file, kubernetes-ca"#,
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
        (
            "encrypted requests, but no requests",
            "probes: [exec, tls]\n",
            vec![
                "FILE:1:16: tls without http shows nothing: what it reads are requests; add http, or leave out tls",
            ],
        ),
        (
            "rules for names, in lines and in one",
            "name-rule:\n  - exe: [a]\n    name: n\n  - {exe: java}\n  - user=shop,name=n\n  - name=n\n",
            vec![
                "FILE:2:5: not a part of a rule; write lines such as exe: java",
                "FILE:4:5: \"exe=java\": it gives no name; name=SERVICE",
                "FILE:6:5: \"name=n\": it has no condition, and would name every process; at least one of exe, args, dir, user, unit, container",
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
