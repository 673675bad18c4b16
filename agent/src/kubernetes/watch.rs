//! List, then watch, for ever.

use super::cache::{Cache, Closed};
use super::client::{self, Client, Lines, WHOLE};
use super::knowledge::{Fault, Knowledge};
use super::owners::Owners;
use agent_core::process::PodUid;
use agent_core::process::kubernetes::object::{self, Change};
use agent_core::process::kubernetes::read::{self, Rules};
use bytes::Bytes;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long the server keeps a watch open. It ends those of kubelets after five to ten minutes.
const WATCH: Duration = Duration::from_secs(290);

/// Pause after a fault, doubled by each that follows.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// A watch or list that ends sooner than this is not begun again at once.
const SHORT: Duration = Duration::from_secs(1);

/// What asks.
pub struct Watch {
    client: Client,
    /// In a query.
    selector: String,
    rules: Rules,
    cache: Cache,
    owners: Owners,
    knowledge: Arc<Knowledge>,
    pause: Duration,
    /// The next list has to be of now.
    fresh: bool,
}

/// Why a list or watch ended.
enum End {
    Fault(Fault),
    /// There is room again for pods that nobody remembers.
    List,
    /// The assembler has ended.
    Closed,
}

impl From<Fault> for End {
    fn from(fault: Fault) -> End {
        End::Fault(fault)
    }
}

impl From<Closed> for End {
    fn from(_: Closed) -> End {
        End::Closed
    }
}

impl Watch {
    /// Of one node's pods that have not ended: the processes of those that have are gone.
    pub fn new(
        client: Client,
        node: String,
        rules: Rules,
        cache: Cache,
        knowledge: Arc<Knowledge>,
    ) -> Watch {
        let ended = ["Succeeded", "Failed"].map(|phase| format!("%2Cstatus.phase%21%3D{phase}"));
        let selector = format!("fieldSelector=spec.nodeName%3D{node}{}", ended.concat());
        let owners = Owners::default();
        let (pause, fresh) = (FIRST_PAUSE, false);
        Watch { client, selector, rules, cache, owners, knowledge, pause, fresh }
    }

    /// Until the assembler has ended.
    pub async fn run(mut self) {
        loop {
            let began = Instant::now();
            let ended = match self.list().await {
                Ok(version) => self.follow(version).await,
                Err(end) => end,
            };
            match ended {
                End::Closed => return,
                // Not a fault of anybody: what was missed is in the next list.
                End::Fault(Fault::Expired) | End::List => {
                    self.fresh = true;
                    sleep(SHORT.saturating_sub(began.elapsed())).await;
                }
                End::Fault(fault) => self.wait_after(&fault).await,
            }
        }
    }

    /// Watches on and on, through faults; ends when everything has to be listed again.
    async fn follow(&mut self, mut version: String) -> End {
        loop {
            let began = Instant::now();
            let ended = self.watch(&mut version).await;
            match ended {
                Ok(()) => sleep(SHORT.saturating_sub(began.elapsed())).await,
                Err(End::Fault(fault @ (Fault::Refused(..) | Fault::Unreachable(_)))) => {
                    self.wait_after(&fault).await;
                }
                Err(end) => return end,
            }
        }
    }

    async fn wait_after(&mut self, fault: &Fault) {
        self.knowledge.degraded(fault);
        // All agents of a cluster lose one API server at one time: they do not come back at one.
        let mut random = [0];
        let part = getrandom::fill(&mut random).map_or(0, |()| u32::from(random[0]));
        sleep(self.pause / 2 + self.pause / 2 * part / 255).await;
        self.pause = (self.pause * 2).min(LAST_PAUSE);
        self.client.renew();
    }

    fn is_current(&mut self) {
        self.pause = FIRST_PAUSE;
        self.knowledge.current();
    }

    /// All pods; gives the version that they are of.
    async fn list(&mut self) -> Result<String, End> {
        // Version 0: out of the server's memory, as new as that is. All agents list at a roll-out. Where
        // a version was too old, what another server has in memory may be as old.
        let version = if self.fresh { "" } else { "&resourceVersion=0" };
        let path = format!("/api/v1/pods?{}{version}", self.selector);
        let answer = self.client.get(&path, WHOLE).await?;
        let list = object::list(&answer)
            .map_err(|why| Fault::Unreachable(format!("its list of pods is none: {why}")))?;
        self.owners.forget_failures();
        let mut there = HashSet::new();
        for pod in list.items.unwrap_or_default() {
            if let Some(uid) = self.put(&pod).await? {
                there.insert(uid);
            }
        }
        self.cache.retain(&there).await?;
        let Some(version) = object::version(&list.metadata.resource_version) else {
            let why = "its list of pods has no version to watch from".to_owned();
            return Err(Fault::Unreachable(why).into());
        };
        self.fresh = false;
        self.is_current();
        Ok(version.to_owned())
    }

    /// One watch, to its end.
    async fn watch(&mut self, version: &mut String) -> Result<(), End> {
        let path = format!(
            "/api/v1/pods?{}&watch=1&allowWatchBookmarks=true&timeoutSeconds={}&resourceVersion={version}",
            self.selector,
            WATCH.as_secs(),
        );
        let mut lines = self.client.watch(&path, WATCH).await?;
        self.is_current();
        let result = self.events(&mut lines, version).await;
        match &result {
            Err(End::Fault(fault)) => self.knowledge.failed(fault),
            Ok(()) | Err(End::Closed | End::List) => self.knowledge.answered(),
        }
        result
    }

    async fn events(&mut self, lines: &mut Lines, version: &mut String) -> Result<(), End> {
        while let Some(line) = lines.next().await? {
            let readable = self.event(&line, version).await?;
            self.knowledge.event(readable);
            if self.cache.wants_list() {
                return Err(End::List);
            }
        }
        Ok(())
    }

    /// Takes an event; false when it is none.
    async fn event(&mut self, line: &Bytes, version: &mut String) -> Result<bool, End> {
        let event = object::event(line);
        let known = match event.change {
            Change::Put(pod) => self.put(&pod).await?.is_some(),
            Change::Gone(uid) => {
                self.cache.remove(uid).await?;
                true
            }
            Change::Bookmark => true,
            Change::Failed(status) => {
                return Err(client::fault(status.code, status.why()).into());
            }
            Change::Unreadable => false,
        };
        if let Some(next) = event.version {
            *version = next;
        }
        Ok(known)
    }

    async fn put(&mut self, pod: &object::Pod) -> Result<Option<PodUid>, Closed> {
        let owners = self.owners.of(&pod.metadata, &self.client).await;
        let Some((pod, cut)) = read::pod(pod, owners, &self.rules) else { return Ok(None) };
        let uid = pod.uid;
        if self.cache.put(pod).await? {
            self.knowledge.cut(cut);
        }
        Ok(Some(uid))
    }
}
