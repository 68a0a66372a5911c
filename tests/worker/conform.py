#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The conformance program in Python, from PROTOCOL.md, section 3, alone: `conform.py executor`, or `conform.py MODE` as a
command. What each MODE does: tests/worker/test_conformance.py."""
import json
import os
import select
import signal
import socket
import sys
import time


class Printer:
    """A command: lines out, SIGTERM in."""

    def __init__(self):
        self.told = None
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "told", "stopped"))

    def raw(self, text):
        print(text, flush=True)

    def report(self, step):
        self.raw("::magpie " + json.dumps({"step": step, "metrics": {"value": step}}))

    def checkpoint(self, step, path):
        self.raw("::magpie " + json.dumps({"checkpoint": step}))

    def unknown(self):
        self.raw('::magpie {"sun": true}')

    def error(self):
        sys.exit(78)

    def orders(self):
        return self.told


class Channel:
    """An executor: JSON lines both ways."""

    def __init__(self):
        self.socket = socket.socket(fileno=int(os.environ["MAGPIE_FD"]))
        self.rest, self.trial = b"", None

    def raw(self, text):
        self.socket.sendall(text.encode() + b"\n")

    def say(self, kind, **fields):
        self.raw(json.dumps({"type": kind, **fields}))

    def report(self, step):
        self.say("report", trial=self.trial, step=step, metrics={"value": step})

    def checkpoint(self, step, path):
        self.say("checkpoint", trial=self.trial, step=step, path=path)

    def unknown(self):
        self.say("weather", sun=True)

    def error(self):
        self.say("error", trial=self.trial, cause="configuration", reason="no such shape")

    def hear(self):
        while b"\n" not in self.rest:
            more = self.socket.recv(65536)
            if not more:
                sys.exit(0)
            self.rest += more
        line, self.rest = self.rest.split(b"\n", 1)
        message = json.loads(line)
        if message["type"] == "exit":
            sys.exit(0)
        return message

    def orders(self):
        told = None
        while b"\n" in self.rest or select.select([self.socket], [], [], 0)[0]:
            told = {"stop": "stopped", "pause": "paused"}[self.hear()["type"]]
        return told


def count_up(out, budget, resume, folder, seconds):
    for step in range(resume + 1, (budget or 3) + 1):
        out.report(step)
        path = os.path.join(folder, str(step))
        os.makedirs(path)
        with open(os.path.join(path, "step"), "w") as f:
            f.write(str(step))
        out.checkpoint(step, path)
        time.sleep(seconds)
        told = out.orders()
        if told:
            return told
    return "completed"


def run(out, mode, budget, resume, folder):
    """How it ended; None: that is said already."""
    if mode in ("steps", "slow"):
        return count_up(out, budget, resume, folder, {"steps": 0.005, "slow": 0.05}[mode])
    if mode == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        step = 0
        while True:
            step += 1
            out.report(step)
            time.sleep(0.05)
    if mode == "garbage":
        out.raw("no JSON at all {")
    elif mode == "long":
        out.raw("x" * 3000000)
    elif mode == "unknown":
        out.unknown()
    elif mode in ("early", "temporary", "configuration"):
        sys.exit({"early": 0, "temporary": 75, "configuration": 78}[mode])
    elif mode == "error":
        out.error()
        return None
    out.report(1)
    return "completed"


def read_step(folder):
    if not folder:
        return 0
    with open(os.path.join(folder, "step")) as f:
        return int(f.read())


def main():
    if sys.argv[1] != "executor":
        e = os.environ
        status = run(Printer(), sys.argv[1], int(e.get("MAGPIE_BUDGET", "0")), read_step(e.get("MAGPIE_RESUME_FROM")),
                     e["MAGPIE_CHECKPOINT_DIR"])
        sys.exit(0 if status == "completed" else 1)
    ch = Channel()
    ch.say("ready", versions={"conform": "py"})
    while True:
        m = ch.hear()
        if m["type"] != "start":
            continue
        ch.trial = m["trial"]
        resume = m["resume_from"]
        status = run(ch, m["params"]["mode"], m["budget"], read_step(resume and resume["path"]), m["checkpoint_dir"])
        if status is not None:
            ch.say("result", trial=ch.trial, status=status)
        ch.say("ready")


main()
