//! A pod as the API server has it → as spans are named by it: only what is needed, and all of it cut.

use super::object;
use super::{AppLabels, OwnerKind, Pod, PodContainer};
use crate::process::PodUid;
use globset::GlobSet;
use std::collections::BTreeMap;

/// Longest name, of anything: a DNS subdomain (RFC 1123) is what the API server allows.
pub(crate) const MAX_NAME: usize = 253;

/// Longest value of a label (63 to the API server), or of an annotation that becomes an attribute.
pub(crate) const MAX_VALUE: usize = 1024;

/// Longest reference to an image: registries allow 255 for the name and 128 for the tag; with host
/// and digest.
const MAX_IMAGE: usize = 640;

/// Most labels and annotations that become attributes: they go out with every batch.
pub(crate) const MAX_ATTRIBUTES: usize = 32;

/// Most containers of a pod.
pub(crate) const MAX_CONTAINERS: usize = 64;

/// Prefix of annotations that are attributes of the resource.
const RESOURCE: &str = "resource.opentelemetry.io/";

/// Prefix of the labels that applications are named by.
const APP: &str = "app.kubernetes.io/";

/// The hash that stands in the cgroup of a pod from a file (kubelet: `ConfigHashAnnotationKey`).
const CONFIG_HASH: &str = "kubernetes.io/config.hash";

/// The same, at the pod that the kubelet shows for it (`ConfigMirrorAnnotationKey`). Whoever makes pods may
/// write both, but the kubelet deletes those with this one that have no file.
const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";

/// Which labels are used for what.
pub struct Rules {
    /// Become attributes.
    pub labels: GlobSet,
    /// `app.kubernetes.io/…` names services.
    pub name_labels: bool,
}

/// What was left of a pod because there is too much of it, for counting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Containers.
    pub containers: u64,
    /// Labels and annotations that would be attributes.
    pub attributes: u64,
}

/// What is needed of a pod, and what there was no room for. Without a uid it is none.
pub fn pod(
    pod: &object::Pod,
    owners: Vec<(OwnerKind, String)>,
    rules: &Rules,
) -> Option<(Pod, Cut)> {
    let object::Pod { metadata, spec, .. } = pod;
    let uid = PodUid::parse(&metadata.uid)?;
    let mut lost = Cut::default();
    let empty = BTreeMap::new();
    let labels = metadata.labels.as_ref().unwrap_or(&empty);
    let annotations = metadata.annotations.as_ref().unwrap_or(&empty);
    let app = |name: &str| {
        let found = labels.get(&format!("{APP}{name}")).filter(|_| rules.name_labels);
        cut(found.map_or("", String::as_str), MAX_VALUE)
    };
    let exported = labels.iter().filter(|(key, _)| rules.labels.is_match(key.as_str()));
    let said = annotations.iter().filter_map(|(key, value)| {
        let key = key.strip_prefix(RESOURCE).filter(|key| !key.is_empty())?;
        Some((key, value))
    });
    let hash =
        annotations.get(CONFIG_HASH).filter(|hash| annotations.get(CONFIG_MIRROR) == Some(hash));
    let hash = hash.and_then(|hash| PodUid::parse(hash)).filter(|hash| !hash.is_uuid);
    let read = Pod {
        uid,
        cgroup_uid: hash,
        namespace: cut(&metadata.namespace, MAX_NAME),
        name: cut(&metadata.name, MAX_NAME),
        node: cut(&spec.node_name, MAX_NAME),
        labels: pairs(exported.map(|(key, value)| (key.as_str(), value)), &mut lost),
        app: AppLabels { instance: app("instance"), name: app("name"), version: app("version") },
        annotations: pairs(said, &mut lost),
        owners: owners.into_iter().map(|(kind, name)| (kind, cut(&name, MAX_NAME))).collect(),
        containers: containers(pod, &mut lost),
    };
    Some((read, lost))
}

fn containers(pod: &object::Pod, lost: &mut Cut) -> Vec<PodContainer> {
    let object::Pod { spec, status, .. } = pod;
    let asked = [&spec.containers, &spec.init_containers, &spec.ephemeral_containers];
    let runs = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    let runs: Vec<_> = runs.into_iter().flatten().flatten().take(2 * MAX_CONTAINERS).collect();
    let all: usize = asked.iter().filter_map(|some| some.as_ref()).map(Vec::len).sum();
    lost.containers += all.saturating_sub(MAX_CONTAINERS) as u64;
    let asked = asked.into_iter().flatten().flatten().take(MAX_CONTAINERS);
    let of = |container: &object::Container| {
        let runs = runs.iter().find(|status| status.name == container.name);
        let (id, image) = runs.map_or(("", ""), |runs| (&runs.container_id, &runs.image_id));
        PodContainer {
            name: cut(&container.name, MAX_NAME),
            id: cut(scheme_off(id), MAX_NAME),
            image: cut(&container.image, MAX_IMAGE),
            image_id: cut(scheme_off(image), MAX_IMAGE),
        }
    };
    asked.map(of).collect()
}

/// `containerd://ID`, `docker-pullable://IMAGE` → what is behind.
fn scheme_off(text: &str) -> &str {
    text.split_once("://").map_or(text, |(_, rest)| rest)
}

fn pairs<'a>(
    all: impl Iterator<Item = (&'a str, &'a String)>,
    lost: &mut Cut,
) -> Vec<(String, String)> {
    let mut kept = Vec::new();
    for (key, value) in all {
        let fits = key.len() <= 2 * MAX_NAME && value.len() <= MAX_VALUE;
        if fits && kept.len() < MAX_ATTRIBUTES {
            kept.push((key.to_owned(), value.clone()));
        } else {
            lost.attributes += 1;
        }
    }
    kept
}

/// No more than so many bytes.
fn cut(text: &str, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn rules(globs: &[&str]) -> Rules {
        let mut set = globset::GlobSetBuilder::new();
        globs.iter().for_each(|glob| {
            set.add(globset::Glob::new(glob).unwrap());
        });
        Rules { labels: set.build().unwrap(), name_labels: true }
    }

    fn read(value: Value, rules: &Rules) -> Option<Pod> {
        read_cut(value, rules).map(|(pod, _)| pod)
    }

    fn read_cut(value: Value, rules: &Rules) -> Option<(Pod, Cut)> {
        pod(&serde_json::from_value(value).unwrap(), Vec::new(), rules)
    }

    fn whole() -> Value {
        json!({
            "metadata": {
                "name": "web-6d9f5c7b8-x2k4q",
                "namespace": "shop",
                "uid": "2970df92-7ac3-49c0-aaca-4871d9d2fe70",
                "labels": {
                    "app.kubernetes.io/name": "web", "app.kubernetes.io/version": "7",
                    "tier": "front", "pod-template-hash": "6d9f5c7b8",
                },
                "annotations": {
                    "resource.opentelemetry.io/service.name": "said", "resource.opentelemetry.io/": "x",
                    "other": "x",
                },
                "ownerReferences": [
                    {"kind": "Thing", "name": "t", "uid": "1"},
                    {"kind": "ReplicaSet", "name": "web-6d9f5c7b8", "uid": "2", "controller": true},
                ],
            },
            "spec": {
                "nodeName": "node-1",
                "containers": [{"name": "app", "image": "web:1"}, {"name": "proxy", "image": "p"}],
                "initContainers": [{"name": "init", "image": "i"}],
            },
            "status": {
                "containerStatuses": [
                    {"name": "proxy", "containerID": "containerd://aa", "imageID": "p@sha256:1"},
                ],
                "initContainerStatuses": null,
            },
        })
    }

    #[test]
    fn what_is_needed_of_a_pod_is_read() {
        let pod = read(whole(), &rules(&["t*"])).unwrap();
        assert_eq!((pod.name.as_str(), pod.node.as_str()), ("web-6d9f5c7b8-x2k4q", "node-1"));
        assert_eq!((pod.app.name.as_str(), pod.app.version.as_str()), ("web", "7"));
        assert_eq!(pod.labels, [("tier".to_owned(), "front".to_owned())]);
        assert_eq!(pod.annotations, [("service.name".to_owned(), "said".to_owned())]);
        let names: Vec<_> =
            pod.containers.iter().map(|c| (c.name.as_str(), c.id.as_str())).collect();
        assert_eq!(names, [("app", ""), ("proxy", "aa"), ("init", "")]);
        assert_eq!(pod.containers[1].image_id, "p@sha256:1");
        let silent = Rules { name_labels: false, ..rules(&[]) };
        assert_eq!(read(whole(), &silent).unwrap().app, AppLabels::default());
    }

    #[test]
    fn a_deployment_is_known_by_the_names_and_no_other_maker_is_taken_for_one() {
        let pod: object::Pod = serde_json::from_value(whole()).unwrap();
        let (kind, owner) = pod.metadata.maker().unwrap();
        assert_eq!((kind, owner.name.as_str()), (OwnerKind::ReplicaSet, "web-6d9f5c7b8"));
        assert_eq!(pod.metadata.deployment(&owner.name), Some("web"));
        for other in ["web", "6d9f5c7b8", "-6d9f5c7b8", "web-6d9f5c7b9"] {
            assert_eq!(pod.metadata.deployment(other), None, "{other}");
        }
        assert_eq!(object::Metadata::default().deployment(&owner.name), None);
    }

    #[test]
    fn a_pod_from_a_file_is_known_by_its_hash_and_no_other_pod_is() {
        const HASH: &str = "46dac9a538838115821dfd9559149484";
        const UID: &str = "10d0cc31-8eb4-4ce8-8c5e-6b4a91ae8a5b";
        for (hash, mirror, expected) in [
            (HASH, HASH, PodUid::parse(HASH)),
            (HASH, "", None),
            (HASH, UID, None),
            (UID, UID, None),
        ] {
            let mut pod = whole();
            pod["metadata"]["annotations"][CONFIG_HASH] = hash.into();
            pod["metadata"]["annotations"][CONFIG_MIRROR] = mirror.into();
            let pod = read(pod, &rules(&[])).unwrap();
            assert_eq!(pod.cgroup_uid, expected, "{hash} {mirror}");
        }
    }

    #[test]
    fn what_is_hostile_is_cut() {
        let mut pod = whole();
        pod["metadata"]["name"] = "é".repeat(1000).into();
        for at in 0..100 {
            pod["metadata"]["labels"][format!("t{at}")] = "x".into();
        }
        let image = "x".repeat(9999);
        let many = (0..100).map(|at| json!({"name": format!("c{at}"), "image": image}));
        pod["spec"]["containers"] = many.collect();
        pod["metadata"]["labels"]["tall"] = "x".repeat(MAX_VALUE + 1).into();
        let (pod, cut) = read_cut(pod, &rules(&["t*"])).unwrap();
        // With the one that runs first; labels t0 to t99, tier, and the one that is too long.
        assert_eq!(cut, Cut { containers: 101 - 64, attributes: 102 - 32 });
        assert_eq!(pod.name.len(), MAX_NAME - 1, "a character of two bytes is not cut in two");
        assert_eq!((pod.labels.len(), pod.containers.len()), (MAX_ATTRIBUTES, MAX_CONTAINERS));
        assert!(pod.labels.iter().all(|(key, _)| key != "tall"));
        assert_eq!(pod.containers[0].image.len(), MAX_IMAGE);
        assert_eq!(read(json!({}), &rules(&[])), None, "without a uid");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            let key = prop_oneof![
                Just("metadata"),
                Just("uid"),
                Just("spec"),
                Just("status"),
                Just("containers"),
                Just("labels"),
                Just("annotations"),
                Just("name"),
                Just("ownerReferences"),
            ];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key, inner), 0..6)
                    .prop_map(|pairs| pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
            ]
        })
    }

    proptest! {
        /// Whatever JSON stands where a part of a pod should: a pod, or none, and no panic.
        #[test]
        fn any_json_is_a_pod_or_none(value in any_json(), at in 0..4_usize) {
            let mut pod = whole();
            match at {
                0 => pod = value,
                1 => pod["metadata"] = value,
                2 => pod["spec"] = value,
                _ => pod["status"] = value,
            }
            if let Ok(object) = serde_json::from_value::<object::Pod>(pod) {
                let _ = super::pod(&object, Vec::new(), &rules(&["*"]));
            }
        }
    }
}
