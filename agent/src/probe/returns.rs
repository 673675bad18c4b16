//! Returns of kernel functions in which many threads may wait at once.
//!
//! A return probe notes each call that is under way; the kernel's own interface for programs
//! (`perf_event_open` with the type `kprobe`) has room for 10 of them or one for each CPU, and a server
//! with a thread for each connection has more waiting in its receives. Only the tracing file system takes
//! a number (`rMAXACTIVE:`, Documentation/trace/kprobetrace.rst). An event defined there outlives its
//! process: those of processes that are gone are removed by the next agent.

use super::sys;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Where the tracing file system may be mounted.
const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Events of an agent are in the group of this name and its process number.
const GROUP: &str = "kernspan_";

/// Events that this process has defined.
static MADE: AtomicU32 = AtomicU32::new(0);

/// One program at one return; ends with this value.
#[derive(Debug)]
pub struct Return {
    event: Option<OwnedFd>,
    definition: Arc<Definition>,
}

/// A tracing event, as it is defined.
#[derive(Debug)]
pub struct Definition {
    /// `GROUP/EVENT`.
    name: String,
    place: PathBuf,
    /// What was last known to be missed: the kernel's count goes with the event.
    missed: AtomicU64,
}

impl Return {
    /// Runs `program` whenever `function` returns; `most` calls may be under way.
    ///
    /// # Errors
    /// The system's word, with the file.
    pub fn attach(
        program: BorrowedFd<'_>,
        name: &str,
        function: &str,
        most: u32,
    ) -> Result<Return, String> {
        let place = place().ok_or("no tracing file system is mounted")?;
        let said = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
        let group = format!("{GROUP}{}", std::process::id());
        // Two runs of one process may overlap.
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let event = format!("{name}_{}_{number}", std::process::id());
        let definitions = place.join("kprobe_events");
        write_line(&definitions, &format!("r{most}:{group}/{event} {function}"))
            .map_err(|error| said(&definitions, error))?;
        let name = format!("{group}/{event}");
        let path = place.join("events").join(&name).join("id");
        // From here on the definition goes with the value.
        let definition = Arc::new(Definition { name, place, missed: AtomicU64::new(0) });
        let mut it = Return { event: None, definition };
        let text = fs::read_to_string(&path).map_err(|error| said(&path, error))?;
        let number = text.trim().parse().map_err(|_| format!("{}: {text:?}", path.display()))?;
        let opened = sys::run_at_event(number, program).map_err(|error| error.to_string())?;
        it.event = Some(opened);
        Ok(it)
    }

    /// To be asked for what it missed, also after its end.
    pub fn definition(&self) -> Arc<Definition> {
        Arc::clone(&self.definition)
    }
}

impl Definition {
    /// Calls whose return the kernel could not note, as far as it counts them.
    pub fn missed(&self) -> u64 {
        let counted = || {
            let name = self.name.split_once('/')?.1;
            profile(&fs::read_to_string(self.place.join("kprobe_profile")).ok()?, name)
        };
        match counted() {
            Some(count) => self.missed.fetch_max(count, Ordering::Relaxed).max(count),
            None => self.missed.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Return {
    fn drop(&mut self) {
        self.definition.missed();
        // A definition in use cannot be removed.
        self.event = None;
        remove(&self.definition.place, &self.definition.name);
    }
}

/// Removes what agents left behind that were killed.
pub fn sweep() {
    let Some(place) = place() else { return };
    let Ok(text) = fs::read_to_string(place.join("kprobe_events")) else { return };
    for (name, process) in left(&text) {
        if !Path::new("/proc").join(process).exists() {
            remove(&place, name);
        }
    }
}

/// `r4096:GROUP/EVENT FUNCTION`: names of agents' events, each with its process.
fn left(definitions: &str) -> impl Iterator<Item = (&str, &str)> {
    definitions.lines().filter_map(|line| {
        let name = line.split_once(':')?.1.split_whitespace().next()?;
        let process = name.strip_prefix(GROUP)?.split_once('/')?.0;
        process.bytes().all(|byte| byte.is_ascii_digit()).then_some((name, process))
    })
}

/// `EVENT HITS MISSES`, in columns.
fn profile(text: &str, name: &str) -> Option<u64> {
    let mut rows = text.lines().map(str::split_whitespace);
    let mut row = rows.find_map(|mut row| (row.next() == Some(name)).then_some(row))?;
    row.nth(1)?.parse().ok()
}

fn place() -> Option<PathBuf> {
    PLACES.iter().map(PathBuf::from).find(|place| place.join("kprobe_events").exists())
}

fn remove(place: &Path, name: &str) {
    if let Err(error) = write_line(&place.join("kprobe_events"), &format!("-:{name}")) {
        tracing::debug!("the tracing event {name} was not removed: {error}");
    }
}

fn write_line(path: &Path, line: &str) -> io::Result<()> {
    // One write for one line: the kernel takes it whole.
    OpenOptions::new().append(true).open(path)?.write_all(format!("{line}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::{left, profile};

    #[test]
    fn events_of_agents_are_told_from_others() {
        let text = "r4096:kernspan_12/inet_receive_end_12 inet_recvmsg\n\
                    p:kprobes/other do_sys_open\nr1024:kernspan_x/one two\nnothing\n\
                    r1024:kernspan_7/inet_send_end_7 inet_sendmsg\n";
        let found: Vec<_> = left(text).collect();
        let expected =
            [("kernspan_12/inet_receive_end_12", "12"), ("kernspan_7/inet_send_end_7", "7")];
        assert_eq!(found, expected);
    }

    #[test]
    fn misses_are_read_by_the_whole_name() {
        let text = "  inet_send_end_12                  10               0\n\
                    \x20 inet_send_end_1                   200              3\n";
        assert_eq!(profile(text, "inet_send_end_1"), Some(3));
        assert_eq!(profile(text, "inet_send_end"), None);
        assert_eq!(profile("inet_send_end_1 200\n", "inet_send_end_1"), None);
    }
}
