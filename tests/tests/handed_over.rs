//! Requests that wait while their reader is still another program: inetd and socket activation.

use kernspan_tests::agent::Agent;
use kernspan_tests::otlp::Kind;
use kernspan_tests::process::{Process, free_port, output, until};
use kernspan_tests::python::PYTHON;
use kernspan_tests::scenario::{Scenario, say};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// Requests that the first program hands to children, a program each, before it becomes one of them itself.
const FORKED: usize = 10;

/// Listens; has a child execute the server for each connection on which a request waits, and at last executes it
/// itself with the listening socket, a request waiting there.
const LISTENER: &str = r#"
import os, select, socket, sys
port, forked, server = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
listener = socket.create_server(("127.0.0.1", port))
listener.set_inheritable(True)
print("ready", flush=True)
for _ in range(forked):
    connection, _ = listener.accept()
    select.select([connection], [], [])
    if os.fork() == 0:
        os.dup2(connection.fileno(), 0)
        os.execv(sys.executable, ["python3", server])
    connection.close()
    os.wait()
select.select([listener], [], [])
os.dup2(listener.fileno(), 0)
os.execv(sys.executable, ["python3", server, "listen"])
"#;

/// Answers one request on the connection that it was started with, or two of its listening socket.
const SERVER: &str = r#"
import socket, sys
handed = socket.socket(fileno=0)
listens = len(sys.argv) > 1
for _ in range(2 if listens else 1):
    connection = handed.accept()[0] if listens else handed
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    connection.close()
"#;

#[test]
fn a_request_that_waits_for_a_program_is_that_programs() {
    let Some(scenario) = Scenario::begin("handed_over", &["curl"]) else { return };
    let listener = scenario.file("listener.py", LISTENER.as_bytes());
    let server = scenario.file("shopd.py", SERVER.as_bytes());
    let agent = Agent::run(&scenario, &[]);
    let port = free_port();
    let mut program = Command::new(PYTHON);
    program.arg(listener).args([port.to_string(), FORKED.to_string()]).arg(server);
    let process = Process::start(program, scenario.dir(), "listener");
    until("it listens", LIMIT, || process.tail().contains("ready").then_some(()));
    let paths = (0..FORKED).map(|n| format!("/fork/{n}")).chain(["/own/0".into(), "/own/1".into()]);
    for path in paths {
        let url = format!("http://127.0.0.1:{port}{path}");
        assert_eq!(output(Command::new("curl").args(["-s", "-m", "20", &url])), "ok", "{path}");
    }
    let _ = process.succeed(LIMIT);
    let report = agent.stop();
    for (path, count) in [("/fork/", FORKED), ("/own/", 2)] {
        let spans = report.telemetry.under(path);
        for (kind, service) in [(Kind::Server, "shopd"), (Kind::Client, "curl")] {
            let of: Vec<_> = spans.iter().filter(|span| span.kind == kind).collect();
            let wrong: Vec<_> =
                of.iter().map(|span| span.service()).filter(|name| *name != service).collect();
            assert_eq!((of.len(), wrong.len()), (count, 0), "{path} {kind:?}: {wrong:?}");
        }
    }
    say(&format!("handed over: {FORKED} requests to children, and the first of a socket"));
}
