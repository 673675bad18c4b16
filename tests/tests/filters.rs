//! What is selected is seen, and nothing else; connections older than the agent are seen too.

use kernspan_tests::agent::{Agent, Report};
use kernspan_tests::cgroup::Cgroup;
use kernspan_tests::client::curl;
use kernspan_tests::ledger::Ledger;
use kernspan_tests::otlp::{Kind, Span};
use kernspan_tests::process::{Process, free_port};
use kernspan_tests::python::Python;
use kernspan_tests::scenario::Scenario;
use std::process::Command;
use std::time::{Duration, Instant};

const REQUESTS: usize = 10;

/// Two servers, asked by curl under /one/ and /two/.
struct Two {
    servers: [Python; 2],
    ports: [u16; 2],
}

impl Two {
    fn start(scenario: &Scenario) -> Two {
        let ports = [free_port(), free_port()];
        let serve = |index: usize| {
            let (name, port) = (format!("server{index}"), ports[index].to_string());
            Python::serve(scenario, &name, "server.py", &["--port", &port], &[])
        };
        Two { servers: [serve(0), serve(1)], ports }
    }

    fn report(&self, scenario: &Scenario, arguments: &[&str]) -> Report {
        let agent = Agent::run(scenario, arguments);
        for (port, name) in self.ports.iter().zip(["one", "two"]) {
            let url = format!("http://127.0.0.1:{port}/{name}/size/10");
            curl(scenario, &[], &vec![url; REQUESTS], 1);
        }
        agent.stop()
    }
}

/// Client and server spans under /one/ and under /two/.
fn counts(report: &Report) -> [usize; 4] {
    let count = |prefix: &str, kind: Kind| {
        let of = |span: &&&Span| span.kind == kind;
        report.telemetry.under(prefix).iter().filter(of).count()
    };
    [
        count("/one/", Kind::Client),
        count("/one/", Kind::Server),
        count("/two/", Kind::Client),
        count("/two/", Kind::Server),
    ]
}

#[test]
fn each_filter_selects_what_it_names() {
    let Some(scenario) = Scenario::begin("filters", &["curl"]) else { return };
    let two = Two::start(&scenario);
    let (pid, port) = (two.servers[0].pid().to_string(), two.ports[1].to_string());
    for (why, arguments, expected) in [
        ("no filter", vec![], [10, 10, 10, 10]),
        ("one process", vec!["--pid", &*pid], [0, 10, 0, 0]),
        ("one port", vec!["--port", &*port], [0, 0, 10, 10]),
        ("without curl", vec!["--exclude", "curl"], [0, 10, 0, 10]),
        ("only curl", vec!["--include", "curl"], [10, 0, 10, 0]),
        ("by path", vec!["--include", "/usr/bin/cur*"], [10, 0, 10, 0]),
        ("exclude wins", vec!["--include", "curl", "--exclude", "/usr/bin/*"], [0, 0, 0, 0]),
        ("only exec", vec!["--probes", "exec"], [0, 0, 0, 0]),
        ("nothing sampled", vec!["--sample", "0"], [0, 0, 0, 0]),
    ] {
        let report = two.report(&scenario, &arguments);
        assert_eq!(counts(&report), expected, "{why}");
        // Each of the other server's ten requests takes two calls and more at either end.
        let left_out = report.ledger.cause("left_out_calls");
        assert!(why != "one port" || left_out >= 40, "{why}: {left_out} calls left out");
    }
}

/// Of a shell's family only curl is selected: its very first bytes are seen, although the shell
/// itself is not watched.
#[test]
fn a_selected_program_of_a_named_process_is_seen_from_its_first_byte() {
    let Some(scenario) = Scenario::begin("filters family", &["curl"]) else { return };
    let two = Two::start(&scenario);
    let go = scenario.path("go");
    let mut command = Command::new("sh");
    let url = |index: usize, name: &str| {
        format!("curl -s http://127.0.0.1:{}/{name}/size/10 >/dev/null", two.ports[index])
    };
    let script = format!(
        "until [ -e {} ]; do sleep 0.01; done; for i in $(seq 10); do {}; done; ( {} )",
        go.display(),
        url(0, "one"),
        url(1, "two"),
    );
    command.args(["-c", &script]);
    let shell = Process::start(command, scenario.dir(), "shell");
    let pid = shell.pid().to_string();
    let agent = Agent::run(&scenario, &["--pid", &pid, "--include", "curl"]);
    std::fs::write(&go, b"go").expect("a file");
    shell.succeed(Duration::from_secs(60));
    // Another curl is no descendant, also when the last of the family has ended.
    std::thread::sleep(Duration::from_millis(300));
    let stranger = format!("http://127.0.0.1:{}/one/size/10", two.ports[0]);
    curl(&scenario, &[], &[stranger], 1);
    let report = agent.stop();
    let seen: Vec<_> = report.telemetry.spans.iter().map(Span::brief).collect();
    assert_eq!(counts(&report), [10, 0, 1, 0], "{}", seen.join("\n"));
}

/// Whoever receives: the time of a send on a unix socket is when it began to take effect, not when a
/// slow reader let it end.
#[test]
fn a_reader_that_is_left_out_does_not_change_a_senders_times() {
    const SLOW: Duration = Duration::from_millis(400);
    let Some(scenario) = Scenario::begin("filters unix times", &["curl"]) else { return };
    let socket = scenario.path("whole.sock").display().to_string();
    let words = ["--unix", &socket, "--whole"];
    let server = Python::serve(&scenario, "server", "server.py", &words, &[]);
    let agent = Agent::run(&scenario, &["--include", "*python*"]);
    for _ in 0..3 {
        let mut slow = Command::new("curl");
        slow.args(["-sS", "-o", "/dev/null", "--limit-rate", "2M", "--unix-socket", &socket]);
        slow.arg("http://localhost/whole/size/3000000");
        let asked = Instant::now();
        Process::start(slow, scenario.dir(), "curl").succeed(Duration::from_secs(60));
        assert!(asked.elapsed() > SLOW, "curl read slowly: {:?}", asked.elapsed());
    }
    let report = agent.stop();
    drop(server);
    let spans = report.telemetry.under("/whole/");
    assert_eq!(spans.len(), 3, "the servers' spans");
    for span in spans {
        let first = span.attributes["kernspan.http.time_to_first_byte"].as_f64();
        let soon = SLOW.as_secs_f64() / 2.0;
        assert!(first.is_some_and(|first| first < soon), "{first:?} s to the first byte");
    }
}

/// Connections answered by the process that accepts them and by one that is handed the socket: what
/// the selected one answers is seen, all of it, and nothing of the other.
#[test]
fn a_socket_that_two_processes_use_is_seen_in_the_selected_one() {
    let Some(scenario) = Scenario::begin("filters shared socket", &[]) else { return };
    let port = free_port().to_string();
    let server = Python::serve(&scenario, "shared", "shared.py", &["--port", &port], &[]);
    let second = server.log().iter().find_map(|line| line["second"].as_u64());
    let second = second.expect("its number").to_string();
    let agent = Agent::run(&scenario, &["--pid", &second]);
    let words = ["--port", &port, "--requests", "60", "--concurrency", "20", "--path", "/n/{n}"];
    Python::start(&scenario, "client", "client.py", &words, &[]).finish(Duration::from_secs(60));
    let report = agent.stop();
    let log = server.stop();
    let by_second = log.iter().filter(|line| line["by"] == "second");
    let mut expected: Vec<_> = by_second.filter_map(|line| line["path"].as_str()).collect();
    expected.sort_unstable();
    let mut seen: Vec<_> = report.telemetry.spans.iter().map(Span::path).collect();
    seen.sort_unstable();
    assert_eq!(expected.len(), 30);
    assert_eq!(seen, expected);
    assert!(report.telemetry.spans.iter().all(|span| span.kind == Kind::Server));
}

#[test]
fn a_cgroup_is_selected_with_all_below_it() {
    let Some(cgroup) = Cgroup::make("inner") else {
        return kernspan_tests::scenario::skip(
            "filters cgroup",
            "no cgroup v2 that can be written",
        );
    };
    let Some(scenario) = Scenario::begin("filters cgroup", &["curl"]) else { return };
    let two = Two::start(&scenario);
    cgroup.take(two.servers[1].pid());
    let path = cgroup.parent().display().to_string();
    assert_eq!(counts(&two.report(&scenario, &["--cgroup", &path])), [0, 0, 0, 10]);
    drop(two);
}

#[test]
fn connections_older_than_the_agent_are_used_at_once() {
    let Some(scenario) = Scenario::begin("older connections", &[]) else { return };
    let port = free_port().to_string();
    let server = Python::serve(&scenario, "server", "server.py", &["--port", &port], &[]);
    let go = scenario.path("go");
    let client = Python::start(
        &scenario,
        "client",
        "client.py",
        &[
            "--port",
            &port,
            "--requests",
            "80",
            "--concurrency",
            "8",
            "--path",
            "/old/size/10",
            "--pause-at",
            "40",
            "--pause-for",
            &go.to_string_lossy(),
        ],
        &[],
    );
    kernspan_tests::process::until("the first half", Duration::from_secs(60), || {
        (server.log().len() == 40).then_some(())
    });
    let agent = Agent::run(&scenario, &[]);
    std::fs::write(&go, b"go").expect("a file");
    client.finish(Duration::from_secs(60));
    let report = agent.stop();
    let spans = report.telemetry.under("/old/");
    let of = |kind: Kind| spans.iter().copied().filter(move |span| span.kind == kind);
    let (servers, clients): (Vec<_>, Vec<_>) =
        (of(Kind::Server).collect(), of(Kind::Client).collect());
    assert_eq!((clients.len(), servers.len()), (40, 40), "every request after the start");
    let complaints = kernspan_tests::counts::pairs(&servers, &clients);
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn a_selection_that_is_still_being_made_harms_no_connection() {
    let Some(scenario) = Scenario::begin("selection under load", &[]) else { return };
    let port = free_port().to_string();
    let server = Python::serve(&scenario, "server", "server.py", &["--port", &port], &[]);
    // However long the agent takes to attach, requests go on beyond that.
    let enough = scenario.path("enough");
    let until = enough.display().to_string();
    let words =
        ["--port", &port, "--requests", "10000000", "--concurrency", "8", "--until", &until];
    let client = Python::start(
        &scenario,
        "client",
        "client.py",
        &[&words[..], &["--path", "/load/size/10"]].concat(),
        &[],
    );
    kernspan_tests::process::until("load", Duration::from_secs(60), || {
        (server.log().len() > 80).then_some(())
    });
    // Sends go on while the agent attaches, and before it knows which processes it is to watch.
    let agent = Agent::run(&scenario, &["--include", "*python*", "--port", &port]);
    kernspan_tests::process::until("a thousand spans", Duration::from_secs(120), || {
        let ledger = Ledger::from_status(&agent.status());
        (ledger.count("json", "spans", "out") > 2000).then_some(())
    });
    std::fs::write(&enough, b"enough").expect("a file");
    client.finish(Duration::from_secs(60));
    let report = agent.stop();
    let spans = report.telemetry.under("/load/");
    let servers: Vec<_> = spans.into_iter().filter(|span| span.kind == Kind::Server).collect();
    assert!(servers.len() > 800, "{} server spans", servers.len());
    let without: Vec<_> = servers.iter().filter(|span| span.status() != Some(200)).collect();
    assert!(
        without.is_empty(),
        "{} responses were not found, such as {}",
        without.len(),
        without[0].brief()
    );
}
