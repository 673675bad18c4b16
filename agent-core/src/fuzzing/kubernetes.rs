//! What an API server says, to the reader of pods and on to what spans are named by.

use crate::ledger::{Entry, Side};
use crate::process::kubernetes::object::{self, Change};
use crate::process::kubernetes::{OwnerKind, Pod, PodChange, PodTable, pod_attributes, read};
use crate::process::{Place, PodUid};
use globset::{Glob, GlobSet};
use std::sync::LazyLock;

/// Longest name that anything has: a DNS subdomain.
const MAX_NAME: usize = 253;

/// Reads lines: each as a list of pods, as a line of a watch, as an owner and as the body of an error. A
/// line that begins with `!` is read with no label exported.
///
/// # Panics
/// When something is longer or more than it may be, a pod is not found again, or the account of pods
/// does not balance.
pub fn kubernetes(bytes: &[u8]) {
    let mut table = PodTable::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        let (line, labels) = match line {
            [b'!', rest @ ..] => (rest, GlobSet::empty()),
            line => (line, EVERY_LABEL.clone()),
        };
        let rules = read::Rules { name_labels: labels.is_empty(), labels };
        assert!(object::message(line).len() <= 4 * 200, "a reason in full");
        let maker = object::maker_in(line);
        let list = object::list(line).unwrap_or_default();
        let _ = object::version(&list.metadata.resource_version);
        for pod in list.items.iter().flatten() {
            take(pod, maker.clone(), &rules, &mut table);
        }
        let event = object::event(line);
        let version = event.version.unwrap_or_default();
        assert!(version.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{version}");
        match event.change {
            Change::Put(pod) => take(&pod, maker, &rules, &mut table),
            Change::Gone(uid) => table.apply(PodChange::Gone(uid)),
            Change::Failed(status) => assert!(status.why().chars().count() <= 200),
            Change::Bookmark | Change::Unreadable => {}
        }
    }
    balances(&table.ledger());
}

/// Made once: it costs more than the reading.
static EVERY_LABEL: LazyLock<GlobSet> = LazyLock::new(|| {
    let mut all = GlobSet::builder();
    if let Ok(glob) = Glob::new("*") {
        all.add(glob);
    }
    all.build().unwrap_or_default()
});

fn take(
    object: &object::Pod,
    above: Option<(OwnerKind, String)>,
    rules: &read::Rules,
    table: &mut PodTable,
) {
    let mut owners = Vec::new();
    if let Some((kind, owner)) = object.metadata.maker() {
        let _ = object.metadata.deployment(&owner.name);
        if let Some(path) = object::path_of(owner, &object.metadata.namespace) {
            assert!(!path.contains("..") && !path.contains(['?', '#', '%', ' ']), "{path}");
            assert_eq!(path.matches('/').count(), 7, "{path}");
        }
        owners.push((kind, owner.name.clone()));
    }
    owners.extend(above);
    let Some((pod, _)) = read::pod(object, owners, rules) else { return };
    bounded(&pod);
    let uid = pod.uid;
    table.apply(PodChange::known(pod));
    named(uid, table);
}

fn bounded(pod: &Pod) {
    let mut names = vec![&pod.name, &pod.namespace, &pod.node];
    names.extend(pod.containers.iter().flat_map(|container| [&container.name, &container.id]));
    names.extend(pod.owners.iter().map(|(_, name)| name));
    assert!(names.iter().all(|name| name.len() <= MAX_NAME), "{names:?}");
    assert!(pod.containers.len() <= read::MAX_CONTAINERS, "containers");
    for pairs in [&pod.labels, &pod.annotations] {
        assert!(pairs.len() <= read::MAX_ATTRIBUTES, "{} attributes", pairs.len());
        assert!(pairs.iter().all(|(_, value)| value.len() <= read::MAX_VALUE), "a long value");
    }
    assert!(pod.cgroup_uid.is_none_or(|hash| !hash.is_uuid), "a claim of another pod's uid");
}

/// A process in the pod is named by it.
fn named(uid: PodUid, table: &PodTable) {
    let mut place = Place::default();
    place.pods.push(uid);
    let Some(workload) = table.find(&place, "comm") else { return };
    assert_eq!(workload.pod.uid, uid, "another pod");
    let mut said = Vec::new();
    let mut claimed = 0;
    pod_attributes(&workload, |_, _| claimed += 1, &mut |key, _| said.push(key.to_owned()));
    assert!(said.iter().any(|key| key == "k8s.pod.uid"), "{said:?}");
    assert!(said.len() + claimed <= 2 * read::MAX_ATTRIBUTES + 16, "{said:?}");
}

fn balances(entries: &[Entry]) {
    let of = |wanted: fn(Side) -> bool| -> u64 {
        entries.iter().filter(|entry| wanted(entry.side)).map(|entry| entry.count).sum()
    };
    let came = of(|side| side == Side::In);
    assert_eq!(came, of(|side| matches!(side, Side::Out | Side::Held | Side::Lost(_))));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Each seed of the fuzzer, changed at random: a run without the fuzzer finds the plain mistakes.
    fn seeds() -> Vec<Vec<u8>> {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/kubernetes");
        let files = std::fs::read_dir(directory).unwrap().flatten();
        let mut seeds: Vec<_> = files.map(|file| std::fs::read(file.path()).unwrap()).collect();
        seeds.sort_unstable();
        assert!(seeds.len() >= 3, "seeds in {directory}");
        seeds
    }

    #[test]
    fn the_seeds_hold_pods_that_are_read() {
        let read = seeds().into_iter().filter(|seed| {
            let mut lines = seed.split(|byte| *byte == b'\n');
            lines.any(|line| {
                object::list(line).is_ok_and(|list| list.items.is_some())
                    || matches!(object::event(line).change, Change::Put(_))
            })
        });
        assert!(read.count() >= 2);
    }

    proptest! {
        #[test]
        fn changed_answers_are_read_or_refused(
            which in 0..3_usize,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        ) {
            let mut answer = seeds().swap_remove(which);
            for (at, byte) in changes {
                let at = at.index(answer.len());
                answer[at] = byte;
            }
            kubernetes(&answer);
        }
    }
}
