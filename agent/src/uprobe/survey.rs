//! What is not covered among all that runs now, without probing anything: for `doctor`.

use super::{
    find,
    service::Uncovered,
    target::{FileKey, examine},
};
use std::collections::HashMap;

/// Processes that use a library which is not covered. Each file is looked into once.
pub fn uncovered() -> Vec<Uncovered> {
    let mut known: HashMap<FileKey, Vec<&'static str>> = HashMap::new();
    let mut found = Vec::new();
    for mapping in find::mapped() {
        let Some(file) = mapping.open() else { continue };
        let Some(key) = FileKey::of(&file) else { continue };
        let blind = known.entry(key).or_insert_with(|| examine(&file, &mapping.path).blind);
        found.extend(blind.iter().map(|library| Uncovered {
            pid: mapping.pid,
            library,
            path: mapping.path.clone(),
        }));
    }
    found
}
