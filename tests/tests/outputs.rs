//! Where spans go, and what the agent says about itself.

use kernspan_tests::agent::{self, Agent, Report};
use kernspan_tests::client::curl;
use kernspan_tests::ledger::{Ledger, Line};
use kernspan_tests::netns::Netns;
use kernspan_tests::otlp::{Span, Telemetry};
use kernspan_tests::process::{Process, free_port, output, until};
use kernspan_tests::python::Python;
use kernspan_tests::scenario::{self, Scenario, say, scaled, skip};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn server(scenario: &Scenario) -> (Python, u16) {
    let port = free_port();
    let text = port.to_string();
    (Python::serve(scenario, "server", "server.py", &["--port", &text], &[]), port)
}

fn ask(scenario: &Scenario, port: u16, count: usize) {
    let url = format!("http://127.0.0.1:{port}/out/size/10");
    curl(scenario, &[], &vec![url; count], 4);
}

fn ids(spans: &[&Span]) -> BTreeSet<String> {
    spans.iter().map(|span| span.id.clone()).collect()
}

#[test]
fn several_outputs_get_the_same_and_the_export_is_not_observed() {
    let Some(scenario) = Scenario::begin("outputs", &["curl"]) else { return };
    let (_server, port) = server(&scenario);
    let collector = free_port();
    let text = collector.to_string();
    let receiver = Python::serve(&scenario, "receiver", "receiver.py", &["--port", &text], &[]);
    let endpoint = format!("http://127.0.0.1:{collector}");
    let variables =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")];
    let outputs = ["--output", "otlp", "--output", "console"];
    let agent = Agent::run_with(&scenario, &outputs, &variables);
    ask(&scenario, port, 20);
    std::thread::sleep(Duration::from_secs(scaled(5, 60)));
    let receiver_pid = receiver.pid();
    let agent_pid = agent.pid();
    let report = agent.stop();
    let received = received(&receiver.stop());

    let expected = ids(&report.telemetry.under("/out/"));
    assert_eq!(expected.len(), 40, "a client and a server span a request");
    assert_eq!(ids(&received.under("/out/")), expected, "over OTLP and in the file");
    let lines = report.ended.stdout.matches("/out/size/10").count();
    assert!(lines >= 20, "{lines} requests on the console:\n{}", report.ended.stdout);
    for spans in [&report.telemetry, &received] {
        let about = spans.of_processes(&[agent_pid, receiver_pid]);
        let ports = spans.on_ports(&[collector]);
        let found: Vec<String> = about.iter().chain(&ports).map(|span| span.brief()).collect();
        assert!(found.is_empty(), "spans about the export:\n{}", found.join("\n"));
    }
}

fn received(log: &[serde_json::Value]) -> Telemetry {
    let lines: Vec<String> = log.iter().map(|line| format!("{}\n", line["request"])).collect();
    Telemetry::parse(&lines.concat())
}

#[test]
fn what_was_seen_leaves_before_the_agent_does() {
    let Some(scenario) = Scenario::begin("flush", &["curl"]) else { return };
    let (_server, port) = server(&scenario);
    let agent = Agent::run(&scenario, &[]);
    ask(&scenario, port, 50);
    // At once: what is in rings and queues is flushed, within the two seconds that stop checks.
    let Report { telemetry, ended, ledger } = agent.stop_at_once();
    assert_eq!(telemetry.under("/out/").len(), 100, "stopped in {:?}", ended.took);
    // What other programs of the machine said in unknown protocols is muted, not missed.
    let losses = ledger.losses();
    let losses: Vec<_> = losses.iter().filter(|loss| !loss.ends_with("(muted)")).collect();
    assert!(losses.is_empty(), "{losses:?}");
    assert!(ended.stderr.contains("records"), "the ledger at the end:\n{}", ended.stderr);
}

/// `kernspan run --output json | sleep 1000`: the pipe takes 64 KiB, the queue 8 MiB, and nobody
/// reads. The file beside it gets everything, and the account is exact.
#[test]
fn a_pipe_that_nobody_reads_costs_only_what_it_does_not_take() {
    const FEW: usize = 10;
    let Some(scenario) = Scenario::begin("unread pipe", &["ab", "curl"]) else { return };
    let (_server, port) = server(&scenario);
    // These spans alone: what else an agent reports of a machine may be longer than the pipe.
    let watched = port.to_string();
    let only = ["--probes", "http", "--process-metrics", "off", "--port", &watched];
    let words = [&["--output", "json"], &only[..]].concat();
    let (agent, mut unread) = Agent::run_into_pipe(&scenario, &words);
    // The pipe takes these whole, be they one line or several. The load waits for them: together with its
    // first spans they would be a line that no pipe takes.
    ask(&scenario, port, FEW);
    let both = 2 * 2 * FEW as u64;
    until("the first spans are in the file and in the pipe", Duration::from_secs(60), || {
        let ledger = Ledger::from_status(&agent.status());
        (ledger.count("json", "spans", "out") == both).then_some(())
    });
    let url = format!("http://127.0.0.1:{port}/out/size/10");
    let (requests, limit) = (scaled(15_000, 100_000), Duration::from_secs(300));
    let mut load = Command::new("ab");
    load.args(["-q", "-k", "-c", "16", "-n", &requests.to_string(), &url]);
    Process::start(load, scenario.dir(), "ab").succeed(limit);
    let Report { telemetry, ledger, ended } = agent.stop();

    let file = telemetry.under("/out/").len() as u64;
    assert_eq!(file, 2 * (requests + FEW as u64), "the file gets everything");
    let mut text = String::new();
    unread.read_to_string(&mut text).expect("what the pipe took");
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    let taken = Telemetry::parse(whole).spans.len() as u64;
    let all = telemetry.spans.len() as u64;
    let lost = |cause: &str| {
        let of = |line: &&Line| line.stage == "json" && line.cause == cause && line.unit == "spans";
        ledger.lines.iter().filter(of).map(|line| line.count).sum::<u64>()
    };
    let (full, shutdown) = (lost("queue_full"), lost("shutdown"));
    say(&format!(
        "unread pipe: {all} spans, {taken} in the pipe, {full} lost by the full queue, {shutdown} \
         at the end; stopped in {:?}",
        ended.took
    ));
    assert!(
        taken >= 2 * FEW as u64 && full > 0 && shutdown > 0,
        "the queue was filled: {:?}",
        ledger.losses()
    );
    assert_eq!(taken + full + shutdown, all, "{:?}", ledger.losses());
    assert_eq!(ledger.imbalances(), Vec::<String>::new());
    // Kernel, rings and assembler lost nothing.
    let losses = ledger.losses();
    let other: Vec<_> = losses
        .iter()
        .filter(|loss| !loss.starts_with("json") && !loss.ends_with("(muted)"))
        .collect();
    assert!(other.is_empty(), "{other:?}");
}

/// `kernspan run --output json | head`: nobody will ever read more.
#[test]
fn a_run_ends_with_the_last_reader_of_its_last_output() {
    let Some(scenario) = Scenario::begin("closed pipe", &["curl"]) else { return };
    let (_server, port) = server(&scenario);
    // Beside the file: it goes on, and so does the run.
    let (agent, reader) = Agent::run_into_pipe(&scenario, &["--output", "console"]);
    drop(reader);
    ask(&scenario, port, 20);
    std::thread::sleep(Duration::from_secs(2));
    ask(&scenario, port, 20);
    let Report { telemetry, ledger, .. } = agent.stop();
    assert_eq!(telemetry.under("/out/").len(), 80);
    assert!(ledger.cause("reader_gone") > 0, "{:?}", ledger.losses());
    // Alone.
    let mut command = agent::command();
    command.args(["run", "--output", "console"]);
    let (process, reader) = Process::start_into_pipe(command, scenario.dir(), "alone");
    until("ready", Duration::from_secs(60), || process.stderr().contains("ready").then_some(()));
    drop(reader);
    ask(&scenario, port, 20);
    let ended = process.succeed(Duration::from_secs(60));
    assert!(ended.stderr.contains("nobody reads"), "{}", ended.stderr);
}

#[test]
fn the_endpoints_say_how_it_is() {
    let Some(scenario) = Scenario::begin("endpoints", &["curl"]) else { return };
    let (_server, port) = server(&scenario);
    let agent = Agent::run(&scenario, &[]);
    ask(&scenario, port, 10);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(agent.get("/livez").0, 200);
    assert_eq!(agent.get("/readyz").0, 200);
    assert_eq!(agent.get("/nothing").0, 404);
    let (code, metrics) = agent.get("/metrics");
    assert_eq!(code, 200);
    assert!(metrics.contains("# TYPE kernspan_"), "{metrics}");
    let status = agent.status();
    for key in ["version", "hooks", "ledger", "memory", "connections"] {
        assert!(status.get(key).is_some(), "no `{key}` in {status:#}");
    }
    let own = agent.address().port();
    let report = agent.stop();
    assert_eq!(report.ledger.imbalances(), Vec::<String>::new());
    let about = report.telemetry.on_ports(&[own]);
    assert!(about.is_empty(), "the agent's own endpoints: {}", about[0].brief());
}

/// What is asked of an agent that listens on all addresses of a network namespace of its own, as a pod does.
#[test]
fn another_network_namespace_gets_metrics_and_no_status() {
    let Some(scenario) = Scenario::begin("elsewhere", &["curl", "ip", "nsenter"]) else { return };
    let pair = Netns::pair();
    let inside = |side: usize, program: &OsStr, arguments: &[&str]| {
        let words = pair.enter(side);
        let mut command = Command::new(&words[0]);
        command.arg(&words[1]).arg(program).args(arguments);
        command
    };
    let ipv6 = Path::new("/proc/sys/net/ipv6").is_dir();
    if ipv6 {
        for (side, address) in ["fd07::1/64", "fd07::2/64"].iter().enumerate() {
            let on = "echo 0 > /proc/sys/net/ipv6/conf/all/disable_ipv6";
            output(&mut inside(side, OsStr::new("sh"), &["-c", on]));
            let add = ["address", "add", address, "dev", "cable", "nodad"];
            output(&mut inside(side, OsStr::new("ip"), &add));
        }
        // What `:PORT` is does not hang on it.
        let only = "echo 1 > /proc/sys/net/ipv6/bindv6only";
        output(&mut inside(0, OsStr::new("sh"), &["-c", only]));
    } else {
        skip("elsewhere_ipv6", "no IPv6");
    }
    let binary = scenario::binary();
    let listen = ["run", "--output", "none", "--listen", ":9464"];
    let mut agent =
        Process::start(inside(0, binary.as_os_str(), &listen), scenario.dir(), "agent-elsewhere");
    let status = |side: usize, host: &str, path: &str| {
        let url = format!("http://{host}:9464{path}");
        let asks = ["-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", &url];
        let answer = inside(side, OsStr::new("curl"), &asks).output().expect("curl");
        String::from_utf8_lossy(&answer.stdout).into_owned()
    };
    let [here, _] = pair.addresses;
    until("the agent's /readyz from outside", Duration::from_secs(60), || {
        assert!(agent.is_running(), "it ended: {}", agent.tail());
        (status(1, here, "/readyz") == "200").then_some(())
    });
    for path in ["/livez", "/metrics", "/status", "/processes"] {
        let is_detail = matches!(path, "/status" | "/processes");
        for host in [here, "[fd07::1]"].iter().take(1 + usize::from(ipv6)) {
            let expected = if is_detail { "403" } else { "200" };
            assert_eq!(status(1, host, path), expected, "{path} at {host} from outside");
        }
        for host in ["127.0.0.1", here, "[::1]", "[fd07::1]"].iter().take(if ipv6 { 4 } else { 2 })
        {
            assert_eq!(status(0, host, path), "200", "{path} at {host} from within");
        }
    }
    // As by `kubectl exec`.
    let doctor = ["doctor", "--json", "--agent", "127.0.0.1:9464"];
    let answer = inside(0, binary.as_os_str(), &doctor).output().expect("doctor");
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    let from_outside = ["doctor", "--json", "--agent", &format!("{here}:9464")];
    let answer = inside(1, binary.as_os_str(), &from_outside).output().expect("doctor");
    assert_eq!(answer.status.code(), Some(2));
    let why = String::from_utf8_lossy(&answer.stderr);
    assert!(why.contains("403"), "{why}");
    agent.terminate(Duration::from_secs(10));
}
