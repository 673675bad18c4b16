use super::super::page::width;
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

fn text(found: &Programs, columns: Option<usize>, all: bool) -> String {
    let mut page = Page::new(columns);
    found.write(&mut page, all);
    page.into_text()
}

#[test]
fn the_text_has_a_service_a_line() {
    let expected = "
Programs, in the last 50 s, by the agent at 127.0.0.1:9464

  SERVICE                      N  RUNTIME     TLS                 BYTES DECO ENCR UNKN UNRE
  nginx                        2  -           OpenSSL            3.0 MB   99    0    0   <1
  till                         1  OpenJDK 17  not JSSE (Java)     20 kB    0  100    0    0
      in pod shop/till-5d, container 0123456789ab
      JSSE (Java): not known how to read it
      90 B over UDP
  a-very-long-name-of-a-cache  1  -           -                  5.0 kB    0    0   80    0
      speaks Redis
      1.0 kB of requests that were shed

  and 1 more processes that show nothing of this (--all)
";
    let mut found = some();
    found.programs[3].attributes["service.name"] = json!("a-very-long-name-of-a-cache");
    assert_eq!(text(&found, None, false), expected);
    let all = text(&found, None, true);
    assert!(all.contains("\n  cron  ") && !all.contains("--all"), "{all}");
}

#[test]
fn on_a_terminal_long_cells_give_way() {
    let eighty = text(&some(), Some(80), false);
    assert!(eighty.contains("\n  a-very-long-nam…  1  -"), "{eighty}");
    for columns in [40, 60, 80, 100, 200] {
        let told = text(&some(), Some(columns), true);
        let wider: Vec<_> = told.lines().filter(|line| width(line) > columns).collect();
        assert!(wider.is_empty(), "{columns}: {wider:#?}");
    }
    // Cells are below one another, whatever is in them.
    let rows = ["SERVICE", "nginx", "till", "a-very", "cron"];
    let told = text(&some(), Some(80), true);
    let rows =
        rows.map(|start| told.lines().find(|line| line.trim_start().starts_with(start)).unwrap());
    let ends: Vec<_> = rows.iter().map(|row| width(row)).collect();
    assert_eq!(ends, [80; 5], "{told}");
}

#[test]
fn what_an_agent_answers_is_cut_in_the_text() {
    let long = "\u{1b}[31mx".repeat(1000);
    let attributes = [
        ("service.name", &*long),
        ("k8s.namespace.name", &long),
        ("k8s.pod.name", &long),
        ("k8s.container.name", &long),
        ("process.runtime.name", &long),
    ];
    let protocols: Vec<String> = (0..200).map(|number| format!("{number}{long}")).collect();
    let protocols: Vec<&str> = protocols.iter().map(String::as_str).collect();
    let one = Program {
        tls: vec![tls(&long, Some(&long))],
        seen: seen(&[(Class::Unknown, 4_000)], &protocols),
        ..program(1, "", &attributes)
    };
    let told = text(&programs(vec![one]), None, false);
    let longest = told.lines().map(|line| line.chars().count()).max();
    assert!(longest.is_some_and(|longest| longest < 600), "{longest:?}");
    assert!(told.contains("and 188 more"), "{told}");
    assert!(!told.contains('\u{1b}'), "{told}");
}

fn coverage(read: bool, why: Option<&str>) -> Option<Coverage> {
    Some(Coverage { read, why: why.map(str::to_owned) })
}

#[test]
fn what_is_read_of_runtimes_has_a_line_each() {
    let go = |pid, name: &str, goroutines| Program { goroutines, ..program(pid, name, &[]) };
    let publisher =
        |pid, name: &str, thread_context| Program { thread_context, ..program(pid, name, &[]) };
    let found = programs(vec![
        go(1, "whole", coverage(true, None)),
        go(2, "old", coverage(true, Some("no makers"))),
        go(3, "new", coverage(false, Some("Go 1.99 is not known"))),
        publisher(4, "one", coverage(true, None)),
        publisher(5, "two", coverage(false, Some("nonsense"))),
    ]);
    let told = text(&found, None, false);
    for part in [
        "\n      goroutines: read, but no makers\n",
        "\n      goroutines: not read: Go 1.99 is not known\n",
        "\n      trace context published by its threads (OTEP 4947): read\n",
        "\n      trace context published by its threads (OTEP 4947): not read: nonsense\n",
    ] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
    assert!(!told.contains("goroutines: read\n"), "nothing to say of it");
    assert!(text(&found, None, true).contains("\n      goroutines: read\n"));
    let json = found.to_json();
    let why = &json["processes"][2]["goroutines"];
    assert_eq!(*why, json!({"read": false, "why": "Go 1.99 is not known"}));
    assert_eq!(json["processes"][0]["thread_context"], Value::Null);
}

#[test]
fn what_filters_leave_out_is_named_and_counted() {
    let out = |pid, name: &str, left_out: &[&'static str]| Program {
        left_out: left_out.to_vec(),
        tls: vec![tls("NSS", Some("unknown"))],
        ..program(pid, name, &[])
    };
    let mut found = programs(vec![
        out(1, "here", &[]),
        out(2, "there", &["--exclude"]),
        out(3, "elsewhere", &["--include", "--pid"]),
    ]);
    found.filters = vec!["--exclude there".to_owned(), "--port 80".to_owned()];
    let told = text(&found, None, false);
    for part in [
        "\n  the agent's filters: --exclude there, --port 80\n",
        "connections without one of these ports are left out\n",
        "they leave out 2 processes",
        "\n      left out by the agent's --exclude\n",
        "\n      left out by the agent's --include, --pid\n",
    ] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
    assert_eq!(found.to_json()["processes"][2]["left_out"], json!(["--include", "--pid"]));
}

#[test]
fn without_anybody_who_watched_there_are_no_bytes() {
    let mut found = some();
    found.source = Source::Nobody;
    found.remarks = vec!["no agent runs on this host".to_owned()];
    found.programs.iter_mut().for_each(|program| program.seen = None);
    let text = text(&found, None, false);
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
