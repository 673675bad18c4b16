//! What is not covered among all that runs now, without probing anything: for `doctor`.

use super::{
    find,
    knowledge::{Uncovered, Why},
    open,
    service::MAX_ATTACHED,
    target::{FileKey, examine},
};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::Path;

/// Files that have been looked into.
#[derive(Default)]
struct Survey {
    known: HashMap<FileKey, (Vec<&'static str>, Why)>,
    /// Files that an agent would probe.
    probed: usize,
}

impl Survey {
    /// What of a file is not covered, and why. Each is looked into once.
    fn look(&mut self, file: &File, path: &Path, most: usize) -> &(Vec<&'static str>, Why) {
        const NOTHING: &(Vec<&str>, Why) = &(Vec::new(), Why::Unknown);
        let Some(key) = FileKey::of(file) else { return NOTHING };
        let probed = &mut self.probed;
        self.known.entry(key).or_insert_with(|| {
            let findings = examine(file, path);
            if findings.sites.is_empty() {
                return (findings.blind, Why::Unknown);
            }
            *probed += 1;
            match *probed > most {
                true => (findings.covered, Why::TooMany),
                false => (findings.blind, Why::Unknown),
            }
        })
    }
}

/// Processes that use a library which is not covered. What the kernel refuses is known to an agent alone.
pub fn uncovered() -> Vec<Uncovered> {
    let mut survey = Survey::default();
    let (mut found, mut named) = (Vec::new(), HashSet::new());
    // As the agent does it, these come first.
    for path in find::well_known() {
        if let Some(file) = open::regular(&path) {
            survey.look(&file, &path, MAX_ATTACHED);
        }
    }
    for mapping in find::mapped() {
        let Some(file) = mapping.open() else { continue };
        let (libraries, why) = survey.look(&file, &mapping.path, MAX_ATTACHED);
        // One that has many copies of a library is named once.
        let new = libraries.iter().filter(|library| named.insert((mapping.pid, **library)));
        found.extend(new.map(|library| Uncovered {
            pid: mapping.pid,
            library,
            path: mapping.path.clone(),
            file: None,
            why: why.clone(),
        }));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two copies of Debian's libssl, and room for one.
    #[test]
    fn files_beyond_the_limit_are_named_by_a_survey() {
        let library = Path::new("/usr/lib/x86_64-linux-gnu/libssl.so.3");
        if !library.exists() {
            println!("SKIP survey: not installed: libssl.so.3");
            return;
        }
        let dir = std::env::temp_dir().join(format!("kernspan-survey-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut survey = Survey::default();
        let mut look = |name: &str| {
            let path = dir.join(name);
            if !path.exists() {
                std::fs::copy(library, &path).unwrap();
            }
            survey.look(&File::open(&path).unwrap(), &path, 1).clone()
        };
        let (covered, over) = ((vec![], Why::Unknown), (vec!["OpenSSL"], Why::TooMany));
        assert_eq!(look("one"), covered);
        assert_eq!(look("two"), over);
        // Each counts once.
        assert_eq!((look("one"), look("two")), (covered, over));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
