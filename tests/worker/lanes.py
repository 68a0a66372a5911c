#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A trainer of groups for the tests of the worker: takes several trials in one `start` and goes through
their steps side by side. What a trial does is its parameter "mode". LANES is how many it takes (0: it knows
nothing of groups), LANES_ROOM how many of them it has room for; PROGRAM_NOTES and PROGRAM_STEP_MS as in
program.py."""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from program import STEP, Channel, note  # noqa: E402

LANES = int(os.environ.get("LANES", "16"))
ROOM = int(os.environ.get("LANES_ROOM", str(LANES or 1)))


class Lane:
    def __init__(self, ch, m):
        self.ch, self.trial, self.params = ch, m["trial"], m["params"]
        self.mode = self.params.get("mode", "steps")
        self.budget, self.folder, self.step, self.order = m["budget"] or 5, m["checkpoint_dir"], 0, None
        if m["resume_from"]:
            with open(os.path.join(m["resume_from"]["path"], "state")) as f:
                self.step = int(f.read())

    def say(self, kind, **fields):
        self.ch.send(kind, trial=self.trial, **fields)

    def save(self):
        folder = os.path.join(self.folder, str(self.step))
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "state"), "w") as f:
            f.write(str(self.step))
        self.say("checkpoint", step=self.step, path=folder)

    def end(self, status):
        self.say("result", status=status)
        return True

    def go(self):
        """One step; true at its end."""
        if self.order == "stop" and self.mode != "deaf":
            return self.end("stopped")
        self.step += 1
        value = float(self.step)
        if self.mode == "nan" and self.step == 2:
            value = float("nan")
        if self.mode == "crash" and self.step == 2:
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.mode == "error" and self.step == 2:
            self.say("error", reason="the shapes 3 and 4 do not fit", cause="configuration")
            return True
        if self.mode == "garbage" and self.step == 2:
            os.write(self.ch.fd, b"this is no JSON\n")
        if self.step <= self.budget:
            self.say("report", step=self.step, metrics={"value": value})
            self.save()
        if self.order == "pause":
            return self.end("paused")
        return self.step >= self.budget and self.mode not in ("deaf", "endless") and self.end("completed")


def read_orders(ch, lanes):
    while (m := ch.next(wait=False)) is not None:
        if m["type"] == "exit":
            sys.exit(0)
        for lane in lanes:
            if lane.trial == m.get("trial"):
                lane.order = m["type"]


def run(ch, starts):
    note("groups", {"pid": os.getpid(), "trials": [m["trial"] for m in starts],
                    "resume": [m["resume_from"] and m["resume_from"]["step"] for m in starts],
                    "params": [m["params"] for m in starts]})
    for m in starts[ROOM:]:
        ch.send("declined", trial=m["trial"], lanes=ROOM)
    lanes = [Lane(ch, m) for m in starts[:ROOM]]
    print("a group of", len(lanes), flush=True)
    while lanes:
        time.sleep(STEP)
        read_orders(ch, lanes)
        lanes = [lane for lane in lanes if not lane.go()]


def main():
    ch = Channel()
    ready = {"lanes": LANES} if LANES else {}
    ch.send("ready", **ready)
    while True:
        m = ch.next()
        if m["type"] == "exit":
            sys.exit(0)
        if m["type"] == "start":
            run(ch, m.get("trials", [m]))
            ch.send("ready", **ready)


main()
