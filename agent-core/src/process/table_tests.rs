//! Tests of [`super`].

use super::*;
use crate::ledger::Side;
use crate::process::{Resource, ResourceValue};
use agent_common::record::{FILENAME_LEN, Header};

const SECOND: u64 = 1_000_000_000;

fn key(tgid: u32, start_ns: u64) -> ProcessKey {
    ProcessKey { tgid, start_ns }
}

fn facts(key: ProcessKey, since_ns: u64, executable: &str) -> ProcessFacts {
    ProcessFacts { key, since_ns, executable: executable.into(), ..ProcessFacts::default() }
}

fn exec(key: ProcessKey, at_ns: u64, path: &str) -> Exec {
    let header =
        Header { tgid: key.tgid, start_ns: key.start_ns, boot_ns: at_ns, ..Header::default() };
    let mut filename = [0; FILENAME_LEN];
    filename[..path.len()].copy_from_slice(path.as_bytes());
    Exec {
        header,
        cgroup: 0,
        parent_tgid: 1,
        uid: 0,
        euid: 0,
        gid: 0,
        old_tid: 0,
        pidns: 0,
        parent_start_ns: 0,
        comm: [0; 16],
        filename,
    }
}

fn table(capacity: usize) -> ProcessTable {
    ProcessTable::new(HostFacts::default(), capacity)
}

fn count(table: &ProcessTable, side: Side) -> u64 {
    table.ledger().iter().find(|entry| entry.side == side).map_or(0, |entry| entry.count)
}

#[test]
fn a_forked_child_is_its_parent_until_it_calls_exec() {
    let (parent, child) = (key(10, SECOND), key(11, 2 * SECOND));
    let mut table = table(16);
    table.insert(facts(parent, SECOND, "/srv/shop"));
    table.fork(parent, child, 2 * SECOND);
    table.exec(&exec(child, 3 * SECOND, "/bin/curl"), b"curl\0");

    let before = table.resource(child, 2 * SECOND + 5);
    let after = table.resource(child, 3 * SECOND);
    assert_eq!((before.service.as_str(), after.service.as_str()), ("shop", "curl"));
    assert_eq!(table.facts(child, 2 * SECOND).unwrap().parent_tgid, 10);
    assert_eq!(table.resource(parent, 9 * SECOND).service, "shop");
    assert_ne!(before.id, table.resource(parent, 9 * SECOND).id, "they have their own numbers");
}

/// Titles as celery 5.2 writes them. Its worker's says nothing of the application, and its parent's does.
#[test]
fn a_worker_of_celerys_pool_is_named_after_its_main_process() {
    const MAIN: &str = "[celeryd: one@h:MainProcess] -active- (-A billing worker -c 1)";
    const WORKER: &str = "[celeryd: one@h:ForkPoolWorker-12]";
    let python = |key, args: &[&str]| {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        ProcessFacts { args, ..facts(key, SECOND, "/usr/bin/python3.11") }
    };
    let started = ["/usr/bin/python3", "/usr/bin/celery", "-A", "billing", "worker"];
    let other = "[celeryd: two@h:MainProcess] -active- (-A stock worker)";
    for (why, parent, worker, expected) in [
        ("by the title", &[MAIN][..], WORKER, "billing"),
        ("padded", &[MAIN], "[celeryd: one@h:ForkPoolWorker-12]   ", "billing"),
        ("spawned", &[MAIN], "[celeryd: one@h:SpawnPoolWorker-1]", "billing"),
        ("it has no title yet", &started, WORKER, "billing"),
        ("another node's", &[other], WORKER, "celeryd"),
        ("no celery", &["/usr/bin/python3", "/srv/celery.py"], WORKER, "celeryd"),
        ("no worker", &[MAIN], "[celeryd: one@h:Janitor-1]", "celeryd"),
        ("no number", &[MAIN], "[celeryd: one@h:ForkPoolWorker-]", "celeryd"),
        ("no node", &[MAIN], "[celeryd: :ForkPoolWorker-1]", "celeryd"),
        ("cut", &[MAIN], "[celeryd: one@h:ForkPoolWorker-1", "celeryd"),
    ] {
        let mut table = table(16);
        table.insert(python(key(10, SECOND), parent));
        let worker = ProcessFacts { parent_tgid: 10, ..python(key(11, 2 * SECOND), &[worker]) };
        table.insert(worker.clone());
        let named = |table: &mut ProcessTable| table.resource(worker.key, 3 * SECOND);
        assert_eq!(named(&mut table).service, expected, "{why}");
        let text = ResourceValue::Str("python".into());
        assert!(named(&mut table).attributes.contains(&("telemetry.sdk.language".into(), text)));
        // Whoever has the number of its parent later, or is nobody's, is not it.
        for (parent_tgid, start) in [(10, SECOND / 2), (12, 2 * SECOND)] {
            let stray = ProcessFacts { key: key(13, start), parent_tgid, ..worker.clone() };
            table.insert(stray);
            assert_eq!(table.resource(key(13, start), 3 * SECOND).service, "celeryd", "{why}");
        }
    }
}

#[test]
fn a_reused_number_is_another_process() {
    let (old, new) = (key(10, SECOND), key(10, 9 * SECOND));
    let mut table = table(16);
    table.insert(facts(old, SECOND, "/bin/old"));
    table.exit(old, 8 * SECOND);
    table.insert(facts(new, 9 * SECOND, "/bin/new"));
    assert_eq!(table.resource(old, 10 * SECOND).service, "old");
    assert_eq!(table.resource(new, 10 * SECOND).service, "new");
}

#[test]
fn facts_from_proc_know_the_start_to_a_tick_only() {
    let exact = key(10, 1_234_567_891);
    let mut table = table(16);
    table.insert(facts(key(10, 1_230_000_000), SECOND, "/bin/shop"));
    assert_eq!(table.resource(exact, 2 * SECOND).service, "shop");
    assert_eq!(table.len(), 1);
}

#[test]
fn facts_of_an_exec_replace_what_its_record_said_whichever_comes_first() {
    let shop = key(10, SECOND);
    let read = facts(shop, 3 * SECOND, "/bin/read");
    let record = exec(shop, 3 * SECOND, "/bin/record");
    let mut after = table(16);
    after.exec(&record, b"");
    after.insert(read.clone());
    let mut before = table(16);
    before.insert(read);
    before.exec(&record, b"");
    for table in [&mut after, &mut before] {
        assert_eq!(table.resource(shop, 4 * SECOND).service, "read");
    }
}

/// The facts of an exec come at once, and say nothing but what its record does; the fork has its turn later.
#[test]
fn a_program_that_was_gone_before_it_was_read_is_in_its_parents_container() {
    let (shell, gone) = (key(10, SECOND), key(11, 2 * SECOND));
    let container = "c1".repeat(32);
    let record = exec(gone, 3 * SECOND, "/bin/wget");
    let args = b"wget\0http://shop/\0";
    let about_shell = ProcessFacts {
        cgroup: format!("0::/docker/{container}\n"),
        environment: vec![("OTEL_RESOURCE_ATTRIBUTES".into(), "team=blue".into())],
        working_directory: "/srv".into(),
        ..facts(shell, SECOND, "/bin/sh")
    };
    let of_gone = ProcessFacts::from_exec(&record, args, None);
    assert!(of_gone.is_unread());
    for asked_between in [false, true] {
        let mut table = table(16);
        table.insert(about_shell.clone());
        table.insert(of_gone.clone());
        if asked_between {
            table.resource(gone, 4 * SECOND);
        }
        table.fork(shell, gone, 2 * SECOND);
        table.exec(&record, args);
        let resource = table.resource(gone, 4 * SECOND);
        assert_eq!(resource.service, "wget");
        for (name, value) in [("container.id", container.as_str()), ("team", "blue")] {
            let wanted = (name.to_owned(), ResourceValue::Str(value.to_owned()));
            assert!(resource.attributes.contains(&wanted), "{name}: {:?}", resource.attributes);
        }
        let known = table.facts(gone, 4 * SECOND).unwrap();
        assert_eq!((known.working_directory.as_str(), known.parent_tgid), ("/srv", 1));
        assert_eq!(count(&table, Side::Info("unread")), u64::from(asked_between));
        assert_eq!(count(&table, Side::Info("inherited")), 1);
        // /proc in time after all: nothing of it is the maker's.
        let read = ProcessFacts { cgroup: "0::/other\n".into(), ..of_gone.clone() };
        table.insert(read);
        table.resource(gone, 4 * SECOND);
        assert_eq!(count(&table, Side::Info("inherited")), 1);
    }
    // What has been read is not mixed with what was before.
    let mut table = table(16);
    table.insert(about_shell);
    let elsewhere = ProcessFacts { cgroup: "0::/other\n".into(), ..of_gone };
    table.insert(elsewhere);
    table.fork(shell, gone, 2 * SECOND);
    table.exec(&record, args);
    let known = table.facts(gone, 4 * SECOND).unwrap();
    assert_eq!((known.cgroup.as_str(), known.environment.len()), ("0::/other\n", 0));
    // Of a stranger's child nobody can say where it ran: that is counted.
    let stranger = key(20, SECOND);
    table.insert(ProcessFacts::from_exec(&exec(stranger, 3 * SECOND, "/bin/wget"), args, None));
    assert_eq!(table.resource(stranger, 4 * SECOND).service, "wget");
    assert_eq!(count(&table, Side::Info("unread")), 1);
}

#[test]
fn equal_attributes_are_one_resource_and_others_are_not() {
    let shop = key(10, SECOND);
    let mut table = table(16);
    table.insert(facts(shop, SECOND, "/bin/shop"));
    table.insert(facts(shop, 2 * SECOND, "/bin/shop"));
    table.insert(facts(shop, 3 * SECOND, "/bin/cart"));
    let first = table.resource(shop, SECOND);
    assert!(Arc::ptr_eq(&first, &table.resource(shop, 2 * SECOND)));
    assert_ne!(first.id, table.resource(shop, 3 * SECOND).id);
}

#[test]
fn an_unknown_process_is_asked_for_once_and_then_known() {
    let ghost = key(10, SECOND);
    let mut table = table(16);
    let first = table.resource(ghost, 5 * SECOND);
    assert!(Arc::ptr_eq(&first, &table.resource(ghost, 6 * SECOND)));
    assert_eq!(first.service, "unknown_service");
    assert_eq!(table.facts(ghost, 6 * SECOND), None);
    assert_eq!(count(&table, Side::Info("unknown")), 1);
    table.insert(facts(ghost, SECOND, "/bin/shop"));
    assert_eq!(table.resource(ghost, 6 * SECOND).service, "shop");
}

#[test]
fn a_process_is_kept_for_a_while_after_its_end() {
    let shop = key(10, SECOND);
    let mut table = table(16);
    table.insert(facts(shop, SECOND, "/bin/shop"));
    table.exit(shop, 2 * SECOND);
    table.exit(shop, 2 * SECOND);
    table.exit(key(1, 1), 2 * SECOND + GRACE_NS);
    assert_eq!(table.resource(shop, 2 * SECOND).service, "shop");
    table.exit(key(1, 1), 2 * SECOND + GRACE_NS + 1);
    assert_eq!(table.len(), 0);
    assert_eq!(count(&table, Side::Out), 1);
}

#[test]
fn many_short_processes_leave_nothing_behind() {
    let mut table = table(1000);
    let parent = key(1, SECOND);
    table.insert(facts(parent, SECOND, "/bin/sh"));
    for at in 0..20_000_u64 {
        let now = 2 * SECOND + at * SECOND;
        let child = key(u32::try_from(at).unwrap() + 2, now);
        table.fork(parent, child, now);
        table.exec(&exec(child, now + 1, "/bin/true"), b"true\0");
        table.resource(child, now + 1);
        table.exit(child, now + 2);
    }
    assert!(table.len() < 40, "{}", table.len());
    assert!(table.turn.len() < 200 && table.ended.len() < 40, "{}", table.turn.len());
    assert!(table.interner.resources.len() <= 512, "{}", table.interner.resources.len());
    assert_eq!(count(&table, Side::Lost("evicted")), 0);
}

#[test]
fn processes_that_end_at_once_are_bounded_and_time_alone_forgets_them() {
    let mut table = table(10_000);
    for tgid in 1..=5000 {
        table.insert(facts(key(tgid, SECOND), SECOND, "/bin/true"));
        table.exit(key(tgid, SECOND), SECOND);
    }
    assert_eq!(table.len(), MAX_ENDED);
    assert_eq!(count(&table, Side::Out), 5000 - MAX_ENDED as u64);
    table.forget_ended(SECOND + GRACE_NS + 1);
    assert!(table.is_empty());
}

#[test]
fn a_full_table_evicts_what_ended_then_what_nobody_asks_for_and_counts_it() {
    let mut table = table(4);
    for tgid in 1..=4 {
        table.insert(facts(key(tgid, SECOND), SECOND, "/bin/x"));
    }
    table.resource(key(1, SECOND), SECOND);
    table.exit(key(3, SECOND), SECOND);
    table.insert(facts(key(5, SECOND), SECOND, "/bin/x"));
    assert_eq!(table.facts(key(3, SECOND), SECOND), None, "it had ended");
    table.insert(facts(key(6, SECOND), SECOND, "/bin/x"));
    assert_eq!(table.facts(key(2, SECOND), SECOND), None, "the first nobody asked for");
    assert!(table.facts(key(1, SECOND), SECOND).is_some());
    let (came_in, lost) = (count(&table, Side::In), count(&table, Side::Lost("evicted")));
    assert_eq!((came_in, lost, count(&table, Side::Held)), (6, 2, 4));
}

#[test]
fn the_versions_of_one_process_are_bounded() {
    let busy = key(10, SECOND);
    let mut table = table(4);
    for at in 1..=20 {
        table.exec(&exec(busy, at * SECOND, &format!("/bin/x{at}x")), b"x\0");
    }
    assert_eq!(count(&table, Side::Info("dropped_versions")), 12);
    assert_eq!(table.resource(busy, 20 * SECOND).service, "x20x");
}

#[test]
fn a_look_that_shows_nothing_new_is_no_version_and_one_that_does_is() {
    let worker = key(10, SECOND);
    let mut table = table(4);
    for at in 1..=20 {
        table.insert(facts(worker, at * SECOND, "/bin/x"));
    }
    assert_eq!(count(&table, Side::Info("dropped_versions")), 0);
    // The record of an exec whose facts came first, and said nothing new.
    table.exec(&exec(worker, 20 * SECOND, "x"), b"other\0");
    assert_eq!(table.facts(worker, 20 * SECOND).unwrap().executable, "/bin/x");
    let mut titled = facts(worker, 21 * SECOND, "/bin/x");
    titled.user_name = "www-data".into();
    table.insert(titled);
    let user = |at: u64| table.facts(worker, at * SECOND).unwrap().user_name.clone();
    assert_ne!(user(20), "www-data");
    assert_eq!(user(21), "www-data");
}

#[test]
fn processes_of_a_service_have_its_resource_in_common() {
    let [first, second, third] = [key(10, SECOND), key(11, SECOND), key(12, SECOND)];
    let mut table = table(16);
    table.insert(facts(first, SECOND, "/bin/shop"));
    table.insert(facts(second, SECOND, "/usr/bin/shop"));
    table.insert(facts(third, SECOND, "/bin/cart"));
    let [first, second, third] = [first, second, third].map(|key| table.resource(key, SECOND));
    assert_ne!(first.id, second.id);
    assert!(Arc::ptr_eq(first.of_service(), second.of_service()));
    assert!(!Arc::ptr_eq(first.of_service(), third.of_service()));
    let instance = |of: &Resource| {
        of.attributes.iter().find(|(key, _)| key == "service.instance.id").cloned().unwrap()
    };
    assert_ne!(instance(&first), instance(first.of_service()), "a service is no process");
    assert_ne!(instance(third.of_service()), instance(first.of_service()));
    assert!(!first.of_service().attributes.iter().any(|(key, _)| key.starts_with("process.")));
    assert!(Arc::ptr_eq(first.of_service(), first.of_service().of_service()));
}

#[test]
fn an_instance_that_the_environment_names_is_one_of_its_service_too() {
    let shop = key(10, SECOND);
    let mut table = table(16);
    let declared = ("OTEL_RESOURCE_ATTRIBUTES".into(), "service.instance.id=blue".into());
    table.insert(ProcessFacts { environment: vec![declared], ..facts(shop, SECOND, "/bin/shop") });
    let resource = table.resource(shop, SECOND);
    let blue = ("service.instance.id".to_owned(), ResourceValue::Str("blue".to_owned()));
    assert!(resource.of_service().attributes.contains(&blue));
}

#[test]
fn a_process_is_renamed_when_its_pod_is_and_keeps_the_name_of_one_that_is_gone() {
    use crate::process::kubernetes::{PodChange, testing};
    let key = key(10, SECOND);
    let mut table = table(16);
    let inside = ProcessFacts { cgroup: testing::cgroup(), ..facts(key, SECOND, "/srv/shop") };
    table.insert(inside);
    let name = |table: &mut ProcessTable| table.resource(key, 2 * SECOND).service.clone();
    assert_eq!(name(&mut table), "shop", "before the pod is known");
    table.pod(PodChange::known(testing::pod()));
    assert_eq!(name(&mut table), "web");
    let first = table.resource(key, 2 * SECOND);
    table.pod(PodChange::known(testing::pod()));
    assert_eq!(table.resource(key, 2 * SECOND).id, first.id, "nothing has changed");

    let mut labelled = testing::pod();
    labelled.app.name = "front".into();
    table.pod(PodChange::known(labelled));
    assert_eq!(name(&mut table), "front");
    table.pod(PodChange::Gone(testing::uid()));
    assert_eq!(name(&mut table), "front", "its last spans are still to come");
}
