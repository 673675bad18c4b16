"""Answers /run/RID/KIND by running commands that carry RID, and /idle/RID by waiting.

A thread beside the requests runs commands of its own (`outside-N`). Logs `rid`, `kind` and how
many programs were executed for it."""

import argparse
import os
import subprocess
import threading
import time

from truth import Handler, Log, Server


def shell(rid):
    subprocess.run(f"/bin/true {rid} 1; /bin/true {rid} 2; :", shell=True, check=True)
    return 3


def system(rid):
    os.system(f"/bin/true {rid} 1; /bin/true {rid} 2; :")
    return 3


def thread(rid):
    runs = []
    worker = threading.Thread(target=lambda: runs.append(shell(rid)))
    worker.start()
    worker.join()
    return runs[0]


def double_fork(rid):
    """The grandchild, whose parent is gone by then, executes."""
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            time.sleep(0.005)
            os.execv("/bin/true", ["/bin/true", rid, "orphan"])
        os._exit(0)
    os.waitpid(child, 0)
    time.sleep(0.02)
    return 1


KINDS = {"shell": shell, "system": system, "thread": thread, "double-fork": double_fork}


class Runner(Handler):
    def do_GET(self):
        _, what, rid, *kind = self.path.split("/")
        if what == "run":
            self.server.log.line(rid=rid, path=self.path, execs=KINDS[kind[0]](rid))
        else:
            time.sleep(0.03)
        self.answer(200, b"done\n")


def outside(log):
    number = 0
    while True:
        subprocess.run(["/bin/true", f"outside-{number}"], check=True)
        log.line(outside=f"outside-{number}")
        number += 1
        time.sleep(0.05)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    server = Server(("127.0.0.1", arguments.port), Runner)
    server.log = Log(arguments.log)
    threading.Thread(target=outside, args=(server.log,), daemon=True).start()
    print("ready")
    server.serve_forever()


main()
