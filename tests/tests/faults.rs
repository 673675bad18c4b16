//! What happens when things go wrong: a ring that is too small, a killed agent, short lives.

use kernspan_tests::agent::Agent;
use kernspan_tests::client::wrk;
use kernspan_tests::nginx::{Access, Location, Nginx};
use kernspan_tests::otlp::{Kind, Span};
use kernspan_tests::process::{Process, anonymous_bytes, free_port, kernel_map_bytes, until};
use kernspan_tests::recording::Recording;
use kernspan_tests::scenario::{Scenario, say};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const PAGE: &str = "/static/fault";

fn nginx(scenario: &Scenario) -> (Nginx, String, u16) {
    std::fs::create_dir_all(scenario.path("www/static")).expect("a directory");
    Nginx::page(scenario, "static/fault", 500);
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let nginx = Nginx::start(scenario, &listen, &[("/static/", Location::Static)], &[]);
    (nginx, listen, port)
}

#[test]
fn a_tiny_ring_loses_in_the_open() {
    tiny_rings(1);
}

#[test]
fn several_tiny_rings_lose_in_the_open_each_by_itself() {
    tiny_rings(4);
}

fn tiny_rings(count: usize) {
    let name = format!("tiny rings: {count}");
    let Some(scenario) = Scenario::begin(&name, &["nginx", "wrk"]) else { return };
    let (nginx, listen, port) = nginx(&scenario);
    // Captured whole, slots of 4 KiB: from three quarters on a ring takes only what is under way, and the
    // last quarter must not have room for all of that.
    Nginx::page(&scenario, "static/fault", 5000);
    let rings = count.to_string();
    let arguments = ["--ring-size", "64KiB", "--poll-interval", "100ms", "--payload-rings", &rings];
    let agent = Agent::record(&scenario, "tiny.rec", &arguments);
    let asked = load_until_each_ring_loses(&scenario, &agent, &format!("http://{listen}{PAGE}"));
    let report = agent.stop();
    let access = nginx.stop();
    let [tried, lost] =
        ["in", "lost"].map(|side| report.ledger.count("kernel_payload", "records", side));
    assert!(lost > 0, "nothing was lost: the ring was not tiny enough\n{:?}", report.ledger);
    assert_eq!(report.ledger.imbalances(), Vec::<String>::new(), "tried {tried}, lost {lost}");

    // The recording has what was decoded; the rest shows as gaps in the sequence numbers.
    let recording = Recording::load(&scenario.path("tiny.rec"));
    let sequences = recording.payload_sequences();
    let decoded: u64 = sequences.values().map(|seen| seen.len() as u64).sum();
    assert_eq!(tried, decoded + lost, "kernel records = decoded + lost");
    assert_eq!(recording.payload_tried(), tried, "the counter and the last sequence numbers");
    let gaps = recording.payload_missing();
    assert_eq!(gaps, lost, "the loss counter and the gaps in the sequence numbers");
    let by_ring = recording.payload_rings();
    assert_eq!(by_ring.len(), count, "{by_ring:?}");
    for ring in &by_ring {
        let told = (ring.tried, ring.lost);
        assert_eq!(told, (ring.decoded + ring.missing, ring.missing), "{ring:?}");
        assert!(ring.lost > 0 && ring.decoded > 0, "a ring was not used or not tiny: {by_ring:?}");
    }
    let sockets = recording.rings_of_sockets();
    let cookies: BTreeSet<u64> = sockets.iter().map(|(cookie, _)| *cookie).collect();
    assert_eq!(cookies.len(), sockets.len(), "a socket in several rings");

    let spans = report.telemetry.on_ports(&[port]);
    no_false_span(&spans);
    let missing = missing_by_port(&spans, &access);
    let (holed, known) = (recording.ports_with_gaps(port), recording.known_ports(port));
    for (client, count) in &missing {
        let open = holed.contains(client) || !known.contains(client);
        assert!(open, "{count} requests missing on port {client}, which has no gap");
    }
    say(&format!(
        "{name}: {asked} responses, {} log lines, {} spans; tried {tried} = decoded {decoded} + \
         lost {lost} = gaps {gaps}; requests missing on {} connections, all with gaps",
        access.len(),
        spans.len(),
        missing.len()
    ));
}

/// No load of a fixed length is sure to fill every ring on every machine: it goes on until the kernel side
/// has counted losses of each. Gives the number of responses.
fn load_until_each_ring_loses(scenario: &Scenario, agent: &Agent, url: &str) -> u64 {
    const CONNECTIONS: usize = 32;
    const ROUNDS: usize = 20;
    let mut asked = 0;
    for _ in 0..ROUNDS {
        asked += wrk(scenario, url, CONNECTIONS, 2);
        let status = agent.status();
        let rings = status["payload_rings"].as_array().expect("the account of each ring");
        if rings.iter().all(|ring| ring["lost"].as_u64().is_some_and(|lost| lost > 0)) {
            break;
        }
    }
    asked
}

fn no_false_span(spans: &[&Span]) {
    for span in spans {
        // A response that was lost is no status, and no error either: nobody saw one.
        let status = span.status().is_none_or(|status| status == 200);
        let right = span.path() == PAGE && span.method() == "GET" && status;
        assert!(right, "false span: {}", span.brief());
    }
}

/// Requests of the access log without a server span, by client port; more spans than requests on
/// a port are false ones.
fn missing_by_port(spans: &[&Span], access: &[Access]) -> BTreeMap<u16, i64> {
    let mut balance: BTreeMap<u16, i64> = BTreeMap::new();
    for line in access {
        *balance.entry(line.port).or_default() += 1;
    }
    for span in spans.iter().filter(|span| span.kind == Kind::Server && !span.error) {
        let port = span.int("network.peer.port").or(span.int("client.port")).unwrap_or(0);
        *balance.entry(u16::try_from(port).unwrap_or(0)).or_default() -= 1;
    }
    for (port, count) in &balance {
        assert!(*count >= 0, "{} server spans too many on port {port}", -count);
    }
    balance.retain(|_, count| *count > 0);
    balance
}

/// A reader that has nothing to read sleeps for longer than a ring lasts at full load: the first
/// record has to wake it.
#[test]
fn load_that_sets_in_after_a_calm_loses_nothing() {
    const CALM: Duration = Duration::from_millis(1200);
    let Some(scenario) = Scenario::begin("calm", &["nginx", "ab"]) else { return };
    let (nginx, listen, _) = nginx(&scenario);
    let agent = Agent::run(&scenario, &[]);
    for _ in 0..4 {
        std::thread::sleep(CALM);
        let mut burst = Command::new("ab");
        burst.args(["-q", "-k", "-n", "3000", "-c", "64"]);
        // Slots of 4 KiB at both ends.
        burst.args(["-H", &format!("X-Long: {}", "x".repeat(3000))]);
        burst.arg(format!("http://{listen}{PAGE}"));
        Process::start(burst, scenario.dir(), "burst").succeed(Duration::from_secs(60));
    }
    let report = agent.stop();
    drop(nginx);
    let lost = report.ledger.count("kernel_payload", "records", "lost");
    assert_eq!(lost, 0, "{:?}", report.ledger);
    // A ring that is nearly full takes no new requests. A reader that slept on would leave it so for most
    // of each burst.
    let ends = 2 * 4 * 3000;
    let shed = report.ledger.cause("shed_requests_ring_nearly_full");
    let seen = report.telemetry.under(PAGE).len() as u64;
    assert_eq!(seen + shed, ends, "{:?}", report.ledger);
    assert!(shed * 10 <= ends, "{shed} of {ends} ends of requests shed: the reader was not woken");
}

#[test]
fn a_killed_agent_leaves_nothing() {
    let Some(scenario) = Scenario::begin("killed", &["bpftool"]) else { return };
    let pinned = listing(Path::new("/sys/fs/bpf"));
    let agent = Agent::run(&scenario, &[]);
    let held = kernel_objects(agent.pid());
    assert!(held.iter().any(|(kind, _)| *kind == "prog"), "the agent holds programs: {held:?}");
    agent.kill();
    for (kind, id) in &held {
        until(&format!("{kind} {id} is gone"), Duration::from_secs(60), || {
            let mut show = Command::new("bpftool");
            show.args([kind, "show", "id", &id.to_string()]);
            show.output().is_ok_and(|output| !output.status.success()).then_some(())
        });
    }
    assert_eq!(listing(Path::new("/sys/fs/bpf")), pinned, "pinned objects");
    say(&format!("killed: {} kernel objects gone, nothing pinned", held.len()));
}

/// Programs, maps and links that a process holds, from its open files.
fn kernel_objects(pid: u32) -> BTreeSet<(&'static str, u32)> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("the agent's open files");
    let texts = entries.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok());
    let mut found = BTreeSet::new();
    for text in texts {
        for (key, kind) in [("prog_id:", "prog"), ("map_id:", "map"), ("link_id:", "link")] {
            let id = text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok());
            found.extend(id.map(|id| (kind, id)));
        }
    }
    found
}

fn listing(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

#[test]
fn short_lives_leave_memory_flat() {
    /// What may stay: buffers that have found their size.
    const GROWTH: u64 = 16 << 20;
    let Some(scenario) = Scenario::begin("short lives", &["nginx", "ab"]) else { return };
    let (nginx, listen, _) = nginx(&scenario);
    let agent = Agent::run(&scenario, &["--ring-size", "64MiB"]);
    // Twice, because what the allocator keeps differs from round to round.
    let warm = [(); 2].map(|()| {
        short_lives(&scenario, &listen, 6000, 1500);
        settled(agent.pid())
    });
    let before = warm[0].max(warm[1]);
    let kernel_before = kernel_map_bytes(agent.pid());
    short_lives(&scenario, &listen, 20_000, 5000);
    let after = settled(agent.pid());
    let kernel = kernel_map_bytes(agent.pid());
    let report = agent.stop();
    drop(nginx);
    say(&format!(
        "short lives: heap {} KiB before, {} KiB after, kernel maps {} KiB \
         before, {} KiB after",
        before / 1024,
        after / 1024,
        kernel_before / 1024,
        kernel / 1024
    ));
    assert!(after <= before + GROWTH, "the heap grew from {before} to {after}");
    let most = kernel_before + GROWTH / 16;
    assert!(kernel > 0 && kernel <= most, "kernel maps grew from {kernel_before} to {kernel}");
    assert_eq!(report.telemetry.under(PAGE).len(), 2 * 32_000, "{:?}", report.ledger);
}

#[test]
fn memory_under_load_stays_within_its_bounds() {
    /// More than 20,000 requests a second on any machine that has two processors for them.
    const CONNECTIONS: usize = 64;
    /// 64 MB, and what the JSON output takes at this rate: a queue of 8 MiB and the lines in work.
    const ANONYMOUS: u64 = 64_000_000 + 32_000_000;
    const KERNEL: u64 = 32_000_000;
    let Some(scenario) = Scenario::begin("memory", &["nginx", "wrk"]) else { return };
    let (nginx, listen, _) = nginx(&scenario);
    // With a filter, as `bench http` has it: there is one more map.
    let agent = Agent::run(&scenario, &["--exclude", "nobody"]);
    let asked = wrk(&scenario, &format!("http://{listen}{PAGE}"), CONNECTIONS, 3);
    let (anonymous, kernel) = (anonymous_bytes(agent.pid()), kernel_map_bytes(agent.pid()));
    let report = agent.stop();
    drop(nginx);
    say(&format!(
        "memory: {} requests/s, heap {} KiB, kernel maps {} KiB",
        asked / 3,
        anonymous / 1024,
        kernel / 1024
    ));
    assert!(anonymous <= ANONYMOUS, "{anonymous} bytes of its own\n{:?}", report.ledger);
    assert!(kernel > 0 && kernel <= KERNEL, "{kernel} bytes of kernel maps");
}

/// Connections of one request each, then processes that end at once.
fn short_lives(scenario: &Scenario, listen: &str, connections: u64, processes: u32) {
    let mut left = connections;
    while left > 0 {
        // ab without kept connections; in parts, so that ports come free.
        let part = left.min(5000);
        short_connections(scenario, &format!("http://{listen}{PAGE}"), part);
        left -= part;
    }
    let mut shell = Command::new("sh");
    let script = format!("i=0; while [ $i -lt {processes} ]; do /bin/true; i=$((i+1)); done");
    shell.args(["-c", &script]);
    Process::start(shell, scenario.dir(), "short").succeed(Duration::from_secs(120));
}

fn short_connections(scenario: &Scenario, url: &str, count: u64) {
    let mut command = Command::new("ab");
    command.args(["-q", "-n", &count.to_string(), "-c", "8", url]);
    Process::start(command, scenario.dir(), "ab").succeed(Duration::from_secs(120));
}

/// Memory of its own once what idles has been let go.
fn settled(pid: u32) -> u64 {
    std::thread::sleep(Duration::from_secs(3));
    anonymous_bytes(pid)
}

#[test]
fn the_load_is_what_it_claims() {
    let Some(scenario) = Scenario::begin_without_agent("load", &["nginx", "ab"]) else { return };
    let (nginx, listen, _) = nginx(&scenario);
    short_lives(&scenario, &listen, 500, 10);
    let ports: BTreeSet<u16> = nginx.stop().iter().map(|line| line.port).collect();
    assert_eq!(ports.len(), 500, "a connection of its own for each request");
}
