//! The thread that finds libraries and puts probes on them, and what it knows.

use super::{
    attachments::{Known, Prober},
    buffers::OwnBuffers,
    find::{self, Mapping},
    knowledge::{Shared, Uncovered, Why},
    loader::Attached,
    mappings::Mappings,
    open,
    program::Programs,
    rustls,
    target::{FileKey, Findings, examine},
};
use crate::runtime::context::Contexts;
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Files that carry probes at most: each has some in the kernel.
pub const MAX_ATTACHED: usize = 256;
/// Files that are remembered at most, so as not to be read again.
const MAX_KNOWN: usize = 16_384;
/// How often files that nobody maps any more are looked for.
const SWEEP: Duration = Duration::from_secs(20);
/// A mapping of the same file by the same path is not looked at again so soon.
const REPEATED: Duration = Duration::from_secs(1);
/// Longest wait for a mapping; ends early with the next.
const WAIT: Duration = Duration::from_millis(200);
/// Threads that end probes: ending one waits for the whole machine, several wait together.
const ENDING: usize = 16;

/// The running service. It ends with this value.
pub struct Service {
    stop: Arc<AtomicBool>,
    /// Gone only while it is dropped.
    thread: Option<JoinHandle<()>>,
}

pub(super) struct Work<P> {
    /// Nothing is probed without them.
    pub(super) programs: Option<P>,
    /// Files that carry probes at most.
    pub(super) most: usize,
    /// Nobody is asked what it publishes without them.
    pub(super) contexts: Option<Contexts>,
    pub(super) known: HashMap<FileKey, Known>,
    pub(super) recent: HashMap<((String, u64), PathBuf), Instant>,
    pub(super) shared: Shared,
    pub(super) swept: Instant,
    pub(super) own_buffers: OwnBuffers,
}

impl Service {
    /// Covers what is there, then starts the thread that covers what comes.
    ///
    /// # Errors
    /// The system's, when it starts no thread.
    pub fn start(
        programs: Option<Programs>,
        contexts: Option<Contexts>,
        shared: Shared,
    ) -> std::io::Result<Service> {
        // First, so that nothing falls between the look at what is mapped and this.
        let mappings = Mappings::open();
        let mut work = Work {
            programs,
            most: MAX_ATTACHED,
            contexts,
            known: HashMap::new(),
            recent: HashMap::new(),
            shared,
            swept: Instant::now(),
            own_buffers: OwnBuffers::default(),
        };
        let well_known = if work.programs.is_some() { find::well_known() } else { Vec::new() };
        for path in well_known {
            if let Some(file) = open::regular(&path) {
                work.look(&file, &path, None);
            }
        }
        work.scan();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("kernspan-lib".to_owned())
            .spawn(move || work.run(mappings, &stopped))?;
        Ok(Service { stop, thread: Some(thread) })
    }

    /// Ends the thread and all probes.
    pub fn stop(self) {
        drop(self);
    }
}

/// Also of a run that does not come about.
impl Drop for Service {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic there ends its probes as well.
            let _ = thread.join();
        }
    }
}

impl<P: Prober> Work<P> {
    fn run(mut self, mappings: std::io::Result<Mappings>, stop: &AtomicBool) {
        let mut mappings = mappings
            .inspect_err(|error| {
                tracing::warn!(
                    "libraries of programs that start later are found by looking around only: the \
                     kernel does not tell of mappings: {error}"
                );
            })
            .ok();
        while !stop.load(Ordering::Acquire) {
            match &mut mappings {
                Some(mappings) => {
                    let pause = self.contexts.as_ref().and_then(Contexts::pause);
                    mappings.wait(pause.map_or(WAIT, |pause| pause.min(WAIT)));
                    for mapping in mappings.take() {
                        self.mapped(&mapping);
                    }
                    self.shared.lock().lost = mappings.lost;
                }
                None => {
                    std::thread::sleep(WAIT);
                    self.scan();
                }
            }
            if let Some(contexts) = &mut self.contexts {
                contexts.ask();
                self.shared.lock().contexts = contexts.counts;
            }
            self.look_for_own_buffers();
            if let Some(programs) = &mut self.programs {
                let forgotten = programs.make_room();
                self.shared.lock().forgotten += forgotten;
            }
            if self.swept.elapsed() >= SWEEP {
                self.sweep();
            }
        }
        end(self.known.into_values().flat_map(Known::into_probes).collect());
    }

    /// Looks at all that is mapped now.
    fn scan(&mut self) {
        for mapping in find::mapped() {
            self.mapped(&mapping);
        }
    }

    pub(super) fn mapped(&mut self, mapping: &Mapping) {
        let now = Instant::now();
        if self.recent.len() >= MAX_KNOWN {
            self.recent.clear();
        }
        let key = (mapping.inode.clone(), mapping.path.clone());
        let again = self.recent.get(&key).is_some_and(|at| now.duration_since(*at) < REPEATED);
        let Some(file) = (!again).then(|| mapping.open()).flatten() else { return };
        if !self.look(&file, &mapping.path, Some(mapping)) {
            // Where something is to be said of each process, each is looked at.
            self.recent.insert(key, now);
        }
    }

    /// Covers a file, unless it is. True when there is something to be said of each process that maps it.
    fn look(&mut self, file: &File, path: &Path, mapping: Option<&Mapping>) -> bool {
        let Some(key) = FileKey::of(file) else { return false };
        if !self.known.contains_key(&key) {
            if self.known.len() >= MAX_KNOWN {
                self.known.retain(|_, known| known.attached.is_some());
            }
            let findings = self.examine(file, path);
            self.enter(file, key, Known::of(findings, path, mapping.is_none()));
        }
        self.make_use_of_room(file, key);
        let Some(known) = self.known.get_mut(&key) else { return false };
        known.used = Instant::now();
        let uncovered = known.uncovered();
        if let Some(mapping) = mapping {
            if let Some(waiting) = &mut known.waiting {
                waiting.mapping = Some(mapping.clone());
            }
            for (library, why) in &uncovered {
                let (path, why) = (path.to_owned(), why.clone());
                self.shared.name(Uncovered {
                    pid: mapping.pid,
                    library,
                    path,
                    file: Some(key),
                    why,
                });
            }
            if let Some((contexts, exported)) = self.contexts.as_mut().zip(known.context) {
                contexts.met(mapping, exported);
            }
        }
        !uncovered.is_empty() || known.context.is_some()
    }

    /// What is to be done with a file.
    fn examine(&self, file: &File, path: &Path) -> Findings {
        let mut findings = examine(file, path);
        let Some(programs) = &self.programs else {
            // Nobody asked for it.
            return Findings { context: findings.context, ..Findings::default() };
        };
        self.shared.lock().examined += 1;
        if !programs.cover_go() {
            findings.without_go();
        }
        findings
    }

    /// Lets go of files that nobody maps any more, and of processes that are gone.
    fn sweep(&mut self) {
        self.swept = Instant::now();
        for pid in self.programs.iter().flat_map(P::strangers) {
            // One that is gone is in the kernel's list a while longer.
            let Ok(path) = std::fs::read_link(format!("/proc/{pid}/exe")) else { continue };
            let (library, why) = (rustls::STRANGE, Why::Unknown);
            self.shared.name(Uncovered { pid, library, path, file: None, why });
        }
        self.shared
            .lock()
            .uncovered
            .retain(|one| Path::new("/proc").join(one.pid.to_string()).exists());
        self.give_buffers_back();
        let idle = |known: &Known| {
            let matters = known.attached.is_some() || known.waiting.is_some();
            matters && !known.well_known && known.used.elapsed() >= SWEEP
        };
        if !self.known.values().any(|known| idle(known) || known.waiting.is_some()) {
            return;
        }
        self.recent.clear();
        self.scan();
        let gone: Vec<FileKey> =
            self.known.iter().filter(|(_, known)| idle(known)).map(|(key, _)| *key).collect();
        let mut ended = Vec::new();
        for key in gone {
            let Some(known) = self.known.remove(&key) else { continue };
            let place = (known.path.clone(), key.device, key.inode);
            self.shared.lock().covered.remove(&place);
            ended.extend(known.into_probes());
        }
        end(ended);
        self.count_probed_for_buffers();
        self.retry();
    }
}

/// Ends probes, several at a time.
pub(super) fn end(mut probes: Vec<Attached>) {
    let share = probes.len().div_ceil(ENDING).max(1);
    std::thread::scope(|scope| {
        while !probes.is_empty() {
            let some = probes.split_off(probes.len().saturating_sub(share));
            scope.spawn(move || drop(some));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_ends() {
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::new(AtomicBool::new(false));
        let (stopped, ends) = (Arc::clone(&stop), Arc::clone(&ended));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(1));
            }
            ends.store(true, Ordering::Release);
        });
        drop(Service { stop, thread: Some(thread) });
        assert!(ended.load(Ordering::Acquire), "and has ended by then");
    }
}
