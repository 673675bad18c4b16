//! Objects of the API, as far as they are read.

use serde::Deserialize;
use std::collections::BTreeMap;

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

/// A line of a watch, as far as it says what happened.
#[derive(Debug, Deserialize)]
pub struct Kind {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK`, `ERROR`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// The same line, to what it happened.
#[derive(Debug, Deserialize)]
pub struct Holds<T> {
    /// A pod, or an error.
    pub object: T,
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
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub resource_version: String,
    pub labels: Option<BTreeMap<String, String>>,
    pub annotations: Option<BTreeMap<String, String>>,
    pub owner_references: Option<Vec<Owner>>,
}

/// Who made it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Owner {
    pub kind: String,
    pub name: String,
    pub uid: String,
    pub controller: Option<bool>,
}

/// Of a pod.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    pub node_name: String,
    pub containers: Option<Vec<Container>>,
    pub init_containers: Option<Vec<Container>>,
    pub ephemeral_containers: Option<Vec<Container>>,
}

/// Asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Container {
    pub name: String,
    pub image: String,
}

/// Of a pod.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    pub container_statuses: Option<Vec<ContainerStatus>>,
    pub init_container_statuses: Option<Vec<ContainerStatus>>,
    pub ephemeral_container_statuses: Option<Vec<ContainerStatus>>,
}

/// As it runs.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    pub name: String,
    #[serde(rename = "containerID")]
    pub container_id: String,
    #[serde(rename = "imageID")]
    pub image_id: String,
}

/// Any object, of which only this is asked for.
#[derive(Debug, Default, Deserialize)]
pub struct Partial {
    /// Name and the like.
    #[serde(default)]
    pub metadata: Metadata,
}

/// What an error's body says.
pub fn message(body: &[u8]) -> String {
    serde_json::from_slice::<Status>(body).unwrap_or_default().why()
}

impl Status {
    /// For the log and `/status`.
    pub fn why(&self) -> String {
        let text = if self.message.is_empty() { "no reason given" } else { &self.message };
        text.chars().filter(|c| !c.is_control()).take(200).collect()
    }
}
