use super::*;
use crate::cli::doctor::programs::Source;
use crate::uprobe::knowledge::Why;
use std::path::PathBuf;

fn facts(tgid: u32, start_ns: u64, executable: &str) -> ProcessFacts {
    let key = ProcessKey { tgid, start_ns };
    ProcessFacts { key, executable: executable.to_owned(), ..ProcessFacts::default() }
}

fn library(pid: u32, library: &'static str, blind: Option<Why>) -> Use {
    Use { pid, library, path: PathBuf::from("/lib/x"), blind }
}

#[test]
fn an_agents_word_goes_to_the_process_that_it_is_about() {
    const START: u64 = 5_000_000_000;
    let json = json!({
        "seconds": 50, "conversations": true, "filters": ["--port 80", "--exclude eight"], "records_lost": 3,
        "hooks": [{"feature": "sent pages", "on": false, "why": "too old"}, {"feature": "flows", "on": true}],
        "processes": [
            {"pid": 7, "start_ns": START + 3, "resource": {"service.name": "shop", "host.name": "h"},
             "bytes": {"decoded": 5, "unknown": 6, "nonsense": 7}, "protocols": ["Redis"],
             "in_kernel": {"packet_receives": 2, "unreachable_calls": 1}, "uncovered": [],
             "goroutines": {"read": false, "why": "too new"}, "thread_context": {"read": "?"}},
            {"pid": 8, "start_ns": START, "bytes": {"decoded": 99}},
            {"pid": 9, "start_ns": 0, "uncovered": [{"library": "GnuTLS", "reason": "refused"}]},
            {"pid": "x"}, 5
        ],
    });
    let source = Source::Agent("a".to_owned());
    let answer = Answer { source, json: Some(json), ..Answer::default() };
    // The number 8 has been given to another process since.
    let facts = [
        facts(9, START, "/usr/bin/nine"),
        facts(7, START, "/usr/bin/seven"),
        facts(8, 2 * START, "/usr/bin/eight"),
    ];
    let uses = [
        library(9, "OpenSSL", None),
        library(9, "OpenSSL (libcrypto)", None),
        library(9, "GnuTLS", None),
        library(8, "NSS", Some(Why::Unknown)),
        library(8, "NSS", None),
    ];
    let found = assemble(answer, facts.into_iter(), &HostFacts::default(), &uses, &[8]);
    assert_eq!(found.off, [("sent pages".to_owned(), "too old".to_owned())]);
    assert_eq!((found.records_lost, found.tls_sockets_without_room), (3, 0));
    assert_eq!((found.seconds, found.filters.len(), found.remarks.len()), (50, 2, 0));
    let [seven, eight, nine] = &found.programs[..] else { panic!("{found:?}") };
    let name = |program: &Program| program.attributes["service.name"].clone();
    assert_eq!([name(seven), name(eight), name(nine)], ["shop", "eight", "nine"]);
    assert!(!seven.attributes.contains_key("host.name"));
    let seen = seven.seen.as_ref().expect("watched");
    assert_eq!((seen.bytes.total(), seen.packet_receives, seen.unreachable_calls), (11, 2, 1));
    assert_eq!(eight.seen, Some(Seen::default()), "another process's bytes are not its own");
    assert!(eight.io_uring && !nine.io_uring);
    let why = seven.goroutines.as_ref().map(|coverage| (coverage.read, coverage.why.as_deref()));
    assert_eq!((why, &seven.thread_context), (Some((false, Some("too new"))), &None));
    assert_eq!((&eight.left_out[..], &nine.left_out[..]), (&["--exclude"][..], &[][..]));
    let blind = |program: &Program| -> Vec<(String, bool)> {
        program.tls.iter().map(|tls| (tls.library.clone(), tls.blind.is_some())).collect()
    };
    assert_eq!(blind(eight), [("NSS".to_owned(), true)], "one of two copies is not read");
    assert_eq!(blind(nine), [("GnuTLS".to_owned(), true), ("OpenSSL".to_owned(), false)]);
}

#[test]
fn without_an_agent_proc_says_who_they_are() {
    let answer = Answer { remarks: vec!["no agent".to_owned()], ..Answer::default() };
    let one = facts(7, 5, "/usr/sbin/nginx");
    let found = assemble(answer, [one].into_iter(), &HostFacts::default(), &[], &[]);
    assert_eq!((found.source, found.remarks.len()), (Source::Nobody, 1));
    assert_eq!(found.programs[0].seen, None);
    assert_eq!(found.programs[0].attributes["service.name"], "nginx");
}

#[test]
fn who_has_ended_is_counted() {
    let row = |pid: u32, name: &str, bytes: u64| {
        json!({"pid": pid, "start_ns": 1, "resource": {"process.executable.name": name},
               "bytes": {"decoded": bytes, "unknown": bytes / 100}})
    };
    let curl = |pid| row(pid, "curl", 1000);
    let answer = |rows: &[Value]| json!({"processes": rows});
    let living = HashSet::from([7]);
    let told = |rows: &[Value]| ended(Some(&answer(rows)), &living);
    assert_eq!(told(&[curl(7), row(8, "idle", 0), row(9, "kernspan", 8192)]), None);
    assert_eq!(
        told(&[curl(7), curl(8), curl(9)]).as_deref(),
        Some("not below: 2 processes that have ended and moved 2.0 kB decoded, 20 B unknown")
    );
    let huge = json!({"pid": 10, "bytes": {"decoded": u64::MAX}});
    assert!(told(&[huge.clone(), huge, curl(8)]).is_some());
    assert_eq!(ended(None, &living), None);
    assert_eq!(ended(Some(&json!({"processes": 5})), &living), None);
}
