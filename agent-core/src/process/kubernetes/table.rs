//! The pods that are known, found by a process's cgroup.

use super::{Pod, PodChange, PodContainer};
use crate::ledger::{Entry, Side};
use crate::process::{Place, PodUid};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::sync::Arc;

/// Most pods: a kubelet runs 110 unless it is told otherwise, and 500 where clusters are built for
/// many. A pod is about 2 KiB.
pub const MAX_PODS: usize = 1024;

/// What every runtime calls the program that holds a pod's namespaces (`registry.k8s.io/pause`).
const PAUSE: &str = "pause";

/// Pods by uid.
#[derive(Default)]
pub struct PodTable {
    pods: HashMap<PodUid, Arc<Pod>, RandomState>,
    /// Uids of pods from files, by what stands in their cgroups: an annotation says it, so that a pod's own
    /// uid goes first.
    of_files: HashMap<PodUid, PodUid, RandomState>,
    generation: u64,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    inserted: u64,
    removed: u64,
    refused: u64,
}

/// The pod of a process, and its container there if that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// The pod.
    pub pod: Arc<Pod>,
    container: Option<usize>,
}

impl Workload {
    /// The container, if it is known which one it is.
    pub fn container(&self) -> Option<&PodContainer> {
        self.pod.containers.get(self.container?)
    }

    fn new(pod: &Arc<Pod>, place: &Place<'_>, comm: &str) -> Workload {
        let is_of = |container: &PodContainer| {
            place.containers.iter().any(|id| !id.is_empty() && *id == container.id)
        };
        let by_id = pod.containers.iter().position(is_of);
        // With one container there is nothing to choose, also where its id is another since the
        // kubelet has started it again. But what holds the pod's namespaces is none of its containers.
        let only = (pod.containers.len() == 1 && comm != PAUSE).then_some(0);
        Workload { pod: Arc::clone(pod), container: by_id.or(only) }
    }
}

impl PodTable {
    /// Takes a change.
    pub fn apply(&mut self, change: PodChange) {
        self.generation += 1;
        match change {
            PodChange::Known(pod) => self.insert(pod),
            PodChange::Gone(uid) => self.remove(uid),
        }
    }

    /// Another number after each change.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The innermost pod around a process that is known. None inside it may be: a cluster whose
    /// nodes are pods of this one. `comm` is the process's task name.
    pub fn find(&self, place: &Place<'_>, comm: &str) -> Option<Workload> {
        let known = |uid| self.pods.get(uid).or_else(|| self.pods.get(self.of_files.get(uid)?));
        let pod = place.pods.iter().find_map(known)?;
        Some(Workload::new(pod, place, comm))
    }

    /// The account of this table.
    pub fn ledger(&self) -> Vec<Entry> {
        let held = self.counts.inserted - self.counts.removed;
        [
            (Side::In, self.counts.inserted + self.counts.refused),
            (Side::Out, self.counts.removed),
            (Side::Held, held),
            (Side::Lost("over_limit"), self.counts.refused),
        ]
        .map(|(side, count)| Entry { stage: "kubernetes", unit: "pods", side, count })
        .to_vec()
    }

    fn insert(&mut self, pod: Arc<Pod>) {
        let known = self.pods.contains_key(&pod.uid);
        if !known && self.pods.len() >= MAX_PODS {
            self.counts.refused += 1;
            return;
        }
        self.counts.inserted += u64::from(!known);
        let (uid, hash) = (pod.uid, pod.cgroup_uid);
        if let Some(before) = self.pods.insert(uid, pod) {
            self.forget_file(&before);
        }
        if let Some(hash) = hash {
            self.of_files.insert(hash, uid);
        }
    }

    fn remove(&mut self, uid: PodUid) {
        let Some(pod) = self.pods.remove(&uid) else { return };
        self.counts.removed += 1;
        self.forget_file(&pod);
    }

    /// The same file's next pod may be there already: then its hash stays.
    fn forget_file(&mut self, pod: &Pod) {
        if let Some(hash) = pod.cgroup_uid
            && self.of_files.get(&hash) == Some(&pod.uid)
        {
            self.of_files.remove(&hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ID, UID, cgroup, pod, uid};
    use super::*;
    use crate::process::place;

    fn find(table: &PodTable, cgroup: &str) -> Option<(String, Option<String>)> {
        called(table, cgroup, "nginx")
    }

    fn called(table: &PodTable, cgroup: &str, comm: &str) -> Option<(String, Option<String>)> {
        let found = table.find(&place(cgroup), comm)?;
        let container = found.container().map(|container| container.name.clone());
        Some((found.pod.name.clone(), container))
    }

    #[test]
    fn a_process_is_found_by_the_uid_and_its_container_by_the_id() {
        let mut table = PodTable::default();
        assert_eq!(find(&table, &cgroup()), None);
        let mut two = pod();
        two.containers.push(PodContainer { name: "sidecar".into(), ..PodContainer::default() });
        two.containers.swap(0, 1);
        table.apply(PodChange::known(two.clone()));
        let name = two.name.clone();
        assert_eq!(find(&table, &cgroup()), Some((name.clone(), Some("app".into()))));
        let other = cgroup().replace(ID, &"b".repeat(64));
        assert_eq!(find(&table, &other), Some((name.clone(), None)), "an id that is not known");

        let mut one = pod();
        one.containers.truncate(1);
        one.containers[0].id.clear();
        table.apply(PodChange::known(one));
        assert_eq!(find(&table, &other), Some((name.clone(), Some("app".into()))), "the only one");
        assert_eq!(called(&table, &other, PAUSE), Some((name.clone(), None)), "who holds the pod");
        table.apply(PodChange::known(pod()));
        assert_eq!(find(&table, &other), Some((name.clone(), Some("app".into()))), "started again");
        assert_eq!(called(&table, &other, PAUSE), Some((name.clone(), None)), "who holds the pod");
        let program = Some((name, Some("app".into())));
        assert_eq!(called(&table, &cgroup(), PAUSE), program, "a program of this name");

        table.apply(PodChange::Gone(uid()));
        assert_eq!(find(&table, &cgroup()), None);
        assert_eq!(table.generation(), 4);
    }

    #[test]
    fn a_pod_from_a_file_is_found_by_the_hash() {
        let mut table = PodTable::default();
        let hash = "46dac9a538838115821dfd9559149484";
        let mirror = |number| Pod {
            uid: PodUid { number, is_uuid: true },
            cgroup_uid: PodUid::parse(hash),
            ..pod()
        };
        let cgroup = cgroup().replace(UID, hash);
        table.apply(PodChange::known(mirror(1)));
        assert!(find(&table, &cgroup).is_some());
        table.apply(PodChange::known(mirror(2)));
        table.apply(PodChange::Gone(mirror(1).uid));
        assert!(find(&table, &cgroup).is_some(), "the next pod of the file stays");
        table.apply(PodChange::Gone(mirror(2).uid));
        assert!(find(&table, &cgroup).is_none());
        assert!(table.pods.is_empty() && table.of_files.is_empty());
    }

    #[test]
    fn a_claimed_hash_takes_no_other_pods_place() {
        let mut table = PodTable::default();
        // Annotations are anybody's: this one claims the uid of another pod, and the hash of a file's.
        let claims = |number, hash: &str| Pod {
            uid: PodUid { number, is_uuid: true },
            cgroup_uid: PodUid::parse(hash),
            name: "mallory".into(),
            ..pod()
        };
        let known = || Some((pod().name, Some("app".into())));
        for hash in [UID.to_owned(), UID.replace('-', "")] {
            table.apply(PodChange::known(claims(1, &hash)));
            table.apply(PodChange::known(pod()));
            table.apply(PodChange::known(claims(1, &hash)));
            assert_eq!(find(&table, &cgroup()), known(), "{hash}");
            table.apply(PodChange::Gone(claims(1, &hash).uid));
            assert_eq!(find(&table, &cgroup()), known(), "{hash}");
            table.apply(PodChange::known(claims(1, &hash)));
            table.apply(PodChange::Gone(uid()));
            table.apply(PodChange::Gone(claims(1, &hash).uid));
            let counts: Vec<u64> = table.ledger().iter().map(|entry| entry.count).collect();
            let [came, went, held, refused] = counts[..] else { panic!("{counts:?}") };
            assert_eq!((came - went, held, refused), (0, 0, 0), "{hash}");
        }
    }

    #[test]
    fn what_runs_in_a_pod_of_a_pod_has_the_one_that_is_known() {
        let mut table = PodTable::default();
        table.apply(PodChange::known(pod()));
        let inner = format!("{}/kubepods/pod{}/{}", cgroup(), "c".repeat(32), "d".repeat(64));
        assert_eq!(find(&table, &inner), Some((pod().name, Some("app".into()))));
    }

    #[test]
    fn pods_are_bounded_and_the_account_balances() {
        let mut table = PodTable::default();
        for number in 0..MAX_PODS as u128 + 10 {
            let uid = PodUid { number, is_uuid: true };
            table.apply(PodChange::known(Pod { uid, ..pod() }));
        }
        table.apply(PodChange::Gone(PodUid { number: 3, is_uuid: true }));
        table.apply(PodChange::Gone(PodUid { number: 3, is_uuid: true }));
        let counts: Vec<u64> = table.ledger().iter().map(|entry| entry.count).collect();
        let most = MAX_PODS as u64;
        assert_eq!(counts, [most + 10, 1, most - 1, 10]);
        assert_eq!(table.pods.len(), MAX_PODS - 1);
    }
}
