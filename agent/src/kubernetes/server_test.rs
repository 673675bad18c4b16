//! Against a server that answers like the API server: list, watch, 410, refusal, absence.

use super::knowledge::State;
use super::{Knowledge, Pods, start};
use crate::config::{ApiServer, KubernetesSettings};
use agent_core::ledger::{Entry, Side};
use agent_core::process::kubernetes::{MAX_PODS, OwnerKind, Pod, PodChange};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

#[derive(Default)]
struct Cluster {
    pods: Vec<Value>,
    /// By path.
    others: Vec<(String, Value)>,
    /// Status of what is not there.
    missing: u16,
    version: u64,
    /// Status of all answers, 200 by default; 0: connections are cut.
    status: u16,
    requests: Vec<String>,
    watchers: Vec<TcpStream>,
}

struct Server {
    address: SocketAddr,
    cluster: Arc<Mutex<Cluster>>,
}

impl Server {
    fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let cluster = Arc::new(Mutex::new(Cluster {
            status: 200,
            missing: 403,
            version: 1,
            ..Cluster::default()
        }));
        let served = Arc::clone(&cluster);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(stream, &mut served.lock().unwrap());
            }
        });
        Server { address, cluster }
    }

    fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap()
    }

    /// A pod is as this: in the next list, and told to those who watch.
    fn put(&self, kind: &str, pod: Value) {
        let mut cluster = self.cluster();
        cluster.version += 1;
        let uid = pod["metadata"]["uid"].clone();
        cluster.pods.retain(|known| known["metadata"]["uid"] != uid);
        if kind != "DELETED" {
            cluster.pods.push(pod.clone());
        }
        cluster.tell(&json!({"type": kind, "object": pod}));
    }

    fn tell(&self, event: &Value) {
        self.cluster().tell(event);
    }

    /// Answers with this status from now on; those who watch are cut off.
    fn turn(&self, status: u16) {
        let mut cluster = self.cluster();
        cluster.status = status;
        for watcher in cluster.watchers.drain(..) {
            let _ = watcher.shutdown(Shutdown::Both);
        }
    }

    fn asked(&self, what: &str) -> usize {
        self.cluster().requests.iter().filter(|request| request.contains(what)).count()
    }
}

impl Cluster {
    fn tell(&mut self, event: &Value) {
        for watcher in &mut self.watchers {
            let _ = writeln!(watcher, "{event}");
        }
    }

    fn body(&self, path: &str) -> Option<Value> {
        if path.starts_with("/api/v1/pods?") {
            let version = self.version.to_string();
            return Some(json!({"metadata": {"resourceVersion": version}, "items": self.pods}));
        }
        let found = self.others.iter().find(|(other, _)| other == path);
        found.map(|(_, value)| value.clone())
    }
}

fn answer(stream: TcpStream, cluster: &mut Cluster) {
    if cluster.status == 0 {
        return;
    }
    let reader = BufReader::new(stream.try_clone().unwrap());
    let lines = reader.lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let head = lines.collect::<Vec<_>>().join("\n");
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    cluster.requests.push(head);
    let mut stream = stream;
    let mut send = |status: u16, body: &str| {
        let head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n\r\n");
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    };
    if cluster.status != 200 {
        return send(cluster.status, r#"{"kind":"Status","message":"no right to list pods"}"#);
    }
    if path.contains("&watch=1") {
        send(200, "");
        cluster.watchers.push(stream);
        return;
    }
    match cluster.body(&path) {
        Some(body) => send(200, &body.to_string()),
        None => send(cluster.missing, "{}"),
    }
}

fn pod(number: u32, owner: &str) -> Value {
    json!({
        "metadata": {
            "name": format!("pod-{number}"),
            "namespace": "shop",
            "uid": format!("00000000-0000-4000-8000-{number:012}"),
            "resourceVersion": "7",
            "ownerReferences": [{"kind": owner, "name": "made", "uid": owner, "controller": true}],
        },
        "spec": {"nodeName": "node-1", "containers": [{"name": "app", "image": "app:1"}]},
    })
}

struct Run {
    server: Server,
    pods: Pods,
    runtime: Runtime,
}

impl Run {
    fn with(server: Server, token: Option<&std::path::Path>) -> Run {
        crate::export::install_crypto();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let settings = KubernetesSettings {
            server: ApiServer::Url(format!("http://{}", server.address)),
            node: Some("node-1".to_owned()),
            token_file: token.map(Into::into),
            ..KubernetesSettings::default()
        };
        let pods = start(&settings, "host", runtime.handle()).unwrap();
        Run { server, pods, runtime }
    }

    fn next(&self) -> PodChange {
        self.pods.changes.recv_timeout(Duration::from_secs(20)).expect("no change came")
    }

    fn known(&self) -> Arc<Pod> {
        match self.next() {
            PodChange::Known(pod) => pod,
            PodChange::Gone(uid) => panic!("{uid} is gone"),
        }
    }

    fn wait_for(&self, what: &str, holds: impl Fn(&Run) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "{what}: {}",
                self.knowledge().report()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn knowledge(&self) -> &Knowledge {
        &self.pods.knowledge
    }

    fn watches(&self) {
        self.wait_for("nobody watches", |run| !run.server.cluster().watchers.is_empty());
    }

    fn is_degraded(&self, why: &str) {
        self.wait_for(
            why,
            |run| matches!(run.knowledge().state().0, State::Degraded(text) if text.contains(why)),
        );
    }

    fn end(self) {
        // Ended first: its counts then stand still.
        let knowledge = Arc::clone(&self.pods.knowledge);
        self.runtime.shutdown_timeout(Duration::from_secs(1));
        for unit in ["requests", "events", "pods_of_node"] {
            let (mut came, mut went) = (0, 0);
            for entry in knowledge.ledger().iter().filter(|entry| entry.unit == unit) {
                match entry.side {
                    Side::In => came += entry.count,
                    Side::Out | Side::Held | Side::Lost(_) => went += entry.count,
                    Side::Info(_) => {}
                }
            }
            assert_eq!(came, went, "{unit} of {:?}", knowledge.ledger());
        }
    }
}

#[test]
fn pods_are_listed_and_followed_and_only_changes_are_told() {
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "first\n").unwrap();
    let server = Server::start();
    server.put("ADDED", pod(1, "StatefulSet"));
    let run = Run::with(server, Some(token.path()));
    let first = run.known();
    assert_eq!((first.name.as_str(), first.node.as_str()), ("pod-1", "node-1"));
    assert_eq!(first.owners, [(OwnerKind::StatefulSet, "made".to_owned())]);
    run.watches();
    let only = "spec.nodeName%3Dnode-1%2Cstatus.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed";
    assert_eq!(run.server.asked(only), 2, "list and watch are of this node");
    assert_eq!(run.server.asked("Bearer first"), 2);

    run.server.put("MODIFIED", pod(1, "StatefulSet"));
    let mut labelled = pod(1, "StatefulSet");
    labelled["metadata"]["labels"] = json!({"app.kubernetes.io/name": "front"});
    run.server.put("MODIFIED", labelled);
    assert_eq!(run.known().app.name, "front", "the event before changed nothing");
    run.server
        .tell(&json!({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "4711"}}}));
    run.server.tell(&json!({"type": "SOMETHING", "object": []}));
    run.server.put("DELETED", pod(1, "StatefulSet"));
    assert_eq!(run.next(), PodChange::Gone(first.uid));
    assert_eq!(run.knowledge().state().0, State::Current);

    // The server ends the watch: the next one begins where this one was, with the token of now.
    std::fs::write(token.path(), "second").unwrap();
    run.server.turn(200);
    run.watches();
    assert_eq!(run.server.asked("Bearer second"), 1);
    assert_eq!(
        run.server.asked("resourceVersion=7"),
        1,
        "the deletion's version, behind the bookmark's"
    );
    run.end();
}

#[test]
fn a_version_that_is_too_old_is_followed_by_a_list() {
    let server = Server::start();
    server.put("ADDED", pod(1, "DaemonSet"));
    server.put("ADDED", pod(2, "DaemonSet"));
    let run = Run::with(server, None);
    let gone = [run.known(), run.known()].into_iter().find(|pod| pod.name == "pod-1").unwrap();
    run.watches();
    {
        let mut cluster = run.server.cluster();
        cluster.pods.retain(|pod| pod["metadata"]["name"] != "pod-1");
        cluster.pods.push(pod(3, "DaemonSet"));
    }
    run.server.tell(&json!({"type": "ERROR", "object": {"code": 410, "message": "too old"}}));
    assert_eq!(run.known().name, "pod-3");
    assert_eq!(run.next(), PodChange::Gone(gone.uid));
    assert_eq!(run.server.asked("resourceVersion=0"), 1);
    assert_eq!(run.server.asked("Failed HTTP"), 1, "this list is of now, out of nobody's memory");
    run.watches();
    run.end();
}

#[test]
fn what_the_server_says_within_a_watch_is_cut_and_printable() {
    let run = Run::with(Server::start(), None);
    run.watches();
    let message = format!("no\u{1b}[2J{}", "x".repeat(10_000));
    run.server.tell(&json!({"type": "ERROR", "object": {"code": 500, "message": message}}));
    run.is_degraded("answers 500: no[2Jxx");
    let why = run.knowledge().report()["why"].to_string();
    assert!(why.len() < 300, "{} bytes", why.len());
    run.end();
}

#[test]
fn without_the_server_what_is_known_stays_and_the_rest_comes_when_it_is_back() {
    let server = Server::start();
    server.put("ADDED", pod(1, "DaemonSet"));
    let run = Run::with(server, None);
    assert_eq!(run.known().name, "pod-1");
    run.watches();
    run.server.turn(0);
    run.is_degraded("cannot be reached");
    assert_eq!(run.knowledge().report()["pods"], 1);
    assert!(run.pods.changes.try_recv().is_err(), "nothing is taken back");
    run.server.turn(200);
    run.watches();
    run.server.put("ADDED", pod(2, "DaemonSet"));
    assert_eq!(run.known().name, "pod-2");
    assert_eq!(run.knowledge().report()["state"], "current");
    run.end();
}

#[test]
fn a_refusal_is_named_with_its_reason() {
    let server = Server::start();
    server.turn(403);
    let run = Run::with(server, None);
    run.is_degraded("refuses (403): no right to list pods; see the rights in deploy");
    run.end();
}

#[test]
fn the_owner_of_a_job_is_asked_for_once_and_left_out_where_that_is_forbidden() {
    let server = Server::start();
    let job = json!({"metadata": {"ownerReferences": [
        {"kind": "CronJob", "name": "report", "uid": "8", "controller": true},
    ]}});
    server.cluster().others.push(("/apis/batch/v1/namespaces/shop/jobs/made".to_owned(), job));
    server.put("ADDED", pod(1, "Job"));
    server.put("ADDED", pod(2, "Job"));
    server.put("ADDED", pod(3, "ReplicaSet"));
    let run = Run::with(server, None);
    let job = [(OwnerKind::Job, "made".to_owned()), (OwnerKind::CronJob, "report".to_owned())];
    let mut found = [run.known(), run.known(), run.known()];
    found.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!((&found[0].owners[..], &found[1].owners[..]), (&job[..], &job[..]));
    assert_eq!(found[2].owners, [(OwnerKind::ReplicaSet, "made".to_owned())]);
    assert_eq!(run.server.asked("/jobs/made"), 1);
    run.watches();
    run.end();
}

#[test]
fn an_owner_that_could_not_be_asked_for_is_known_with_the_next_change() {
    let server = Server::start();
    server.cluster().missing = 503;
    server.put("ADDED", pod(1, "Job"));
    let run = Run::with(server, None);
    let made = (OwnerKind::Job, "made".to_owned());
    assert_eq!(run.known().owners.as_slice(), std::slice::from_ref(&made));
    run.watches();
    let job = json!({"metadata": {"ownerReferences": [
        {"kind": "CronJob", "name": "report", "uid": "8", "controller": true},
    ]}});
    run.server.cluster().others.push(("/apis/batch/v1/namespaces/shop/jobs/made".to_owned(), job));
    run.server.put("MODIFIED", pod(1, "Job"));
    assert_eq!(run.known().owners, [made, (OwnerKind::CronJob, "report".to_owned())]);
    run.end();
}

#[test]
fn pods_without_room_are_listed_again_when_there_is_some() {
    let room = u32::try_from(MAX_PODS).unwrap();
    let remembered = 4 * room;
    let server = Server::start();
    server.cluster().pods = (1..=remembered + 3).map(|number| pod(number, "DaemonSet")).collect();
    let run = Run::with(server, None);
    for _ in 0..room {
        run.known();
    }
    run.watches();
    assert_eq!(run.knowledge().report()["pods_waiting"], 3 * room);
    let lost = |run: &Run| {
        let ledger = run.knowledge().ledger();
        let of = |e: &&Entry| e.unit == "pods_of_node" && e.side == Side::Lost("over_limit");
        ledger.iter().find(of).map(|entry| entry.count)
    };
    assert_eq!(lost(&run), Some(3));
    // All that wait are told as others go.
    for number in 1..=3 * room {
        run.server.tell(&json!({"type": "DELETED", "object": pod(number, "DaemonSet")}));
        assert!(matches!(run.next(), PodChange::Gone(_)));
        assert_eq!(run.known().name, format!("pod-{}", room + number));
    }
    assert_eq!(run.server.asked("Failed HTTP"), 0, "there is no room yet");
    // Then those that nobody remembers.
    let gone = 3 * room + 1;
    run.server.cluster().pods.drain(..usize::try_from(gone).unwrap());
    run.server.tell(&json!({"type": "DELETED", "object": pod(gone, "DaemonSet")}));
    assert!(matches!(run.next(), PodChange::Gone(_)));
    assert_eq!(run.known().name, format!("pod-{}", remembered + 1));
    assert_eq!(run.server.asked("Failed HTTP"), 1, "listed as of now");
    run.wait_for("two wait", |run| run.knowledge().report()["pods_waiting"] == 2);
    assert_eq!(lost(&run), Some(3), "nobody was forgotten again");
    run.end();
}
