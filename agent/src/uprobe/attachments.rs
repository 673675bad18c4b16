//! Which files carry probes, and which wait for them: because too many do, or since the kernel refused.

use super::find::Mapping;
use super::knowledge::{Uncovered, Why};
use super::loader::Attached;
use super::open;
use super::program::Programs;
use super::service::Work;
use super::target::{FileKey, Findings};
use crate::runtime::context::Exported;
use agent_common::tls::Site;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Files that are tried again at most when one sweep is done.
const MAX_RETRIED: usize = 64;

/// Who probes files.
pub(super) trait Prober {
    /// Puts probes on places of a file; the reason when it cannot.
    fn attach(&self, file: &File, sites: &[(u64, Site)]) -> Result<Attached, String>;
    /// Go's TLS is covered.
    fn cover_go(&self) -> bool;
    /// Processes whose calls are none that are known.
    fn strangers(&self) -> Vec<u32>;
    /// A process with buffers of its own, if one was met since.
    fn own_buffers(&mut self) -> Option<u32>;
    /// Makes room in the kernel side's tables if there was none: how many entries are forgotten.
    fn make_room(&mut self) -> u64;
}

impl Prober for Programs {
    fn attach(&self, file: &File, sites: &[(u64, Site)]) -> Result<Attached, String> {
        Programs::attach(self, file, sites)
    }

    fn cover_go(&self) -> bool {
        Programs::cover_go(self)
    }

    fn strangers(&self) -> Vec<u32> {
        Programs::strangers(self)
    }

    fn own_buffers(&mut self) -> Option<u32> {
        Programs::own_buffers(self)
    }

    fn make_room(&mut self) -> u64 {
        Programs::make_room(self)
    }
}

pub(super) struct Known {
    pub(super) attached: Option<Attached>,
    /// To be probed, and not yet.
    pub(super) waiting: Option<Waiting>,
    /// Where it is probed in addition as long as a program has buffers of its own.
    pub(super) spare: Option<(File, Vec<(u64, Site)>)>,
    /// Those probes.
    pub(super) for_buffers: Option<Attached>,
    pub(super) blind: Vec<&'static str>,
    pub(super) context: Option<Exported>,
    pub(super) path: PathBuf,
    /// Found in a directory of the loader: stays.
    pub(super) well_known: bool,
    pub(super) used: Instant,
}

/// Places of a file that carry no probe.
pub(super) struct Waiting {
    libraries: Vec<&'static str>,
    sites: Vec<(u64, Site)>,
    pub(super) spare: Vec<(u64, Site)>,
    pub(super) why: Why,
    /// When that was last found to be so.
    tried: Instant,
    /// Who maps the file, as far as is known.
    pub(super) mapping: Option<Mapping>,
}

impl Known {
    pub(super) fn of(findings: Findings, path: &Path, well_known: bool) -> Known {
        let Findings { covered: libraries, blind, sites, spare, context } = findings;
        let waiting = (!sites.is_empty()).then(|| Waiting {
            libraries,
            sites,
            spare,
            why: Why::TooMany,
            tried: Instant::now(),
            mapping: None,
        });
        Known {
            attached: None,
            waiting,
            spare: None,
            for_buffers: None,
            blind,
            context,
            path: path.to_owned(),
            well_known,
            used: Instant::now(),
        }
    }

    /// What a process that maps it does with it unseen.
    pub(super) fn uncovered(&self) -> Vec<(&'static str, Why)> {
        let blind = self.blind.iter().map(|library| (*library, Why::Unknown));
        let waiting = self.waiting.iter().flat_map(|waiting| {
            waiting.libraries.iter().map(|library| (*library, waiting.why.clone()))
        });
        blind.chain(waiting).collect()
    }
}

impl<P: Prober> Work<P> {
    /// Remembers a file, with the probes that it is to carry.
    pub(super) fn enter(&mut self, file: &File, key: FileKey, mut known: Known) {
        self.attach(file, &key, &mut known);
        if let Some(waiting) = &known.waiting {
            let path = known.path.display();
            let mut shared = self.shared.lock();
            match &waiting.why {
                Why::Refused(reason) => {
                    shared.refused += 1;
                    tracing::warn!("{path} cannot be probed: {reason}");
                }
                _ => shared.over_limit += 1,
            }
        }
        self.known.insert(key, known);
    }

    /// Puts probes on a file that waits for them, if that can be.
    fn attach(&self, file: &File, key: &FileKey, known: &mut Known) {
        let Some((programs, mut waiting)) = self.programs.as_ref().zip(known.waiting.take()) else {
            return;
        };
        waiting.tried = Instant::now();
        if self.held() >= self.most {
            waiting.why = Why::TooMany;
            known.waiting = Some(waiting);
            return;
        }
        match programs.attach(file, &waiting.sites) {
            Ok(probes) => {
                known.attached = Some(probes);
                if !waiting.spare.is_empty() {
                    known.spare = file.try_clone().ok().map(|file| (file, waiting.spare));
                }
                if self.own_buffers.are_probed
                    && let Err(reason) = known.probe_buffers(programs)
                {
                    self.shared.lock().refused += 1;
                    tracing::warn!("{} cannot be probed: {reason}", known.path.display());
                }
                tracing::debug!(
                    "{}: {} probed",
                    known.path.display(),
                    waiting.libraries.join(", ")
                );
                let place = (known.path.clone(), key.device, key.inode);
                let mut shared = self.shared.lock();
                shared.covered.insert(place, waiting.libraries);
                shared.uncovered.retain(|one| one.file != Some(*key) || one.why == Why::Unknown);
            }
            Err(reason) => {
                waiting.why = Why::Refused(reason);
                known.waiting = Some(waiting);
            }
        }
    }

    /// Files that carry probes.
    fn held(&self) -> usize {
        self.known.values().filter(|known| known.attached.is_some()).count()
    }

    /// Covers a file that has come too late before, as soon as there is room.
    pub(super) fn make_use_of_room(&mut self, file: &File, key: FileKey) {
        let waiting = self.known.get(&key).and_then(|known| known.waiting.as_ref());
        // What the kernel refuses can wait for the sweep.
        let waits = waiting.is_some_and(|waiting| waiting.why == Why::TooMany);
        if !waits || self.held() >= self.most {
            return;
        }
        if let Some(mut known) = self.known.remove(&key) {
            self.attach(file, &key, &mut known);
            self.known.insert(key, known);
        }
    }

    /// Tries files again that wait for their probes and are in use, those first that have waited longest.
    pub(super) fn retry(&mut self) {
        let waiting = |(key, known): (&FileKey, &Known)| {
            let waiting = known.waiting.as_ref()?;
            let can_be_opened = known.well_known || waiting.mapping.is_some();
            can_be_opened.then(|| (waiting.tried, *key, waiting.mapping.clone()))
        };
        let mut files: Vec<_> = self.known.iter().filter_map(waiting).collect();
        files.sort_unstable_by_key(|(tried, ..)| *tried);
        for (_, key, mapping) in files.into_iter().take(MAX_RETRIED) {
            let Some(mut known) = self.known.remove(&key) else { continue };
            let file = match mapping {
                Some(mapping) => {
                    known.path.clone_from(&mapping.path);
                    mapping.open()
                }
                None => open::regular(&known.path),
            };
            if let Some(file) = file.filter(|file| FileKey::of(file) == Some(key)) {
                self.attach(&file, &key, &mut known);
            }
            if let Some(waiting) = &known.waiting {
                let mut shared = self.shared.lock();
                let same = |one: &&mut Uncovered| one.file == Some(key) && one.why != Why::Unknown;
                let named = shared.uncovered.iter_mut().filter(same);
                named.for_each(|one| one.why = waiting.why.clone());
            }
            self.known.insert(key, known);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uprobe::{buffers::OwnBuffers, find::of_process, knowledge::Shared};
    use std::collections::HashMap;
    use std::process::{Child, Command};
    use std::slice::from_ref;
    use std::sync::Mutex;

    /// Has room for so many files, or none with the kernel's word.
    #[derive(Default)]
    struct Kernel {
        refusal: Mutex<Option<String>>,
        probed: Mutex<Vec<Vec<(u64, Site)>>>,
        /// A process with buffers of its own.
        met: Mutex<Option<u32>>,
    }

    impl Prober for &Kernel {
        fn attach(&self, _: &File, sites: &[(u64, Site)]) -> Result<Attached, String> {
            if let Some(reason) = &*self.refusal.lock().unwrap() {
                return Err(reason.clone());
            }
            self.probed.lock().unwrap().push(sites.to_vec());
            Ok(Attached::default())
        }

        fn cover_go(&self) -> bool {
            true
        }

        fn strangers(&self) -> Vec<u32> {
            Vec::new()
        }

        fn own_buffers(&mut self) -> Option<u32> {
            self.met.lock().unwrap().take()
        }

        fn make_room(&mut self) -> u64 {
            0
        }
    }

    fn work(kernel: &Kernel, most: usize) -> Work<&Kernel> {
        Work {
            programs: Some(kernel),
            most,
            contexts: None,
            known: HashMap::new(),
            recent: HashMap::new(),
            shared: Shared::default(),
            swept: Instant::now(),
            own_buffers: OwnBuffers::default(),
        }
    }

    /// A process, its program's mapping, and that file.
    fn sleeper() -> (Child, Mapping, File, FileKey) {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let until = Instant::now() + std::time::Duration::from_secs(10);
        let mapping = loop {
            let mut mappings = of_process(child.id()).into_iter();
            if let Some(mapping) = mappings.find(|mapping| mapping.path.ends_with("sleep")) {
                break mapping;
            }
            assert!(Instant::now() < until, "its program is mapped");
        };
        let file = mapping.open().unwrap();
        let key = FileKey::of(&file).unwrap();
        (child, mapping, file, key)
    }

    const SITES: [(u64, Site); 1] = [(64, Site::silent(0))];

    fn known(path: &Path) -> Known {
        let covered = vec!["OpenSSL"];
        Known::of(Findings { covered, sites: SITES.to_vec(), ..Findings::default() }, path, false)
    }

    fn named(work: &Work<&Kernel>) -> Vec<(u32, &'static str, Why)> {
        let uncovered = work.shared.get().uncovered;
        uncovered.into_iter().map(|one| (one.pid, one.library, one.why)).collect()
    }

    #[test]
    fn a_file_over_the_limit_is_named_and_probed_once_there_is_room() {
        let (mut child, mapping, file, key) = sleeper();
        let kernel = Kernel::default();
        let mut work = work(&kernel, 0);
        work.enter(&file, key, known(&mapping.path));
        // Nobody is named before a process is seen to use it, and each that is.
        assert_eq!((named(&work), work.shared.get().over_limit), (vec![], 1));
        work.mapped(&mapping);
        work.mapped(&mapping);
        assert_eq!(named(&work), [(child.id(), "OpenSSL", Why::TooMany)]);
        work.retry();
        assert_eq!(named(&work), [(child.id(), "OpenSSL", Why::TooMany)]);
        assert!(kernel.probed.lock().unwrap().is_empty(), "there is no room yet");
        work.most = 1;
        work.retry();
        assert_eq!(kernel.probed.lock().unwrap()[..], [SITES.to_vec()]);
        let shared = work.shared.get();
        assert_eq!((named(&work), shared.over_limit), (vec![], 1));
        let covered: Vec<_> = shared.covered.into_iter().collect();
        let place = (mapping.path.clone(), key.device, key.inode);
        assert_eq!(covered, [(place, vec!["OpenSSL"])]);
        work.retry();
        assert_eq!(kernel.probed.lock().unwrap().len(), 1, "once");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_file_over_the_limit_is_probed_when_it_is_mapped_again_and_there_is_room() {
        let (mut child, mapping, file, key) = sleeper();
        let kernel = Kernel::default();
        let mut work = work(&kernel, 0);
        work.enter(&file, key, known(&mapping.path));
        work.mapped(&mapping);
        assert_eq!(named(&work), [(child.id(), "OpenSSL", Why::TooMany)]);
        work.most = 1;
        work.mapped(&mapping);
        assert_eq!((named(&work), kernel.probed.lock().unwrap().len()), (vec![], 1));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_file_that_the_kernel_refused_is_named_with_its_word_and_tried_again() {
        let (mut child, mapping, file, key) = sleeper();
        let kernel = Kernel::default();
        let refuse = |word: Option<&str>| {
            *kernel.refusal.lock().unwrap() = word.map(str::to_owned);
        };
        refuse(Some("no"));
        let mut work = work(&kernel, 1);
        work.enter(&file, key, known(&mapping.path));
        work.mapped(&mapping);
        let refused = |word: &str| (child.id(), "OpenSSL", Why::Refused(word.to_owned()));
        assert_eq!((named(&work), work.shared.get().refused), (vec![refused("no")], 1));
        refuse(Some("not now"));
        work.retry();
        work.mapped(&mapping);
        assert_eq!((named(&work), work.shared.get().refused), (vec![refused("not now")], 1));
        refuse(None);
        work.retry();
        assert_eq!((named(&work), work.shared.get().covered.len()), (vec![], 1));
        work.mapped(&mapping);
        assert_eq!(named(&work), []);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// What all records pass is probed while a program with buffers of its own lives, and no longer.
    #[test]
    fn buffers_are_probed_for_as_long_as_a_program_has_its_own() {
        let (mut child, mapping, file, key) = sleeper();
        let kernel = Kernel::default();
        let mut work = work(&kernel, 2);
        let spare = vec![(128, Site::ciphertext(1).past_all())];
        let findings =
            || Findings { sites: SITES.to_vec(), spare: spare.clone(), ..Findings::default() };
        work.enter(&file, key, Known::of(findings(), &mapping.path, true));
        work.look_for_own_buffers();
        assert_eq!(kernel.probed.lock().unwrap()[..], [SITES.to_vec()]);
        let meet = |pid| *kernel.met.lock().unwrap() = Some(pid);
        for _ in 0..2 {
            meet(child.id());
            work.look_for_own_buffers();
        }
        assert_eq!(kernel.probed.lock().unwrap()[1..], *from_ref(&spare), "once");
        work.give_buffers_back();
        assert_eq!(work.shared.get().for_buffers, 1, "it lives");
        child.kill().unwrap();
        child.wait().unwrap();
        work.give_buffers_back();
        assert_eq!(work.shared.get().for_buffers, 0);
        assert!(work.known[&key].attached.is_some(), "the others stay");
        // The next one is met as the first was.
        meet(std::process::id());
        work.look_for_own_buffers();
        assert_eq!(kernel.probed.lock().unwrap()[2..], *from_ref(&spare));
        assert_eq!(work.shared.get().for_buffers, 1);
        // Files that come later are probed for it as well.
        let (mut other, mapping, _, _) = sleeper();
        let other_file = File::open("/proc/self/exe").unwrap();
        let other_key = FileKey::of(&other_file).unwrap();
        work.enter(&other_file, other_key, Known::of(findings(), &mapping.path, true));
        assert_eq!(kernel.probed.lock().unwrap()[3..], [SITES.to_vec(), spare]);
        other.kill().unwrap();
        other.wait().unwrap();
    }

    /// Of several programs that call at once the kernel side may name but one, and no more are remembered than there
    /// is room for: what is probed stays as long as any of them calls.
    #[test]
    fn buffers_are_probed_for_a_program_that_is_named_late() {
        for others in [0, crate::uprobe::buffers::MAX_PROCESSES as u32] {
            let (mut child, mapping, file, key) = sleeper();
            let kernel = Kernel::default();
            let mut work = work(&kernel, 1);
            let spare = vec![(128, Site::ciphertext(1).past_all())];
            let findings = Findings { sites: SITES.to_vec(), spare, ..Findings::default() };
            work.enter(&file, key, Known::of(findings, &mapping.path, true));
            let sweep = |work: &mut Work<&Kernel>, met| {
                *kernel.met.lock().unwrap() = met;
                work.look_for_own_buffers();
                work.give_buffers_back();
                work.shared.get().for_buffers
            };
            assert_eq!(sweep(&mut work, Some(child.id())), 1);
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!(sweep(&mut work, Some(child.id())), 1, "another may have called as well");
            // Others that end now.
            work.own_buffers.processes.extend((0..others).map(|pid| i32::MAX as u32 - pid));
            let own = std::process::id();
            assert_eq!(sweep(&mut work, Some(own)), 1, "and has");
            assert_eq!(sweep(&mut work, Some(own)), 1);
            assert_eq!(sweep(&mut work, None), 1, "it lives");
        }
    }
}
