//! TLS libraries in unusual places: on stacks of their own, within each other, in containers.

use kernspan_tests::agent::Agent;
use kernspan_tests::certificates::Certificates;
use kernspan_tests::client::curl_with;
use kernspan_tests::counts::{Request, judge, pairs};
use kernspan_tests::golang::build_of;
use kernspan_tests::https::{Program, SIZE, Server, copy_libraries};
use kernspan_tests::otlp::Kind;
use kernspan_tests::overlay::Container;
use kernspan_tests::process::{Process, free_port, output, until};
use kernspan_tests::python::Python;
use kernspan_tests::scenario::{Scenario, crate_dir, say, skip};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const REQUESTS: u64 = 10;

/// OpenSSL's asynchronous mode works on a stack of its own (a fiber), from which it may come back in the
/// middle: `openssl s_client` with it.
#[test]
fn openssl_asynchronous() {
    let Some(scenario) = Scenario::begin("tls asynchronous", &["openssl", "nginx"]) else { return };
    let certificates = Certificates::make(&scenario);
    let server = Server::start(&scenario, Program::Nginx, &certificates);
    let agent = Agent::run(&scenario, &[]);
    let (port, path) = (server.port, server.path());
    let text = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n");
    let request = scenario.file("request", text.as_bytes());
    for _ in 0..REQUESTS {
        let mut client = Command::new("sh");
        let line = format!(
            "openssl s_client -async -quiet -connect 127.0.0.1:{port} < {}",
            request.display()
        );
        client.args(["-c", &line]);
        // It complains of the certificate.
        Process::start(client, scenario.dir(), "s_client").wait(LIMIT);
    }
    let report = agent.stop();
    let truth = vec![Request::get(&path, SIZE as i64); REQUESTS as usize];
    let complaints = judge(&report.telemetry.under("/nginx/"), &truth);
    assert!(complaints.is_empty(), "{}\n{:?}", complaints.join("\n"), report.ledger);
    say(&format!("tls asynchronous: {REQUESTS} requests, all pairs joined"));
}

/// OpenSSL as a filter among its streams (`BIO_f_ssl`), whose functions call what has no name: its test server
/// and its OCSP client are made so.
#[test]
fn openssl_through_its_streams() {
    let Some(scenario) = Scenario::begin("tls streams", &["openssl", "curl"]) else { return };
    let certificates = Certificates::make(&scenario);
    let page = "x".repeat(SIZE);
    let dir = scenario.path("www");
    std::fs::create_dir_all(&dir).expect("a directory");
    std::fs::write(dir.join("body"), &page).expect("a page");
    let whole = format!("HTTP/1.0 200 OK\r\nContent-Length: {SIZE}\r\n\r\n{page}");
    std::fs::write(dir.join("whole"), whole).expect("a page");
    let [certificate, key, authority] =
        ["server.crt", "server.key", "ca.crt"].map(|name| certificates.file(name));
    // The page alone, and with what goes before it.
    let servers = [("-WWW", "body"), ("-HTTP", "whole")].map(|(mode, name)| {
        let port = free_port();
        let mut server = Command::new("openssl");
        server.current_dir(&dir).args(["s_server", "-quiet", mode, "-cert", &certificate]);
        server.args(["-key", &key, "-accept", &format!("127.0.0.1:{port}")]);
        let server = Process::start(server, scenario.dir(), name);
        until("it listens", LIMIT, || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        (server, port, name)
    });
    let echo = Server::start(&scenario, Program::Python, &certificates);
    let agent = Agent::run(&scenario, &[]);
    for number in 0..REQUESTS {
        for (_, port, name) in &servers {
            let mut client = match number % 2 {
                0 => Command::new("sh"),
                _ => Command::new("curl"),
            };
            match number % 2 {
                0 => client.args(["-c", &typed(*port, name)]),
                _ => {
                    client.args(["-sSk", "--http1.1", &format!("https://127.0.0.1:{port}/{name}")])
                }
            };
            let ended = Process::start(client, scenario.dir(), "client").wait(LIMIT);
            assert!(ended.stdout.contains(&page), "{} {}", ended.stdout, ended.stderr);
        }
        let mut ocsp = Command::new("openssl");
        ocsp.args(["ocsp", "-issuer", &authority, "-cert", &certificate, "-url"]);
        ocsp.arg(format!("https://127.0.0.1:{}/ocsp", echo.port));
        // An echo is no answer that it likes.
        Process::start(ocsp, scenario.dir(), "ocsp").wait(LIMIT);
    }
    let report = agent.stop();
    let mut complaints = Vec::new();
    // Of a body that lasts until the connection's end the size is what came until then.
    for name in ["body", "whole"] {
        let path = format!("/{name}");
        let truth = vec![Request::get(&path, SIZE as i64); REQUESTS as usize];
        complaints.extend(judge(&report.telemetry.under(&path), &truth));
    }
    // Its client leaves once it has seen what kind of answer that is: how much of it was read differs.
    let spans = report.telemetry.under("/ocsp");
    let of = |kind| spans.iter().copied().filter(|span| span.kind == kind).collect::<Vec<_>>();
    let (servers, clients) = (of(Kind::Server), of(Kind::Client));
    for ends in [&servers, &clients] {
        let right =
            ends.iter().filter(|span| span.method() == "POST" && span.status() == Some(200));
        if right.count() as u64 != REQUESTS || ends.len() as u64 != REQUESTS {
            complaints.extend(ends.iter().map(|span| span.brief()));
        }
    }
    complaints.extend(pairs(&servers, &clients));
    assert!(complaints.is_empty(), "{}\n{:?}", complaints.join("\n"), report.ledger);
    say(&format!("tls streams: {REQUESTS} requests to each of 3 servers, all pairs joined"));
}

/// `openssl s_client` that asks for a page: it takes the request for input.
fn typed(port: u16, name: &str) -> String {
    let connect = format!("openssl s_client -quiet -connect 127.0.0.1:{port}");
    format!("printf 'GET /{name} HTTP/1.0\\r\\n\\r\\n' | {connect}")
}

/// A program that gives OpenSSL buffers of its own making: of the first one that is met, the first call shows
/// that there are such; what it had is counted, and from then on nothing is missing.
#[test]
fn openssl_through_buffers_of_the_programs_own() {
    let Some(scenario) = Scenario::begin("tls own buffers", &["nginx", "gcc"]) else { return };
    let certificates = Certificates::make(&scenario);
    let server = Server::start(&scenario, Program::Nginx, &certificates);
    let (program, gate) = (scenario.path("buffers"), scenario.path("gate"));
    let mut gcc = Command::new("gcc");
    gcc.arg("-O1").arg("-o").arg(&program).arg(crate_dir("workloads").join("buffers.c"));
    gcc.args(["-l:libssl.so.3", "-l:libcrypto.so.3"]);
    output(&mut gcc);
    let agent = Agent::run(&scenario, &[]);
    let mut client = Command::new(&program);
    client.args([&server.port.to_string(), &server.path(), &(REQUESTS + 1).to_string()]).arg(&gate);
    let client = Process::start(client, scenario.dir(), "buffers");
    until("buffers are probed", LIMIT, || {
        let lines = agent.status()["ledger"].as_array().cloned().unwrap_or_default();
        let probed = lines.iter().find(|line| line["cause"] == "probed_for_buffers")?.clone();
        probed["count"].as_u64().filter(|count| *count > 0)
    });
    std::fs::write(&gate, b"").expect("the file that is waited for");
    client.succeed(LIMIT);
    let report = agent.stop();
    let spans = report.telemetry.under("/nginx/");
    let of = |kind| spans.iter().filter(|span| span.kind == kind).count() as u64;
    let counts = (of(Kind::Client), of(Kind::Server));
    assert_eq!(counts, (REQUESTS, REQUESTS + 1), "{:?}", report.ledger);
    assert!(report.ledger.cause("tls_unmatched") >= 1, "{:?}", report.ledger);
    say(&format!("tls own buffers: all but the first of {} requests", REQUESTS + 1));
}

/// A program whose connections a filter leaves out sends through a socket all the same: that is no buffer of its
/// own, for which all other programs had one more probe.
#[test]
fn connections_that_are_left_out_are_no_buffers() {
    let Some(scenario) = Scenario::begin("tls left out", &["nginx", "curl"]) else { return };
    let certificates = Certificates::make(&scenario);
    let server = Server::start(&scenario, Program::Nginx, &certificates);
    let agent = Agent::run(&scenario, &["--port", &free_port().to_string()]);
    let urls = vec![server.url(); REQUESTS as usize];
    curl_with(&scenario, &["--insecure", "--http1.1"], &urls, 1);
    // The agent looks five times a second.
    std::thread::sleep(Duration::from_secs(1));
    let report = agent.stop();
    let ledger = &report.ledger;
    assert_eq!(report.telemetry.under("/nginx/").len(), 0, "{ledger:?}");
    assert!(ledger.cause("tls_unmatched") >= 2 * REQUESTS, "the calls were seen: {ledger:?}");
    assert_eq!(ledger.cause("probed_for_buffers"), 0, "{ledger:?}");
    say(&format!("tls left out: {REQUESTS} requests by either end, nothing more is probed"));
}

/// TLS within TLS: curl through an HTTPS proxy. What is within is not read, and given to no connection.
#[test]
fn tls_within_tls_is_no_other_connections() {
    let Some(scenario) = Scenario::begin("tls within tls", &["nginx", "curl"]) else { return };
    let certificates = Certificates::make(&scenario);
    let server = Server::start(&scenario, Program::Nginx, &certificates);
    let port = free_port().to_string();
    let (certificate, key) = (certificates.file("server.crt"), certificates.file("server.key"));
    let arguments = ["--port", &port, "--certificate", &certificate, "--key", &key];
    let proxy = Python::serve(&scenario, "proxy", "proxy.py", &arguments, &[]);
    let agent = Agent::run(&scenario, &[]);
    for _ in 0..REQUESTS {
        let mut curl = Command::new("curl");
        let through = format!("https://127.0.0.1:{port}");
        curl.args(["-sS", "--insecure", "--proxy-insecure", "--http1.1", "-o", "/dev/null"]);
        curl.args(["--proxy", &through, &server.url()]);
        Process::start(curl, scenario.dir(), "curl").succeed(LIMIT);
    }
    let report = agent.stop();
    drop(proxy);
    let spans = report.telemetry.under("/nginx/");
    let servers = spans.iter().filter(|span| span.kind == Kind::Server).count() as u64;
    assert_eq!((servers, spans.len() as u64), (REQUESTS, REQUESTS), "{:?}", report.ledger);
    let nested = report.ledger.lines.iter().find(|line| line.cause == "tls_nested");
    assert!(nested.is_some_and(|line| line.count >= REQUESTS), "{:?}", report.ledger);
    say(&format!(
        "tls within tls: {servers} requests seen by the server, none of curl's inner ones"
    ));
}

/// A program with libraries of its own in mount and process namespaces of its own.
#[test]
fn a_container_with_libraries_of_its_own() {
    let Some(scenario) = Scenario::begin("tls container", &["nginx", "curl", "unshare"]) else {
        return;
    };
    let certificates = Certificates::make(&scenario);
    let server = Server::start(&scenario, Program::Nginx, &certificates);
    let root = scenario.path("root");
    curl_into(&root);
    let gate = root.join("gate");
    rustix::fs::mkfifoat(rustix::fs::CWD, &gate, 0o600.into()).expect("a pipe with a name");
    let library = libssl_in(&root);
    let inode = library.metadata().expect("a file").ino();
    let agent = Agent::run(&scenario, &[]);
    let mut curl = Command::new("unshare");
    curl.args(["--mount", "--pid", "--fork", "chroot"]).arg(&root).arg("/curl");
    curl.args(["-sS", "--insecure", "--http1.1", "-o", "/answer", "file:///gate"]);
    for _ in 0..REQUESTS {
        curl.args(["-o", "/answer", &server.url()]);
    }
    let curl = Process::start(curl, scenario.dir(), "container");
    let path = Path::new("/lib/x86_64-linux-gnu").join(library.file_name());
    until("the container's library is covered", LIMIT, || {
        let status = agent.status();
        let covered = status["tls"]["covered"].as_array().cloned().unwrap_or_default();
        let same = |file: &&serde_json::Value| file["inode"].as_u64() == Some(inode);
        let file = covered.iter().find(same).cloned()?;
        let seen = Path::new(file["path"].as_str().unwrap_or_default()).to_owned();
        (seen == path && file["libraries"].to_string().contains("OpenSSL")).then_some(())
    });
    std::fs::write(&gate, b"open").expect("curl goes on");
    curl.succeed(LIMIT);
    let report = agent.stop();
    let truth = vec![Request::get(&server.path(), SIZE as i64); REQUESTS as usize];
    let complaints = judge(&report.telemetry.under("/nginx/"), &truth);
    assert!(complaints.is_empty(), "{}\n{:?}", complaints.join("\n"), report.ledger);
    say(&format!("tls container: {REQUESTS} requests, all pairs joined"));
}

/// curl with its libraries as the root of a file system.
fn curl_into(root: &Path) {
    copy_libraries("/usr/bin/curl", &["lib"], &root.join("lib/x86_64-linux-gnu"));
    std::fs::create_dir(root.join("lib64")).expect("a directory");
    std::fs::copy("/usr/bin/curl", root.join("curl")).expect("a copy");
    std::fs::copy("/lib64/ld-linux-x86-64.so.2", root.join("lib64/ld-linux-x86-64.so.2"))
        .expect("the loader");
}

fn libssl_in(root: &Path) -> std::fs::DirEntry {
    let libraries = std::fs::read_dir(root.join("lib/x86_64-linux-gnu")).expect("the copies");
    let is_it =
        |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("libssl.so");
    libraries.flatten().find(is_it).expect("curl uses OpenSSL")
}

/// How often files with these inodes are among those that are covered.
fn covered(agent: &Agent, inodes: &[u64]) -> Vec<usize> {
    let status = agent.status();
    let files = status["tls"]["covered"].as_array().cloned().unwrap_or_default();
    let seen: Vec<_> = files.iter().filter_map(|file| file["inode"].as_u64()).collect();
    inodes.iter().map(|inode| seen.iter().filter(|one| *one == inode).count()).collect()
}

/// Two containers of one image have each their own overlay above the same layer: for the kernel a program or a
/// library in it is one file, which is probed once. Also when the first container has gone.
#[test]
fn containers_of_one_image() {
    let name = "tls containers of one image";
    let Some(scenario) = Scenario::begin(name, &["go", "openssl", "curl", "unshare"]) else {
        return;
    };
    let certificates = Certificates::make(&scenario);
    let image = scenario.path("image");
    curl_into(&image);
    let own = ["-tags=netgo,osusergo", "-ldflags=-linkmode=internal"];
    let program = build_of(&scenario, "workloads/gotls", "gotls", "local", &own).expect("Go");
    std::fs::copy(program, image.join("gotls")).expect("a copy");
    for name in ["server.crt", "server.key"] {
        std::fs::copy(certificates.file(name), image.join(name)).expect("a copy");
    }
    let inodes = [image.join("gotls"), libssl_in(&image).path()]
        .map(|path| path.metadata().expect("a file").ino());
    let containers = ["first", "second"].map(|name| Container::of(&scenario, &image, name));
    let [Some(first), Some(second)] = containers else { return skip(name, "no overlayfs") };
    let agent = Agent::run(&scenario, &[]);

    let serve = |container: &Container| {
        let port = free_port();
        let arguments = ["--port", &port.to_string(), "--certificate", "/server.crt", "--key"];
        let server = container.start("/gotls", &[&arguments[..], &["/server.key"]].concat());
        until("the server is ready", LIMIT, || server.stdout().contains("ready").then_some(()));
        (server, port)
    };
    let (first_server, first_port) = serve(&first);
    let (_second_server, second_port) = serve(&second);
    // Each has curl, which waits until it may go on.
    let curls = [(&first, second_port), (&second, first_port)].map(|(container, port)| {
        let gate = container.root().join("gate");
        rustix::fs::mkfifoat(rustix::fs::CWD, &gate, 0o600.into()).expect("a pipe with a name");
        let url = format!("https://127.0.0.1:{port}/curl");
        let mut arguments = vec!["-sS", "--insecure", "--http1.1", "-o", "/answer", "file:///gate"];
        (0..REQUESTS).for_each(|_| arguments.extend(["-o", "/answer", &url]));
        (container.start("/curl", &arguments), gate)
    });
    until("both files are covered", LIMIT, || {
        covered(&agent, &inodes).iter().all(|count| *count > 0).then_some(())
    });
    // The second container's would have been probed by now.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(covered(&agent, &inodes), [1, 1], "each once");
    for (curl, gate) in curls {
        std::fs::write(gate, b"open").expect("curl goes on");
        curl.succeed(LIMIT);
    }
    let ask = |container: &Container, port: u16, path: &str| {
        let url = format!("https://127.0.0.1:{port}{path}");
        let (count, wait) = (REQUESTS.to_string(), ["--wait", "300ms"]);
        let arguments = [&["--url", &*url, "--requests", &*count][..], &wait].concat();
        container.start("/gotls", &arguments).succeed(LIMIT);
    };
    ask(&first, second_port, "/go/over");
    ask(&second, first_port, "/go/back");
    // The container through which both were found goes.
    first_server.kill();
    drop(first);
    ask(&second, second_port, "/go/alone");

    let report = agent.stop();
    let mut complaints = Vec::new();
    for (path, count) in [
        ("/curl", 2 * REQUESTS),
        ("/go/over", REQUESTS),
        ("/go/back", REQUESTS),
        ("/go/alone", REQUESTS),
    ] {
        let truth = vec![Request::get(path, SIZE as i64); count as usize];
        complaints.extend(judge(&report.telemetry.under(path), &truth));
    }
    assert!(complaints.is_empty(), "{}\n{:?}", complaints.join("\n"), report.ledger);
    say(&format!("{name}: {} requests, all pairs joined, each file probed once", 5 * REQUESTS));
}
