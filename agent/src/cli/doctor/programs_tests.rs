use super::*;

/// A process of a service with these attributes.
pub fn program(pid: u32, service: &str, attributes: &[(&str, &str)]) -> Program {
    let named = [("service.name", service)];
    let all = named.iter().chain(attributes);
    let attributes = all.map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    Program { pid, attributes, ..Program::default() }
}

pub fn seen(bytes: &[(Class, u64)], protocols: &[&str]) -> Option<Seen> {
    let mut seen = Seen::default();
    bytes.iter().for_each(|(class, count)| seen.bytes.add(*class, *count));
    seen.protocols = protocols.iter().map(|name| (*name).to_owned()).collect();
    Some(seen)
}

pub fn tls(library: &str, blind: Option<&str>) -> Tls {
    Tls { library: library.to_owned(), blind: blind.map(str::to_owned) }
}

pub fn programs(programs: Vec<Program>) -> Programs {
    let source = Source::Agent("127.0.0.1:9464".to_owned());
    Programs { source, seconds: 50, programs, ..Programs::default() }
}

fn some() -> Programs {
    let worker = |pid| Program {
        tls: vec![tls("OpenSSL", None)],
        seen: seen(&[(Class::Decoded, 1_500_000), (Class::Unreachable, 3)], &["HTTP/1"]),
        ..program(pid, "nginx", &[])
    };
    let java = [
        ("process.runtime.name", "OpenJDK"),
        ("process.runtime.version", "17"),
        ("telemetry.sdk.language", "java"),
        ("container.id", "0123456789abcdef0123456789abcdef"),
        ("k8s.namespace.name", "shop"),
        ("k8s.pod.name", "till-5d"),
    ];
    let jvm = Program {
        tls: vec![tls("JSSE (Java)", Some("not known how to read it"))],
        seen: seen(&[(Class::Encrypted, 20_000), (Class::Datagrams, 90)], &["TLS"]),
        ..program(7, "till", &java)
    };
    let redis = Program {
        seen: seen(&[(Class::Unknown, 4_000), (Class::Shed, 1_000)], &["Redis"]),
        ..program(8, "a-very-long-name-of-a-cache\u{7}", &[])
    };
    let idle = program(9, "cron", &[]);
    programs(vec![worker(5), worker(6), jvm, redis, idle])
}

#[test]
fn the_text_has_a_service_a_line_and_fits_a_terminal() {
    let mut text = String::new();
    some().write(&mut text, false);
    let expected = "
Programs, in the last 50 s, by the agent at 127.0.0.1:9464

  SERVICE                   N  RUNTIME          TLS                    BYTES  DECO  ENCR  UNKN  UNRE
  nginx                     2  -                OpenSSL               3.0 MB    99     0     0    <1
  till                      1  OpenJDK 17       not JSSE (Java)        20 kB     0   100     0     0
      in pod shop/till-5d, container 0123456789ab
      JSSE (Java): not known how to read it
      90 B over UDP
  a-very-long-name-of-a…    1  -                -                     5.0 kB     0     0    80     0
      speaks Redis
      1.0 kB of requests that were shed

  and 1 more processes that show nothing of this (--all)
";
    assert_eq!(text, expected);
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    let mut text = String::new();
    some().write(&mut text, true);
    assert!(text.contains("\n  cron  ") && !text.contains("--all"), "{text}");
}

#[test]
fn without_anybody_who_watched_there_are_no_bytes() {
    let mut found = some();
    found.source = Source::Nobody;
    found.remarks = vec!["no agent runs on this host".to_owned()];
    found.programs.iter_mut().for_each(|program| program.seen = None);
    let mut text = String::new();
    found.write(&mut text, false);
    assert!(
        text.contains("nobody has watched their bytes\n  no agent runs on this host\n"),
        "{text}"
    );
    assert!(!text.contains("DECO"), "{text}");
    assert!(text.contains("\n  nginx  ") && !text.contains("\n  cron  "), "{text}");
    let json = found.to_json();
    assert_eq!(json["source"]["kind"], "none");
    assert_eq!(json["processes"][0]["seen"], Value::Null);
}

#[test]
fn the_json_has_each_process_and_its_shares() {
    let json = some().to_json();
    assert_eq!(json["source"]["address"], "127.0.0.1:9464");
    let process = &json["processes"][3];
    assert_eq!((&process["pid"], &process["seen"]["protocols"][0]), (&json!(8), &json!("Redis")));
    assert_eq!(process["seen"]["bytes"]["unknown"], 4_000);
    assert_eq!(process["seen"]["total_bytes"], 5_000);
    assert_eq!(process["seen"]["percent"]["unknown"], 80.0);
    assert_eq!(process["seen"]["percent"]["shed"], 20.0);
    let tls = &json["processes"][2]["tls"][0];
    assert_eq!((&tls["library"], &tls["read"]), (&json!("JSSE (Java)"), &json!(false)));
}

#[test]
fn sizes_and_shares_are_short_and_never_wrong() {
    for (bytes, expected) in [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9_949, "9.9 kB"),
        (9_951, "10 kB"),
        (999_499, "999 kB"),
        (999_501, "1.0 MB"),
        (u64::MAX, "18447 PB"),
    ] {
        assert_eq!(size(bytes), expected, "{bytes}");
    }
    for (share, of, expected) in
        [(0.0, 0, "-"), (0.0, 9, "0"), (0.2, 9, "<1"), (99.99, 9, "99"), (100.0, 9, "100")]
    {
        assert_eq!(percent(share, of), expected);
    }
}
