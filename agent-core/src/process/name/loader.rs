//! The dynamic loader as a program: `ld.so [OPTION]... PROGRAM [ARGUMENT]...`.

/// Options whose value is the next argument (glibc's `ld.so --help`, musl's `dlstart`). musl takes it behind
/// a `=` as well.
const WITH_VALUE: [&str; 7] = [
    "--library-path",
    "--glibc-hwcaps-prepend",
    "--glibc-hwcaps-mask",
    "--inhibit-rpath",
    "--audit",
    "--preload",
    "--argv0",
];

/// Those without. With others (`--list`, `--verify`) nothing of the program runs.
const ALONE: [&str; 1] = ["--inhibit-cache"];

/// Whether an executable of this name is one: `ld-linux-x86-64.so.2`, `ld-musl-x86_64.so.1`, `ld-2.31.so`.
pub(super) fn is_loader(name: &str) -> bool {
    let glibc = ["ld-linux", "ld-musl", "ld64.so", "ld.so"];
    let versioned = name.strip_prefix("ld-").is_some_and(|rest| {
        rest.starts_with(|c: char| c.is_ascii_digit()) && rest.ends_with(".so")
    });
    versioned || glibc.iter().any(|prefix| name.starts_with(prefix))
}

/// Path and arguments of the program that it runs. None where an option is not known: it may have a value.
pub(super) fn program(args: &[String]) -> Option<(&str, &[String])> {
    let mut rest = args;
    while let Some((arg, behind)) = rest.split_first() {
        rest = behind;
        let (option, glued) = arg.split_once('=').map_or((arg.as_str(), false), |(o, _)| (o, true));
        if arg == "--" {
            return rest.split_first().map(|(program, args)| (program.as_str(), args));
        } else if !arg.starts_with('-') {
            return Some((arg, rest));
        } else if WITH_VALUE.contains(&option) {
            rest = if glued { rest } else { rest.get(1..)? };
        } else if !ALONE.contains(&arg.as_str()) {
            return None;
        }
    }
    None
}
