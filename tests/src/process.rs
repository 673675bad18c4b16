//! Child processes that end with their owner, also when a scenario panics.

use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(5);

/// A running program with its output in files. Killed with its process group when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    what: String,
    stdout: PathBuf,
    stderr: PathBuf,
    ended: Option<ExitStatus>,
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// From the signal (or the wait's begin) to the end.
    pub took: Duration,
    /// All of standard output.
    pub stdout: String,
    /// All of standard error.
    pub stderr: String,
}

impl Process {
    /// Starts `command` in a process group of its own, its output to `NAME.out` and `NAME.err`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(mut command: Command, dir: &Path, name: &str) -> Process {
        let (stdout, stderr) = (dir.join(format!("{name}.out")), dir.join(format!("{name}.err")));
        let out = std::fs::File::create(&stdout).expect("an output file");
        let err = std::fs::File::create(&stderr).expect("an output file");
        let what = format!("{command:?}");
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{what} does not start: {error}"));
        Process { child, what, stdout, stderr, ended: None }
    }

    /// The same with its standard output into a pipe, whose reading end comes back.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_into_pipe(
        mut command: Command,
        dir: &Path,
        name: &str,
    ) -> (Process, std::io::PipeReader) {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let (stdout, stderr) = (dir.join(format!("{name}.out")), dir.join(format!("{name}.err")));
        let err = std::fs::File::create(&stderr).expect("an output file");
        let what = format!("{command:?}");
        let child = command
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(err)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{what} does not start: {error}"));
        // `command` holds the writing end until it is dropped: the pipe would never end.
        drop(command);
        (Process { child, what, stdout, stderr, ended: None }, reader)
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// True until it has ended.
    pub fn is_running(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap_or(None);
        }
        self.ended.is_none()
    }

    /// Sends `signal` to the process alone.
    pub fn signal(&self, signal: rustix::process::Signal) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When it has not ended after `limit`.
    pub fn wait(mut self, limit: Duration) -> Ended {
        let begin = Instant::now();
        while self.is_running() {
            assert!(begin.elapsed() < limit, "{} runs after {limit:?}: {}", self.what, self.tail());
            std::thread::sleep(STEP);
        }
        self.report(begin)
    }

    /// Waits until it ends by itself, and demands success.
    ///
    /// # Panics
    /// When it has not ended after `limit` or failed.
    pub fn succeed(self, limit: Duration) -> Ended {
        let what = self.what.clone();
        let ended = self.wait(limit);
        assert!(ended.status.success(), "{what}: {}\n{}", ended.status, ended.stderr);
        ended
    }

    /// Asks it to end with SIGTERM.
    ///
    /// # Panics
    /// When it has not ended after `limit`.
    pub fn terminate(mut self, limit: Duration) -> Ended {
        assert!(self.is_running(), "{} ended by itself: {}", self.what, self.tail());
        self.signal(rustix::process::Signal::TERM);
        self.wait(limit)
    }

    /// Ends it with SIGKILL.
    pub fn kill(mut self) -> Ended {
        let begin = Instant::now();
        self.kill_group();
        self.report(begin)
    }

    /// Ends it and its group with SIGKILL, if it runs.
    pub fn end(&mut self) {
        self.kill_group();
    }

    /// The last lines of its output, for messages.
    pub fn tail(&self) -> String {
        let text = self.stderr() + &self.stdout();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn report(&mut self, begin: Instant) -> Ended {
        let status = self.ended.unwrap_or_else(|| ExitStatus::from_raw(9));
        Ended { status, took: begin.elapsed(), stdout: self.stdout(), stderr: self.stderr() }
    }

    fn kill_group(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            // The leader may be gone while its children are not.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
        let _ = self.child.kill();
        self.ended = self.ended.or(self.child.wait().ok());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_group();
    }
}

/// Waits until `condition` gives a value.
///
/// # Panics
/// When it has not after `limit`.
pub fn until<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(begin.elapsed() < limit, "not after {limit:?}: {what}");
        std::thread::sleep(STEP);
    }
}

/// Runs a short command to its end and returns its standard output.
///
/// # Panics
/// When it fails.
pub fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A TCP port of the loopback address that nobody listens on at the moment.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    let [port] = free_ports();
    port
}

/// Several of them, no two the same.
///
/// # Panics
/// When there are not that many.
pub fn free_ports<const N: usize>() -> [u16; N] {
    // All held until the last is found.
    let sockets: [_; N] =
        std::array::from_fn(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("a free port"));
    sockets.map(|socket| socket.local_addr().expect("its address").port())
}

/// A process and all its descendants, in this pid namespace.
pub fn family(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        // Each thread has its own: programs in Go fork on any of theirs.
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
        for thread in threads.flatten() {
            let children = std::fs::read_to_string(thread.path().join("children"));
            let children = children.unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
        }
        next += 1;
    }
    found
}

/// Anonymous memory that a process has resident, bytes: its heap and stacks, without files and
/// without rings that it shares with the kernel.
///
/// # Panics
/// When the process is gone.
pub fn anonymous_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a live process");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap_or_default();
    let kib = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// CPU time that a process has used, threads that have ended included.
///
/// # Panics
/// When the process is gone.
pub fn cpu_time(pid: u32) -> Duration {
    /// `USER_HZ`.
    const TICK: Duration = Duration::from_millis(10);
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a live process");
    // Behind the name, which may hold anything: state is the third of all fields, then come ten more
    // before utime and stime.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let ticks: u32 = fields.skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
    TICK * ticks
}

/// For how long, since the start of this machine, some program has waited for a processor; nothing where
/// the kernel does not say.
pub fn waited_for_processors() -> Duration {
    let text = std::fs::read_to_string("/proc/pressure/cpu").unwrap_or_default();
    let some = text.lines().find_map(|line| line.strip_prefix("some ")?.split_once("total="));
    Duration::from_micros(some.and_then(|(_, total)| total.trim().parse().ok()).unwrap_or(0))
}

/// What all processors have done since the start of this machine, in ticks: work, and everything.
///
/// # Panics
/// When the kernel does not say.
pub fn processor_ticks() -> [u64; 2] {
    let text = std::fs::read_to_string("/proc/stat").expect("/proc/stat");
    let line =
        text.lines().next().and_then(|line| line.strip_prefix("cpu ")).expect("all processors");
    // user nice system idle iowait irq softirq steal: those behind are part of the first.
    let ticks: Vec<u64> =
        line.split_whitespace().take(8).filter_map(|word| word.parse().ok()).collect();
    let all: u64 = ticks.iter().sum();
    [all - ticks.iter().skip(3).take(2).sum::<u64>(), all]
}

/// Memory of the kernel maps that a process holds, bytes.
///
/// # Panics
/// When the process is gone.
pub fn kernel_map_bytes(pid: u32) -> u64 {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("its open files");
    let texts = entries.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok());
    let mut maps = std::collections::BTreeMap::new();
    for text in texts {
        let number = |label: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(label))?;
            line.trim().parse::<u64>().ok()
        };
        // Several descriptors may be of one map.
        maps.extend(number("map_id:").zip(number("memlock:")));
    }
    maps.values().sum()
}

fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(mut file) = std::fs::File::open(path) {
        let _ = file.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_what_was_used() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "while :; do :; done"]);
        let process = Process::start(command, dir.path(), "busy");
        until("it has worked", Duration::from_secs(60), || {
            (cpu_time(process.pid()) >= Duration::from_millis(200)).then_some(())
        });
    }

    #[test]
    fn a_dropped_process_takes_its_children_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 60 & echo $!; wait"]);
        let process = Process::start(command, dir.path(), "sh");
        let child = until("the child's number", Duration::from_secs(5), || {
            process.stdout().trim().parse::<u32>().ok()
        });
        drop(process);
        until("the end of the child", Duration::from_secs(5), || {
            let state = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            (state.is_empty() || state.contains(") Z ")).then_some(())
        });
    }
}
