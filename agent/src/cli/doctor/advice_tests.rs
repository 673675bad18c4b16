use super::super::programs::Program;
use super::super::programs::tests::{program, programs, seen, tls};
use super::*;

fn of(program: Program) -> Vec<Advice> {
    advice(&programs(vec![program]), &[], &[])
}

fn codes(all: &[Advice]) -> Vec<&str> {
    all.iter().map(|advice| advice.code).collect()
}

#[test]
fn what_is_read_needs_no_advice() {
    let fine = Program {
        tls: vec![tls("OpenSSL", None)],
        seen: seen(&[(Class::Decoded, 1000), (Class::Unknown, 10)], &["HTTP/1", "Redis"]),
        ..program(1, "web", &[])
    };
    assert_eq!(of(fine), []);
}

#[test]
fn a_library_that_is_not_read_says_what_to_do() {
    let unknown = "not known how to read it";
    for (library, why, code, part) in [
        ("JSSE (Java)", unknown, "tls_java", "nginx, Envoy"),
        ("rustls (no symbols)", unknown, "tls_stripped", "strip = \"debuginfo\""),
        ("BoringSSL (no symbols)", unknown, "tls_stripped", "with symbols"),
        ("mbedTLS", unknown, "tls_unknown", "mbedTLS is not read"),
        ("OpenSSL", "too many files carry probes, tried again", "tls_too_many_files", "--include"),
        (
            "Go crypto/tls",
            "refused by the kernel, tried again: Operation not permitted",
            "tls_refused",
            "CAP_SYS_ADMIN",
        ),
    ] {
        let one = Program { tls: vec![tls(library, Some(why))], ..program(1, "web", &[]) };
        let told = of(one);
        assert_eq!(codes(&told), [code], "{library}");
        assert!(told[0].text.contains(part) && told[0].services == ["web"], "{told:?}");
    }
}

#[test]
fn bytes_that_are_not_decoded_say_what_to_do() {
    let half = |class| [(Class::Decoded, 2000), (class, 2000)];
    for (class, protocols, code, part) in [
        (Class::Encrypted, &["TLS"][..], "tls_not_shown", "a tunnel or proxy"),
        (Class::Unknown, &[], "protocol_unknown", "kernspan flows"),
        (Class::Unknown, &["Redis"], "protocol_not_parsed", "Redis is not parsed"),
        (Class::Unknown, &["HTTP/2", "TLS"], "protocol_not_parsed", "HTTP/1.1 will do"),
        (Class::Unreachable, &[], "unreachable", "--ring-size"),
        (Class::Shed, &[], "shed", "--max-cpu"),
    ] {
        let one = Program { seen: seen(&half(class), protocols), ..program(1, "web", &[]) };
        let told = of(one);
        assert_eq!(codes(&told), [code], "{class:?} {protocols:?}");
        assert!(told[0].text.contains(part), "{told:?}");
    }
    let udp = seen(&[(Class::Decoded, 1), (Class::Datagrams, 2)], &[]);
    assert_eq!(codes(&of(Program { seen: udp, ..program(1, "dns", &[]) })), ["datagrams"]);
}

#[test]
fn unreachable_bytes_are_explained_by_what_is_off() {
    let one = |io_uring| Program {
        io_uring,
        seen: seen(&[(Class::Unreachable, 1000)], &[]),
        ..program(1, "db", &[])
    };
    assert_eq!(codes(&of(one(true))), ["io_uring_unix"]);
    let mut found = programs(vec![one(true)]);
    found.off = vec![("received packets".to_owned(), "needs Linux 6.2".to_owned())];
    let told = advice(&found, &[], &[]);
    assert_eq!(codes(&told), ["io_uring_received"]);
    assert!(told[0].text.contains("needs Linux 6.2"), "{told:?}");
    let hook = HookReport {
        feature: "sent pages".to_owned(),
        hooks: Vec::new(),
        why: "needs Linux 6.5".to_owned(),
        missing: Vec::new(),
    };
    let told = advice(&programs(vec![one(false)]), std::slice::from_ref(&hook), &[]);
    assert_eq!(codes(&told), ["sent_pages"]);
    let on = HookReport { hooks: vec!["fexit:x".to_owned()], ..hook };
    let told = advice(&programs(vec![one(false)]), &[on], &[]);
    assert_eq!(codes(&told), ["unreachable"]);
}

#[test]
fn the_same_is_said_once_with_all_whom_it_concerns() {
    let one = |pid, name| Program {
        seen: seen(&[(Class::Unknown, 1000)], &["Redis"]),
        ..program(pid, name, &[])
    };
    let many = (1..=7).map(|pid| one(pid, ["a", "b", "c", "d", "e", "f", "g"][pid as usize - 1]));
    let told = advice(&programs(many.collect()), &[], &[]);
    assert_eq!(told.len(), 1);
    assert!(told[0].to_text().starts_with("a, b, c, d, e and 2 more: Redis"), "{told:?}");
    assert_eq!(told[0].to_json()["services"][6], "g");
}

#[test]
fn who_has_not_been_watched_and_what_doctor_lacks_is_said_first() {
    let mut found = programs(vec![program(1, "web", &[])]);
    found.source = Source::Nobody;
    let told = advice(&found, &[], &[("CAP_NET_ADMIN", "UDP sockets have no peers")]);
    assert_eq!(codes(&told), ["no_agent", "capability"]);
    assert!(told[0].text.contains("--for 10s") && told[1].text.contains("CAP_NET_ADMIN"));
}

#[test]
fn what_the_agent_had_no_room_for_says_which_room() {
    let mut found = programs(vec![program(1, "web", &[])]);
    (found.records_lost, found.tls_sockets_without_room) = (5, 7);
    let told = advice(&found, &[], &[]);
    assert_eq!(codes(&told), ["ring_size", "max_memory"]);
    assert!(told[0].text.contains("5 records") && told[0].text.contains("--ring-size"));
    assert!(told[1].text.contains("7 sockets") && told[1].text.contains("--max-memory"));
}

#[test]
fn what_is_left_out_needs_no_advice_and_goroutines_that_are_not_read_do() {
    let why = Some("Go 1.99 is not known".to_owned());
    let go = Program { goroutines: Some(Coverage { read: false, why }), ..program(1, "shop", &[]) };
    let told = of(go.clone());
    assert_eq!(
        (codes(&told), told[0].services.clone()),
        (vec!["goroutines"], vec!["shop".to_owned()])
    );
    assert!(told[0].text.contains("(Go 1.99 is not known)"), "{told:?}");
    assert!(told[0].text.ends_with("a newer agent knows newer versions of Go"), "{told:?}");
    let why = Some("it needs Linux 6.2".to_owned());
    let old = Program { goroutines: Some(Coverage { read: false, why }), ..go.clone() };
    assert!(of(old)[0].text.ends_with("or not at all"));
    let read = Coverage { read: true, why: Some("no makers".to_owned()) };
    assert_eq!(of(Program { goroutines: Some(read), ..go.clone() }), []);
    assert_eq!(of(Program { left_out: vec!["--exclude"], ..go }), []);
}
