//! The image, from its archive, by podman and runc with exactly the rights that the chart lists.

use kernspan_tests::http;
use kernspan_tests::otlp::{Kind, Telemetry};
use kernspan_tests::podman::Podman;
use kernspan_tests::process::{Process, free_port, until};
use kernspan_tests::scenario::{Scenario, crate_dir, skip};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const IMAGE: &str = concat!("localhost/kernspan:", env!("CARGO_PKG_VERSION"));

/// What it goes by.
const CONFIG: &str = "output: [\"json:/out/spans.json\"]\ninclude: [busybox]\n";

/// Requests in the other container.
const REQUESTS: usize = 20;

/// A file in `deploy`.
fn deployed(path: &str) -> PathBuf {
    crate_dir("../deploy").join(path).canonicalize().expect("a file in deploy")
}

/// The capabilities that the chart adds without being asked for more.
fn listed() -> Vec<String> {
    let text = std::fs::read_to_string(deployed("helm/kernspan/templates/daemonset.yaml"))
        .expect("the chart");
    let lines = text.lines().map(str::trim).skip_while(|line| *line != "add:").skip(1);
    let lines = lines.take_while(|line| line.starts_with("- "));
    let name = |line: &str| line.trim_start_matches("- ").split(" #").next().map(str::to_owned);
    lines.filter_map(name).collect()
}

/// A storage with the image in it.
fn loaded(name: &str) -> Option<(Scenario, Podman)> {
    let scenario = Scenario::begin(name, &["podman", "runc", "busybox"])?;
    let Some(archive) = std::env::var_os("KERNSPAN_IMAGE").map(PathBuf::from) else {
        skip(name, "no image: KERNSPAN_IMAGE names what cargo xtask image makes");
        return None;
    };
    let podman = Podman::new(&scenario);
    podman.load(&archive);
    Some((scenario, podman))
}

/// The agent's container: these capabilities and nothing else.
fn agent(
    podman: &Podman,
    capabilities: &[String],
    options: &[&str],
    arguments: &[&str],
) -> Process {
    let seccomp = format!("seccomp={}", deployed("container/seccomp.json").display());
    let add = capabilities.join(",");
    let mut options = options.to_vec();
    options.extend(["--rm", "--pid", "host", "--network", "host", "--cap-drop", "all"]);
    options.extend(["--read-only", "--read-only-tmpfs=false", "--security-opt", &seccomp]);
    options.extend(["--security-opt", "no-new-privileges", "--cap-add", &add]);
    let mut command = podman.run(&options);
    command.arg(IMAGE).args(arguments);
    podman.start(command, &format!("agent-{}", free_port()))
}

/// Starts a web server with its client in a container without a network, whose id it gives.
fn another_container(scenario: &Scenario, podman: &Podman) -> (Process, String) {
    let root = scenario.path("other");
    for directory in ["bin", "www", "proc", "sys", "dev", "etc", "run", "tmp"] {
        std::fs::create_dir_all(root.join(directory)).expect("the other root");
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("the other root");
    std::fs::write(root.join("www/other"), "from a container\n").expect("the other root");
    let id = scenario.path("other.id");
    let script = format!(
        "/bin/busybox httpd -p 127.0.0.1:8080 -h /www; n=0; while [ $n -lt {REQUESTS} ]; do \
         /bin/busybox wget -q -O /dev/null http://127.0.0.1:8080/other || exit 1; n=$((n + 1)); done; \
         /bin/busybox sleep 1"
    );
    let id_file = id.to_string_lossy().into_owned();
    let mut command = podman.run(&["--rm", "--network", "none", "--cidfile", &id_file]);
    command.arg("--rootfs").arg(&root).args(["/bin/busybox", "sh", "-c", &script]);
    let process = podman.start(command, "other");
    let id = until("the container's id", Duration::from_secs(30), || {
        std::fs::read_to_string(&id).ok().filter(|id| id.len() == 64)
    });
    (process, id)
}

fn status(address: SocketAddr) -> serde_json::Value {
    let (_, body) = http::get(address, "/status").expect("/status");
    serde_json::from_str(&body).expect("JSON")
}

#[test]
fn the_image_sees_another_container_with_the_listed_capabilities_alone() {
    let Some((scenario, podman)) = loaded("image") else { return };
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    std::fs::create_dir(scenario.path("out")).unwrap();
    let volume = format!("{}:/out", scenario.path("out").display());
    let listen = address.to_string();
    let config = scenario.path("out/kernspan.yaml");
    std::fs::write(&config, CONFIG).unwrap();
    let arguments = ["run", "--config", "/out/kernspan.yaml", "--listen", &listen];
    let mut running = agent(&podman, &listed(), &["--volume", &volume], &arguments);
    until("the agent's /readyz", Duration::from_secs(60), || {
        assert!(running.is_running(), "it ended: {}", running.tail());
        http::get(address, "/readyz").is_ok_and(|(status, _)| status == 200).then_some(())
    });
    // A second run beside the first needs no other right and no other system call.
    std::fs::write(&config, format!("{CONFIG}head-bytes: 2048\n")).unwrap();
    until("the changed file is in use", Duration::from_secs(60), || {
        running.stderr().contains("the new configuration is in use").then_some(())
    });
    assert_eq!(status(address)["lacking"], serde_json::json!([]), "it has what it needs");
    for feature in status(address)["hooks"].as_array().expect("hooks") {
        // Where the tree of cgroups cannot be reached, one is off by that name.
        let off = feature["on"] == false;
        let why = feature["why"].as_str().unwrap_or_default();
        assert!(!off || why.contains("cgroup"), "{feature}");
    }
    let (other, id) = another_container(&scenario, &podman);
    other.succeed(Duration::from_secs(60));
    let output = scenario.path("out/spans.json");
    let spans = || [Kind::Server, Kind::Client].map(|kind| seen(&output, kind, &id));
    let start = Instant::now();
    while spans() != [REQUESTS; 2] && start.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(200));
    }
    let ended = running.terminate(Duration::from_secs(15));
    assert_eq!(spans(), [REQUESTS; 2], "{}", ended.stderr);
    assert!(ended.status.success(), "{}\n{}", ended.status, ended.stderr);
}

/// Spans of requests in the container with this id.
fn seen(output: &Path, kind: Kind, id: &str) -> usize {
    let telemetry = Telemetry::load(output);
    let of = |span: &&&kernspan_tests::otlp::Span| {
        span.kind == kind && span.resource.get("container.id").is_some_and(|found| found == id)
    };
    telemetry.under("/other").iter().filter(of).count()
}

#[test]
fn the_image_names_what_it_loses_without_a_capability() {
    let Some((_scenario, podman)) = loaded("image_capabilities") else { return };
    let all = listed();
    assert_eq!(all, ["BPF", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH", "NET_ADMIN"]);
    for missing in &all {
        let rest: Vec<String> = all.iter().filter(|name| *name != missing).cloned().collect();
        let name = format!("CAP_{missing}");
        if ["BPF", "PERFMON"].contains(&missing.as_str()) {
            let ended = agent(&podman, &rest, &[], &["run"]).wait(Duration::from_secs(60));
            assert_eq!(ended.status.code(), Some(2), "without {name}: {}", ended.stderr);
            assert!(ended.stderr.contains(&format!("lacks {name} ")), "{}", ended.stderr);
            continue;
        }
        let ended = agent(&podman, &rest, &[], &["doctor"]).succeed(Duration::from_secs(60));
        let line = ended.stdout.lines().find(|line| line.contains(&name)).unwrap_or_default();
        assert!(line.contains("no ") && line.contains("not held"), "{name}: {}", ended.stdout);
        let others = all.iter().filter(|other| *other != missing);
        for other in others.filter(|other| !["BPF", "PERFMON"].contains(&other.as_str())) {
            assert!(!ended.stdout.contains(&format!("CAP_{other} ")), "{other}: {}", ended.stdout);
        }
    }
}
