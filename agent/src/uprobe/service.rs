//! The thread that finds libraries and puts probes on them, and what it knows.

use super::{
    find::{self, Mapping},
    mappings::Mappings,
    program::{Attached, Programs},
    rustls,
    target::{FileKey, Findings, examine},
};
use crate::runtime::context::{ContextCounts, Contexts, Exported};
use agent_common::tls::Site;
use agent_core::ledger::{Entry, Side};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Files that carry probes at most: each has some in the kernel.
const MAX_ATTACHED: usize = 256;
/// Files that are remembered at most, so as not to be read again.
const MAX_KNOWN: usize = 16_384;
/// Names of libraries in use that are not covered, at most.
const MAX_BLIND: usize = 1024;
/// How often files that nobody maps any more are looked for.
const SWEEP: Duration = Duration::from_secs(20);
/// A mapping of the same file by the same path is not looked at again so soon.
const REPEATED: Duration = Duration::from_secs(1);
/// Longest wait for a mapping; ends early with the next.
const WAIT: Duration = Duration::from_millis(200);
/// Threads that end probes: ending one waits for the whole machine, several wait together.
const ENDING: usize = 16;

/// A process that uses a library which is not covered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uncovered {
    /// Process.
    pub pid: u32,
    /// Library.
    pub library: &'static str,
    /// Its file.
    pub path: PathBuf,
}

/// What is known of libraries.
#[derive(Clone, Debug, Default)]
pub struct Knowledge {
    /// Files with probes, each with the libraries in it. By path, as their processes see it, device and
    /// inode: the same path is another file in each container.
    pub covered: BTreeMap<(PathBuf, u64, u64), Vec<&'static str>>,
    /// Libraries in use that are not covered.
    pub uncovered: Vec<Uncovered>,
    /// Files looked into.
    pub examined: u64,
    /// Files whose probes the kernel refused.
    pub refused: u64,
    /// Files left out because too many carry probes already.
    pub over_limit: u64,
    /// Files in which all that goes into buffers is probed, since a program has some of its own.
    pub for_buffers: u64,
    /// Mappings that the kernel had no room to tell of.
    pub lost: u64,
    /// Programs that publish trace contexts.
    pub contexts: ContextCounts,
}

/// Shared with who asks.
#[derive(Clone, Default)]
pub struct Shared(Arc<Mutex<Knowledge>>);

impl Shared {
    /// As of now.
    pub fn get(&self) -> Knowledge {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Knowledge> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The account.
    pub fn ledger(&self) -> Vec<Entry> {
        let known = self.lock();
        let files =
            |what, count| Entry { stage: "tls", unit: "files", side: Side::Info(what), count };
        let publishers = |what, count| Entry {
            stage: "thread_context",
            unit: "processes",
            side: Side::Info(what),
            count,
        };
        vec![
            files("examined", known.examined),
            files("probed", known.covered.len() as u64),
            files("refused", known.refused),
            files("over_limit", known.over_limit),
            files("probed_for_buffers", known.for_buffers),
            files("lost_mappings", known.lost),
            Entry {
                stage: "tls",
                unit: "processes",
                side: Side::Info("with_uncovered_library"),
                count: known.uncovered.len() as u64,
            },
            publishers("found", known.contexts.found),
            publishers("refused", known.contexts.refused),
        ]
    }
}

/// The running service.
pub struct Service {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

struct Known {
    attached: Option<Attached>,
    /// Where it is probed in addition: see [`Work::meet_other_buffers`].
    spare: Option<(File, Vec<(u64, Site)>)>,
    blind: Vec<&'static str>,
    context: Option<Exported>,
    path: PathBuf,
    /// Found in a directory of the loader: stays.
    well_known: bool,
    used: Instant,
}

impl Known {
    fn of(findings: Findings, path: &Path, well_known: bool, attached: Option<Attached>) -> Known {
        Known {
            attached,
            spare: None,
            blind: findings.blind,
            context: findings.context,
            path: path.to_owned(),
            well_known,
            used: Instant::now(),
        }
    }
}

struct Work {
    /// Nothing is probed without them.
    programs: Option<Programs>,
    /// Nobody is asked what it publishes without them.
    contexts: Option<Contexts>,
    known: HashMap<FileKey, Known>,
    recent: HashMap<((String, u64), PathBuf), Instant>,
    shared: Shared,
    swept: Instant,
    /// A program with buffers of its own has been met.
    other_buffers: bool,
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
            contexts,
            known: HashMap::new(),
            recent: HashMap::new(),
            shared,
            swept: Instant::now(),
            other_buffers: false,
        };
        let well_known = if work.programs.is_some() { find::well_known() } else { Vec::new() };
        for path in well_known {
            if let Ok(file) = File::open(&path) {
                work.look(&file, &path, None);
            }
        }
        work.scan();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("kernspan-lib".to_owned())
            .spawn(move || work.run(mappings, &stopped))?;
        Ok(Service { stop, thread })
    }

    /// Ends the thread and all probes.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Release);
        // A panic there ends its probes as well.
        let _ = self.thread.join();
    }
}

impl Work {
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
            if !self.other_buffers
                && self.programs.as_ref().is_some_and(Programs::meet_other_buffers)
            {
                self.meet_other_buffers();
            }
            if self.swept.elapsed() >= SWEEP {
                self.sweep();
            }
        }
        end(self.known.into_values().filter_map(|known| known.attached).collect());
    }

    /// A program has a TLS library send into a buffer that the library does not know: from now on all that
    /// goes into any is looked at.
    fn meet_other_buffers(&mut self) {
        self.other_buffers = true;
        tracing::debug!(
            "a program has buffers of its own for a TLS library: these are probed as well"
        );
        let Some(programs) = &self.programs else { return };
        for known in self.known.values_mut() {
            let Some((attached, (file, sites))) = known.attached.as_mut().zip(known.spare.take())
            else {
                continue;
            };
            match programs.attach(&file, &sites) {
                Ok(probes) => {
                    attached.add(probes);
                    self.shared.lock().for_buffers += 1;
                }
                Err(reason) => {
                    self.shared.lock().refused += 1;
                    tracing::warn!("{} cannot be probed: {reason}", known.path.display());
                }
            }
        }
    }

    /// Looks at all that is mapped now.
    fn scan(&mut self) {
        for mapping in find::mapped() {
            self.mapped(&mapping);
        }
    }

    fn mapped(&mut self, mapping: &Mapping) {
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
            let known = self.examine(file, &key, path, mapping.is_none());
            self.known.insert(key, known);
        }
        let Some(known) = self.known.get_mut(&key) else { return false };
        known.used = Instant::now();
        if let Some(mapping) = mapping {
            for library in &known.blind {
                let path = path.to_owned();
                name(&self.shared, Uncovered { pid: mapping.pid, library, path });
            }
            if let Some((contexts, exported)) = self.contexts.as_mut().zip(known.context) {
                contexts.met(mapping, exported);
            }
        }
        !known.blind.is_empty() || known.context.is_some()
    }

    fn examine(&self, file: &File, key: &FileKey, path: &Path, well_known: bool) -> Known {
        let mut findings = examine(file, path);
        let Some(programs) = &self.programs else {
            findings.sites.clear();
            findings.blind.clear();
            return Known::of(findings, path, well_known, None);
        };
        if !programs.cover_go() {
            findings.without_go();
        }
        if self.other_buffers {
            findings.sites.append(&mut findings.spare);
        }
        let spare = std::mem::take(&mut findings.spare);
        let held = self.known.values().filter(|known| known.attached.is_some()).count();
        let mut shared = self.shared.lock();
        shared.examined += 1;
        let mut attached = None;
        if !findings.sites.is_empty() && held >= MAX_ATTACHED {
            shared.over_limit += 1;
        } else if !findings.sites.is_empty() {
            match programs.attach(file, &findings.sites) {
                Ok(probes) => {
                    attached = Some(probes);
                    let place = (path.to_owned(), key.device, key.inode);
                    shared.covered.insert(place, findings.covered.clone());
                    tracing::debug!("{}: {} probed", path.display(), findings.covered.join(", "));
                }
                Err(reason) => {
                    shared.refused += 1;
                    tracing::warn!("{} cannot be probed: {reason}", path.display());
                }
            }
        }
        let mut known = Known::of(findings, path, well_known, attached);
        if known.attached.is_some() && !spare.is_empty() {
            known.spare = file.try_clone().ok().map(|file| (file, spare));
        }
        known
    }

    /// Lets go of files that nobody maps any more, and of processes that are gone.
    fn sweep(&mut self) {
        self.swept = Instant::now();
        for pid in self.programs.iter().flat_map(Programs::strangers) {
            // One that is gone is in the kernel's list a while longer.
            let Ok(path) = std::fs::read_link(format!("/proc/{pid}/exe")) else { continue };
            name(&self.shared, Uncovered { pid, library: rustls::STRANGE, path });
        }
        self.shared
            .lock()
            .uncovered
            .retain(|one| Path::new("/proc").join(one.pid.to_string()).exists());
        let idle = |known: &Known| {
            known.attached.is_some() && !known.well_known && known.used.elapsed() >= SWEEP
        };
        if !self.known.values().any(idle) {
            return;
        }
        self.recent.clear();
        self.scan();
        let gone: Vec<FileKey> =
            self.known.iter().filter(|(_, known)| idle(known)).map(|(key, _)| *key).collect();
        let mut ended = Vec::new();
        for key in gone {
            let Some(known) = self.known.remove(&key) else { continue };
            self.shared.lock().covered.remove(&(known.path, key.device, key.inode));
            ended.extend(known.attached);
        }
        end(ended);
    }
}

fn name(shared: &Shared, uncovered: Uncovered) {
    let mut known = shared.lock();
    if known.uncovered.len() < MAX_BLIND && !known.uncovered.contains(&uncovered) {
        tracing::info!(
            "process {} uses {}, whose traffic is not seen in clear ({})",
            uncovered.pid,
            uncovered.library,
            uncovered.path.display()
        );
        known.uncovered.push(uncovered);
    }
}

/// Ends probes, several at a time.
fn end(mut probes: Vec<Attached>) {
    let share = probes.len().div_ceil(ENDING).max(1);
    std::thread::scope(|scope| {
        while !probes.is_empty() {
            let some = probes.split_off(probes.len().saturating_sub(share));
            scope.spawn(move || drop(some));
        }
    });
}
