//! Who made a pod, and who made that.
//!
//! The pod names its maker. What lies above is known by names for Deployments
//! ([`Metadata::deployment`]); of jobs, and replica sets without the label, the API server is asked once
//! an object. Without the right to ask, or an answer, the maker stands alone.

use super::client::{Client, METADATA};
use super::knowledge::Fault;
use agent_core::process::kubernetes::OwnerKind;
use agent_core::process::kubernetes::object::{self, Metadata, Owner};
use std::collections::HashMap;

/// Most makers remembered. When there are more they are asked for again.
const MAX_MAKERS: usize = 1024;

type Named = (OwnerKind, String);

/// Makers by uid, with who made them.
#[derive(Default)]
pub struct Owners {
    known: HashMap<String, Option<Named>>,
}

impl Owners {
    /// The maker of an object and what lies above it.
    pub async fn of(&mut self, metadata: &Metadata, client: &Client) -> Vec<Named> {
        let Some((kind, owner)) = metadata.maker() else { return Vec::new() };
        let above = match metadata.deployment(&owner.name) {
            Some(name) if kind == OwnerKind::ReplicaSet => {
                Some((OwnerKind::Deployment, name.to_owned()))
            }
            _ => self.ask(owner, &metadata.namespace, client).await,
        };
        [(kind, owner.name.clone())].into_iter().chain(above).collect()
    }

    /// Asks once; a refusal too is remembered, until the next list. Of a server that is away the pod's
    /// next change asks again.
    async fn ask(&mut self, owner: &Owner, namespace: &str, client: &Client) -> Option<Named> {
        let path = object::path_of(owner, namespace)?;
        if let Some(known) = self.known.get(&owner.uid) {
            return known.clone();
        }
        if self.known.len() >= MAX_MAKERS {
            self.known.clear();
        }
        let asked = client.get(&path, METADATA).await.map(|answer| object::maker_in(&answer));
        let passes = asked.as_ref().is_err_and(|fault| {
            tracing::debug!("Kubernetes: the owner of {}: {fault}", owner.name);
            !matches!(fault, Fault::Refused(401 | 403 | 404, _))
        });
        let above = asked.ok().flatten();
        if !passes {
            self.known.insert(owner.uid.clone(), above.clone());
        }
        above
    }

    /// Everything is listed again: what failed is tried again.
    pub fn forget_failures(&mut self) {
        self.known.retain(|_, above| above.is_some());
    }
}
