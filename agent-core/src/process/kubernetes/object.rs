//! Objects of the API, as far as they are read: the JSON of a list, of a watch, of an owner.

use super::OwnerKind;
use crate::process::PodUid;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Longest version: etcd's are numbers of 64 bits.
const MAX_VERSION: usize = 64;

/// Longest reason of a fault, in characters: for the log and `/status`.
const MAX_REASON: usize = 200;

/// A list of pods.
#[derive(Debug, Default, Deserialize)]
pub struct PodList {
    /// Its own.
    #[serde(default)]
    pub metadata: ListMetadata,
    /// The pods.
    pub items: Option<Vec<Pod>>,
}

/// Of a list, a bookmark, an error.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListMetadata {
    /// From where to watch on.
    #[serde(default)]
    pub resource_version: String,
}

/// What a line of a watch says.
#[derive(Debug)]
pub struct Event {
    /// What happened.
    pub change: Change,
    /// From where to watch on, if the line says it.
    pub version: Option<String>,
}

/// What happened.
#[derive(Debug)]
pub enum Change {
    /// A pod is new, or is other than it was.
    Put(Box<Pod>),
    /// A pod is no more.
    Gone(PodUid),
    /// Nothing but time.
    Bookmark,
    /// The watch has ended.
    Failed(Status),
    /// It is in other words than the API's.
    Unreadable,
}

/// A line of a watch, as far as it says what happened.
#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
}

/// The same line, to what it happened.
#[derive(Deserialize)]
struct Holds<T> {
    object: T,
}

/// Reads a line of a watch.
pub fn event(line: &[u8]) -> Event {
    let unreadable = Event { change: Change::Unreadable, version: None };
    let Ok(Kind { kind }) = serde_json::from_slice(line) else { return unreadable };
    if kind == "ERROR" {
        let status = serde_json::from_slice::<Holds<Status>>(line);
        let status = status.map(|holds| holds.object).unwrap_or_default();
        return Event { change: Change::Failed(status), version: None };
    }
    let Ok(Holds { object: pod }) = serde_json::from_slice::<Holds<Pod>>(line) else {
        return unreadable;
    };
    let version = version(&pod.metadata.resource_version).map(str::to_owned);
    let change = match kind.as_str() {
        "ADDED" | "MODIFIED" => Change::Put(Box::new(pod)),
        "DELETED" => PodUid::parse(&pod.metadata.uid).map_or(Change::Unreadable, Change::Gone),
        "BOOKMARK" => Change::Bookmark,
        _ => Change::Unreadable,
    };
    Event { change, version }
}

/// Reads a list of pods.
///
/// # Errors
/// Why it is none.
pub fn list(answer: &[u8]) -> Result<PodList, serde_json::Error> {
    serde_json::from_slice(answer)
}

/// A version as it goes into a query; it is opaque otherwise.
pub fn version(text: &str) -> Option<&str> {
    let fits = (1..=MAX_VERSION).contains(&text.len());
    (fits && text.bytes().all(|byte| byte.is_ascii_alphanumeric())).then_some(text)
}

/// Why a request failed, also within a watch.
#[derive(Debug, Default, Deserialize)]
pub struct Status {
    /// As HTTP.
    #[serde(default)]
    pub code: u16,
    /// For people.
    #[serde(default)]
    pub message: String,
}

/// A pod.
#[derive(Debug, Default, Deserialize)]
pub struct Pod {
    /// Name and the like.
    #[serde(default)]
    pub metadata: Metadata,
    /// What is wanted.
    #[serde(default)]
    pub spec: Spec,
    /// What is.
    #[serde(default)]
    pub status: PodStatus,
}

/// Every object has it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Name.
    pub name: String,
    /// Namespace; none of objects of the whole cluster.
    pub namespace: String,
    /// Differs from all that were of this name before.
    pub uid: String,
    /// Of this state of it.
    pub resource_version: String,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations.
    pub annotations: Option<BTreeMap<String, String>>,
    /// Who claims to have made it.
    pub owner_references: Option<Vec<Owner>>,
}

/// Who made it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Owner {
    /// `ReplicaSet`.
    pub kind: String,
    /// Name, in the same namespace.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Whether it looks after the object: one at most does.
    pub controller: Option<bool>,
}

/// Of a pod.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// Where it runs.
    pub node_name: String,
    /// Those that are there as long as the pod.
    pub containers: Option<Vec<Container>>,
    /// Those that run before.
    pub init_containers: Option<Vec<Container>>,
    /// Those that were added to look into it.
    pub ephemeral_containers: Option<Vec<Container>>,
}

/// Asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Container {
    /// Name in the pod.
    pub name: String,
    /// As asked for.
    pub image: String,
}

/// Of a pod.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// Of containers.
    pub container_statuses: Option<Vec<ContainerStatus>>,
    /// Of those that run before.
    pub init_container_statuses: Option<Vec<ContainerStatus>>,
    /// Of those that were added.
    pub ephemeral_container_statuses: Option<Vec<ContainerStatus>>,
}

/// As it runs.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    /// Name in the pod.
    pub name: String,
    /// `containerd://ID`.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// `docker-pullable://IMAGE`, or without a scheme.
    #[serde(rename = "imageID")]
    pub image_id: String,
}

/// Any object, of which only this is asked for.
#[derive(Default, Deserialize)]
struct Partial {
    #[serde(default)]
    metadata: Metadata,
}

/// Where the API server has the maker of an object: of kinds that have makers themselves.
pub fn path_of(owner: &Owner, namespace: &str) -> Option<String> {
    let of_kind = match OwnerKind::of(&owner.kind)? {
        OwnerKind::ReplicaSet => ("apps/v1", "replicasets"),
        OwnerKind::Job => ("batch/v1", "jobs"),
        _ => return None,
    };
    // They go into a path.
    let plain = |name: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        !name.is_empty() && !name.contains("..") && name.chars().all(fits)
    };
    let (group, plural) = of_kind;
    let name = &owner.name;
    (plain(namespace) && plain(name))
        .then(|| format!("/apis/{group}/namespaces/{namespace}/{plural}/{name}"))
}

/// Who made the object that an answer holds.
pub fn maker_in(answer: &[u8]) -> Option<(OwnerKind, String)> {
    let object: Partial = serde_json::from_slice(answer).unwrap_or_default();
    object.metadata.maker().map(|(kind, owner)| (kind, owner.name.clone()))
}

impl Metadata {
    /// The controller among those who claim to have made an object, of a kind that is named.
    pub fn maker(&self) -> Option<(OwnerKind, &Owner)> {
        let mut owners = self.owner_references.as_deref()?.iter();
        let owner = owners.find(|owner| owner.controller == Some(true))?;
        Some((OwnerKind::of(&owner.kind)?, owner))
    }

    /// The Deployment of a pod's replica set, where the names say it: it is called after the
    /// Deployment and the hash of the template, which is a label of the pod (Kubernetes, Deployments,
    /// pod-template-hash). Replica sets of other makers have another label.
    pub fn deployment<'a>(&self, replica_set: &'a str) -> Option<&'a str> {
        let hash =
            self.labels.as_ref()?.get("pod-template-hash").filter(|hash| !hash.is_empty())?;
        let name = replica_set.strip_suffix(hash.as_str())?.strip_suffix('-')?;
        (!name.is_empty()).then_some(name)
    }
}

/// What an error's body says.
pub fn message(body: &[u8]) -> String {
    serde_json::from_slice::<Status>(body).unwrap_or_default().why()
}

impl Status {
    /// For the log and `/status`.
    pub fn why(&self) -> String {
        let text = if self.message.is_empty() { "no reason given" } else { &self.message };
        text.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_watch_says_what_happened_and_from_where_to_go_on() {
        const UID: &str = "2970df92-7ac3-49c0-aaca-4871d9d2fe70";
        let pod = format!(r#"{{"metadata": {{"uid": "{UID}", "resourceVersion": "7"}}}}"#);
        for (kind, object, expected, version) in [
            ("ADDED", pod.as_str(), "put", Some("7")),
            ("MODIFIED", pod.as_str(), "put", Some("7")),
            ("DELETED", pod.as_str(), "gone", Some("7")),
            ("DELETED", r#"{"metadata": {"resourceVersion": "8"}}"#, "unreadable", Some("8")),
            ("BOOKMARK", r#"{"metadata": {"resourceVersion": "9"}}"#, "bookmark", Some("9")),
            ("BOOKMARK", r#"{"metadata": {"resourceVersion": "9&a"}}"#, "bookmark", None),
            ("ERROR", r#"{"code": 410, "message": "too old"}"#, "410 too old", None),
            ("ERROR", "7", "0 no reason given", None),
            ("ELSE", pod.as_str(), "unreadable", Some("7")),
            ("ADDED", "7", "unreadable", None),
        ] {
            let line = format!(r#"{{"type": "{kind}", "object": {object}}}"#);
            let event = event(line.as_bytes());
            let change = match event.change {
                Change::Put(pod) if pod.metadata.uid == UID => "put".to_owned(),
                Change::Gone(uid) if uid.to_string() == UID => "gone".to_owned(),
                Change::Bookmark => "bookmark".to_owned(),
                Change::Failed(status) => format!("{} {}", status.code, status.why()),
                Change::Unreadable => "unreadable".to_owned(),
                other => format!("{other:?}"),
            };
            assert_eq!((change.as_str(), event.version.as_deref()), (expected, version), "{line}");
        }
        assert!(matches!(event(b"{").change, Change::Unreadable));
    }

    #[test]
    fn the_path_of_a_maker_holds_nothing_but_names() {
        let path = |kind: &str, namespace: &str, name: &str| {
            let owner = Owner { kind: kind.into(), name: name.into(), ..Owner::default() };
            path_of(&owner, namespace)
        };
        let job = Some("/apis/batch/v1/namespaces/shop/jobs/a-1".to_owned());
        assert_eq!(path("Job", "shop", "a-1"), job);
        let set = Some("/apis/apps/v1/namespaces/shop/replicasets/a.b".to_owned());
        assert_eq!(path("ReplicaSet", "shop", "a.b"), set);
        for (kind, namespace, name) in [
            ("Deployment", "shop", "a"),
            ("Thing", "shop", "a"),
            ("Job", "", "a"),
            ("Job", "shop", "../secrets"),
            ("Job", "shop/x", "a"),
            ("Job", "shop", "a?watch=1"),
        ] {
            assert_eq!(path(kind, namespace, name), None, "{kind} {namespace} {name}");
        }
    }
}
