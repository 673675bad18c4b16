"""What `cargo xtask k8s` shows: the chart on a real Kubernetes of one node.

    run.py PROGRAMS HELM COLLECTOR IMAGE

PROGRAMS is a directory with kube-apiserver and the like, IMAGE the archive of `cargo xtask image`.
"""

import json, os, pathlib, shutil, subprocess, sys, tempfile, time, urllib.request

from cluster import NODE, Cluster

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART, MANIFESTS = ROOT / "deploy/helm/kernspan", ROOT / "deploy/kubernetes/kernspan.yaml"
IMAGE = "localhost/busybox:1"

# A server and its client in one container.
ALONE = ("httpd -p 127.0.0.1:8080 -h /www; while :; do wget -q -O /dev/null http://127.0.0.1:8080/{0}; "
         "sleep 0.5; done")


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def busybox(directory):
    """The image of every pod, and what they pause with: Debian's static busybox."""
    tree, archive = directory / "busybox", directory / "busybox.tar"
    (tree / "bin").mkdir(parents=True)
    (tree / "www").mkdir()
    shutil.copy("/bin/busybox", tree / "bin")
    for applet in ("sh", "httpd", "wget", "sleep"):
        (tree / "bin" / applet).symlink_to("busybox")
    for name in ("hello", "db", "report", "late"):
        (tree / "www" / name).write_text(name)
    buildah = ["buildah", "--storage-driver", "vfs", "--root", directory / "b", "--runroot", directory / "br"]
    call = lambda *words: subprocess.check_output([*buildah, *words], text=True).strip()
    container = call("from", "scratch")
    call("copy", "--quiet", container, tree, "/")
    call("config", "--cmd", '["/bin/sleep","2147483647"]', container)
    call("commit", "--quiet", "--rm", container, f"oci-archive:{archive}:{IMAGE}")
    return archive


class Run:
    def __init__(self, cluster, helm, collector, directory):
        self.cluster, self.helm, self.dir = cluster, helm, directory
        self.config = {"max-memory": "256MiB", "include": ["busybox"], "kubernetes-label": ["tier"]}
        text = (ROOT / "deploy/collector/config.yaml").read_text().replace("127.0.0.1:431", "0.0.0.0:431")
        (directory / "collector.yaml").write_text(text)
        cluster.env["KERNSPAN_OUT"] = str(directory)
        cluster.start("collector", collector, "--config", directory / "collector.yaml")

    def spans(self, since=0.0):
        """(kind, parent, id, path, resource) of all spans that began after a time."""
        found = []
        for line in (self.dir / "traces.jsonl").read_text().splitlines():
            try:
                groups = json.loads(line)["resourceSpans"]
            except ValueError:
                continue  # the last one, half written
            for group in groups:
                resource = {a["key"]: next(iter(a["value"].values()), "") for a in group["resource"]["attributes"]}
                for span in (span for scope in group["scopeSpans"] for span in scope["spans"]):
                    if int(span["startTimeUnixNano"]) >= since * 1e9:
                        found.append((span["kind"], span.get("parentSpanId", ""), span["spanId"], span["traceId"], resource))
        return found

    def seen(self, what, since=0.0, limit=90, **expected):
        """Waits for a span whose resource is as expected (`_` for `.`)."""
        expected = {key.replace("_", "."): value for key, value in expected.items()}
        fits = lambda resource: all(resource.get(key) == value for key, value in expected.items())
        found = self.cluster.until(what, lambda: [s for s in self.spans(since) if fits(s[4])], limit)
        say(f"{what}: {len(found)} spans")
        return found

    def status(self):
        pod = self.agents()[0]
        with urllib.request.urlopen(f"http://{pod['status']['podIP']}:9464/status", timeout=5) as answer:
            return json.load(answer)

    def agents(self):
        return self.cluster.get("pods", "-n", "kernspan", "-l", "app.kubernetes.io/name=kernspan")["items"]

    def install(self, verb):
        values = json.dumps(self.config)
        self.cluster.run(self.helm, verb, "kernspan", CHART, "--namespace", "kernspan",
                         "--set", f"otlp.endpoint=http://{NODE}:4317", "--set-json", f"config={values}")
        self.cluster.kubectl("-n", "kernspan", "rollout", "status", "daemonset/kernspan", "--timeout=120s")

    def shop(self, *words, **options):
        return self.cluster.kubectl("-n", "shop", *words, **options)

    def workload(self, kind, name, script, **more):
        template = {"metadata": {"labels": {"app": name, "tier": "front"}},
                    "spec": {"terminationGracePeriodSeconds": 1, "containers": [
                        {"name": f"{name}-main", "image": IMAGE, "command": ["/bin/sh", "-c", script]}]}}
        spec = {"selector": {"matchLabels": {"app": name}}, "template": template, **more}
        self.shop("apply", "-f", "-", text=json.dumps(
            {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}))

    # -- what is shown

    def begins(self):
        for name in ("kernspan", "shop"):
            self.cluster.kubectl("create", "namespace", name)
            self.cluster.until("a service account", lambda: self.cluster.kubectl("-n", name, "get", "sa", "default"))
        text = self.cluster.kubectl("apply", "--dry-run=server", "-f", MANIFESTS)
        assert "daemonset.apps/kernspan created (server dry run)" in text, text
        self.install("install")
        self.cluster.until("names are current", lambda: self.status()["kubernetes"]["state"] == "current")
        assert self.status()["lacking"] == [], self.status()["lacking"]
        say("helm install: the DaemonSet is up, its names are current, it lacks nothing")

    def two_pods_are_one_trace(self):
        self.workload("Deployment", "web", "httpd -f -p 8080 -h /www")
        pod = lambda: self.shop("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].status.podIP}")
        address = self.cluster.until("an address", pod)
        call = f"while :; do wget -q -O /dev/null http://{address}:8080/hello; sleep 0.3; done"
        self.workload("Deployment", "caller", call)
        self.seen("the server's pod", service_name="web", k8s_namespace_name="shop",
                  k8s_deployment_name="web", k8s_container_name="web-main", k8s_node_name="node-1")
        clients = {span[2]: span for span in self.seen("the client's pod", service_name="caller")}
        joined = [(clients[s[1]], s) for s in self.spans() if s[1] in clients and s[4].get("service.name") == "web"]
        assert joined and all(client[3] == server[3] for client, server in joined), "no trace of both"
        for span in joined[-1]:
            for key in ("k8s.pod.name", "k8s.pod.uid", "k8s.replicaset.name", "container.id", "container.image.name"):
                assert span[4].get(key), (key, span[4])
        say(f"two pods, one trace: {len(joined)} times")

    def owners(self):
        self.workload("StatefulSet", "db", ALONE.format("db"), serviceName="db")
        self.seen("a stateful set", k8s_statefulset_name="db", service_name="db", k8s_pod_label_tier="front")
        self.workload("DaemonSet", "log", ALONE.format("db"))
        self.seen("a daemon set", k8s_daemonset_name="log", service_name="log")
        self.shop("create", "cronjob", "report", f"--image={IMAGE}", "--schedule=0 0 1 1 *", "--",
                  "/bin/sh", "-c", ALONE.format("report"))
        self.shop("create", "job", "report-now", "--from=cronjob/report")
        self.seen("a cron job", k8s_cronjob_name="report", k8s_job_name="report-now", service_name="report")

    def relabelled_and_removed(self):
        self.shop("label", "pods", "-l", "app=web", "app.kubernetes.io/name=front")
        self.seen("a pod that was relabelled", since=time.time(), service_name="front", k8s_deployment_name="web")
        before = self.status()["kubernetes"]["pods"]
        self.shop("delete", "daemonset/log", "--wait")
        self.cluster.until("a pod less", lambda: self.status()["kubernetes"]["pods"] < before)

    def without_the_api_server(self, seconds):
        agent = self.agents()[0]["status"]["podIP"]
        state = lambda: json.load(urllib.request.urlopen(f"http://{agent}:9464/status", timeout=5))["kubernetes"]["state"]
        self.cluster.end("kube-apiserver")
        self.cluster.until("degraded", lambda: state() == "degraded")
        time.sleep(seconds)
        self.seen("names without the API server", since=time.time() - 5, service_name="front")
        self.cluster.api_server()
        self.cluster.until("the API server", lambda: self.cluster.kubectl("get", "--raw", "/readyz") == "ok")
        self.cluster.until("current", lambda: state() == "current")
        self.workload("StatefulSet", "late", ALONE.format("late"), serviceName="late")
        self.seen("a pod that came after", service_name="late")

    def rolled_out(self):
        before = self.agents()[0]["metadata"]["name"]
        self.config["log-level"] = "debug"
        self.install("upgrade")
        names = lambda: [pod["metadata"]["name"] for pod in self.agents()]
        self.cluster.until("another agent", lambda: before not in names())
        self.seen("spans of the new agent", since=time.time(), service_name="db")


def main(programs, helm, collector, image):
    directory = pathlib.Path(tempfile.mkdtemp(prefix="kernspan-k8s-"))
    cluster = Cluster(programs, directory)
    try:
        cluster.up([busybox(directory), image])
        say("a node is ready")
        run = Run(cluster, helm, collector, directory)
        run.begins()
        run.two_pods_are_one_trace()
        run.owners()
        run.relabelled_and_removed()
        run.without_the_api_server(int(os.environ.get("KERNSPAN_ABSENT", "60")))
        run.rolled_out()
        say("k8s: all shown")
    except BaseException:
        print(cluster.kubectl("get", "events", "-A", check=False)[-3000:])
        print(cluster.kubectl("logs", "-n", "kernspan", "daemonset/kernspan", "--tail=30", check=False))
        raise
    finally:
        cluster.stop()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
