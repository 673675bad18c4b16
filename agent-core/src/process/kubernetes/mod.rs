//! Pods of this node, and what a process in one of them is called.
//!
//! What the API server says ([`object`], cut by [`read`]) comes in as [`PodChange`], asked for by
//! `agent` or out of a recording. A process is found by its cgroup: it names the pod's uid, which the API server knows
//! before a container of the pod runs, so that a new pod's first span has its name. The name of the
//! container is known by the id in the cgroup once the kubelet has reported it (a second or so
//! later), or at once where the pod has one container only.

mod name;
pub mod object;
pub mod read;
mod table;

pub use name::{Version, is_for_the_server, pod_attributes};
pub use table::{MAX_PODS, PodTable, Workload};

use super::PodUid;
use std::sync::Arc;

/// Who made a pod, or who made that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OwnerKind {
    /// Of replica sets.
    Deployment,
    /// Of pods.
    ReplicaSet,
    /// Of pods with a number each.
    StatefulSet,
    /// One pod a node.
    DaemonSet,
    /// Of jobs, by the clock.
    CronJob,
    /// Of pods that end.
    Job,
}

impl OwnerKind {
    /// In the order in which a service takes its name from them (semantic conventions,
    /// non-normative/k8s-attributes).
    pub const ALL: [OwnerKind; 6] = [
        OwnerKind::Deployment,
        OwnerKind::ReplicaSet,
        OwnerKind::StatefulSet,
        OwnerKind::DaemonSet,
        OwnerKind::CronJob,
        OwnerKind::Job,
    ];

    /// As the API server spells it.
    pub const fn name(self) -> &'static str {
        match self {
            OwnerKind::Deployment => "Deployment",
            OwnerKind::ReplicaSet => "ReplicaSet",
            OwnerKind::StatefulSet => "StatefulSet",
            OwnerKind::DaemonSet => "DaemonSet",
            OwnerKind::CronJob => "CronJob",
            OwnerKind::Job => "Job",
        }
    }

    /// The kind of this name; others are not named in spans.
    pub fn of(name: &str) -> Option<OwnerKind> {
        OwnerKind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The attribute of its name.
    pub const fn attribute(self) -> &'static str {
        match self {
            OwnerKind::Deployment => "k8s.deployment.name",
            OwnerKind::ReplicaSet => "k8s.replicaset.name",
            OwnerKind::StatefulSet => "k8s.statefulset.name",
            OwnerKind::DaemonSet => "k8s.daemonset.name",
            OwnerKind::CronJob => "k8s.cronjob.name",
            OwnerKind::Job => "k8s.job.name",
        }
    }
}

/// A pod, as far as its processes are named by it. Every text is cut by whoever makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// As the API server has it.
    pub uid: PodUid,
    /// What stands in its cgroup, where that is another: a pod from a file on the node.
    pub cgroup_uid: Option<PodUid>,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Node.
    pub node: String,
    /// Labels that become attributes (`k8s.pod.label.KEY`).
    pub labels: Vec<(String, String)>,
    /// `app.kubernetes.io/instance`, `…/name` and `…/version`, where names are taken from them.
    pub app: AppLabels,
    /// Annotations `resource.opentelemetry.io/KEY`, by this key.
    pub annotations: Vec<(String, String)>,
    /// Its owner, and the owner's owner.
    pub owners: Vec<(OwnerKind, String)>,
    /// All containers, also those that run first or were added later.
    pub containers: Vec<PodContainer>,
}

/// Labels that name an application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppLabels {
    /// `app.kubernetes.io/instance`
    pub instance: String,
    /// `app.kubernetes.io/name`
    pub name: String,
    /// `app.kubernetes.io/version`
    pub version: String,
}

/// A container of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodContainer {
    /// Name in the pod.
    pub name: String,
    /// Its id without the runtime's name; empty until the kubelet has reported it.
    pub id: String,
    /// The image as the pod asks for it.
    pub image: String,
    /// `repository@sha256:…` of the image that runs; empty when unknown.
    pub image_id: String,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodChange {
    /// A pod is new, or is other than it was.
    Known(Arc<Pod>),
    /// A pod is no more.
    Gone(PodUid),
}

impl PodChange {
    /// A pod is as this.
    pub fn known(pod: Pod) -> PodChange {
        PodChange::Known(Arc::new(pod))
    }
}

#[cfg(test)]
pub(crate) mod testing;
