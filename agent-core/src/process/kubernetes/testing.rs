//! A pod for tests.

use super::{AppLabels, OwnerKind, Pod, PodContainer};
use crate::process::PodUid;

pub(crate) const UID: &str = "2970df92-7ac3-49c0-aaca-4871d9d2fe70";
pub(crate) const ID: &str = "03f8b1c7dce06bf45fc895ff3d0cb9f66feeb3ffb8f36a0227260284392cde39";

pub(crate) fn uid() -> PodUid {
    PodUid::parse(UID).unwrap()
}

/// The cgroup of a process in it.
pub(crate) fn cgroup() -> String {
    format!("0::/kubepods/burstable/pod{UID}/{ID}")
}

pub(crate) fn pod() -> Pod {
    Pod {
        uid: uid(),
        cgroup_uid: None,
        namespace: "shop".into(),
        name: "web-6d9f5c7b8-x2k4q".into(),
        node: "node-1".into(),
        labels: Vec::new(),
        app: AppLabels::default(),
        annotations: Vec::new(),
        owners: vec![
            (OwnerKind::ReplicaSet, "web-6d9f5c7b8".into()),
            (OwnerKind::Deployment, "web".into()),
        ],
        containers: vec![PodContainer {
            name: "app".into(),
            id: ID.into(),
            image: "registry.example:5000/shop/web:1.4.2".into(),
            image_id: String::new(),
        }],
    }
}
