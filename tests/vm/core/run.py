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
A check that needs what this kernel lacks raises `Lacks(reason)` in start or drive.
"""

import importlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

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
        self.children = []

    def spawn(self, *command, ready=None, **options):
        """Starts a program; waits until `ready`, an HTTP address or a path, is there."""
        log = open(self.work / f"{pathlib.Path(command[0]).name}-{len(self.children)}.log", "wb")
        child = subprocess.Popen([str(c) for c in command], stdout=log, stderr=log, **options)
        self.children.append(child)
        if ready:
            self.wait_for(ready, child)
        return child

    def wait_for(self, ready, child):
        for _ in range(600):
            if child.poll() is not None:
                raise SystemExit(f"WRONG: {child.args} ended with {child.returncode}: {self.logs()}")
            if self.is_there(ready):
                return
            time.sleep(0.1)
        raise SystemExit(f"WRONG: {child.args} is not ready: {self.logs()}")

    @staticmethod
    def is_there(ready):
        if not str(ready).startswith("http"):
            return os.path.exists(ready)
        try:
            urllib.request.urlopen(ready, timeout=5).read()
            return True
        except OSError:
            return False

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
    command = [bench.agent, "run", "--output", f"json:{bench.work}/out.json", "--listen", ADMIN[7:]]
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
        for name, check in checks.items():
            if name not in lacking:
                attempt(lambda check=check: check.drive(bench), lacking, name)
        state = status()
        stop_agent(bench, child)
        report = Report(bench.work / "out.json")
        for name, check in checks.items():
            if name in lacking:
                result[name] = {"feature": check.FEATURE, "lacks": lacking[name]}
                continue
            wrong, seen = check.judge(bench, report)
            result[name] = {"feature": check.FEATURE, "wrong": wrong, "seen": sorted(seen)}
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
