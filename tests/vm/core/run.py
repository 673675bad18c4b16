"""The core scenario of `cargo xtask vm core`, inside a guest.

run.py AGENT GO HOOKS

Starts the programs under test, then the agent with `--hooks HOOKS`, has each check in `checks/` make its
traffic, stops the agent, and has each check judge what was reported. Ends with one line for xtask:

    kernspan-vm-core: {"release", "hooks": {feature: hook}, "checks": {name: {"wrong": [...], "seen": [...]}}}

A check is a module in `checks/`, taken in the order of the names, with
    FEATURE      what it shows, as a row of docs/support.md
    start(bench) starts its programs (optional)
    drive(bench) makes its traffic
    judge(bench, report) gives (wrong, seen): sentences about what is wrong; and lines that say what was
                 reported, without ids, times and ports, which must be equal on every kernel and plan.
A check that needs what this kernel lacks raises `Lacks(reason)`.

A kernel may not show a call to a program that was put off its processor (counted as kernel_skipped; ARCHITECTURE,
known gaps): what is wrong then is accepted, as far as those calls explain it, and said: `"skipped": CALLS`.

xtask tells in the environment where programs of the host that builds are (KERNSPAN_VM_URING,
KERNSPAN_VM_HTTP32, KERNSPAN_VM_GOTLS, KERNSPAN_VM_RUSTLS: `none` without them), and the kernels' files (KERNSPAN_VM_KERNEL).
"""

import importlib
import json
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request

import modules
from report import Report

HERE = pathlib.Path(__file__).resolve().parent
RESULT = "kernspan-vm-core: "
ADMIN = "http://127.0.0.1:18081"


class Lacks(Exception):
    """This kernel cannot have it."""


class Bench:
    """Where a check works: a directory, programs that end with it."""

    def __init__(self, agent, go, hooks):
        self.agent, self.go, self.hooks = agent, go, hooks
        self.work = pathlib.Path(tempfile.mkdtemp())
        self.tree = HERE.parents[2]
        self.children = []
        self.state = {}

    def spawn(self, *command, ready=None, **options):
        """Starts a program; waits until `ready` is there: an HTTP address, a path, or a word that it
        writes."""
        path = self.work / f"{pathlib.Path(command[0]).name}-{len(self.children)}.log"
        log = open(path, "wb")
        child = subprocess.Popen([str(c) for c in command], stdout=log, stderr=log, **options)
        self.children.append(child)
        if ready:
            self.wait_for(ready, child, path)
        return child

    def wait_for(self, ready, child, log):
        for _ in range(600):
            if child.poll() is not None:
                raise SystemExit(f"WRONG: {child.args} ended with {child.returncode}: {self.logs()}")
            if self.is_there(ready, log):
                return
            time.sleep(0.1)
        raise SystemExit(f"WRONG: {child.args} is not ready: {self.logs()}")

    @staticmethod
    def is_there(ready, log):
        ready = str(ready)
        if ready.startswith("/"):
            return os.path.exists(ready)
        if not ready.startswith("http"):
            return ready in log.read_text(errors="replace")
        try:
            context = ssl._create_unverified_context() if ready.startswith("https") else None
            urllib.request.urlopen(ready, timeout=5, context=context).read()
            return True
        except OSError:
            return False

    def until(self, what, condition):
        """Waits for a condition."""
        for _ in range(600):
            if condition():
                return
            time.sleep(0.1)
        raise SystemExit(f"WRONG: {what}: it is not so after a minute: {self.logs()}")

    @staticmethod
    def listens(port):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return True
        except OSError:
            return False

    @staticmethod
    def stop(child):
        child.send_signal(signal.SIGTERM)
        child.wait(20)

    def finish(self, child):
        """Waits for a program's end; it has to end well."""
        if child.wait(120) != 0:
            raise SystemExit(f"WRONG: {child.args} ended with {child.returncode}: {self.logs()}")

    @staticmethod
    def program(variable, what):
        """A program of the host that builds."""
        path = os.environ.get(variable, "none")
        if path == "none":
            raise Lacks(f"{what} was not built")
        return path

    def certificate(self):
        """tls.pem and tls.key in the directory."""
        if not (self.work / "tls.pem").exists():
            self.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                     "-subj", "/CN=localhost", "-keyout", self.work / "tls.key", "-out", self.work / "tls.pem")

    @staticmethod
    def module(name, optional=False):
        """Loads a module of the kernel's, with what it depends on."""
        try:
            modules.load(os.environ.get("KERNSPAN_VM_KERNEL", ""), name)
        except (OSError, LookupError) as error:
            if not optional:
                raise Lacks(f"the kernel has no module {name} ({error})") from error

    def connected(self, port, *command):
        """Runs a program whose descriptors 0 and 1 are a connection to this port."""
        with socket.create_connection(("127.0.0.1", port)) as sock:
            done = subprocess.run([str(c) for c in command], stdin=sock, stdout=sock, timeout=120, check=False)
        if done.returncode != 0:
            raise SystemExit(f"WRONG: {command} ended with {done.returncode}")

    @staticmethod
    def kept(url, count):
        """Arguments of curl for so many requests on one connection."""
        return [part for i in range(count) for part in (("-o", "/dev/null") if i else ()) + (f"{url}{i}",)]

    @staticmethod
    def status():
        return status()

    def hook(self, feature):
        """The hook that a feature got, and why this or none."""
        for one in self.state["hooks"]:
            if one["feature"] == feature:
                return one["hook"], one["why"]
        return None, "the agent does not know it"

    @staticmethod
    def covers(program):
        """The agent reads the TLS that is linked into a program, or names what it does not read: then a check
        cannot be made."""
        tls = status()["tls"]
        for one in tls["uncovered"]:
            if one["path"] == str(program):
                raise Lacks(f"named, not read: {one['library']}")
        return any(one["path"] == str(program) for one in tls["covered"])

    def needs(self, *features):
        for feature in features:
            hook, why = self.hook(feature)
            if hook is None:
                raise Lacks(why)

    def run(self, *command):
        """Runs a program to its end; it has to end well."""
        done = subprocess.run([str(c) for c in command], capture_output=True, timeout=120, check=False)
        if done.returncode != 0:
            raise SystemExit(f"WRONG: {command} ended with {done.returncode}: {done.stderr.decode()}")
        return done.stdout

    def curl(self, *arguments):
        return self.run("curl", "-s", "-f", *arguments)

    def logs(self):
        files = sorted(self.work.glob("*.log"))
        return "\n".join(f"-- {f.name}\n{f.read_text(errors='replace')[-3000:]}" for f in files)

    def end(self):
        for child in reversed(self.children):
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
                try:
                    child.wait(20)
                except subprocess.TimeoutExpired:
                    child.kill()


def status():
    return json.load(urllib.request.urlopen(f"{ADMIN}/status", timeout=10))


def start_agent(bench):
    command = [bench.agent, "run", "--output", f"json:{bench.work}/out.json", "--listen", ADMIN[7:],
               "--flow-logs", "intervals", "--flow-interval", "1s"]
    if bench.hooks != "auto":
        command += ["--hooks", bench.hooks]
    btf = os.environ.get("KERNSPAN_VM_BTF")
    if btf:
        command += ["--btf", btf]
    return bench.spawn(*command, ready=f"{ADMIN}/readyz")


def stop_agent(bench, agent):
    # The last records leave the rings, and traces settle.
    time.sleep(4)
    agent.send_signal(signal.SIGTERM)
    if agent.wait(30) != 0:
        raise SystemExit(f"WRONG: the agent ended with {agent.returncode}: {bench.logs()}")


def attempt(act, lacking, name):
    try:
        act()
    except Lacks as reason:
        lacking[name] = str(reason)


# What one call that was not shown can spoil: its request, both spans of it, and the next on its connection.
SPOILT = 6


def skipped(state):
    """Calls that the kernel did not show to the agent's programs."""
    return sum(one["count"] for one in state["ledger"] if one["stage"] == "kernel_skipped" and one["side"] == "lost")


def judged(bench, check, report, lacks):
    try:
        if lacks:
            raise Lacks(lacks)
        wrong, seen = check.judge(bench, report)
    except Lacks as reason:
        return {"feature": check.FEATURE, "lacks": str(reason)}
    calls = skipped(bench.state)
    if wrong and len(wrong) <= SPOILT * calls:
        print(f"{check.__name__}: {calls} calls were not shown: {wrong}", file=sys.stderr)
        return {"feature": check.FEATURE, "skipped": calls}
    return {"feature": check.FEATURE, "wrong": wrong, "seen": sorted(seen)}


def main():
    agent, go, hooks = sys.argv[1:]
    bench = Bench(agent, go, hooks)
    names = sorted(p.stem for p in (HERE / "checks").glob("*.py") if p.stem != "__init__")
    checks = {name: importlib.import_module(f"checks.{name}") for name in names}
    lacking, result = {}, {}
    try:
        for name, check in checks.items():
            if hasattr(check, "start"):
                attempt(lambda check=check: check.start(bench), lacking, name)
        child = start_agent(bench)
        bench.state = status()
        for name, check in checks.items():
            if name not in lacking:
                began = time.monotonic()
                attempt(lambda check=check: check.drive(bench), lacking, name)
                print(f"{name}: {time.monotonic() - began:.1f} s", file=sys.stderr)
        bench.state = state = status()
        stop_agent(bench, child)
        report = Report(bench.work / "out.json")
        for name, check in checks.items():
            result[name] = judged(bench, check, report, lacking.get(name))
    finally:
        bench.end()
    hooks = {h["feature"]: (h["hook"] or "off").split(":")[0] for h in state["hooks"]}
    failed = [f"{name}: {text}" for name, found in result.items() for text in found.get("wrong", [])]
    for text in failed:
        print(f"WRONG: {text}")
    if failed:
        print(bench.logs())
    print(RESULT + json.dumps({"release": os.uname().release, "hooks": hooks, "checks": result}))
    sys.exit(bool(failed))


if __name__ == "__main__":
    # Checks import what is here by its name.
    sys.modules["run"] = sys.modules["__main__"]
    main()
