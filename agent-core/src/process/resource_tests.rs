//! Tests of [`super`].

use super::*;
use crate::event::ProcessKey;
use crate::process::{NameRule, START_TICK_NS, identify};

fn facts(environment: &[(&str, &str)]) -> ProcessFacts {
    ProcessFacts {
        key: ProcessKey { tgid: 4711, start_ns: 123_456_789_000 },
        parent_tgid: 1,
        executable: "/usr/bin/python3.11".into(),
        args: vec!["python3".into(), "orders.py".into()],
        environment: environment.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        cgroup: format!("0::/docker/{}", "a".repeat(64)),
        user_id: 33,
        user_name: "www-data".into(),
        ..ProcessFacts::default()
    }
}

fn host() -> HostFacts {
    HostFacts {
        name: "web-1".into(),
        id: "0f0f".into(),
        arch: "amd64".into(),
        kernel: "6.12.0".into(),
        boot_id: "6b7c2bd0-2a2e-4b0b-9d0f-0e5d3b0c9d11".into(),
        agent_version: "0.1.0".into(),
    }
}

/// Named by what the facts themselves tell.
fn resource_attributes(
    facts: &ProcessFacts,
    host: &HostFacts,
    rules: &NameRules,
    workload: Option<&Workload>,
) -> Vec<(String, ResourceValue)> {
    super::resource_attributes(facts, &identify(facts), host, rules, workload)
}

fn get(attributes: &[(String, ResourceValue)], key: &str) -> String {
    match attributes.iter().find(|(known, _)| known == key) {
        Some((_, ResourceValue::Str(text))) => text.clone(),
        Some((_, ResourceValue::Int(number))) => number.to_string(),
        Some((_, ResourceValue::List(list))) => list.join(","),
        None => String::new(),
    }
}

#[test]
fn a_resource_names_service_process_host_and_agent() {
    let attributes = resource_attributes(&facts(&[]), &host(), &NameRules::default(), None);
    let expected = [
        ("container.id", "a".repeat(64)),
        ("host.arch", "amd64".into()),
        ("host.id", "0f0f".into()),
        ("host.name", "web-1".into()),
        ("os.type", "linux".into()),
        ("os.version", "6.12.0".into()),
        ("process.command", "python3".into()),
        ("process.executable.name", "python3.11".into()),
        ("process.executable.path", "/usr/bin/python3.11".into()),
        ("process.owner", "www-data".into()),
        ("process.parent_pid", "1".into()),
        ("process.pid", "4711".into()),
        ("process.runtime.name", "cpython".into()),
        ("process.runtime.version", "3.11".into()),
        ("process.user.id", "33".into()),
        ("process.user.name", "www-data".into()),
        ("service.name", "orders".into()),
        ("telemetry.distro.name", "kernspan".into()),
        ("telemetry.distro.version", "0.1.0".into()),
        ("telemetry.sdk.language", "python".into()),
        ("telemetry.sdk.name", "kernspan".into()),
        ("telemetry.sdk.version", "0.1.0".into()),
    ];
    for (key, value) in &expected {
        assert_eq!(get(&attributes, key), *value, "{key}");
    }
    assert_eq!(attributes.len(), expected.len() + 1, "and service.instance.id: {attributes:?}");
    assert!(attributes.is_sorted_by(|a, b| a.0 < b.0));
}

#[test]
fn the_environment_of_the_process_has_the_first_word() {
    const NAME: &str = "OTEL_SERVICE_NAME";
    const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
    // Environment, key, value.
    /// Why, environment, key, value.
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, &'a str);
    let cases: &[Case<'_>] = &[
        ("name", &[(NAME, "shop")], "service.name", "shop"),
        ("empty name", &[(NAME, " ")], "service.name", "orders"),
        ("attribute", &[(ATTRIBUTES, "service.name=a")], "service.name", "a"),
        ("both", &[(ATTRIBUTES, "service.name=a"), (NAME, "b")], "service.name", "b"),
        ("namespace", &[(ATTRIBUTES, "a=b, service.namespace=n,")], "service.namespace", "n"),
        ("instance", &[(ATTRIBUTES, "service.instance.id=i")], "service.instance.id", "i"),
        ("decoded", &[(ATTRIBUTES, "team=a%2Cb%3D%C3%BC")], "team", "a,b=ü"),
        ("last wins", &[(ATTRIBUTES, "a=1,a=2")], "a", "2"),
        ("value with =", &[(ATTRIBUTES, "a=1=2")], "a", "1=2"),
        ("bad escape drops all", &[(ATTRIBUTES, "a=1,b=%zz")], "a", ""),
        ("cut escape drops all", &[(ATTRIBUTES, "a=1,b=%4")], "a", ""),
        ("no UTF-8 drops all", &[(ATTRIBUTES, "a=1,b=%ff")], "a", ""),
        ("no = drops all", &[(ATTRIBUTES, "a=1,b")], "a", ""),
        ("no key drops all", &[(ATTRIBUTES, "a=1,=2")], "a", ""),
        ("error keeps the name", &[(ATTRIBUTES, "a"), (NAME, "b")], "service.name", "b"),
        ("host", &[(ATTRIBUTES, "host.name=node")], "host.name", "node"),
        ("not the process", &[(ATTRIBUTES, "process.pid=1")], "process.pid", "4711"),
        (
            "not the agent",
            &[(ATTRIBUTES, "telemetry.sdk.name=opentelemetry")],
            "telemetry.sdk.name",
            "kernspan",
        ),
    ];
    for (why, environment, key, expected) in cases {
        let attributes =
            resource_attributes(&facts(environment), &host(), &NameRules::default(), None);
        assert_eq!(get(&attributes, key), *expected, "{why}");
    }
}

#[test]
fn a_rule_has_the_last_word() {
    let rule = NameRule::parse("exe=python3*,args=*orders*,name=pay,namespace=shop").unwrap();
    let rules = NameRules::new(vec![rule]);
    let declared =
        [("OTEL_SERVICE_NAME", "a"), ("OTEL_RESOURCE_ATTRIBUTES", "service.namespace=b")];
    let attributes = resource_attributes(&facts(&declared), &host(), &rules, None);
    assert_eq!(get(&attributes, "service.name"), "pay");
    assert_eq!(get(&attributes, "service.namespace"), "shop");
    let mut other = facts(&declared);
    other.args = vec!["python3".into(), "stock.py".into()];
    let attributes = resource_attributes(&other, &host(), &rules, None);
    assert_eq!(get(&attributes, "service.name"), "a");
    assert_eq!(get(&attributes, "service.namespace"), "b");
}

#[test]
fn too_many_attributes_are_dropped_as_a_whole() {
    let many: Vec<String> = (0..=MAX_CARRIED).map(|at| format!("k{at}=v")).collect();
    let attributes = resource_attributes(
        &facts(&[("OTEL_RESOURCE_ATTRIBUTES", &many.join(","))]),
        &host(),
        &NameRules::default(),
        None,
    );
    assert_eq!(get(&attributes, "k0"), "");
}

#[test]
fn a_process_without_facts_is_an_unknown_service_with_its_number() {
    let key = ProcessKey { tgid: 7, start_ns: 1 };
    let facts = ProcessFacts { key, ..ProcessFacts::default() };
    let attributes = resource_attributes(&facts, &host(), &NameRules::default(), None);
    assert_eq!(get(&attributes, "service.name"), "unknown_service");
    assert_eq!(get(&attributes, "process.pid"), "7");
    assert_eq!(get(&attributes, "process.parent_pid"), "");
}

#[test]
fn the_instance_id_is_the_uuid_v5_of_boot_process_and_start() {
    // uuid.uuid5(uuid.UUID('4d63009a-8d0f-11ee-aad7-4c796ed8e320'),
    //            '6b7c2bd0-2a2e-4b0b-9d0f-0e5d3b0c9d11/4711/12345') of Python.
    assert_eq!(instance_id(&facts(&[]), &host()), "ff376fa3-9cb9-5c68-8e38-5d9f9e3fe6ed");
    let mut later = facts(&[]);
    later.key.start_ns += 999_999; // the same tick: what /proc says of the same process
    assert_eq!(instance_id(&later, &host()), instance_id(&facts(&[]), &host()));
    later.key.start_ns += START_TICK_NS;
    assert_ne!(instance_id(&later, &host()), instance_id(&facts(&[]), &host()));
}

#[test]
fn a_pod_names_its_processes_unless_they_name_themselves() {
    use crate::process::kubernetes::{PodChange, PodTable, testing};
    let mut pods = PodTable::default();
    pods.apply(PodChange::known(testing::pod()));
    let of = |environment: &[(&str, &str)]| {
        let facts = ProcessFacts { cgroup: testing::cgroup(), ..facts(environment) };
        let workload = pods.find(&place(&facts.cgroup), &facts.comm);
        resource_attributes(&facts, &host(), &NameRules::default(), workload.as_ref())
    };
    let quiet = of(&[]);
    assert!(quiet.is_sorted_by(|a, b| a.0 < b.0));
    for (key, value) in [
        ("service.name", "web"),
        ("service.namespace", "shop"),
        ("k8s.deployment.name", "web"),
        ("k8s.pod.uid", testing::UID),
        ("container.id", testing::ID),
        ("k8s.container.name", "app"),
        ("telemetry.sdk.language", "python"),
    ] {
        assert_eq!(get(&quiet, key), value, "{key}");
    }
    let said = of(&[
        ("OTEL_SERVICE_NAME", "mine"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.namespace=ours,k8s.pod.name=forged"),
    ]);
    assert_eq!(get(&said, "service.name"), "mine");
    assert_eq!(get(&said, "service.namespace"), "ours");
    assert_eq!(get(&said, "k8s.pod.name"), testing::pod().name, "that is for the cluster to say");
}

#[test]
fn what_the_api_server_knows_of_a_pod_nobody_else_says() {
    use crate::process::kubernetes::{OwnerKind, Pod, PodChange, PodContainer, PodTable, testing};
    const CLAIMS: [&str; 13] = [
        "k8s.namespace.name",
        "k8s.pod.name",
        "k8s.pod.uid",
        "k8s.node.name",
        "k8s.deployment.name",
        "k8s.deployment.uid",
        "k8s.replicaset.name",
        "k8s.statefulset.name",
        "k8s.daemonset.name",
        "k8s.cronjob.name",
        "k8s.job.name",
        "k8s.job.uid",
        "k8s.replicationcontroller.name",
    ];
    let said = CLAIMS.map(|key| format!("{key}=forged")).join(",");
    let sidecar = || PodContainer { name: "sidecar".into(), ..PodContainer::default() };
    let of = |pod: Option<Pod>, claims: &str| {
        let mut pods = PodTable::default();
        pod.into_iter().for_each(|pod| pods.apply(PodChange::known(pod)));
        let environment = [("OTEL_RESOURCE_ATTRIBUTES", claims)];
        let facts = ProcessFacts { cgroup: testing::cgroup(), ..facts(&environment) };
        let workload = pods.find(&place(&facts.cgroup), &facts.comm);
        resource_attributes(&facts, &host(), &NameRules::default(), workload.as_ref())
    };
    let owned = Pod {
        owners: vec![(OwnerKind::StatefulSet, "db".into())],
        annotations: vec![("k8s.deployment.name".into(), "forged".into())],
        ..testing::pod()
    };
    let more = format!("{said},k8s.statefulset.uid=1,k8s.cluster.name=c,k8s.container.name=x");
    let known = of(Some(owned.clone()), &more);
    for (key, value) in &known {
        assert_ne!(*value, ResourceValue::Str("forged".into()), "{key}");
    }
    for (key, value) in [
        ("k8s.statefulset.name", "db"),
        ("k8s.pod.uid", testing::UID),
        ("k8s.container.name", "app"),
        // What it does not say, and what does not contradict it.
        ("k8s.statefulset.uid", "1"),
        ("k8s.cluster.name", "c"),
    ] {
        assert_eq!(get(&known, key), value, "{key}");
    }
    // Which of two containers it is, nobody knows: one of them may be claimed, no other.
    let mut two = owned;
    two.containers[0].id.clear();
    two.containers.push(sidecar());
    for (claim, expected) in [("sidecar", "sidecar"), ("third", "")] {
        let claims = format!("k8s.container.name={claim}");
        let found = of(Some(two.clone()), &claims);
        assert_eq!(get(&found, "k8s.container.name"), expected, "{claim}");
    }
    // Where nothing better is known, the process's word is what there is, but for what its cgroup says.
    let unknown = of(None, &said);
    for key in CLAIMS {
        let expected = if key == "k8s.pod.uid" { testing::UID } else { "forged" };
        assert_eq!(get(&unknown, key), expected, "{key}");
    }
}

#[test]
fn without_the_api_server_a_pod_has_its_uid() {
    use crate::process::kubernetes::testing;
    let facts = ProcessFacts { cgroup: testing::cgroup(), ..facts(&[]) };
    let attributes = resource_attributes(&facts, &host(), &NameRules::default(), None);
    assert_eq!(get(&attributes, "k8s.pod.uid"), testing::UID);
    assert_eq!(get(&attributes, "container.id"), testing::ID);
    assert_eq!(get(&attributes, "service.name"), "orders");
}

#[test]
fn a_name_is_cut_whoever_says_it() {
    // Of an even number of bytes a character, so that the bound lies within one.
    let long = "é".repeat(1000);
    let named = |facts: &ProcessFacts, key| {
        get(&resource_attributes(facts, &host(), &NameRules::default(), None), key)
    };
    let declared = format!("service.name={}", "é".repeat(300));
    let mut cases: Vec<ProcessFacts> = [
        ("OTEL_SERVICE_NAME", long.as_str()),
        ("OTEL_RESOURCE_ATTRIBUTES", &declared),
        ("SUPERVISOR_PROCESS_NAME", &long),
    ]
    .map(|variable| facts(&[variable]))
    .into();
    cases.push(ProcessFacts { args: vec!["python3".into(), format!("{long}.py")], ..facts(&[]) });
    for facts in cases {
        assert_eq!(named(&facts, "service.name"), "é".repeat(127), "{:?}", facts.environment);
    }
    let group = [("SUPERVISOR_PROCESS_NAME", "shop"), ("SUPERVISOR_GROUP_NAME", &long)];
    assert_eq!(named(&facts(&group), "service.namespace"), "é".repeat(127));
}
