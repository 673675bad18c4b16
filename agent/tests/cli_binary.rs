//! The built program: help, exit codes and streams.

#![expect(clippy::unwrap_used, reason = "a test helper that fails fails its test")]

use agent_common::record::VERSION;
use agent_core::recording::{Item, Preamble, Writer};
use std::io::Read;
use std::process::{Command, Output, Stdio};

fn kernspan(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kernspan"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn help_keeps_its_promises() {
    for (command, promises) in [
        (
            &["--help"][..],
            &["run", "record", "replay", "doctor", "version", "Exit codes: 0 done; 2"][..],
        ),
        (
            &["run", "--help"],
            &[
                "--output <OUTPUT>",
                "otlp, console, json, json:FILE or none; repeatable",
                "--listen <ADDR>",
                "--include <GLOB>",
                "--exclude <GLOB>",
                "--pid <PID>",
                "--port <PORT>",
                "at most 16",
                "--cgroup <PATH>",
                "--probes <NAMES>",
                "--head-bytes <BYTES>",
                "256 to 4096",
                "--payload-rings <NUMBER>",
                "--ring-size <SIZE>",
                "--poll-interval <TIME>",
                "--sample <RATIO>",
                "--log-level <LEVEL>",
                "--config <FILE>",
                "--hooks <WAY>",
                "--otlp-endpoint <URL>",
                "--otlp-header <NAME=VALUE>",
                "--otlp-insecure",
                "Examples:",
                "kernspan run --otlp-endpoint http://localhost:4317",
                "kernspan run --config /etc/kernspan.yaml --sample 0.1",
            ],
        ),
        (&["record", "--help"], &["<FILE>", "--raw", "--duration <TIME>", "0600", "Examples:"]),
        (&["replay", "--help"], &["<FILE>", "--output <OUTPUT>", "Needs no root", "Examples:"]),
        (&["doctor", "--help"], &["--json", "Examples:"]),
        (&["version", "--help"], &["Example:", "kernspan version"]),
    ] {
        let output = kernspan(command);
        assert_eq!(output.status.code(), Some(0), "{command:?}");
        assert!(output.stderr.is_empty(), "{command:?}");
        let help = text(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
        for promise in promises {
            assert!(help.contains(promise), "{command:?} lacks {promise:?}:\n{help}");
        }
    }
}

#[test]
fn exit_codes_say_whose_fault_it_was() {
    for (why, arguments, code, on_stderr) in [
        ("version", &["version"][..], 0, ""),
        ("version as a flag", &["--version"], 0, ""),
        ("no command", &[], 2, "Usage: kernspan"),
        ("unknown command", &["rum"], 2, "'run'"),
        ("unknown flag", &["run", "--smaple", "1"], 2, "'--sample'"),
        ("flag of another command", &["replay", "x", "--port", "1"], 2, "--port"),
        ("no file", &["record"], 2, "<FILE>"),
        ("wrong value", &["run", "--sample", "2"], 2, "kernspan: --sample: \"2\" is not between"),
        ("a directory", &["run", "--config", "/"], 2, "kernspan: --config: \"/\" cannot be"),
    ] {
        let output = kernspan(arguments);
        assert_eq!(output.status.code(), Some(code), "{why}: {output:?}");
        let stderr = text(&output.stderr);
        assert!(stderr.contains(on_stderr), "{why}: {stderr}");
        assert_eq!(stderr.is_empty(), on_stderr.is_empty(), "{why}: {stderr}");
    }
}

#[test]
fn several_problems_are_a_list() {
    let output = kernspan(&["run", "--sample", "2", "--port", "0"]);
    assert_eq!(output.status.code(), Some(2));
    let expected = "\
kernspan: 2 problems in the configuration
  --port: \"0\" is out of range; a port from 1 to 65535
  --sample: \"2\" is not between 0 and 1; a number from 0 to 1, for example 0.1 for every tenth trace
";
    assert_eq!(text(&output.stderr), expected);
    assert!(output.stdout.is_empty());
}

#[test]
fn the_version_is_one_line() {
    let output = kernspan(&["version"]);
    assert_eq!(text(&output.stdout), format!("kernspan {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_reader_that_went_away_is_no_failure() {
    for arguments in [&["version"][..], &["run", "--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut child = Command::new(env!("CARGO_BIN_EXE_kernspan"))
            .args(arguments)
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{arguments:?}: {stderr}");
        assert_eq!(stderr, "", "{arguments:?}");
    }
}

#[test]
fn a_replay_says_what_it_cannot_decode() {
    let record = |ring| Item::Record { ring, bytes: &[0xff; 64] };
    for (why, version, items, code, on_stderr) in [
        ("empty", VERSION, &[][..], 0, ""),
        ("another layout", VERSION + 1, &[], 2, "its records have version"),
        ("processes", VERSION, &[record(0)], 2, "records that cannot be decoded: 1"),
        ("payload", VERSION, &[record(1), record(1)], 2, "records that cannot be decoded: 2"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("recording");
        let preamble = Preamble { record_version: version, ..Preamble::default() };
        let mut writer = Writer::new(std::fs::File::create(&path).unwrap(), &preamble).unwrap();
        for item in items {
            writer.item(item).unwrap();
        }
        writer.finish().unwrap();
        let output = kernspan(&["replay", path.to_str().unwrap(), "--output", "json"]);
        assert_eq!(output.status.code(), Some(code), "{why}: {output:?}");
        assert!(text(&output.stderr).contains(on_stderr), "{why}: {output:?}");
    }
}
