//! Tests against processes that really run.

use super::ProcessReader;
use super::read::parse_time_offset;
use super::user::UserNames;
use agent_common::record::{Exec, FILENAME_LEN, Header};
use agent_core::event::ProcessKey;
use agent_core::process::{HostFacts, ProcessTable};
use std::io::ErrorKind;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A started process, ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn start(command: &mut Command) -> Running {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        loop {
            match command.spawn() {
                // Another test forked while the copied program was open for writing: until its
                // child runs a program of its own, that descriptor is open there too.
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                child => return Running(child.unwrap()),
            }
        }
    }

    /// Its key, with a start within the tick that the kernel's own number would lie in.
    fn key(&self) -> ProcessKey {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let ticks: u64 =
            stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap().parse().unwrap();
        ProcessKey { tgid: self.0.id(), start_ns: ticks * 10_000_000 + 1_234_567 }
    }
}

/// Waits until a process has called exec and shows these arguments.
fn wait_for(running: &Running, text: &str) {
    let start = Instant::now();
    let path = format!("/proc/{}/cmdline", running.0.id());
    while !String::from_utf8_lossy(&std::fs::read(&path).unwrap()).contains(text) {
        assert!(start.elapsed() < Duration::from_secs(10), "{path} never shows {text}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn exec_record(key: ProcessKey, filename: &str) -> Exec {
    let header = Header {
        tgid: key.tgid,
        start_ns: key.start_ns,
        boot_ns: key.start_ns + 5,
        ..Header::default()
    };
    let mut record = Exec {
        header,
        cgroup: 0,
        parent_tgid: 77,
        uid: 0,
        euid: 0,
        gid: 0,
        old_tid: 0,
        pidns: 0,
        parent_start_ns: 0,
        comm: *b"sleep\0\0\0\0\0\0\0\0\0\0\0",
        filename: [0; FILENAME_LEN],
    };
    record.filename[..filename.len()].copy_from_slice(filename.as_bytes());
    record
}

#[test]
fn a_running_process_is_read() {
    let running = Running::start(Command::new("sleep").arg("61").current_dir("/usr"));
    wait_for(&running, "61");
    let key = running.key();
    let mut reader = ProcessReader::default();
    let facts = reader.facts(key, 42).unwrap();
    assert_eq!((facts.key, facts.since_ns), (key, 42));
    assert_eq!(facts.parent_tgid, std::process::id());
    assert_eq!(facts.comm, "sleep");
    assert_eq!(facts.args, ["sleep", "61"]);
    assert_eq!(facts.working_directory, "/usr");
    assert!(facts.executable.ends_with("/sleep") || facts.executable.contains("coreutils"));
    assert!(facts.cgroup.contains(':'), "{}", facts.cgroup);
    assert_eq!(facts.user_id, rustix::process::geteuid().as_raw());
    assert_eq!(facts.vpid, 0);
    assert_eq!(reader.counts().read, 1);
}

#[test]
fn another_start_is_another_process_and_a_gone_one_is_none() {
    let mut running = Running::start(Command::new("sleep").arg("62"));
    let key = running.key();
    let mut reader = ProcessReader::default();
    let other = ProcessKey { start_ns: key.start_ns + 10_000_000, ..key };
    assert_eq!(reader.facts(other, 0), None);
    running.0.kill().unwrap();
    running.0.wait().unwrap();
    assert_eq!(reader.facts(key, 0), None);
    let counts = reader.counts();
    assert_eq!((counts.asked, counts.other_start, counts.gone, counts.read), (2, 1, 1, 0));
}

#[test]
fn only_the_variables_that_names_need_are_read() {
    let running = Running::start(
        Command::new("/usr/bin/python3")
            .args(["-m", "http.server", "0", "--bind", "127.0.0.1"])
            .env("OTEL_SERVICE_NAME", "file shop")
            .env("OTEL_RESOURCE_ATTRIBUTES", "service.namespace=web")
            .env("OTEL_EXPORTER_OTLP_HEADERS", "api-key=geheim"),
    );
    wait_for(&running, "http.server");
    let mut reader = ProcessReader::default();
    let facts = reader.facts(running.key(), 1).unwrap();
    assert!(!format!("{facts:?}").contains("geheim"));
    assert_eq!(facts.environment.len(), 2);
    let mut table = ProcessTable::new(HostFacts::default(), 16);
    table.insert(facts.clone());
    assert_eq!(table.resource(running.key(), 2).service, "file shop");

    table.insert(agent_core::process::ProcessFacts {
        environment: Vec::new(),
        since_ns: 3,
        ..facts
    });
    assert_eq!(table.resource(running.key(), 3).service, "http.server");
}

#[test]
fn a_script_is_named_and_its_secrets_are_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("backup.sh");
    // A shell that waits for its child; without the last line it would become the child.
    std::fs::write(&script, "sleep 3\nexit 0\n").unwrap();
    let running = Running::start(Command::new("sh").arg(&script).arg("--password=geheim"));
    wait_for(&running, "backup");
    let facts = ProcessReader::default().facts(running.key(), 1).unwrap();
    assert_eq!(facts.args.last().unwrap(), "--password=REDACTED");
    let identity = agent_core::process::identify(&facts);
    assert_eq!(identity.service.as_deref(), Some("backup"));
}

#[test]
fn a_deleted_executable_keeps_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("shop");
    std::fs::copy("/bin/sleep", &copy).unwrap();
    let running = Running::start(Command::new(&copy).arg("64"));
    wait_for(&running, "64");
    std::fs::remove_file(&copy).unwrap();
    let facts = ProcessReader::default().facts(running.key(), 1).unwrap();
    assert_eq!(facts.executable, copy.to_str().unwrap());
}

#[test]
fn a_process_in_a_pid_namespace_of_its_own_has_two_numbers() {
    if !rustix::process::geteuid().is_root() {
        panic!("this test needs root: unshare --pid");
    }
    let running = Running::start(Command::new("unshare").args([
        "--pid",
        "--fork",
        "--kill-child",
        "sleep",
        "65",
    ]));
    let start = Instant::now();
    let mut reader = ProcessReader::default();
    let inner = loop {
        let found = reader.scan().unwrap().into_iter().find(|facts| {
            facts.parent_tgid == running.0.id()
                && facts.args.first().is_some_and(|arg| arg == "sleep")
        });
        if let Some(found) = found {
            break found;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "no child of unshare");
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(inner.vpid, 1);
    assert_ne!(inner.key.tgid, 1);
}

#[test]
fn a_scan_finds_every_process_with_the_start_that_records_have() {
    let running = Running::start(Command::new("sleep").arg("66"));
    wait_for(&running, "66");
    let facts = ProcessReader::default().scan().unwrap();
    assert!(facts.is_sorted_by_key(|facts| facts.key.tgid));
    let mut table = ProcessTable::new(HostFacts::default(), 1 << 16);
    facts.into_iter().for_each(|facts| table.insert(facts));
    let key = running.key();
    assert_eq!(table.facts(key, key.start_ns + 1).unwrap().args, ["sleep", "66"]);
    let own = table.facts(ProcessKey { tgid: std::process::id(), start_ns: 0 }, 1);
    assert_eq!(own, None, "another start is another process");
}

#[test]
fn an_exec_is_told_by_proc_or_by_its_record() {
    let mut running = Running::start(Command::new("sleep").arg("67"));
    wait_for(&running, "67");
    let key = running.key();
    let mut reader = ProcessReader::default();

    let record = exec_record(key, "sleep-by-record");
    let read = reader.exec_facts(&record, b"sleep\x0067\0");
    assert!(read.executable.starts_with('/'), "of /proc: {}", read.executable);
    assert_eq!((read.since_ns, read.parent_tgid), (record.header.boot_ns, 77));

    let earlier = reader.exec_facts(&record, b"sh\0-c\0exec sleep 67\0");
    assert_eq!(earlier.executable, "sleep-by-record", "/proc speaks of a later exec");
    assert_eq!(earlier.args, ["sh", "-c", "exec sleep 67"]);
    assert!(!earlier.working_directory.is_empty(), "what both share is of /proc");

    let as_daemon = Exec { euid: 1, ..record };
    let other = reader.exec_facts(&as_daemon, b"sleep\x0067\0");
    assert_eq!((other.user_id, other.user_name.as_str()), (1, "daemon"), "number and name agree");

    running.0.kill().unwrap();
    running.0.wait().unwrap();
    let gone = reader.exec_facts(&record, b"sleep\x0067\0");
    assert_eq!(gone.executable, "sleep-by-record");
    assert_eq!(gone.args, ["sleep", "67"]);
    assert!(gone.is_unread() && !read.is_unread());
    let stranger = reader.exec_facts(&as_daemon, b"sleep\x0067\0");
    assert_eq!(stranger.user_name, "daemon", "a process that was gone before it was looked at");
}

/// Its `stat` is there, and `exe`, `cmdline` and `environ` are empty; its cgroup is the root in version 1.
#[test]
fn a_process_that_has_ended_and_was_not_waited_for_is_not_read() {
    let running = Running::start(&mut Command::new("true"));
    let path = format!("/proc/{}/stat", running.0.id());
    let start = Instant::now();
    while !std::fs::read_to_string(&path).unwrap().contains(") Z ") {
        assert!(start.elapsed() < Duration::from_secs(10), "it never ends");
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut reader = ProcessReader::default();
    assert_eq!(reader.facts(running.key(), 1), None);
    assert_eq!((reader.counts().ending, reader.counts().read), (1, 0));
    let said = reader.exec_facts(&exec_record(running.key(), "/bin/true"), b"true\0");
    assert_eq!((said.executable.as_str(), said.is_unread()), ("/bin/true", true));
}

#[test]
fn the_offset_of_a_time_namespace_is_read() {
    assert_eq!(parse_time_offset("monotonic 0 0\nboottime 86400 5\n"), Some(86_400_000_000_005));
    assert_eq!(parse_time_offset("monotonic 0 0\n"), None);
}

#[test]
fn users_are_named_by_a_file() {
    let mut none = UserNames::of_file("/nonexistent".into());
    assert_eq!(none.name(0), "");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("passwd");
    std::fs::write(&file, "shop:x:7:7\n").unwrap();
    assert_eq!(UserNames::of_file(file).name(7), "shop");
}
