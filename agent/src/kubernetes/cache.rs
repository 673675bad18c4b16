//! What the assembler has been told: only what changes goes on, and no more pods than it has room for.
//! Those beyond wait here, and are told as soon as another one goes.

use super::knowledge::Knowledge;
use agent_core::process::PodUid;
use agent_core::process::kubernetes::{MAX_PODS, Pod, PodChange};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

/// Between two tries to hand on to an assembler that has not caught up.
const STEP: Duration = Duration::from_millis(5);

/// Nobody takes changes any more.
#[derive(Debug)]
pub struct Closed;

/// How many pods there may be.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Told.
    pub told: usize,
    /// Remembered until there is room. More are counted, and listed again when all of these are told.
    pub waiting: usize,
}

impl Default for Room {
    /// The largest list that is read holds some 3,000 pods of usual size.
    fn default() -> Room {
        Room { told: MAX_PODS, waiting: 3 * MAX_PODS }
    }
}

/// See the module.
pub struct Cache {
    room: Room,
    told: HashMap<PodUid, Arc<Pod>>,
    /// The oldest first.
    waiting: VecDeque<Arc<Pod>>,
    /// There were pods that nobody remembers.
    forgotten: bool,
    out: SyncSender<PodChange>,
    knowledge: Arc<Knowledge>,
}

impl Cache {
    /// Empty.
    pub fn new(room: Room, out: SyncSender<PodChange>, knowledge: Arc<Knowledge>) -> Cache {
        let (told, waiting) = (HashMap::new(), VecDeque::new());
        Cache { room, told, waiting, forgotten: false, out, knowledge }
    }

    /// A pod is as this. Gives whether that is news.
    pub async fn put(&mut self, pod: Pod) -> Result<bool, Closed> {
        let known = self.told.get(&pod.uid);
        if known.is_some_and(|known| **known == pod) {
            return Ok(false);
        }
        if known.is_none() && self.told.len() >= self.room.told {
            return Ok(self.wait(pod));
        }
        if known.is_none() {
            self.knowledge.pod_came();
        }
        self.tell_of(Arc::new(pod)).await?;
        Ok(true)
    }

    /// A pod is no more.
    pub async fn remove(&mut self, uid: PodUid) -> Result<(), Closed> {
        if self.told.remove(&uid).is_some() {
            self.knowledge.pod_went();
            self.tell(PodChange::Gone(uid)).await?;
            if let Some(next) = self.waiting.pop_front() {
                self.tell_of(next).await?;
            }
        } else if let Some(at) = self.waiting.iter().position(|pod| pod.uid == uid) {
            self.knowledge.pod_went();
            self.waiting.remove(at);
        }
        self.knowledge.pods(self.told.len(), self.waiting.len());
        Ok(())
    }

    /// There are these and no others.
    pub async fn retain(&mut self, there: &HashSet<PodUid>) -> Result<(), Closed> {
        // Those that wait come first: none that has gone is told.
        let all = self.waiting.iter().map(|pod| &pod.uid).chain(self.told.keys());
        let gone: Vec<_> = all.filter(|uid| !there.contains(uid)).copied().collect();
        for uid in gone {
            self.remove(uid).await?;
        }
        Ok(())
    }

    /// Whether there is room for pods that nobody remembers: asked once, everything is to be listed then.
    pub fn wants_list(&mut self) -> bool {
        let room = self.waiting.is_empty() && self.told.len() < self.room.told;
        room && std::mem::take(&mut self.forgotten)
    }

    fn wait(&mut self, pod: Pod) -> bool {
        let has_room = self.waiting.len() < self.room.waiting;
        let news = match self.waiting.iter_mut().find(|known| known.uid == pod.uid) {
            Some(known) => {
                let other = **known != pod;
                *known = Arc::new(pod);
                other
            }
            None if has_room => {
                self.knowledge.pod_came();
                self.waiting.push_back(Arc::new(pod));
                true
            }
            None => {
                self.forgotten = true;
                self.knowledge.pod_forgotten();
                false
            }
        };
        self.knowledge.pods(self.told.len(), self.waiting.len());
        news
    }

    async fn tell_of(&mut self, pod: Arc<Pod>) -> Result<(), Closed> {
        self.told.insert(pod.uid, Arc::clone(&pod));
        self.knowledge.pods(self.told.len(), self.waiting.len());
        self.tell(PodChange::Known(pod)).await
    }

    /// The thread of the outputs never waits in a send: the export is on it.
    async fn tell(&self, mut change: PodChange) -> Result<(), Closed> {
        loop {
            match self.out.try_send(change) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(back)) => change = back,
                Err(TrySendError::Disconnected(_)) => return Err(Closed),
            }
            tokio::time::sleep(STEP).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_core::ledger::Side;
    use agent_core::process::kubernetes::{AppLabels, PodTable};
    use std::sync::mpsc::{Receiver, sync_channel};

    fn uid(number: u32) -> PodUid {
        PodUid { number: u128::from(number), is_uuid: true }
    }

    fn pod(number: u32, name: &str) -> Pod {
        Pod {
            uid: uid(number),
            cgroup_uid: None,
            namespace: "shop".into(),
            name: name.into(),
            node: "node-1".into(),
            labels: Vec::new(),
            app: AppLabels::default(),
            annotations: Vec::new(),
            owners: Vec::new(),
            containers: Vec::new(),
        }
    }

    fn start(room: Room) -> (Cache, Receiver<PodChange>, Arc<Knowledge>) {
        let (out, changes) = sync_channel(1 << 14);
        let knowledge = Arc::new(Knowledge::new("server".into(), "node-1".into()));
        (Cache::new(room, out, Arc::clone(&knowledge)), changes, knowledge)
    }

    /// Each change in words: `+NAME`, `-NUMBER`.
    fn told(changes: &Receiver<PodChange>) -> Vec<String> {
        let words = changes.try_iter().map(|change| match change {
            PodChange::Known(pod) => format!("+{}", pod.name),
            PodChange::Gone(uid) => format!("-{}", uid.number),
        });
        words.collect()
    }

    /// In, out, held, lost, waiting.
    fn account(knowledge: &Knowledge) -> [u64; 5] {
        let ledger = knowledge.ledger();
        let of = |side| {
            let found = ledger.iter().find(|e| e.unit == "pods_of_node" && e.side == side);
            found.unwrap_or_else(|| panic!("{side:?} in {ledger:?}")).count
        };
        [Side::In, Side::Out, Side::Held, Side::Lost("over_limit"), Side::Info("waiting")].map(of)
    }

    #[tokio::test]
    async fn who_had_no_room_is_told_when_another_goes() {
        let (mut cache, changes, knowledge) = start(Room { told: 2, waiting: 2 });
        for number in 1..=4 {
            assert!(cache.put(pod(number, &format!("p{number}"))).await.unwrap());
        }
        assert_eq!(told(&changes), ["+p1", "+p2"]);
        assert_eq!(account(&knowledge), [4, 0, 4, 0, 2]);
        // Those that wait change and go like others.
        assert!(cache.put(pod(3, "new")).await.unwrap());
        assert!(!cache.put(pod(3, "new")).await.unwrap(), "no news");
        cache.remove(uid(4)).await.unwrap();
        assert_eq!(told(&changes), [""; 0]);
        assert_eq!(account(&knowledge), [4, 1, 3, 0, 1]);
        cache.remove(uid(1)).await.unwrap();
        assert_eq!(told(&changes), ["-1", "+new"]);
        assert!(cache.put(pod(3, "newer")).await.unwrap());
        cache.remove(uid(2)).await.unwrap();
        assert_eq!(told(&changes), ["+newer", "-2"]);
        assert_eq!(account(&knowledge), [4, 3, 1, 0, 0]);
        assert!(!cache.wants_list(), "nobody was forgotten");
    }

    #[tokio::test]
    async fn who_was_forgotten_is_counted_and_asked_for_when_all_others_are_told() {
        let (mut cache, changes, knowledge) = start(Room { told: 2, waiting: 1 });
        for number in 1..=5 {
            let news = cache.put(pod(number, &format!("p{number}"))).await.unwrap();
            assert_eq!(news, number <= 3);
        }
        assert_eq!(account(&knowledge), [5, 0, 3, 2, 1]);
        assert!(!cache.wants_list(), "there is no room");
        cache.remove(uid(1)).await.unwrap();
        assert!(!cache.wants_list(), "it went to the one that waited");
        cache.remove(uid(5)).await.unwrap();
        cache.remove(uid(2)).await.unwrap();
        assert_eq!(told(&changes), ["+p1", "+p2", "-1", "+p3", "-2"]);
        assert!(cache.wants_list());
        assert!(!cache.wants_list(), "once");
        assert_eq!(account(&knowledge), [5, 2, 1, 2, 0]);
    }

    #[tokio::test]
    async fn of_a_list_none_that_has_gone_is_told() {
        let (mut cache, changes, _) = start(Room { told: 2, waiting: 9 });
        for number in 1..=5 {
            cache.put(pod(number, &format!("p{number}"))).await.unwrap();
        }
        told(&changes);
        cache.retain(&HashSet::from([uid(2), uid(5)])).await.unwrap();
        assert_eq!(told(&changes), ["-1", "+p5"]);
    }

    /// More pods than there is room for, at the assembler's own bound: its table refuses none.
    #[tokio::test]
    async fn the_assembler_has_room_for_all_that_it_is_told() {
        let (mut cache, changes, knowledge) = start(Room::default());
        let most = u32::try_from(MAX_PODS).unwrap();
        let mut table = PodTable::default();
        for number in 0..most + 100 {
            cache.put(pod(number, "p")).await.unwrap();
        }
        for number in 50..150 {
            cache.remove(uid(number)).await.unwrap();
        }
        changes.try_iter().for_each(|change| table.apply(change));
        let counts: Vec<u64> = table.ledger().iter().map(|entry| entry.count).collect();
        assert_eq!(counts, [u64::from(most) + 100, 100, u64::from(most), 0]);
        assert_eq!(account(&knowledge)[3..], [0, 0]);
    }
}
