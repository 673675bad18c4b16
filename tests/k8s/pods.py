"""What runs in the cluster beside the agent: an image, and workloads of every kind."""

import json, pathlib, shutil, subprocess

IMAGE = "localhost/pod:1"
HERE = pathlib.Path(__file__).resolve().parent

# A server and its client in one container.
ALONE = ("/busybox httpd -p 127.0.0.1:8080 -h /www; while :; do "
         "/busybox wget -q -O /dev/null http://127.0.0.1:8080/{0}; /busybox sleep 0.5; done")


def image(directory):
    """The image of every pod, and what they pause with: Debian's static busybox, and a place for its /usr."""
    tree, archive = directory / "pod", directory / "pod.tar"
    (tree / "www").mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (tree / name).symlink_to(f"usr/{name}")
    shutil.copy("/bin/busybox", tree / "busybox")
    for name in ("db", "log", "report", "late"):
        (tree / "www" / name).write_text(name)
    buildah = ["buildah", "--storage-driver", "vfs", "--root", directory / "b", "--runroot", directory / "br"]
    call = lambda *words: subprocess.check_output([*buildah, *words], text=True).strip()
    container = call("from", "scratch")
    call("copy", "--quiet", container, tree, "/")
    call("config", "--entrypoint", '["/busybox", "sleep", "2147483647"]', container)
    call("commit", "--quiet", "--rm", container, f"oci-archive:{archive}:{IMAGE}")
    return archive


def shell(name, script, env=()):
    """A container with a shell."""
    return {"name": name, "image": IMAGE, "command": ["/busybox", "sh", "-c", script], "env": list(env)}


def service(name):
    """A container with the service of this directory, in the machine's own Python."""
    mounts = [{"name": "usr", "mountPath": "/usr", "readOnly": True},
              {"name": "service", "mountPath": "/service", "readOnly": True}]
    return {"name": name, "image": IMAGE, "command": ["/usr/bin/python3", "-B", "/service/service.py"],
            "volumeMounts": mounts}


def caller(name, path):
    """A container that asks the pod's own service for a path, for ever."""
    env = [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    script = f"while :; do /busybox wget -q -O /dev/null http://$POD_IP:8080/{path}; /busybox sleep 0.3; done"
    return shell(name, script, env)


def workload(kind, name, containers, **more):
    volumes = [{"name": "usr", "hostPath": {"path": "/usr"}}, {"name": "service", "hostPath": {"path": str(HERE)}}]
    pod = {"metadata": {"labels": {"app": name, "tier": "front"}},
           "spec": {"terminationGracePeriodSeconds": 1, "automountServiceAccountToken": False,
                    "volumes": volumes, "containers": containers}}
    spec = {"selector": {"matchLabels": {"app": name}}, "template": pod, **more}
    return json.dumps({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})


def job_of(name, schedule, container):
    pod = {"spec": {"terminationGracePeriodSeconds": 1, "restartPolicy": "Never", "containers": [container]}}
    spec = {"schedule": schedule, "jobTemplate": {"spec": {"template": pod}}}
    return json.dumps({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name}, "spec": spec})
