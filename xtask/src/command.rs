//! Child processes: shown before they run, bounded in time, with their whole tree.

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How often a running child is looked at.
const TICK: Duration = Duration::from_millis(20);

/// How long after a child's end its pipe may be silent before it counts as drained.
const LEFT_IN_PIPE: Duration = Duration::from_millis(200);

/// `program` with `arguments`, run in the repository's root.
pub fn command<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(crate::paths::root());
    // What cargo tells this program about itself. Build scripts that look at it would run again
    // whenever a build from here follows one from a shell.
    for (name, _) in std::env::vars_os() {
        let own = ["CARGO_PKG_", "CARGO_MANIFEST_"];
        if name.to_str().is_some_and(|name| own.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(name);
        }
    }
    command
}

/// Prints the command, runs it, and fails when it fails.
pub fn run(command: &mut Command) -> Result<()> {
    println!("+ {}", shown(command));
    let status = command.status().with_context(|| format!("cannot start {}", shown(command)))?;
    ensure!(status.success(), "{} ended with {status}", shown(command));
    Ok(())
}

/// Standard output of a command that has to succeed.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        bail!("{} ended with {}: {}", shown(command), output.status, reason.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a command can be started and succeeds; prints nothing.
pub fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// Runs a command for at most `limit`, then kills it and everything it started.
/// What it prints, on both outputs, goes line by line through `line`: a panic belongs to the
/// test it ends.
///
/// # Errors
/// When it cannot be started, or at the time limit.
pub fn lines(
    command: &mut Command,
    limit: Duration,
    mut line: impl FnMut(&str),
) -> Result<ExitStatus> {
    println!("+ {}", shown(command));
    let deadline = Instant::now() + limit;
    let (output, input) = io::pipe().context("no pipe")?;
    let started = command
        .stdin(Stdio::null())
        .stdout(input.try_clone().context("no pipe")?)
        .stderr(input)
        .spawn();
    // The command would hold the pipe open.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = started.with_context(|| format!("cannot start {}", shown(command)))?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || split_lines(output, &sender));
    loop {
        while let Ok(text) = receiver.recv_timeout(TICK) {
            line(&text);
            if Instant::now() >= deadline {
                break;
            }
        }
        if let Some(status) = child.try_wait()? {
            // A process left behind may hold the pipe open: what is there now is all there is.
            while let Ok(text) = receiver.recv_timeout(LEFT_IN_PIPE) {
                line(&text);
            }
            return Ok(status);
        }
        if Instant::now() >= deadline {
            kill_tree(child.id());
            child.wait()?;
            bail!("{} did not end within {} s", shown(command), limit.as_secs());
        }
    }
}

fn split_lines(mut from: impl Read, lines: &mpsc::Sender<String>) {
    let (mut pending, mut buffer) = (Vec::new(), [0; 8192]);
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        pending.extend(buffer.iter().take(count));
        while let Some(end) = pending.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line));
            if lines.send(text.into_owned()).is_err() {
                return;
            }
        }
    }
    if !pending.is_empty() {
        // Nobody listens any more only when the whole task is over.
        let _ = lines.send(String::from_utf8_lossy(&pending).into_owned());
    }
}

/// Waits for a child; `None` when the limit was reached and its tree was killed.
pub fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            kill_tree(child.id());
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(TICK);
    }
}

/// Asks a process to end (SIGTERM). One that is gone already is no error.
pub fn terminate(child: &Child) {
    signal(child.id(), Signal::TERM);
}

/// Kills a process and all its descendants, children last, so that none is adopted unseen.
pub fn kill_tree(root: u32) {
    let mut doomed = vec![root];
    let parents = parents();
    let mut next = 0;
    while let Some(&pid) = doomed.get(next) {
        doomed.extend(parents.iter().filter(|(_, parent)| *parent == pid).map(|(child, _)| child));
        next += 1;
    }
    for pid in doomed {
        signal(pid, Signal::KILL);
    }
}

/// (process, parent) of every process, from `/proc/PID/stat`.
fn parents() -> Vec<(u32, u32)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name in parentheses may hold anything; state and parent follow its last one.
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect()
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended in between: then there is nothing to do.
        let _ = kill_process(pid, signal);
    }
}

/// A command as one would type it.
pub fn shown(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_arrive_whole_and_the_last_one_needs_no_newline() {
        let mut seen = Vec::new();
        let mut shell = command("sh", ["-c", "echo one; printf 'two\\nthree' >&2"]);
        let status =
            lines(&mut shell, Duration::from_secs(10), |line| seen.push(line.to_owned())).unwrap();
        assert!(status.success());
        assert_eq!(seen, ["one", "two", "three"]);
    }

    #[test]
    fn at_the_limit_the_whole_tree_ends() {
        let mut shell = command("sh", ["-c", "sleep 1000 & echo $!; wait"]);
        let mut grandchild = 0;
        let started = Instant::now();
        let result = lines(&mut shell, Duration::from_millis(300), |line| {
            grandchild = line.parse::<u32>().unwrap();
        });
        assert!(result.is_err());
        assert!(started.elapsed() < Duration::from_secs(10));
        // It dies soon after the signal; as a zombie it waits until its new parent looks.
        let gone = || {
            let stat = fs::read_to_string(format!("/proc/{grandchild}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        };
        let deadline = Instant::now() + Duration::from_secs(5);
        while !gone() && Instant::now() < deadline {
            thread::sleep(TICK);
        }
        assert!(gone());
    }

    #[test]
    fn a_failing_command_reports_what_it_said() {
        let error = output(&mut command("sh", ["-c", "echo because >&2; exit 3"])).unwrap_err();
        assert!(error.to_string().contains("because"), "{error}");
    }
}
