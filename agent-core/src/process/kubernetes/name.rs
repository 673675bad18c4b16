//! Attributes of a pod, by the conventions, and what a service in it is called.
//!
//! Semantic conventions, non-normative/k8s-attributes, which the OpenTelemetry operator goes by:
//!
//! | Attribute | The first that is there |
//! |---|---|
//! | `service.name` | annotation; `app.kubernetes.io/instance`, `…/name`; Deployment, ReplicaSet, StatefulSet, DaemonSet, CronJob, Job; pod |
//! | `service.namespace` | annotation; the pod's namespace |
//! | `service.version` | annotation; `app.kubernetes.io/version`; tag and digest of the image |
//!
//! `service.instance.id` stays the process's own unless an annotation says it: a container may run
//! several programs, and instances have to differ.

use super::{OwnerKind, Workload};
use crate::process::ResourceValue;

/// Prefix of labels as attributes.
const LABEL: &str = "k8s.pod.label.";

/// Hands out what the pod says of its services; the process itself may say otherwise.
fn service(workload: &Workload, mut set: impl FnMut(&str, &str)) {
    let pod = &workload.pod;
    let owner = OwnerKind::ALL.into_iter().find_map(|kind| {
        let of_kind = pod.owners.iter().find(|(owner, _)| *owner == kind)?;
        Some(of_kind.1.as_str())
    });
    let names = [&pod.app.instance, &pod.app.name].map(String::as_str);
    let name = names.into_iter().chain(owner).chain([pod.name.as_str()]).find(|n| !n.is_empty());
    set("service.name", name.unwrap_or_default());
    set("service.namespace", &pod.namespace);
    let version = match (&pod.app.version, workload.container()) {
        (version, _) if !version.is_empty() => version.clone(),
        (_, Some(container)) => Version::of(&container.image, &container.image_id).text(),
        _ => String::new(),
    };
    set("service.version", &version);
    for (key, value) in &pod.annotations {
        set(key, value);
    }
}

/// All attributes of a pod and container: `claim` for what the process may overrule by its
/// environment, `fact` for what is known better than it knows.
pub fn pod_attributes(
    workload: &Workload,
    claim: impl FnMut(&str, &str),
    fact: &mut dyn FnMut(&str, ResourceValue),
) {
    service(workload, claim);
    let pod = &workload.pod;
    let mut text = |key: &str, value: &str| {
        if !value.is_empty() {
            fact(key, ResourceValue::Str(value.to_owned()));
        }
    };
    text("k8s.namespace.name", &pod.namespace);
    text("k8s.pod.name", &pod.name);
    text("k8s.pod.uid", &pod.uid.to_string());
    text("k8s.node.name", &pod.node);
    for (kind, name) in &pod.owners {
        text(kind.attribute(), name);
    }
    for (key, value) in &pod.labels {
        // A label may be there for being there.
        fact_of_label(key, value, &mut text);
    }
    let Some(container) = workload.container() else { return };
    text("k8s.container.name", &container.name);
    let (name, tag) = image(&container.image);
    text("container.image.name", name);
    let list = |one: &str| ResourceValue::List(vec![one.to_owned()]);
    if !tag.is_empty() {
        fact("container.image.tags", list(tag));
    }
    if digest(&container.image_id).is_some() {
        fact("container.image.repo_digests", list(&container.image_id));
    }
}

/// Whether nobody else's word for an attribute stands beside what the API server says of a pod: what the pod
/// is, also in what it is not (a StatefulSet's pod has no Deployment). Of what the server does not say, a claim
/// stands that fits it: which of several containers this is, the uid of an owner that it names.
pub fn is_for_the_server(workload: &Workload, key: &str, value: &str) -> bool {
    let pod = &workload.pod;
    let container = workload.container().is_some();
    match key {
        "k8s.namespace.name" | "k8s.pod.name" | "k8s.pod.uid" | "k8s.node.name" => true,
        "k8s.container.name" => container || pod.containers.iter().all(|one| one.name != value),
        _ if key.starts_with("container.image.") => container,
        _ => {
            let of = |kind: &OwnerKind| {
                let rest = key.strip_prefix(kind.attribute().strip_suffix(".name")?)?;
                matches!(rest, ".name" | ".uid").then_some((*kind, rest))
            };
            match OwnerKind::ALL.iter().find_map(of) {
                Some((kind, ".uid")) => pod.owners.iter().all(|(owner, _)| *owner != kind),
                owner => owner.is_some() || key.starts_with("k8s.replicationcontroller."),
            }
        }
    }
}

fn fact_of_label(key: &str, value: &str, text: &mut dyn FnMut(&str, &str)) {
    text(&format!("{LABEL}{key}"), value);
}

/// Version of an image by its tag and digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version<'a> {
    tag: &'a str,
    digest: Option<&'a str>,
}

impl<'a> Version<'a> {
    /// Of an image as it was asked for, and the one that runs.
    pub fn of(asked: &'a str, runs: &'a str) -> Version<'a> {
        Version { tag: image(asked).1, digest: digest(asked).or_else(|| digest(runs)) }
    }

    /// `TAG@DIGEST`, or the one that is there.
    pub fn text(self) -> String {
        match (self.tag, self.digest) {
            ("", digest) => digest.unwrap_or_default().to_owned(),
            (tag, None) => tag.to_owned(),
            (tag, Some(digest)) => format!("{tag}@{digest}"),
        }
    }
}

/// Repository and tag of `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`.
fn image(reference: &str) -> (&str, &str) {
    let named = reference.split('@').next().unwrap_or_default();
    let path = named.rfind('/').map_or(0, |slash| slash + 1);
    match named.get(path..).unwrap_or_default().split_once(':') {
        Some((name, tag)) => (named.get(..path + name.len()).unwrap_or_default(), tag),
        None => (named, ""),
    }
}

fn digest(reference: &str) -> Option<&str> {
    let digest = reference.rsplit_once('@')?.1;
    (digest.starts_with("sha256:") || digest.starts_with("sha512:")).then_some(digest)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{cgroup, pod};
    use super::super::{Pod, PodChange, PodContainer, PodTable};
    use super::*;
    use crate::process::place;
    use std::collections::BTreeMap;

    fn attributes(pod: Pod) -> BTreeMap<String, String> {
        let mut table = PodTable::default();
        table.apply(PodChange::known(pod));
        let workload = table.find(&place(&cgroup()), "nginx").unwrap();
        let mut claims = BTreeMap::new();
        let mut facts = BTreeMap::new();
        let claim = |key: &str, value: &str| {
            if !value.is_empty() {
                claims.insert(key.to_owned(), value.to_owned());
            }
        };
        pod_attributes(&workload, claim, &mut |key, value| {
            let text = match value {
                ResourceValue::Str(text) => text,
                ResourceValue::List(list) => list.join(","),
                ResourceValue::Int(number) => number.to_string(),
            };
            facts.insert(key.to_owned(), text);
        });
        facts.extend(claims);
        facts
    }

    #[test]
    fn a_pod_has_the_attributes_of_the_conventions() {
        let digest = format!("registry.example:5000/shop/web@sha256:{}", "5".repeat(64));
        let mut pod = pod();
        pod.labels = vec![("tier".into(), "front".into())];
        pod.containers[0].image_id.clone_from(&digest);
        let version = format!("1.4.2@sha256:{}", "5".repeat(64));
        let expected = [
            ("container.image.name", "registry.example:5000/shop/web"),
            ("container.image.repo_digests", digest.as_str()),
            ("container.image.tags", "1.4.2"),
            ("k8s.container.name", "app"),
            ("k8s.deployment.name", "web"),
            ("k8s.namespace.name", "shop"),
            ("k8s.node.name", "node-1"),
            ("k8s.pod.label.tier", "front"),
            ("k8s.pod.name", "web-6d9f5c7b8-x2k4q"),
            ("k8s.pod.uid", "2970df92-7ac3-49c0-aaca-4871d9d2fe70"),
            ("k8s.replicaset.name", "web-6d9f5c7b8"),
            ("service.name", "web"),
            ("service.namespace", "shop"),
            ("service.version", version.as_str()),
        ];
        let found = attributes(pod);
        let found: Vec<(&str, &str)> =
            found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_name_of_a_service_is_the_first_that_is_there() {
        let own = |kind, name: &str| vec![(kind, name.to_owned())];
        let annotated = || vec![("service.name".to_owned(), "said".to_owned())];
        let with = |change: &dyn Fn(&mut Pod)| {
            let mut pod = pod();
            change(&mut pod);
            pod
        };
        let cases: Vec<(&str, Pod, &str)> = vec![
            (
                "annotation",
                with(&|p| (p.annotations, p.app.name) = (annotated(), "x".into())),
                "said",
            ),
            (
                "instance before name",
                with(&|p| (p.app.instance, p.app.name) = ("eu".into(), "x".into())),
                "eu",
            ),
            ("name", with(&|p| p.app.name = "shop-web".into()), "shop-web"),
            ("deployment", pod(), "web"),
            ("replica set", with(&|p| p.owners = own(OwnerKind::ReplicaSet, "rs")), "rs"),
            ("stateful set", with(&|p| p.owners = own(OwnerKind::StatefulSet, "db")), "db"),
            ("daemon set", with(&|p| p.owners = own(OwnerKind::DaemonSet, "log")), "log"),
            (
                "cron job before its job",
                with(&|p| {
                    p.owners = own(OwnerKind::Job, "report-29120");
                    p.owners.push((OwnerKind::CronJob, "report".into()));
                }),
                "report",
            ),
            ("job", with(&|p| p.owners = own(OwnerKind::Job, "once")), "once"),
            ("nobody's", with(&|p| p.owners.clear()), "web-6d9f5c7b8-x2k4q"),
        ];
        for (why, pod, expected) in cases {
            assert_eq!(
                attributes(pod).get("service.name").map(String::as_str),
                Some(expected),
                "{why}"
            );
        }
    }

    #[test]
    fn every_annotation_is_an_attribute() {
        let mut pod = pod();
        pod.annotations = vec![
            ("service.version".into(), "9".into()),
            ("service.namespace".into(), "pay".into()),
            ("deployment.environment.name".into(), "prod".into()),
        ];
        let found = attributes(pod);
        for (key, value) in [
            ("service.version", "9"),
            ("service.namespace", "pay"),
            ("deployment.environment.name", "prod"),
        ] {
            assert_eq!(found.get(key).map(String::as_str), Some(value), "{key}");
        }
    }

    #[test]
    fn images_are_taken_apart() {
        let sha = format!("sha256:{}", "a".repeat(64));
        for (reference, name, tag) in [
            ("nginx", "nginx", ""),
            ("nginx:1.25", "nginx", "1.25"),
            ("localhost:5000/nginx", "localhost:5000/nginx", ""),
            ("localhost:5000/a/nginx:2", "localhost:5000/a/nginx", "2"),
            (&format!("nginx:1@{sha}"), "nginx", "1"),
            ("", "", ""),
        ] {
            assert_eq!(image(reference), (name, tag), "{reference}");
        }
        assert_eq!(Version::of("nginx", &format!("docker.io/library/nginx@{sha}")).text(), sha);
        assert_eq!(Version::of("nginx:1", "sha256:x").text(), "1");
        assert_eq!(Version::of(&format!("nginx:1@{sha}"), "").text(), format!("1@{sha}"));
        let none = PodContainer::default();
        assert_eq!(Version::of(&none.image, &none.image_id).text(), "");
    }
}
