//! A recording replayed by a user without rights gives what the live run gave, ids included, and
//! holds no secret.

use kernspan_tests::agent::{self, Agent};
use kernspan_tests::certificates::Certificates;
use kernspan_tests::client::{curl, curl_with};
use kernspan_tests::https::{Program, Server, unlike_tls};
use kernspan_tests::ledger::Ledger;
use kernspan_tests::nginx::{Location, Nginx};
use kernspan_tests::otlp::{Log, Span, Telemetry};
use kernspan_tests::process::{Process, free_port, output};
use kernspan_tests::python::Python;
use kernspan_tests::scenario::{Scenario, binary, say};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// A user without rights: nobody.
const NOBODY: &str = "65534";

/// Planted where each must not be kept; every text occurs nowhere else.
const SECRETS: [(&str, &str); 6] = [
    ("body", "sesame-body-71c2"),
    ("cookie", "sesame-cookie-0b9d"),
    ("authorization", "sesame-authorization-55aa"),
    ("unlisted header", "sesame-header-9e31"),
    ("query", "sesame-query-c3d8"),
    ("argument", "sesame-argument-20f6"),
];

/// nginx before a Python server; clients with and without secrets; an exec with a secret; TLS.
fn load(scenario: &Scenario) {
    let (port, behind) = (free_port(), free_port().to_string());
    let server = Python::serve(scenario, "server", "server.py", &["--port", &behind], &[]);
    let upstream = Location::Tcp(behind.parse().unwrap_or(0));
    let listen = format!("127.0.0.1:{port}");
    let nginx = Nginx::start(scenario, &listen, &[("/tcp/", upstream)], &[]);
    let [body, cookie, authorization, header, query, argument] = SECRETS.map(|(_, text)| text);
    let urls: Vec<String> = (0..50).map(|n| format!("http://{listen}/tcp/size/{n}")).collect();
    curl(scenario, &[], &urls, 1);
    curl(scenario, &[], &urls, 16);
    let (cookie, authorization) =
        (format!("Cookie: session={cookie}"), format!("Authorization: Bearer {authorization}"));
    let (header, port) = (format!("X-Api-Key: {header}"), port.to_string());
    let path =
        format!("POST:/tcp/echo?a=1&sig={query}&X-Amz-Signature={query}&access_token={query}");
    let own = ["--port", &port, "--requests", "100", "--concurrency", "8", "--path", &path];
    let secret = ["--body-text", body, "--header", &cookie, "--header", &authorization];
    let arguments = [&own[..], &secret, &["--header", &header]].concat();
    // By a file and not by arguments: those are the test's, not the watched program's.
    let file = scenario.file("client.args", arguments.join("\n").as_bytes());
    let from_file = format!("@{}", file.display());
    let client = Python::start(scenario, "client", "client.py", &[&from_file], &[]);
    client.finish(Duration::from_secs(60));
    output(Command::new("/bin/true").arg(format!("--password={argument}")));
    let _ = nginx.stop();
    let _ = server.stop();
    encrypted(scenario);
}

const ENCRYPTED: usize = 20;

fn encrypted(scenario: &Scenario) {
    let certificates = Certificates::make(scenario);
    let server = Server::start(scenario, Program::Python, &certificates);
    // The library is known within 100 ms of its first use.
    std::thread::sleep(Duration::from_millis(500));
    curl_with(scenario, &["--insecure"], &vec![server.url(); ENCRYPTED], 4);
}

#[test]
fn a_replay_gives_the_live_output_and_no_secret() {
    let Some(scenario) = Scenario::begin("replay", &["nginx", "curl", "setpriv", "openssl"]) else {
        return;
    };
    let agent = Agent::record(&scenario, "run.rec", &["--log-level", "trace"]);
    load(&scenario);
    let live = agent.stop();
    let recording = scenario.path("run.rec");
    let mode = std::fs::metadata(&recording).expect("the recording").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600, "mode of the recording");

    let replayed = replay_as_nobody(&scenario, &recording);
    let spans = (ordered(&live.telemetry.spans), ordered(&replayed.spans));
    assert!(spans.0.len() >= 4 * 200, "only {} spans in the live run", spans.0.len());
    assert!(spans.0 == spans.1, "{}", difference(&spans.0, &spans.1));
    let logs = (ordered_logs(&live.telemetry.logs), ordered_logs(&replayed.logs));
    assert!(!logs.0.is_empty(), "no exec in the live run");
    assert!(logs.0 == logs.1, "{}", difference(&logs.0, &logs.1));

    let encrypted = live.telemetry.spans.iter().filter(|s| s.text("url.scheme") == "https");
    let unlike: Vec<String> = encrypted.clone().filter_map(unlike_tls).collect();
    assert!(encrypted.count() >= ENCRYPTED && unlike.is_empty(), "over TLS: {unlike:#?}");

    secrets_are_nowhere(&scenario);
    // The planting worked: what is beside the secret was seen.
    let queries = live.telemetry.spans.iter().filter(|s| s.text("url.query").contains("a=1"));
    assert!(queries.count() >= 100, "the query beside the secret was not seen");
    say(&format!("replay: {} spans and {} logs identical, no secret", spans.0.len(), logs.0.len()));
}

fn replay_as_nobody(scenario: &Scenario, recording: &Path) -> Telemetry {
    let dir = scenario.path("nobody");
    std::fs::create_dir(&dir).expect("a directory");
    for (from, to, mode) in
        [(recording, dir.join("run.rec"), 0o644), (&binary(), dir.join("kernspan"), 0o755)]
    {
        std::fs::copy(from, &to).expect("a copy");
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(mode)).expect("its mode");
    }
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o777)).expect("its mode");
    let out = dir.join("replayed.json");
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--bounding-set", "-all"])
        .arg(dir.join("kernspan"))
        .args(["replay", "run.rec", "--output", "json:replayed.json", "--log-level", "trace"])
        .current_dir(&dir)
        .env_clear();
    let ended = Process::start(command, scenario.dir(), "replay").succeed(Duration::from_secs(60));
    // What the kernel side counted is in the recording, too.
    let ledger = Ledger::from_log(&ended.stderr).expect("a ledger in the replay's log");
    assert!(ledger.count("kernel_payload", "records", "in") > 0, "{}", ended.stderr);
    Telemetry::load(&out)
}

/// One text a span, in an order that does not depend on the order of export.
fn ordered(spans: &[Span]) -> Vec<String> {
    let mut texts: Vec<String> = spans.iter().map(|span| format!("{span:?}")).collect();
    texts.sort_unstable();
    texts
}

fn ordered_logs(logs: &[Log]) -> Vec<String> {
    let mut texts: Vec<String> = logs.iter().map(|log| format!("{log:?}")).collect();
    texts.sort_unstable();
    texts
}

fn difference(live: &[String], replayed: &[String]) -> String {
    let only = |a: &[String], b: &[String]| {
        let only: Vec<_> =
            a.iter().filter(|text| b.binary_search(text).is_err()).cloned().collect();
        (only.len(), only.into_iter().take(3).collect::<Vec<_>>().join("\n"))
    };
    let (live_only, replay_only) = (only(live, replayed), only(replayed, live));
    format!(
        "only live {}:\n{}\nonly replayed {}:\n{}",
        live_only.0, live_only.1, replay_only.0, replay_only.1
    )
}

/// Looks through all that the agent wrote: recording, both outputs, both logs.
fn secrets_are_nowhere(scenario: &Scenario) {
    let mut files = vec![scenario.path("run.rec"), scenario.path("nobody/replayed.json")];
    let entries = std::fs::read_dir(scenario.dir()).expect("the scenario's directory");
    files.extend(entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        let name = path.file_name()?.to_str()?.to_owned();
        (name.starts_with("agent-") || name.starts_with("replay.")).then_some(path)
    }));
    assert!(files.len() >= 7, "recording, two outputs and four logs, found {files:?}");
    for file in files {
        let bytes = std::fs::read(&file).expect("a file of the agent");
        for (place, secret) in SECRETS {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "the secret in the {place} is in {}", file.display());
        }
    }
}

#[test]
fn a_recording_of_something_else_is_refused() {
    let Some(scenario) = Scenario::begin("replay refuses", &[]) else { return };
    let garbage = scenario.file("garbage.rec", &[b'x'; 4096]).display().to_string();
    let missing = scenario.path("missing.rec").display().to_string();
    for file in [garbage, missing] {
        let ended = agent::once(&scenario, "refused", &["replay", &file, "--output", "none"]);
        assert_eq!(ended.status.code(), Some(2), "{file}: {}", ended.stderr);
        assert!(ended.stderr.contains(&file), "names the file: {}", ended.stderr);
    }
}
