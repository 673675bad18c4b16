//! What the assembler has been told: only what changes goes on.

use super::knowledge::Knowledge;
use agent_core::process::PodUid;
use agent_core::process::kubernetes::{Pod, PodChange};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

/// Between two tries to hand on to an assembler that has not caught up.
const STEP: Duration = Duration::from_millis(5);

/// Most pods remembered; the assembler counts those that it refuses.
const MAX_PODS: usize = 4096;

/// Nobody takes changes any more.
#[derive(Debug)]
pub struct Closed;

/// See the module.
pub struct Cache {
    told: HashMap<PodUid, Arc<Pod>>,
    out: SyncSender<PodChange>,
    knowledge: Arc<Knowledge>,
}

impl Cache {
    /// Empty.
    pub fn new(out: SyncSender<PodChange>, knowledge: Arc<Knowledge>) -> Cache {
        Cache { told: HashMap::new(), out, knowledge }
    }

    /// A pod is as this.
    pub async fn put(&mut self, pod: Pod) -> Result<(), Closed> {
        let known = self.told.get(&pod.uid);
        if known.is_some_and(|known| **known == pod)
            || (known.is_none() && self.told.len() >= MAX_PODS)
        {
            return Ok(());
        }
        let pod = Arc::new(pod);
        self.told.insert(pod.uid, Arc::clone(&pod));
        self.knowledge.pods(self.told.len());
        self.tell(PodChange::Known(pod)).await
    }

    /// A pod is no more.
    pub async fn remove(&mut self, uid: PodUid) -> Result<(), Closed> {
        if self.told.remove(&uid).is_none() {
            return Ok(());
        }
        self.knowledge.pods(self.told.len());
        self.tell(PodChange::Gone(uid)).await
    }

    /// There are these and no others.
    pub async fn retain(&mut self, there: &HashSet<PodUid>) -> Result<(), Closed> {
        let gone: Vec<_> = self.told.keys().filter(|uid| !there.contains(uid)).copied().collect();
        for uid in gone {
            self.remove(uid).await?;
        }
        Ok(())
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
