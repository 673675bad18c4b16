//! Names of this node's pods, from the API server of a Kubernetes cluster.
//!
//! ```text
//! list, then watch ─► what it says (JSON, cut), owners ─► cache ── what changed ──► assembler
//!     └── fault: degraded, said in /status; what is known stays; again after a pause
//! ```
//!
//! One request that stays open, for the pods of this node only (`spec.nodeName`). It runs on the
//! threads of the outputs, beside whatever takes records from the kernel: a slow or absent API server
//! costs names, nothing else. `kube` and `k8s-openapi` would bring types for every object of the API;
//! what is needed here are nine fields of one.

mod access;
mod cache;
mod client;
mod knowledge;
mod owners;
mod watch;

#[cfg(test)]
mod server_test;

pub use knowledge::Knowledge;

use crate::config::{Environment, KubernetesSettings};
use agent_core::process::kubernetes::PodChange;
use agent_core::process::kubernetes::read::Rules;
use cache::{Cache, Room};
use client::Client;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use watch::Watch;

/// Changes that wait for the assembler: two full nodes. When there are more the watch waits.
const MAX_WAITING: usize = 256;

/// What asks the API server, as others see it.
pub struct Pods {
    /// What changed, in order.
    pub changes: Receiver<PodChange>,
    /// How it goes.
    pub knowledge: Arc<Knowledge>,
    /// Goes on as long as this is kept; `None` where nobody is asked.
    pub watching: Option<Watching>,
}

/// The list and watch.
pub struct Watching(JoinHandle<()>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Begins to ask.
///
/// # Errors
/// The certificate or the address cannot be used.
pub fn start(
    settings: &KubernetesSettings,
    host_name: &str,
    runtime: &Handle,
) -> Result<Pods, String> {
    let env: Environment<'_> = &|name| std::env::var(name).ok();
    let (out, changes) = sync_channel(MAX_WAITING);
    let access = match access::find(settings, env) {
        Ok(access) => access,
        Err(why) => {
            let knowledge = Arc::new(Knowledge::off(why));
            return Ok(Pods { changes, knowledge, watching: None });
        }
    };
    let node = access::node(settings, host_name, env);
    let knowledge = Arc::new(Knowledge::new(access.url.clone(), node.clone()));
    let client = Client::new(access, Arc::clone(&knowledge))?;
    let rules = Rules { labels: settings.labels.clone(), name_labels: settings.name_labels };
    let cache = Cache::new(Room::default(), out, Arc::clone(&knowledge));
    let watch = Watch::new(client, node, rules, cache, Arc::clone(&knowledge));
    let watching = Some(Watching(runtime.spawn(watch.run())));
    Ok(Pods { changes, knowledge, watching })
}
