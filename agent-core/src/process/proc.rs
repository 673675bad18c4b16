//! Texts of `/proc` and `/etc/passwd`. What stands in them, processes choose: names, titles, variables,
//! paths.

use super::facts::{MAX_ARGS_BYTES, split_args};
use super::resource::KEPT_ENVIRONMENT;
use crate::redact;
use std::collections::HashMap;

/// Longest value kept of a variable.
pub const MAX_VARIABLE: usize = 8 * 1024;

/// Longest name of a user (`LOGIN_NAME_MAX`).
pub const MAX_USER_NAME: usize = 256;

/// `/proc/PID/stat`, as far as it is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Task name.
    pub comm: String,
    /// Parent process number.
    pub parent: u32,
    /// Since boot.
    pub start_ticks: u64,
    /// It ends, or waits for its parent to notice: its memory is gone, and cgroup v1 shows the root.
    pub ends: bool,
}

/// In `stat`'s flags: the task has begun to end (`PF_EXITING`). Before it gives anything up.
const EXITING: u64 = 0x4;

/// `PID (comm) state ppid … starttime`; the name may hold anything, so its end is the last `)`.
pub fn stat(stat: &[u8]) -> Option<Stat> {
    let open = stat.iter().position(|&byte| byte == b'(')?;
    let close = stat.iter().rposition(|&byte| byte == b')')?;
    let comm = String::from_utf8_lossy(stat.get(open + 1..close)?).into_owned();
    let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?; // field 3
    let parent = fields.next()?.parse().ok()?;
    let flags: u64 = fields.nth(9 - 5)?.parse().ok()?;
    let start_ticks = fields.nth(22 - 10)?.parse().ok()?;
    let ends = matches!(state, "Z" | "X" | "x") || flags & EXITING != 0;
    Some(Stat { comm, parent, start_ticks, ends })
}

/// Of `/proc/PID/status`: effective user, and the number in the innermost pid namespace (0 when it is
/// `tgid`).
pub fn status(status: &[u8], tgid: u32) -> (u32, u32) {
    let text = String::from_utf8_lossy(status);
    let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let uid = line("Uid:").and_then(|ids| ids.split_whitespace().nth(1)?.parse().ok());
    let innermost: Option<u32> =
        line("NSpid:").and_then(|ids| ids.split_whitespace().last()?.parse().ok());
    (uid.unwrap_or(0), innermost.filter(|&vpid| vpid != tgid).unwrap_or(0))
}

/// The redacted arguments of `/proc/PID/cmdline`. A title set over them is padded with NULs.
pub fn arguments(cmdline: &[u8]) -> Vec<String> {
    let end = cmdline.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let end = end.min(MAX_ARGS_BYTES);
    redact::args(&split_args(cmdline.get(..end).unwrap_or_default()))
}

/// The variables of `/proc/PID/environ` that names need, and no other.
pub fn environment(environ: &[u8]) -> Vec<(String, String)> {
    let kept = environ.split(|&byte| byte == 0).filter_map(|variable| {
        let at = variable.iter().position(|&byte| byte == b'=')?;
        let (name, value) = (variable.get(..at)?, variable.get(at + 1..)?);
        let name = KEPT_ENVIRONMENT.iter().find(|kept| kept.as_bytes() == name)?;
        let fits = value.len() <= MAX_VARIABLE;
        fits.then(|| ((*name).to_owned(), String::from_utf8_lossy(value).into_owned()))
    });
    kept.take(KEPT_ENVIRONMENT.len()).collect()
}

/// `name:password:uid:…`; the first name of a number counts, as in the C library.
pub fn users(passwd: &str) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in passwd.lines() {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty() && name.len() <= MAX_USER_NAME);
        let uid = fields.nth(1).and_then(|uid| uid.parse().ok());
        if let (Some(name), Some(uid)) = (name, uid) {
            names.entry(uid).or_insert_with(|| name.to_owned());
        }
    }
    names
}

/// A file with code in a line of `/proc/PID/maps`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code<'a> {
    /// First and last address, hexadecimal.
    pub range: &'a str,
    /// Device: `fd:01`.
    pub device: &'a str,
    /// Inode.
    pub inode: u64,
    /// Path as the process sees it, without the remark behind that of a deleted file.
    pub path: &'a str,
}

/// One line: `range rwxp offset device inode  path`.
pub fn code(line: &str) -> Option<Code<'_>> {
    let mut words = line.splitn(6, ' ');
    let (range, access) = (words.next()?, words.next()?);
    let (device, inode) = (words.nth(1)?, words.next()?.parse().ok()?);
    let path = words.next()?.trim_start();
    let is_code = access.as_bytes().get(2) == Some(&b'x') && path.starts_with('/') && inode != 0;
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    is_code.then_some(Code { range, device, inode, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_stat_and_status_are_understood() {
        let tail = "S 7 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 8612 9 10";
        let read = stat(format!("12 (a) b (c) {tail}").as_bytes()).unwrap();
        assert_eq!((read.comm.as_str(), read.parent, read.start_ticks), ("a) b (c", 7, 8612));
        assert!(!read.ends);
        for tail in [tail.replacen('S', "Z", 1), tail.replace("4194560", "4194564")] {
            assert!(stat(format!("12 (a) {tail}").as_bytes()).unwrap().ends, "{tail}");
        }
        for cut in ["", "12", "12 (a", "12 )a(", "12 (a) S", "12 (a) S x", "12 (a) S 7 1 1 0"] {
            assert_eq!(stat(cut.as_bytes()), None, "{cut}");
        }
        let text = b"Name:\tx\nUid:\t1000\t33\t0\t0\nNSpid:\t500\t20\t3\n";
        assert_eq!(status(text, 500), (33, 3));
        assert_eq!(status(b"Uid:\t0\t0\t0\t0\nNSpid:\t500\n", 500), (0, 0));
        assert_eq!(status(b"Uid:\nNSpid:\n", 500), (0, 0));
    }

    #[test]
    fn users_have_the_first_name_of_their_number() {
        let names = users("root:x:0:0::/:/bin/sh\ntoor:x:0:0\n\nbad\nwww:x:33:\nx:y:z\n");
        assert_eq!(names.get(&0).map(String::as_str), Some("root"));
        assert_eq!(names.get(&33).map(String::as_str), Some("www"));
        assert_eq!(names.len(), 2);
    }

    #[test]
    fn only_files_with_code_count() {
        let line = "7f00-7f10 r-xp 0001c000 fd:01 2261                 /usr/lib/lib x.so (deleted)";
        let found = code(line).unwrap();
        let expected =
            Code { range: "7f00-7f10", device: "fd:01", inode: 2261, path: "/usr/lib/lib x.so" };
        assert_eq!(found, expected);
        for (why, line) in [
            ("data", "7f00-7f10 rw-p 0001c000 fd:01 2261 /usr/lib/x.so"),
            ("no file", "7f00-7f10 r-xp 00000000 00:00 0 [vdso]"),
            ("anonymous", "7f00-7f10 r-xp 00000000 00:00 0 "),
            ("cut", "7f00-7f10 r-xp"),
        ] {
            assert_eq!(code(line), None, "{why}");
        }
    }
}
