"""What a node changes on the machine that it runs on, and all of it undone.

To be used in network and mount namespaces of its own (`unshare --net --mount`), which take links,
addresses and mounts with them. Process numbers are the host's: an agent that watches the node has
to see all of them. So processes are ended by the cgroups in which they were started.
"""

import ctypes, os, pathlib, re, shutil, signal, subprocess, tempfile, time

CGROUPS = pathlib.Path("/sys/fs/cgroup")
PREFIX = "kernspan-k8s-"

# What a kubelet sets for the whole machine: it writes to copies.
SYSCTLS = [
    "vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
]

# Where kubelet, containerd and plugins write, whatever they are told.
DIRECTORIES = [
    "/var/lib/cni", "/var/lib/kubelet", "/opt/cni", "/run/containerd", "/run/netns", "/var/log/pods",
    "/var/log/containers",
]


def hierarchies():
    """Roots of cgroup hierarchies: one of version 2, or several."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    # Links stand for hierarchies of two controllers.
    return [path for path in CGROUPS.iterdir() if path.is_dir() and not path.is_symlink()]


def run(*words, **options):
    done = subprocess.run([str(word) for word in words], text=True, capture_output=True, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, words))}: {done.stdout}{done.stderr}")
    return done.stdout


class Machine:
    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self.cgroup = f"{PREFIX}{os.getpid()}"
        # Not where a cgroup has to be told its processors before it takes a process.
        root = next(root for root in hierarchies() if root.name != "cpuset")
        self.daemons = root / f"{self.cgroup}.daemons"
        self.made = []

    def prepare(self):
        sweep()
        self.daemons.mkdir()
        for root in hierarchies():
            own = root / self.cgroup
            own.mkdir(exist_ok=True)
            for name in ("cpuset.cpus", "cpuset.mems"):
                if root.name == "cpuset":
                    (own / name).write_text((root / name).read_text())
        for path in DIRECTORIES:
            if not os.path.isdir(path):
                self.made.append(path)
                os.makedirs(path)
            run("mount", "-t", "tmpfs", "none", path)
        for name in SYSCTLS:
            real, copy = f"/proc/sys/{name}", self.dir / name.replace("/", ".")
            copy.write_text(pathlib.Path(real).read_text())
            run("mount", "--bind", copy, real)

    def start(self, words, log, env):
        """A program, in the cgroup by which it and all that it starts are found at the end."""
        enter = lambda: (self.daemons / "cgroup.procs").write_text(str(os.getpid()))
        return subprocess.Popen(words, stdout=log, stderr=log, env=env, start_new_session=True, preexec_fn=enter)

    def restore(self):
        end_cgroups(self.cgroup)
        bury()
        for line in reversed(pathlib.Path("/proc/self/mountinfo").read_text().splitlines()):
            at = line.split()[4]
            if at.startswith(f"{self.dir}/") or at in DIRECTORIES:
                subprocess.run(["umount", "--lazy", at], check=False)
        for path in self.made:
            os.rmdir(path)
        shutil.rmtree(self.dir)


def end_cgroups(name):
    """Ends what is in cgroups of this run, and removes them."""
    tops = [top for root in hierarchies() for top in (root / name, root / f"{name}.daemons") if top.is_dir()]
    end = time.time() + 30
    while tops:
        for top in tops:
            for group in sorted([top, *filter(pathlib.Path.is_dir, top.rglob("*"))], key=lambda path: -len(path.parts)):
                for pid in (group / "cgroup.procs").read_text().split():
                    try:
                        os.kill(int(pid), signal.SIGKILL)
                    except ProcessLookupError:
                        pass
                try:
                    group.rmdir()
                except OSError:
                    pass  # what was killed has not ended yet
        tops = [top for top in tops if top.is_dir()]
        if tops and time.time() > end:
            raise RuntimeError(f"cgroups stay behind: {tops}")
        time.sleep(0.1)


def bury():
    """Takes the exit codes of all that has ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def sweep():
    """What a run left behind that was killed: its number is in the names."""
    groups = [path for root in hierarchies() for path in root.glob(f"{PREFIX}*")]
    directories = list(pathlib.Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))
    for path in groups + directories:
        number = re.match(rf"{PREFIX}(\d+)", path.name)
        if number and not os.path.exists(f"/proc/{number[1]}"):
            print(f"{path}: left behind by a run that was killed", flush=True)
            end_cgroups(f"{PREFIX}{number[1]}")
            if path in directories:
                shutil.rmtree(path)


def end_with_parent():
    """Whoever started this may be killed: then it ends too, and cleans up. Children of its children
    that outlive those are its own to bury, since not every machine's first process does."""
    PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)

    def ended(*_):
        raise SystemExit("ended by a signal")

    signal.signal(signal.SIGTERM, ended)


def ignore_signals():
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
