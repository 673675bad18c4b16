//! Who made a pod, and who made that.
//!
//! The pod names its maker. What lies above is known by names for Deployments
//! ([`pod::deployment`]); of jobs, and replica sets without the label, the API server is asked once
//! an object. Without the right to ask, or an answer, the maker stands alone.

use super::client::{Client, METADATA};
use super::knowledge::Fault;
use super::object::{Metadata, Owner, Partial};
use super::pod;
use agent_core::process::kubernetes::OwnerKind;
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
        let Some(owner) = pod::controller(metadata) else { return Vec::new() };
        let Some(kind) = OwnerKind::of(&owner.kind) else { return Vec::new() };
        let mut owners = vec![(kind, owner.name.clone())];
        let above = match kind {
            OwnerKind::ReplicaSet => match pod::deployment(&owner.name, metadata) {
                Some(name) => Some((OwnerKind::Deployment, name.to_owned())),
                None => self.ask("apps/v1", "replicasets", owner, metadata, client).await,
            },
            OwnerKind::Job => self.ask("batch/v1", "jobs", owner, metadata, client).await,
            _ => None,
        };
        owners.extend(above);
        owners
    }

    /// Asks once; a refusal too is remembered, until the next list. Of a server that is away the pod's
    /// next change asks again.
    async fn ask(
        &mut self,
        group: &str,
        plural: &str,
        owner: &Owner,
        metadata: &Metadata,
        client: &Client,
    ) -> Option<Named> {
        if let Some(known) = self.known.get(&owner.uid) {
            return known.clone();
        }
        if self.known.len() >= MAX_MAKERS {
            self.known.clear();
        }
        let asked = above(group, plural, owner, metadata, client).await;
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

async fn above(
    group: &str,
    plural: &str,
    owner: &Owner,
    metadata: &Metadata,
    client: &Client,
) -> Result<Option<Named>, Fault> {
    // They go into a path.
    let plain = |name: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        !name.is_empty() && !name.contains("..") && name.chars().all(fits)
    };
    if !plain(&metadata.namespace) || !plain(&owner.name) {
        return Ok(None);
    }
    let path = format!("/apis/{group}/namespaces/{}/{plural}/{}", metadata.namespace, owner.name);
    let answer = client.get(&path, METADATA).await?;
    let object: Partial = serde_json::from_slice(&answer).unwrap_or_default();
    let maker = pod::controller(&object.metadata);
    Ok(maker.and_then(|maker| Some((OwnerKind::of(&maker.kind)?, maker.name.clone()))))
}
