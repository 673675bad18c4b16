//! What is covered and what is not among all that runs now, without probing anything: for `doctor`.

use super::{
    find,
    knowledge::Why,
    open,
    service::MAX_ATTACHED,
    target::{FileKey, Findings, examine},
};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Files that have been looked into.
#[derive(Default)]
struct Survey {
    known: HashMap<FileKey, Looked>,
    /// Files that an agent would probe.
    probed: usize,
}

/// What is in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Looked {
    covered: Vec<&'static str>,
    blind: Vec<&'static str>,
    /// Why these are.
    why: Why,
}

/// A library that a process uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// Process.
    pub pid: u32,
    /// Library.
    pub library: &'static str,
    /// Its file.
    pub path: PathBuf,
    /// What is in the way of reading it; nothing where an agent reads it.
    pub blind: Option<Why>,
}

impl Survey {
    /// What of a file is covered and what is not, and why. Each is looked into once.
    fn look(&mut self, file: &File, path: &Path, most: usize) -> &Looked {
        const NOTHING: &Looked =
            &Looked { covered: Vec::new(), blind: Vec::new(), why: Why::Unknown };
        let Some(key) = FileKey::of(file) else { return NOTHING };
        let probed = &mut self.probed;
        self.known.entry(key).or_insert_with(|| {
            let Findings { covered, blind, sites, .. } = examine(file, path);
            if sites.is_empty() {
                return Looked { covered: Vec::new(), blind, why: Why::Unknown };
            }
            *probed += 1;
            match *probed > most {
                true => Looked { covered: Vec::new(), blind: covered, why: Why::TooMany },
                false => Looked { covered, blind, why: Why::Unknown },
            }
        })
    }
}

/// The TLS libraries that each process uses. What the kernel refuses is known to an agent alone.
pub fn uses() -> Vec<Use> {
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
        let Looked { covered, blind, why } = survey.look(&file, &mapping.path, MAX_ATTACHED);
        let covered = covered.iter().map(|library| (*library, None));
        let blind = blind.iter().map(|library| (*library, Some(why)));
        // One that has many copies of a library is named once.
        let all = covered.chain(blind);
        let new = all.filter(|(library, why)| named.insert((mapping.pid, *library, why.is_some())));
        found.extend(new.map(|(library, why)| Use {
            pid: mapping.pid,
            library,
            path: mapping.path.clone(),
            blind: why.cloned(),
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
        let looked = |covered, blind, why| Looked { covered, blind, why };
        let covered = looked(vec!["OpenSSL"], vec![], Why::Unknown);
        let over = looked(vec![], vec!["OpenSSL"], Why::TooMany);
        assert_eq!(look("one"), covered);
        assert_eq!(look("two"), over);
        // Each counts once.
        assert_eq!((look("one"), look("two")), (covered, over));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
