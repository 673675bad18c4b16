//! A process in a pod's cgroup has the pod's names: at once, renamed, and without the API server; the
//! server is asked in the clear or over TLS, with a token that is renewed.

use kernspan_tests::agent::Agent;
use kernspan_tests::api_server::ApiServer;
use kernspan_tests::certificates::Certificates;
use kernspan_tests::cgroup::Cgroup;
use kernspan_tests::client::curl;
use kernspan_tests::otlp::{Kind, Span};
use kernspan_tests::process::{free_port, until};
use kernspan_tests::python::Python;
use kernspan_tests::scenario::{Scenario, skip};
use serde_json::{Value, json};
use std::time::Duration;

const UID: &str = "2970df92-7ac3-49c0-aaca-4871d9d2fe70";
const PATIENCE: Duration = Duration::from_secs(30);

fn pod(labels: &Value) -> Value {
    json!({
        "metadata": {
            "name": "web-6d9f5c7b8-x2k4q", "namespace": "shop", "uid": UID,
            "labels": labels,
            "ownerReferences": [
                {"kind": "ReplicaSet", "name": "web-6d9f5c7b8", "uid": "1", "controller": true},
            ],
        },
        "spec": {
            "nodeName": "node-1",
            "containers": [{"name": "app", "image": "registry.example/shop/web:1.4.2"}],
        },
    })
}

fn labels(name: Option<&str>) -> Value {
    let mut labels = json!({"pod-template-hash": "6d9f5c7b8", "tier": "front"});
    if let Some(name) = name {
        labels["app.kubernetes.io/name"] = name.into();
    }
    labels
}

/// Asks the server for `path`; its span of that, once the agent has written it.
fn asked(scenario: &Scenario, agent: &Agent, port: u16, path: &str) -> Span {
    curl(scenario, &[], &[format!("http://127.0.0.1:{port}{path}/size/10")], 1);
    until(path, PATIENCE, || {
        let telemetry = agent.telemetry();
        let spans = telemetry.under(path);
        spans.into_iter().find(|span| span.kind == Kind::Server).cloned()
    })
}

/// Waits until the agent says that its knowledge of pods is so.
fn state(agent: &Agent, what: &str) -> Value {
    until(what, PATIENCE, || {
        let report = agent.status()["kubernetes"].clone();
        (report["state"] == what).then_some(report)
    })
}

/// A server program that is in the cgroup of the pod's container from its first instruction on.
fn program(scenario: &Scenario, cgroup: &Cgroup, name: &str) -> (Python, u16) {
    let port = free_port();
    let number = port.to_string();
    let arguments = ["--port", &number];
    (Python::serve(scenario, name, "server.py", &arguments, &cgroup.wrap()), port)
}

fn container_of_the_pod(id: &str) -> Option<Cgroup> {
    let cgroup = Cgroup::make(&format!("kubepods/burstable/pod{UID}/{id}"));
    if cgroup.is_none() {
        skip("kubernetes", "no cgroup v2 that can be written");
    }
    cgroup
}

#[test]
fn a_process_in_a_pod_has_the_pods_names() {
    let container = "0".repeat(64);
    let Some(cgroup) = container_of_the_pod(&container) else { return };
    let Some(scenario) = Scenario::begin("kubernetes", &["curl"]) else { return };
    let server = ApiServer::start(vec![pod(&labels(None))]);
    let url = format!("http://{}", server.address);
    let agent = Agent::run(
        &scenario,
        &[
            "--kubernetes",
            &url,
            "--kubernetes-node=node-1",
            "--kubernetes-label=tier",
            "--include=python3*",
        ],
    );
    assert_eq!(state(&agent, "current")["pods"], 1);

    // Started after the pod became known, as it is in a cluster: its first span has the names.
    let (program, port) = program(&scenario, &cgroup, "pod");
    let span = asked(&scenario, &agent, port, "/first");
    for (key, expected) in [
        ("service.name", "web"),
        ("service.namespace", "shop"),
        ("service.version", "1.4.2"),
        ("k8s.namespace.name", "shop"),
        ("k8s.pod.name", "web-6d9f5c7b8-x2k4q"),
        ("k8s.pod.uid", UID),
        ("k8s.node.name", "node-1"),
        ("k8s.deployment.name", "web"),
        ("k8s.replicaset.name", "web-6d9f5c7b8"),
        ("k8s.container.name", "app"),
        ("k8s.pod.label.tier", "front"),
        ("container.id", &container),
        ("container.image.name", "registry.example/shop/web"),
    ] {
        assert_eq!(span.resource.get(key), Some(&Value::from(expected)), "{key}");
    }

    server.put(pod(&labels(Some("front"))));
    let mut round = 0;
    until("the new name", PATIENCE, || {
        round += 1;
        let span = asked(&scenario, &agent, port, &format!("/relabelled{round}"));
        (span.resource["service.name"] == "front").then_some(())
    });

    server.gone(true);
    state(&agent, "degraded");
    let span = asked(&scenario, &agent, port, "/without");
    assert_eq!(span.resource["service.name"], "front", "what is known stays");
    server.gone(false);
    state(&agent, "current");
    drop(program);
    let report = agent.stop();
    assert_eq!(report.ledger.imbalances(), Vec::<String>::new());
}

/// As in a pod: HTTPS, the cluster's own authority, a token from a file that is written anew.
#[test]
fn the_api_server_is_asked_over_tls_with_the_token_of_now() {
    let Some(cgroup) = container_of_the_pod(&"1".repeat(64)) else { return };
    let Some(scenario) = Scenario::begin("kubernetes tls", &["curl", "openssl"]) else { return };
    let made = Certificates::make(&scenario);
    let server = ApiServer::start_tls(vec![pod(&labels(None))], &made, "of-now");
    let token = scenario.file("token", b"of-yesterday\n");
    let (url, ca) = (format!("https://{}", server.address), made.file("ca.crt"));
    let token_flag = format!("--kubernetes-token-file={}", token.display());
    let ca_flag = format!("--kubernetes-ca={ca}");
    let arguments = ["--kubernetes", &url, "--kubernetes-node=node-1", "--include=python3*"];
    let with = |more: &[&str]| Agent::run(&scenario, &[&arguments, more].concat());

    let agent = with(&[&token_flag, &ca_flag]);
    let why = state(&agent, "degraded")["why"].to_string();
    assert!(why.contains("refuses (401): Unauthorized"), "{why}");
    std::fs::write(&token, "of-now\n").expect("a token");
    state(&agent, "current");
    assert!(server.answered(401) > 0 && server.answered(200) > 0);
    let (program, port) = program(&scenario, &cgroup, "pod");
    let span = asked(&scenario, &agent, port, "/first");
    assert_eq!(span.resource.get("k8s.pod.name"), Some(&"web-6d9f5c7b8-x2k4q".into()));
    // Cut without a goodbye, as by a crash.
    server.gone(true);
    state(&agent, "degraded");
    server.gone(false);
    state(&agent, "current");
    drop(program);
    let report = agent.stop();
    assert_eq!(report.ledger.imbalances(), Vec::<String>::new());

    // Another authority is not trusted, and that is said.
    let agent = with(&[&token_flag]);
    let why = state(&agent, "degraded")["why"].to_string();
    assert!(why.contains("cannot be reached") && why.contains("certificate"), "{why}");
    drop(agent);
}
