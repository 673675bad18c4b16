//! Whom `kernspan doctor` asks, how it is shown, and what an agent tells of connections and programs older than itself.

use kernspan_tests::agent::{Agent, once};
use kernspan_tests::contexts::{self, Model};
use kernspan_tests::doctor::{bytes, doctor, process};
use kernspan_tests::golang;
use kernspan_tests::process::{Process, free_ports, until};
use kernspan_tests::scenario::{Scenario, binary};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

/// Of a terminal.
const COLUMNS: usize = 90;

/// A program called kernspan that takes connections and never answers, started by `wrap`; and where.
fn start_stranger(scenario: &Scenario, wrap: &[&str]) -> (Process, SocketAddr) {
    let program = scenario.path("kernspan");
    if !program.exists() {
        std::fs::copy("/usr/bin/python3", &program).expect("a copy");
    }
    let program = program.to_string_lossy();
    let words = [wrap, &[&*program]].concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).args([
        "-c",
        "import socket, time; s = socket.create_server(('127.0.0.1', 0)); \
        print(s.getsockname()[1], flush=True); time.sleep(600)",
    ]);
    let name = format!("stranger{}", wrap.len());
    let mut stranger = Process::start(command, scenario.dir(), &name);
    let port = until("the stranger", LIMIT, || {
        assert!(stranger.is_running(), "{}", stranger.tail());
        stranger.stdout().trim().parse().ok()
    });
    (stranger, SocketAddr::from(([127, 0, 0, 1], port)))
}

#[test]
fn a_program_that_only_has_the_name_is_shown_as_any_other() {
    let needed = ["python3", "script", "stty", "setpriv"];
    let Some(scenario) = Scenario::begin("doctor_stranger", &needed) else { return };
    // Before the agent: of the two it has the smaller number.
    let (stranger, address) = start_stranger(&scenario, &[]);
    let without_rights = ["setpriv", "--inh-caps", "-all", "--bounding-set", "-all"];
    let (powerless, _) = start_stranger(&scenario, &without_rights);
    let agent = Agent::run(&scenario, &[]);
    let began = Instant::now();
    let told = doctor(&scenario, &[]);
    let took = began.elapsed();
    let programs = &told["programs"];
    assert_eq!(
        programs["source"]["address"],
        agent.address().to_string(),
        "{:#}",
        programs["remarks"]
    );
    let remarks = programs["remarks"].to_string();
    let named = format!(
        "process {} is called kernspan, and does not answer as an agent at {address}",
        stranger.pid()
    );
    assert!(remarks.contains(&named), "{remarks}");
    let named = format!("process {} is called kernspan, and holds no capability", powerless.pid());
    assert!(remarks.contains(&named), "{remarks}");
    for shown in [&stranger, &powerless] {
        process(&told, shown.pid());
    }
    let all = programs["processes"].as_array().expect("processes");
    assert!(
        all.iter().all(|one| one["pid"] != agent.pid()),
        "the agent is no program to be told of"
    );
    // It has a second more than the agent to say who it is.
    assert!(took < Duration::from_secs(15), "{took:?}");
    drop(agent.stop());

    // A wrong address is the operator's to mend: what was tried, and what is expected.
    for (given, parts) in [
        (
            address.to_string(),
            [&*format!("http://{address}/status"), "--listen", "no whole answer"],
        ),
        ("http://127.0.0.1:1".to_owned(), ["--agent", "is a URL", "IP:PORT"]),
        ("example.org:1".to_owned(), ["--agent", "names are not looked up", "IP:PORT"]),
    ] {
        let ended = once(&scenario, "wrong", &["doctor", "--agent", &given]);
        assert_eq!(ended.status.code(), Some(2), "{given}: {}", ended.stderr);
        for part in parts {
            assert!(ended.stderr.contains(part), "{given}: no {part:?} in {}", ended.stderr);
        }
    }
    terminal(&scenario);
}

/// On a terminal every line fits; in a pipe nothing is wrapped.
fn terminal(scenario: &Scenario) {
    let widest = |text: &str| text.lines().map(|line| line.trim_end().chars().count()).max();
    let kernspan = binary().display().to_string();
    let mut command = Command::new("script");
    let shell = format!("stty cols {COLUMNS} rows 24; {kernspan} doctor --all");
    command.args(["--quiet", "--return", "--command", &shell, "/dev/null"]);
    let ended = Process::start(command, scenario.dir(), "terminal").wait(LIMIT);
    assert!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("SERVICE"), "{}", ended.stdout);
    let fits = widest(&ended.stdout).is_some_and(|widest| (60..=COLUMNS).contains(&widest));
    assert!(fits, "{}", ended.stdout);
    let piped = once(scenario, "piped", &["doctor", "--all"]).stdout;
    assert!(widest(&piped) > Some(COLUMNS), "{piped}");
}

/// Both ends of a connection, which speak in turn.
struct Pair {
    ends: [TcpStream; 2],
    moved: u64,
}

impl Pair {
    fn connected() -> Pair {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("its address"));
        let (server, _) = listener.accept().expect("accepted");
        Pair { ends: [client.expect("connected"), server], moved: 0 }
    }

    fn speak(&mut self, turns: usize, message: &[u8]) {
        let mut room = vec![0; message.len()];
        for turn in 0..turns {
            self.ends[turn % 2].write_all(message).expect("sent");
            self.ends[(turn + 1) % 2].read_exact(&mut room).expect("received");
            self.moved += message.len() as u64;
        }
    }
}

#[test]
fn connections_that_are_older_than_the_agent_are_counted_from_its_start() {
    let Some(scenario) = Scenario::begin("doctor_older", &[]) else { return };
    // A record of TLS that is encrypted, and what is of no protocol.
    let record = [&[0x17, 0x03, 0x03, 0x13, 0x88][..], &[0xa5; 5000]].concat();
    let words = [0x01; 300];
    let (mut tls, mut unknown) = (Pair::connected(), Pair::connected());
    tls.speak(20, &record);
    unknown.speak(20, &words);
    let agent = Agent::run(&scenario, &[]);
    (tls.moved, unknown.moved) = (0, 0);
    tls.speak(20, &record);
    unknown.speak(20, &words);
    // The kernel side is silent of both by now, and nobody has listed conversations since.
    std::thread::sleep(Duration::from_millis(1500));
    tls.speak(20, &record);
    unknown.speak(20, &words);
    let told = doctor(&scenario, &["--agent", &agent.address().to_string()]);
    // Both ends are this process's.
    let own = process(&told, std::process::id());
    let seen = [bytes(own, "encrypted"), bytes(own, "unknown")];
    assert_eq!(seen, [2 * tls.moved, 2 * unknown.moved], "{own:#}");
    drop(agent.stop());
}

#[test]
fn what_is_read_of_runtimes_and_what_filters_leave_out_is_said() {
    let Some(scenario) = Scenario::begin("doctor_coverage", &["go", "gcc", "sleep"]) else {
        return;
    };
    let program = golang::build(&scenario, "goservice", "local", &[]).expect("the installed Go");
    let port = free_ports::<1>()[0].to_string();
    let go = golang::Service::serve(&scenario, &program, "go", &["--port", &port]);
    // Whoever waits there for an answer gets none.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("its address").port();
    let publisher = contexts::build(&scenario, Model::Program).start(&scenario, port);
    let mut sleep = Command::new("sleep");
    sleep.arg("600");
    let sleep = Process::start(sleep, scenario.dir(), "sleep");
    let agent = Agent::run(&scenario, &["--exclude", "sleep", "--port", &port.to_string()]);
    let address = agent.address().to_string();
    let told = doctor(&scenario, &["--agent", &address]);
    let text = once(&scenario, "text", &["doctor", "--all", "--agent", &address]).stdout;
    drop(agent.stop());

    let read = serde_json::json!({"read": true, "why": null});
    let of = |pid, key: &str| process(&told, pid)[key].clone();
    assert_eq!(of(go.pid(), "goroutines"), read, "{:#}", process(&told, go.pid()));
    assert_eq!(
        of(publisher.pid(), "thread_context"),
        read,
        "{:#}",
        process(&told, publisher.pid())
    );
    assert_eq!(
        [of(go.pid(), "thread_context"), of(publisher.pid(), "goroutines")],
        [Value::Null, Value::Null]
    );
    let excluded = [sleep.pid(), go.pid()].map(|pid| of(pid, "left_out"));
    assert_eq!(excluded, [serde_json::json!(["--exclude"]), serde_json::json!([])]);
    for part in [
        "goroutines: read\n",
        "(OTEP 4947): read\n",
        "left out by the agent's --exclude\n",
        "the agent's filters: --exclude sleep, --port",
        "connections without one of these ports are left out",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}
