//! PostgreSQL with `sslmode=require`: TLS that begins in the middle of a connection (its SSLRequest), and a
//! protocol that is not known yet. The plaintext of both ends is recorded byte for byte.

use kernspan_tests::agent::Agent;
use kernspan_tests::certificates::Certificates;
use kernspan_tests::process::{Process, free_port, output, until};
use kernspan_tests::recording::Recording;
use kernspan_tests::scenario::{Scenario, say};
use kernspan_tests::streams::Piece;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const USER: &str = "postgres";

/// Repetitions of an 8-byte word: a row far longer than a record, a TLS record, or a socket's buffer.
const WORDS: usize = 20_000;

/// As the user that PostgreSQL insists on.
fn as_postgres(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={USER}"), &format!("--regid={USER}"), "--init-groups", "--"]);
    command.arg(program);
    command
}

/// Directory of the server's programs of the newest version.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let found = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    found.filter(|dir| dir.join("initdb").is_file()).max()
}

fn start(scenario: &Scenario, bin: &Path, port: u16) -> Process {
    let certificates = Certificates::make(scenario);
    let data = scenario.path("data");
    std::fs::create_dir_all(&data).expect("a directory");
    let owner = format!("{USER}:{USER}");
    output(Command::new("chown").arg(&owner).arg(&data));
    output(as_postgres(&bin.join("initdb")).args(["-A", "trust", "-D"]).arg(&data));
    for name in ["server.crt", "server.key"] {
        std::fs::copy(certificates.file(name), data.join(name)).expect("a copy");
        output(Command::new("chown").arg(&owner).arg(data.join(name)));
        output(Command::new("chmod").arg("600").arg(data.join(name)));
    }
    std::fs::write(data.join("pg_hba.conf"), "hostssl all all 127.0.0.1/32 trust\n")
        .expect("rules");
    let mut server = as_postgres(&bin.join("postgres"));
    server.arg("-D").arg(&data).args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k", ""]);
    server.args(["-c", "ssl=on"]);
    let server = Process::start(server, scenario.dir(), "postgres");
    until("PostgreSQL listens", LIMIT, || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    server
}

/// The plaintext of each socket, by direction: sent, received.
fn streams(pieces: Vec<Piece>) -> BTreeMap<u64, [Vec<u8>; 2]> {
    let mut sorted = pieces;
    sorted.sort_by_key(|piece| (piece.cookie, piece.sent, piece.position));
    let mut streams: BTreeMap<u64, [Vec<u8>; 2]> = BTreeMap::new();
    for piece in sorted {
        let stream = &mut streams.entry(piece.cookie).or_default()[usize::from(!piece.sent)];
        assert_eq!(piece.position, stream.len() as u64, "a hole or an overlap: {piece:?}");
        assert_eq!(piece.len, piece.bytes.len() as u64, "not all of it was captured");
        stream.extend(piece.bytes);
    }
    streams
}

/// Types of the messages in a stream of the server's, each one byte and a length; it must end with one.
fn message_types(mut stream: &[u8]) -> String {
    let mut types = String::new();
    while let [kind, a, b, c, d, ..] = *stream {
        types.push(char::from(kind));
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        stream = stream.get(1 + len..).expect("the message's end");
    }
    assert!(stream.is_empty(), "a message without its end");
    types
}

#[test]
fn plaintext_of_postgresql_is_recorded_byte_for_byte() {
    let Some(scenario) = Scenario::begin("tls postgres", &["psql", "setpriv"]) else { return };
    let Some(bin) = programs() else { return say("SKIP tls_postgres: no PostgreSQL server") };
    let port = free_port();
    let server = start(&scenario, &bin, port);
    let arguments = ["--raw", "--head-bytes", "4096", "--capture", "full"];
    let agent = Agent::record(&scenario, "pg.rec", &arguments);
    let place = format!("host=127.0.0.1 port={port} user={USER} dbname=postgres sslmode=require");
    let query = format!("select repeat('kernspan', {WORDS})");
    let mut psql = Command::new("psql");
    psql.args(["-X", "-A", "-t", "-c", &query, &place]);
    let ended = Process::start(psql, scenario.dir(), "psql").succeed(LIMIT);
    let report = agent.stop();
    drop(server);
    let row = ended.stdout.trim_end().as_bytes();
    assert_eq!(row.len(), 8 * WORDS);

    let found = streams(Recording::load(&scenario.path("pg.rec")).plaintext());
    let asks = |stream: &[u8]| stream.windows(query.len()).any(|part| part == query.as_bytes());
    let asked = |way: usize| found.values().filter(move |streams| asks(&streams[way]));
    let (client, backend) = (asked(0).next(), asked(1).next());
    let (Some([sent, received]), Some([answered, taken])) = (client, backend) else {
        panic!("{} sockets have plaintext\n{:?}", found.len(), report.ledger);
    };
    assert!(sent == taken && received == answered, "both ends saw the same bytes");
    // StartupMessage: length, then protocol 3.0.
    assert_eq!(sent.get(4..8), Some(&[0, 3, 0, 0][..]));
    let types = message_types(answered);
    assert!(types.starts_with('R') && types.ends_with("ZTDCZ"), "{types}");
    assert!(answered.windows(row.len()).any(|part| part == row), "the row as psql printed it");
    say(&format!("tls postgres: {} + {} bytes, equal at both ends", sent.len(), answered.len()));
}
