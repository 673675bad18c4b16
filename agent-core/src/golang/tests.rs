//! Against what the installed Go toolchain makes, and against damaged files.

use super::*;
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

#[test]
fn versions_are_read_in_all_their_forms() {
    let version = |minor, patch| Some(Version { major: 1, minor, patch });
    for (why, text, expected) in [
        ("a release", "go1.26.8", version(26, 8)),
        ("the first of a minor release before 1.21", "go1.20", version(20, 0)),
        ("an experiment", "go1.22.5 X:boringcrypto", version(22, 5)),
        ("a vendor's", "go1.23.4-vendor.2", version(23, 4)),
        ("a candidate", "go1.27rc1", version(27, 0)),
        ("a development version", "devel go1.27-6b3a1f8 Mon Jan 5", version(27, 0)),
        ("no Go", "rustc 1.95", None),
        ("cut", "go1.", None),
        ("empty", "", None),
    ] {
        assert_eq!(Version::parse(text), expected, "{why}");
    }
}

#[test]
fn layouts_are_known_for_versions_that_were_looked_at_only() {
    let known = |minor, patch| layout(Version { major: 1, minor, patch }).is_some();
    assert!(!known(16, 15) && known(17, 0) && known(21, 13) && known(26, 99));
    assert!(!known(27, 0), "nobody knows yet");
}

/// A program in a directory of its own, built once in each way.
struct Built {
    _directory: tempfile::TempDir,
    plain: PathBuf,
    others: Vec<(&'static str, PathBuf)>,
}

const PROGRAM: &str = "package main\nimport \"net/http\"\nfunc main() { http.Get(\"\") }\n";
const WITH_C: &str = "package main\n// static __thread int n[5]; static int up(void) \
    { return n[2]++; }\nimport \"C\"\nfunc init() { C.up() }\n";

/// `None` where Go is not installed; `cargo xtask test` demands it elsewhere.
fn built() -> Option<&'static Built> {
    static BUILT: OnceLock<Option<Built>> = OnceLock::new();
    BUILT.get_or_init(build).as_ref()
}

fn build() -> Option<Built> {
    Command::new("go").arg("version").output().ok()?;
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    std::fs::write(root.join("go.mod"), "module built.invalid\n\ngo 1.21\n").expect("a file");
    std::fs::write(root.join("main.go"), PROGRAM).expect("a file");
    let plain = go(root, "plain", &[]);
    let mut others = vec![
        ("stripped", go(root, "stripped", &["-ldflags=-s -w"])),
        ("position-independent", go(root, "pie", &["-buildmode=pie", "-ldflags=-s -w"])),
    ];
    if Command::new("cc").arg("--version").output().is_ok() {
        std::fs::write(root.join("c.go"), WITH_C).expect("a file");
        others.push(("with C", go(root, "c", &[])));
        others.push(("with C, stripped", go(root, "cs", &["-ldflags=-s -w"])));
        let pie = ["-buildmode=pie", "-ldflags=-s -w"];
        others.push(("with C, position-independent", go(root, "cp", &pie)));
    }
    Some(Built { _directory: directory, plain, others })
}

fn go(root: &Path, name: &str, more: &[&str]) -> PathBuf {
    let target = root.join(name);
    let mut command = Command::new("go");
    command.current_dir(root).args(["build", "-o"]).arg(&target).args(more).arg(".");
    let output = command.output().expect("go");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    target
}

fn analysed(path: &Path) -> Program {
    let file = std::fs::read(path).expect("a program");
    analyse(&mut file.as_slice()).expect("of use").expect("a Go program")
}

#[test]
fn however_it_is_built_the_same_is_found() {
    let Some(built) = built() else { return };
    let plain = analysed(&built.plain);
    let version = Command::new("go").args(["env", "GOVERSION"]).output().expect("go").stdout;
    let version = Version::parse(String::from_utf8_lossy(&version).trim());
    assert_eq!(Some(plain.version), version);
    let sane = |program: &Program, why: &str| {
        assert_eq!((program.version, program.layout), (plain.version, plain.layout), "{why}");
        assert!(program.round_trip.is_some_and(|site| site.cheap), "{why}: {program:?}");
        assert!(program.writer.is_some_and(|writer| writer.receiver == -8), "{why}");
        assert!(program.numbers.is_some(), "{why}: {program:?}");
        assert!(program.servants.is_some_and(|(first, last)| first < last), "{why}");
    };
    sane(&plain, "plain");
    assert_eq!((plain.slot, plain.relocated), (-8, false));
    for (why, path) in &built.others {
        let program = analysed(path);
        sane(&program, why);
        assert_eq!(program.relocated, why.contains("position"), "{why}");
        // 20 bytes of C code's beside it.
        let expected = if why.contains("with C") { -32..=-16 } else { -8..=-8 };
        assert!(expected.contains(&program.slot), "{why}: {}", program.slot);
    }
}

/// What is worked out from instructions is where the linker's own tables say.
#[test]
fn places_agree_with_the_symbol_table() {
    let Some(built) = built() else { return };
    let with_c = built.others.iter().filter(|(why, _)| *why == "with C");
    for path in with_c.map(|(_, path)| path).chain([&built.plain]) {
        let program = analysed(path);
        let bytes = std::fs::read(path).expect("a program");
        let file = &mut bytes.as_slice();
        let elf = elf::Elf::read(file).expect("an executable");
        let symbol = |name: &str| elf.symbol(&mut bytes.as_slice(), name);
        assert_eq!(program.numbers, symbol("runtime.sched"), "goidgen is its first field");
        let writer = program.writer.expect("found").function;
        assert_eq!(Some(writer.address), symbol("net/http.persistConnWriter.Write"));
        let round_trip = symbol("net/http.(*persistConn).roundTrip").and_then(|at| elf.offset(at));
        let site = program.round_trip.expect("found").offset;
        assert!(round_trip.is_some_and(|at| (at..at + 16).contains(&site)));
        let tls = elf.segments.iter().find(|segment| segment.kind == elf::TLS).expect("one");
        let size = tls.memory_size.next_multiple_of(tls.align);
        // The Go linker itself makes no such symbol: the slot is all there is.
        let place = symbol("runtime.tlsg").unwrap_or(0);
        assert_eq!(place as i64 - size as i64, i64::from(program.slot));
    }
}

#[test]
fn the_installed_toolchain_agrees_with_the_table() {
    let Some(built) = built() else { return };
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../xtask/go-offsets");
    let mut command = Command::new("go");
    command.current_dir(directory).args(["run", ".", "-check"]).arg(&built.plain);
    let output = command.output().expect("go");
    let text = String::from_utf8_lossy(&output.stdout);
    let (_, numbers) = text.split_once(": ").expect("a row");
    let read: Vec<u16> =
        numbers.split(", ").map(|number| number.trim().parse().unwrap_or(NONE)).collect();
    let Layout { goid, parent, start, m, current, p, old_p, next_goid, end_goid } =
        analysed(&built.plain).layout;
    assert_eq!(read, [goid, parent, start, m, current, p, old_p, next_goid, end_goid], "{text}");
}

/// Without a toolchain: a file made by hand, of what is read only.
#[test]
fn a_small_program_made_by_hand_is_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/golang/program");
    let program = analysed(&path);
    assert_eq!(program.version, Version { major: 1, minor: 26, patch: 8 });
    assert_eq!((program.slot, program.relocated, program.base), (-8, false, 0x40_0000));
    assert_eq!(program.numbers, Some(0x60_0a00));
    assert_eq!(program.round_trip, Some(Site { offset: 0x400 + 2 * 64 + 12, cheap: true }));
    let function = Function { address: 0x40_04c0, offset: 0x4c0, size: 64 };
    assert_eq!(program.writer, Some(Writer { function, receiver: -8 }));
    assert_eq!(program.servants, Some((0x40_0500, 0x40_0540)));
}

#[test]
fn what_is_not_a_go_program_is_none() {
    let own = std::fs::read("/proc/self/exe").expect("this test");
    for (why, bytes) in
        [("empty", &[][..]), ("text", b"#!/bin/sh\n"), ("a cut header", &own[..40]), ("Rust", &own)]
    {
        let mut file = bytes;
        assert_eq!(analyse(&mut file), Ok(None), "{why}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Headers and tables of a real program with bytes changed: an answer or none, and an end.
    #[test]
    fn damage_is_no_panic(changes in prop::collection::vec((any::<u32>(), any::<u8>()), 1..40)) {
        let Some(built) = built() else { return Ok(()) };
        static STRIPPED: OnceLock<Vec<u8>> = OnceLock::new();
        let path = &built.others[0].1;
        let mut bytes = STRIPPED.get_or_init(|| std::fs::read(path).expect("a program")).clone();
        let len = bytes.len();
        for (place, byte) in changes {
            // Half of them into the headers.
            let most = if place & 1 == 0 { 4096 } else { len };
            bytes[place as usize % most] = byte;
        }
        drop(analyse(&mut bytes.as_slice()));
        bytes.truncate(len / 2);
        drop(analyse(&mut bytes.as_slice()));
    }
}

/// Against the same program with symbols, by the linker's own table.
#[test]
fn the_places_of_tls_are_found_however_it_is_built() {
    let Some(built) = built() else { return };
    let others = built.others.iter().map(|(why, path)| (*why, path));
    for (why, path) in std::iter::once(("plain", &built.plain)).chain(others) {
        let bytes = std::fs::read(path).expect("a program");
        let places = tls(&mut bytes.as_slice()).expect("of use").expect("it has crypto/tls");
        let of = |wanted: Place| places.iter().filter(|(_, place)| *place == wanted).count();
        let found = [Place::Read, Place::Write, Place::Close, Place::Written].map(of);
        assert_eq!(found, [1, 1, 1, 1], "{why}: {places:?}");
        // A client alone is linked without the server's.
        assert!(matches!(of(Place::Handshake), 1 | 2), "{why}: {places:?}");
        assert_eq!(of(Place::Copied { framed: true }), 1, "{why}: {places:?}");
        for (offset, place) in &places {
            let code = &bytes[*offset as usize..];
            let right = match place {
                // The check of the stack lies before them.
                Place::Read | Place::Write | Place::Handshake | Place::Close => {
                    matches!(code, [0x76, ..] | [0x0f, 0x86, ..])
                }
                Place::Copied { .. } => code[0] == 0xe8,
                Place::Written => {
                    matches!(code, [0x70..=0x7f | 0xe8, ..] | [0x0f, 0x80..=0x8f, ..])
                }
                Place::Return => code[0] == 0xc3,
            };
            assert!(right, "{why}: {place:?} at {offset:#x}: {:02x?}", &code[..6]);
        }
        let returns = of(Place::Return);
        assert!((4..=20).contains(&returns), "{why}: {returns} returns");
    }
}
