"""A Kubernetes of one node: etcd, API server, controllers, scheduler, containerd, kubelet.

To be run in network and mount namespaces of its own (`unshare --net --mount`), which take links,
addresses and mounts with them; processes and cgroups are ended by `stop`. Process numbers are the
host's: an agent that watches the node has to see all of them.
"""

import json, os, pathlib, shutil, signal, subprocess, sys, time

NODE, SERVICE = "10.99.0.1", "10.0.0.1"
TOKEN = "admin-of-this-run"

# What a kubelet sets for the whole machine: it writes to copies.
SYSCTLS = [
    "vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
]


class Cluster:
    def __init__(self, programs, directory):
        self.programs, self.dir = pathlib.Path(programs), pathlib.Path(directory)
        self.processes = {}
        self.cgroup = f"kernspan-k8s-{os.getpid()}"
        self.env = dict(os.environ, KUBECONFIG=str(self.dir / "admin.conf"))
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            self.env.pop(name, None)

    # -- pieces

    def start(self, name, *words):
        log = open(self.dir / f"{name}.log", "ab")
        self.processes[name] = subprocess.Popen(
            [str(word) for word in words], stdout=log, stderr=log, env=self.env, start_new_session=True)

    def end(self, name):
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def run(self, *words, check=True, text=None):
        done = subprocess.run([str(word) for word in words], env=self.env, input=text, text=True,
                              capture_output=True)
        if check and done.returncode:
            raise RuntimeError(f"{words}: {done.stdout}{done.stderr}")
        return done.stdout

    def kubectl(self, *words, **options):
        return self.run(self.programs / "kubectl", *words, **options)

    def get(self, *words):
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def until(self, what, holds, limit=120):
        end = time.time() + limit
        while True:
            try:
                found = holds()
                if found:
                    return found
                why = found
            except (RuntimeError, ValueError, KeyError, OSError) as error:
                why = error
            if time.time() > end:
                raise RuntimeError(f"not after {limit} s: {what}: {why}")
            time.sleep(0.5)

    # -- all of it

    def up(self, images):
        self.network()
        self.certificates()
        self.start("etcd", "/usr/bin/etcd", "--data-dir", self.dir / "etcd")
        self.api_server()
        self.until("the API server", lambda: self.kubectl("get", "--raw", "/readyz") == "ok")
        conf = self.dir / "admin.conf"
        self.start("kube-controller-manager", self.programs / "kube-controller-manager",
                   "--kubeconfig", conf, "--leader-elect=false",
                   "--service-account-private-key-file", self.dir / "sa.key",
                   "--root-ca-file", self.dir / "ca.crt")
        self.start("kube-scheduler", self.programs / "kube-scheduler", "--kubeconfig", conf,
                   "--leader-elect=false")
        if images is None:
            return
        self.runtime(images)
        self.kubelet()
        self.until("a node that is ready", self.is_ready)

    def is_ready(self):
        conditions = self.get("node", "node-1")["status"]["conditions"]
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def network(self):
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "link", "add", "node0", "type", "bridge")
        for address in (NODE, SERVICE):
            # The service's address too: nothing here translates addresses.
            self.run("ip", "address", "add", f"{address}/32", "dev", "node0")
        self.run("ip", "link", "set", "node0", "up")
        self.run("ip", "route", "add", "default", "dev", "node0")
        for path in ("/var/lib/cni", "/opt/cni", "/run/containerd", "/var/log/pods", "/var/log/containers"):
            os.makedirs(path, exist_ok=True)
            self.run("mount", "-t", "tmpfs", "none", path)
        for name in SYSCTLS:
            real, copy = f"/proc/sys/{name}", self.dir / name.replace("/", ".")
            copy.write_text(pathlib.Path(real).read_text())
            self.run("mount", "--bind", copy, real)

    def certificates(self):
        openssl = lambda *words: self.run("openssl", *words)
        at = lambda name: self.dir / name
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=ca",
                "-keyout", at("ca.key"), "-out", at("ca.crt"))
        openssl("genrsa", "-out", at("sa.key"), "2048")
        openssl("rsa", "-in", at("sa.key"), "-pubout", "-out", at("sa.pub"))
        for name, subject in (("api", "/CN=kubernetes"), ("kubelet-client", "/O=system:masters/CN=api")):
            openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", subject,
                    "-keyout", at(f"{name}.key"), "-out", at(f"{name}.csr"))
            at("san").write_text(f"subjectAltName=IP:{NODE},IP:{SERVICE},IP:127.0.0.1,DNS:kubernetes\n")
            openssl("x509", "-req", "-in", at(f"{name}.csr"), "-CA", at("ca.crt"), "-CAkey", at("ca.key"),
                    "-CAcreateserial", "-days", "2", "-extfile", at("san"), "-out", at(f"{name}.crt"))
        at("tokens.csv").write_text(f"{TOKEN},admin,1,system:masters\n")
        at("admin.conf").write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {
                "server": f"https://{NODE}:443", "certificate-authority": str(at("ca.crt"))}}],
            "users": [{"name": "u", "user": {"token": TOKEN}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}))

    def api_server(self):
        at = lambda name: self.dir / name
        self.start("kube-apiserver", self.programs / "kube-apiserver",
                   "--etcd-servers=http://127.0.0.1:2379", "--service-cluster-ip-range=10.0.0.0/24",
                   "--bind-address=0.0.0.0", "--secure-port=443", f"--advertise-address={NODE}",
                   "--tls-cert-file", at("api.crt"), "--tls-private-key-file", at("api.key"),
                   "--client-ca-file", at("ca.crt"), "--token-auth-file", at("tokens.csv"),
                   "--kubelet-client-certificate", at("kubelet-client.crt"),
                   "--kubelet-client-key", at("kubelet-client.key"),
                   "--service-account-key-file", at("sa.pub"),
                   "--service-account-signing-key-file", at("sa.key"),
                   "--service-account-issuer=https://kubernetes.default.svc",
                   "--authorization-mode=RBAC", "--allow-privileged=true",
                   "--kubelet-preferred-address-types=InternalIP")

    def runtime(self, images):
        at = lambda name: self.dir / name
        at("cni").mkdir()
        at("cni/10-bridge.conf").write_text(json.dumps({
            "cniVersion": "0.4.0", "name": "pods", "type": "bridge", "bridge": "pods0",
            "isGateway": True, "ipam": {"type": "host-local", "subnet": "10.98.0.0/24",
                                        "routes": [{"dst": "0.0.0.0/0"}]}}))
        at("containerd.toml").write_text(f'''
version = 2
root = "{at("containerd")}"
state = "{at("containerd-state")}"
[grpc]
  address = "{at("containerd.sock")}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/busybox:1"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{at("cni")}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
''')
        self.start("containerd", "/usr/bin/containerd", "--config", at("containerd.toml"))
        ctr = ("/usr/bin/ctr", "--address", at("containerd.sock"), "--namespace", "k8s.io")
        self.until("containerd", lambda: self.run(*ctr, "version"))
        for image in images:
            self.run(*ctr, "images", "import", image)

    def cgroups(self):
        roots = [path for path in pathlib.Path("/sys/fs/cgroup").iterdir() if path.is_dir()]
        v2_alone = pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists()
        return [pathlib.Path("/sys/fs/cgroup")] if v2_alone else roots

    def kubelet(self):
        for root in self.cgroups():
            (root / self.cgroup).mkdir(exist_ok=True)
            if root.name == "cpuset":
                for name in ("cpuset.cpus", "cpuset.mems"):
                    (root / self.cgroup / name).write_text((root / name).read_text())
        at = lambda name: self.dir / name
        at("kubelet.yaml").write_text(json.dumps({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": False},
                               "x509": {"clientCAFile": str(at("ca.crt"))}},
            "authorization": {"mode": "AlwaysAllow"}, "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.cgroup}", "enforceNodeAllocatable": [], "failCgroupV1": False,
            "failSwapOn": False, "makeIPTablesUtilChains": False, "localStorageCapacityIsolation": False,
            "containerRuntimeEndpoint": f"unix://{at('containerd.sock')}", "resolvConf": "",
            "evictionHard": {"memory.available": "1Mi"}, "imageGCHighThresholdPercent": 100,
            "podLogsDir": "/var/log/pods"}))
        self.start("kubelet", self.programs / "kubelet", "--kubeconfig", at("admin.conf"),
                   "--config", at("kubelet.yaml"), "--root-dir", at("kubelet"), "--node-ip", NODE,
                   "--hostname-override", "node-1")

    def stop(self):
        if "kubelet" in self.processes:
            self.end("kubelet")
            ctr = ("/usr/bin/ctr", "--address", self.dir / "containerd.sock", "--namespace", "k8s.io")
            for task in self.run(*ctr, "tasks", "list", "--quiet", check=False).split():
                self.run(*ctr, "tasks", "delete", "--force", task, check=False)
        for name in list(self.processes):
            self.end(name)
        for root in self.cgroups():
            top = root / self.cgroup
            for path in sorted(top.rglob("*"), key=lambda path: -len(path.parts)):
                if path.is_dir():
                    os.rmdir(path)
            if top.is_dir():
                os.rmdir(top)
