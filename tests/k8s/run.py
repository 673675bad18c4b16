"""What `cargo xtask k8s` shows: the chart on a real Kubernetes of one node.

    run.py PROGRAMS HELM COLLECTOR IMAGE

PROGRAMS is a directory with kube-apiserver and the like, IMAGE the archive of `cargo xtask image`.
"""

import json, os, pathlib, signal, sys, time, urllib.request

import machine, pods
from cluster import Cluster
from spans import Spans

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART, MANIFESTS = ROOT / "deploy/helm/kernspan", ROOT / "deploy/kubernetes/kernspan.yaml"
ACCOUNT = "system:serviceaccount:kernspan:kernspan"

# The test's own network: whatever the environment says of proxies.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Run:
    def __init__(self, cluster, helm, collector):
        self.cluster, self.helm, self.shown = cluster, helm, []
        directory = cluster.dir
        self.spans = Spans(directory / "traces.jsonl")
        # Of this machine's programs, those that run in the pods; all else is as the chart has it.
        self.config = {"max-memory": "256MiB", "include": ["/usr/bin/python3*", "busybox"],
                       "kubernetes-label": ["tier"],
                       # Asked for from the node, also while the API server is away: no exec into the pod then.
                       "expose-status": True}
        text = (ROOT / "deploy/collector/config.yaml").read_text().replace("127.0.0.1:431", "0.0.0.0:431")
        (directory / "collector.yaml").write_text(text)
        cluster.env["KERNSPAN_OUT"] = str(directory)
        cluster.start("collector", collector, "--config", directory / "collector.yaml")

    def show(self, what, result):
        self.shown.append((what, str(result)))
        print(f"{time.strftime('%H:%M:%S')} {what}: {result}", flush=True)

    def seen(self, what, since=0.0, limit=90, **expected):
        """Waits for spans of such a resource."""
        return self.cluster.until(what, lambda: self.spans.like(since, **expected), limit)

    def status(self):
        address = self.agent()["status"]["podIP"]
        with OPENER.open(f"http://{address}:9464/status", timeout=5) as answer:
            return json.load(answer)

    def agents(self):
        words = ("pods", "-n", "kernspan", "-l", "app.kubernetes.io/name=kernspan")
        return self.cluster.get(*words)["items"]

    def agent(self):
        """The one that runs; as it was last seen where the API server is away."""
        try:
            self.known = [pod for pod in self.agents() if "deletionTimestamp" not in pod["metadata"]][0]
        except RuntimeError:
            pass
        return self.known

    def names_are(self, state, limit=120):
        address = self.known["status"]["podIP"]

        def report():
            with OPENER.open(f"http://{address}:9464/status", timeout=5) as answer:
                return json.load(answer)["kubernetes"]

        return self.cluster.until(f"names are {state}", lambda: report()["state"] == state and report(), limit)

    def release(self, verb):
        self.cluster.run(self.helm, verb, "kernspan", CHART, "--namespace", "kernspan",
                         "--set-json", f"config={json.dumps(self.config)}")
        self.cluster.kubectl("-n", "kernspan", "rollout", "status", "daemonset/kernspan", "--timeout=120s")
        self.agent()

    def shop(self, *words, text=None):
        return self.cluster.kubectl("-n", "shop", *words, text=text)

    def apply(self, *words, **options):
        self.shop("apply", "-f", "-", text=pods.workload(*words, **options))

    def address(self, name):
        words = ("get", "pods", "-l", f"app={name}", "-o", "jsonpath={.items[0].status.podIP}")
        return self.cluster.until(f"an address of {name}", lambda: self.shop(*words))

    # -- what is shown

    def chart_and_manifests(self):
        self.cluster.run(self.helm, "lint", "--strict", CHART)
        for name in ("kernspan", "shop"):
            self.cluster.kubectl("create", "namespace", name)
            self.cluster.until("a service account", lambda: self.cluster.kubectl("-n", name, "get", "sa", "default"))
        lines = self.cluster.kubectl("apply", "--dry-run=server", "-f", MANIFESTS).splitlines()
        assert "daemonset.apps/kernspan created (server dry run)" in lines, lines
        assert all(line.endswith("(server dry run)") for line in lines), lines
        self.show("helm lint, server-side dry run", f"{len(lines)} objects of the plain manifests admitted")

    def installed(self):
        began = time.time()
        self.release("install")
        took = time.time() - began
        self.names_are("current")
        lacking = self.status()["lacking"]
        assert lacking == [], lacking
        self.show("helm install", f"the DaemonSet is ready after {took:.1f} s, names are current, it lacks nothing")

    def rights(self):
        def may(verb, what, *more):
            words = ("auth", "can-i", verb, what, "--as", ACCOUNT, "-A", *more)
            try:
                return self.cluster.kubectl(*words).strip() == "yes"
            except RuntimeError:  # it ends with 1 where the answer is no
                return False

        needs = [("list", "pods"), ("watch", "pods"), ("get", "replicasets.apps"), ("get", "jobs.batch")]
        others = [("get", "secrets"), ("list", "secrets"), ("get", "configmaps"), ("delete", "pods"),
                  ("create", "pods"), ("list", "nodes"), ("get", "pods/log"), ("list", "jobs.batch")]
        assert all(may(*right) for right in needs), [right for right in needs if not may(*right)]
        assert not any(may(*right) for right in others), [right for right in others if may(*right)]
        self.show("rights", f"the {len(needs)} that it needs, none of {len(others)} others")

    def two_pods_are_one_trace(self):
        """front → back → front, begun by another container of front's pod: six spans."""
        self.created = time.time()
        self.apply("Deployment", "back", [pods.service("back-main")])
        back = self.address("back")
        path = f"{back}/$POD_IP/end"
        self.apply("Deployment", "front", [pods.service("front-main"), pods.caller("load", path)])
        front = self.address("front")
        six = self.cluster.until("a trace of both pods", lambda: self.whole_trace(since=self.created))
        expected = [
            ("front", "load", False, f"/{back}/{front}/end"), ("front", "front-main", True, f"/{back}/{front}/end"),
            ("front", "front-main", False, f"/{front}/end"), ("back", "back-main", True, f"/{front}/end"),
            ("back", "back-main", False, "/end"), ("front", "front-main", True, "/end"),
        ]
        found = [(s["k8s.deployment.name"], s["k8s.container.name"], s.server, s.path) for s in six]
        assert found == expected, found
        for span in six:
            assert span["service.name"] == span["k8s.deployment.name"], span
            assert span["k8s.namespace.name"] == span["service.namespace"] == "shop", span
            assert span["k8s.node.name"] == "node-1" and span["k8s.pod.label.tier"] == "front", span
            for key in ("k8s.pod.name", "k8s.pod.uid", "k8s.replicaset.name", "container.id", "container.image.name"):
                assert span[key], (key, span.resource)
            pod = self.cluster.get("pod", "-n", "shop", span["k8s.pod.name"])
            assert pod["metadata"]["uid"] == span["k8s.pod.uid"], span
            ids = {c["containerID"].split("://")[1]: c["name"] for c in pod["status"]["containerStatuses"]}
            assert ids[span["container.id"]] == span["k8s.container.name"], (ids, span.resource)
        print("\n".join(f"  {'  ' * depth}{span}" for depth, span in enumerate(six)))
        self.show("two pods that call each other", "one trace, 6 spans in a line, 1 root, 3 containers; uids, container ids "
                  "and owner as the API server has them")

    def whole_trace(self, since):
        """Six spans from the root down, each the child of the one before, with all names."""
        for spans in self.spans.traces(since).values():
            below = {span.parent: span for span in spans}
            line, at = [], ""
            while at in below and len(line) <= len(spans):
                line.append(below[at])
                at = below[at].id
            if len(spans) == len(line) == 6 and all(span["k8s.container.name"] for span in line):
                return line
        return None

    def owners(self):
        self.apply("StatefulSet", "db", [pods.shell("db-main", pods.ALONE.format("db"))], serviceName="db")
        self.apply("DaemonSet", "log", [pods.shell("log-main", pods.ALONE.format("log"))])
        report = pods.shell("report-main", pods.ALONE.format("report"))
        self.shop("apply", "-f", "-", text=pods.job_of("report", "0 0 1 1 *", report))
        self.shop("create", "job", "report-now", "--from=cronjob/report")
        self.seen("a stateful set", k8s_statefulset_name="db", service_name="db", k8s_pod_name="db-0")
        self.seen("a daemon set", k8s_daemonset_name="log", service_name="log")
        self.seen("a cron job", k8s_cronjob_name="report", k8s_job_name="report-now", service_name="report")
        self.show("pods are added", "StatefulSet, DaemonSet, Job of a CronJob: owners named, services named after them")

    def relabelled(self):
        began = time.time()
        self.shop("label", "pods", "-l", "app=front", "app.kubernetes.io/name=checkout")
        span = self.seen("a pod that was relabelled", since=began, service_name="checkout", k8s_deployment_name="front")[0]
        self.show("a pod is relabelled", f"its spans' service has the new name after {span.start - began:.1f} s")

    def removed(self):
        before = self.status()["kubernetes"]["pods"]
        self.shop("delete", "daemonset/log", "--wait")
        self.cluster.until("a pod less", lambda: self.status()["kubernetes"]["pods"] == before - 1)
        gone = time.time()
        time.sleep(3)
        late = self.spans.like(since=gone, k8s_daemonset_name="log")
        assert not late, late[0]
        self.show("a pod is removed", f"the agent knows {before - 1} pods instead of {before}; nothing of it any more")

    def without_the_api_server(self, seconds):
        self.agent()
        self.cluster.kill("kube-apiserver")
        began = time.time()
        why = self.names_are("degraded")["why"]
        degraded = time.time() - began
        # Its kubelet starts the container again by itself: a container that the API server never saw.
        old = self.spans.like(service_name="back")[-1]
        os.kill(int(old["process.pid"]), signal.SIGKILL)
        again = lambda: [s for s in self.spans.like(began, service_name="back") if s["container.id"] != old["container.id"]]
        new = self.cluster.until("a new container", again)[0]
        for key in ("k8s.pod.name", "k8s.container.name", "k8s.deployment.name", "service.name"):
            assert new[key] == old[key], (key, new.resource)
        time.sleep(max(0, began + seconds - time.time()))
        named = self.seen("names without the API server", since=time.time() - 5, service_name="checkout")
        away = time.time() - began
        self.cluster.api_server()
        back = time.time()
        self.names_are("current")
        current = time.time() - back
        self.apply("StatefulSet", "late", [pods.shell("late-main", pods.ALONE.format("late"))], serviceName="late")
        late = self.seen("a pod that came after", service_name="late", k8s_statefulset_name="late", limit=180)[0]
        print(f"  {why}")
        self.show("the API server is away", f"{away:.0f} s: degraded after {degraded:.1f} s; pods keep their names "
                  f"({len(named)} spans in the last 5 s), also in a container that the kubelet restarts meanwhile")
        self.show("it is back", f"current {current:.1f} s after its /readyz; a new pod is named "
                  f"(the cluster had it running after {late.start - back:.0f} s)")

    def hung_api_server(self):
        self.agent()
        self.cluster.signal("kube-apiserver", signal.SIGSTOP)
        began = time.time()
        self.names_are("degraded", limit=90)
        degraded = time.time() - began
        self.cluster.signal("kube-apiserver", signal.SIGCONT)
        self.names_are("current", limit=90)
        self.show("the API server hangs (SIGSTOP)", f"noticed after {degraded:.0f} s, current again when it goes on")

    def every_span_was_named(self):
        """Since the pods were made: of a pod's process never one without the pod's names."""
        of_pods = [span for span in self.spans.now() if span.start >= self.created and span["k8s.pod.uid"]]
        unnamed = [span for span in of_pods if not span["k8s.pod.name"]]
        no_container = [span for span in of_pods if not span["k8s.container.name"]]
        assert of_pods and not unnamed, f"{len(unnamed)} of {len(of_pods)}, for example {unnamed[:1]}"
        # Told apart by their ids, which the kubelet reports after they have started.
        other = [span for span in no_container if span["k8s.deployment.name"] != "front" or span.start > self.created + 15]
        assert not other, other[0].resource
        self.show("spans of pods until here", f"{len(of_pods)}, {len(unnamed)} without their pod's name, "
                  f"{len(no_container)} without their container's (of a pod with two, just after their start)")

    def rolled_out(self):
        before = self.agent()["metadata"]["name"]
        self.config["log-level"] = "debug"
        began = time.time()
        self.release("upgrade")
        after = self.cluster.until("another agent", lambda: self.agent()["metadata"]["name"])
        assert after != before, after
        self.names_are("current")
        ready = time.time()
        self.cluster.until("a whole trace of the new agent", lambda: self.whole_trace(since=ready))
        spans = sorted((span.end for span in self.spans.now() if span.end >= began - 5))
        gap = max(late - early for early, late in zip(spans, spans[1:]))
        ids = [span.id for span in self.spans.now()]
        assert len(ids) == len(set(ids)), "a span was told twice"
        unnamed = [s for s in self.spans.like(since=began) if s["k8s.pod.uid"] and not s["k8s.pod.name"]]
        self.show("the agent is rolled out", f"{before} → {after} in {ready - began:.1f} s; longest time without a span "
                  f"{gap:.1f} s; no span twice; {len(unnamed)} spans without their pod's name")
        assert not unnamed, unnamed[0].resource

    def removed_again(self):
        self.cluster.run(self.helm, "uninstall", "kernspan", "--namespace", "kernspan", "--wait")
        left = self.cluster.kubectl("get", "clusterrole,clusterrolebinding,priorityclass", "-o", "name")
        assert "kernspan" not in left, left
        self.cluster.until("no pod of it", lambda: not self.agents())
        self.show("helm uninstall", "no object of it is left")

    def all(self):
        self.chart_and_manifests()
        self.installed()
        self.rights()
        self.two_pods_are_one_trace()
        self.owners()
        self.relabelled()
        self.removed()
        self.without_the_api_server(int(os.environ.get("KERNSPAN_ABSENT", "60")))
        self.hung_api_server()
        self.every_span_was_named()
        self.rolled_out()
        self.removed_again()
        width = max(len(what) for what, _ in self.shown)
        print("\nk8s: all shown\n" + "\n".join(f"  {what:{width}}  {result}" for what, result in self.shown))


def why_not(cluster):
    for words in (("get", "events", "-A"), ("get", "pods", "-A", "-o", "wide"),
                  ("logs", "-n", "kernspan", "daemonset/kernspan", "--tail=30")):
        try:
            print(cluster.kubectl(*words)[-3000:])
        except RuntimeError as error:
            print(error)
    for log in sorted(cluster.dir.glob("*.log")):
        print(f"-- {log.name}\n{log.read_text(errors='replace')[-600:]}")


def main(programs, helm, collector, image):
    machine.end_with_parent()
    cluster = Cluster(programs)
    try:
        began = time.time()
        cluster.up([pods.image(cluster.dir), image])
        run = Run(cluster, helm, collector)
        run.show("a node", f"ready after {time.time() - began:.0f} s")
        run.all()
    except Exception:
        why_not(cluster)
        raise
    finally:
        machine.ignore_signals()
        cluster.down()


if __name__ == "__main__":
    main(*sys.argv[1:])
