"""A Kubernetes of one node: etcd, API server, controllers, scheduler, containerd, kubelet."""

import json, os, pathlib, signal, subprocess, time

from machine import Machine, run

NODE, SERVICE = "10.99.0.1", "10.0.0.1"
TOKEN = "admin-of-this-run"


class Cluster:
    def __init__(self, programs):
        self.programs, self.machine = pathlib.Path(programs), Machine()
        self.dir = self.machine.dir
        self.processes = {}
        self.env = dict(os.environ, KUBECONFIG=str(self.dir / "admin.conf"), HELM_CACHE_HOME=str(self.dir / "helm"))
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            self.env.pop(name, None)

    # -- pieces

    def start(self, name, *words):
        with open(self.dir / f"{name}.log", "ab") as log:
            self.processes[name] = self.machine.start([str(word) for word in words], log, self.env)

    def signal(self, name, number):
        self.processes[name].send_signal(number)

    def kill(self, name):
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def end(self, name):
        process = self.processes.pop(name)
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def run(self, *words, text=None):
        return run(*words, env=self.env, input=text)

    def kubectl(self, *words, text=None):
        return self.run(self.programs / "kubectl", *words, text=text)

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
            except (RuntimeError, ValueError, KeyError, IndexError, OSError) as error:
                why = error
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{name} has ended with {process.returncode}, in wait for {what}")
            if time.time() > end:
                raise RuntimeError(f"not after {limit} s: {what}: {why}")
            time.sleep(0.3)

    # -- all of it

    def up(self, images):
        self.machine.prepare()
        self.network()
        self.certificates()
        self.start("etcd", "/usr/bin/etcd", "--data-dir", self.dir / "etcd")
        self.api_server()
        conf = self.dir / "admin.conf"
        self.start("kube-controller-manager", self.programs / "kube-controller-manager",
                   "--kubeconfig", conf, "--leader-elect=false",
                   "--service-account-private-key-file", self.dir / "sa.key",
                   "--root-ca-file", self.dir / "ca.crt")
        self.start("kube-scheduler", self.programs / "kube-scheduler", "--kubeconfig", conf,
                   "--leader-elect=false")
        self.runtime(images)
        self.kubelet()
        self.until("a node that is ready", self.is_ready)

    def is_ready(self):
        conditions = self.get("node", "node-1")["status"]["conditions"]
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def network(self):
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "node0", "type", "bridge")
        for address in (NODE, SERVICE):
            # The service's address too: nothing here translates addresses.
            run("ip", "address", "add", f"{address}/32", "dev", "node0")
        run("ip", "link", "set", "node0", "up")
        run("ip", "route", "add", "default", "dev", "node0")

    def certificates(self):
        openssl = lambda *words: run("openssl", *words)
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
        self.until("the API server", lambda: self.kubectl("get", "--raw", "/readyz") == "ok")

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
  sandbox_image = "localhost/pod:1"
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

    def kubelet(self):
        at = lambda name: self.dir / name
        at("kubelet.yaml").write_text(json.dumps({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": False},
                               "x509": {"clientCAFile": str(at("ca.crt"))}},
            "authorization": {"mode": "AlwaysAllow"}, "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.machine.cgroup}", "enforceNodeAllocatable": [], "failCgroupV1": False,
            "failSwapOn": False, "makeIPTablesUtilChains": False, "localStorageCapacityIsolation": False,
            "containerRuntimeEndpoint": f"unix://{at('containerd.sock')}", "resolvConf": "",
            "evictionHard": {"memory.available": "1Mi"}, "imageGCHighThresholdPercent": 100,
            "volumePluginDir": str(at("plugins")), "podLogsDir": "/var/log/pods"}))
        self.start("kubelet", self.programs / "kubelet", "--kubeconfig", at("admin.conf"),
                   "--config", at("kubelet.yaml"), "--root-dir", at("kubelet"), "--node-ip", NODE,
                   "--hostname-override", "node-1")

    def down(self):
        # One that is stopped takes no other signal.
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
        for name in ("kubelet", *[name for name in self.processes if name != "kubelet"]):
            if name in self.processes:
                self.end(name)
        self.machine.restore()
