//! Tests of [`super`].

use super::*;
use agent_common::record::{FILENAME_LEN, Header};

fn exec(filename: &str) -> Exec {
    let mut record = Exec {
        header: Header { tgid: 123, start_ns: 50, boot_ns: 60, ..Header::default() },
        cgroup: 0,
        parent_tgid: 9,
        uid: 1000,
        euid: 0,
        gid: 0,
        old_tid: 123,
        pidns: 0,
        parent_start_ns: 5,
        comm: [0; 16],
        filename: [0; FILENAME_LEN],
    };
    record.comm[..3].copy_from_slice(b"cur");
    record.filename[..filename.len()].copy_from_slice(filename.as_bytes());
    record
}

fn text(content: &ExecContent) -> (String, String) {
    content.borrowed(|body, attributes| {
        let lines: Vec<String> =
            attributes.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
        (body.to_owned(), lines.join("\n"))
    })
}

#[test]
fn an_exec_tells_program_arguments_users_and_parent_without_secrets() {
    let record = exec("/usr/bin/curl");
    let args = b"curl\0-u\0bob:geheim\0http://h/?token=geheim\0";
    let mut facts = ProcessFacts::from_exec(&record, args, None);
    facts.user_name = "root".into();
    facts.working_directory = "/srv".into();
    let parent = ProcessFacts { executable: "/bin/sh".into(), ..ProcessFacts::default() };
    let (body, attributes) = text(&exec_attributes(&record, args, Some(&facts), Some(&parent)));
    assert_eq!(body, "sh ran curl -u bob:REDACTED http://h/?token=REDACTED (pid 123, user root)");
    let expected = r#"process.pid=Int(123)
process.parent_pid=Int(9)
process.executable.name=Str("curl")
process.executable.path=Str("/usr/bin/curl")
process.command=Str("curl")
process.command_args=List(["curl", "-u", "bob:REDACTED", "http://h/?token=REDACTED"])
process.user.id=Int(0)
process.user.name=Str("root")
process.real_user.id=Int(1000)
process.working_directory=Str("/srv")
kernspan.process.parent.executable.name=Str("sh")
kernspan.process.parent.executable.path=Str("/bin/sh")
kernspan.exec.truncated=Bool(false)"#;
    assert_eq!(attributes, expected);
}

#[test]
fn the_record_alone_is_enough() {
    let (body, attributes) = text(&exec_attributes(&exec("./x"), b"", None, None));
    assert_eq!(body, "a process ran ./x (pid 123, user 0)");
    assert!(attributes.contains(r#"process.executable.name=Str("x")"#), "{attributes}");
    assert!(attributes.contains("process.command_args=List([])"), "{attributes}");
}

#[test]
fn what_was_cut_says_so() {
    let mut record = exec("/bin/x");
    let cut = |record: &Exec, args: &[u8]| {
        text(&exec_attributes(record, args, None, None)).1.contains("truncated=Bool(true)")
    };
    assert!(!cut(&record, b"x\0"));
    assert!(cut(&record, &[b'a'; MAX_ARGS_BYTES + 1]));
    assert!(cut(&record, &b"a\0".repeat(MAX_ARGS + 1)));
    record.header.flags = flag::TRUNCATED;
    assert!(cut(&record, b"x\0"));
}

#[test]
fn a_long_command_line_is_cut_in_the_body_on_a_character() {
    let args = "é".repeat(600);
    let (body, _) = text(&exec_attributes(&exec("/bin/x"), args.as_bytes(), None, None));
    assert!(body.contains('…') && body.len() < MAX_BODY + 100, "{body}");
}
