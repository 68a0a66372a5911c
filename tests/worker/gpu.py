#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A trainer on a pretend GPU, for the tests of the worker: a file stands for the GPU's memory, programs take from
it under a lock, and what a dead one held is free again, as with a driver. Trials take `need` MB (what they say)
and `takes` (what they really take, when it differs); GPU_MEMORY names the file, GPU_TOTAL its MB; `hold` names
a file that a trial waits for before its last step."""
import contextlib
import fcntl
import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from program import STEP, Channel, note  # noqa: E402

PATH = os.environ["GPU_MEMORY"]
TOTAL = int(os.environ.get("GPU_TOTAL", "10000"))
CONTEXT = int(os.environ.get("GPU_CONTEXT", "0"))  # that a process holds between trials, too


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


@contextlib.contextmanager
def memory():
    with open(PATH, "a+") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        f.seek(0)
        held = {p: n for p, n in json.loads(f.read() or "{}").items() if p == "foreign" or alive(int(p))}
        yield held
        f.seek(0)
        f.truncate()
        f.write(json.dumps(held))


def hold(mb):
    """False: there is not so much."""
    with memory() as held:
        others = sum(n for p, n in held.items() if p != str(os.getpid()))
        if others + mb > TOTAL:
            return False
        held[str(os.getpid())] = mb
        trials = sum(n > CONTEXT for p, n in held.items() if p != "foreign")
    note("held", {"trials": trials, "mb": others + mb, "pid": os.getpid()})
    return True


def free():
    with memory() as held:
        return TOTAL - sum(held.values())


def end(ch, trial, status):
    ch.send("result", trial=trial, status=status)


def ask(ch, trial, need):
    """None, or how the trial was told to end before it began."""
    ch.send("needs", trial=trial, need_mb=need, data_mb=0, free_mb=free(), total_mb=TOTAL)
    while True:
        m = ch.next()
        if m["type"] == "exit":
            sys.exit(0)
        if m["type"] == "go":
            note("go", {"trial": trial, "pid": os.getpid()})
            return None
        if m["type"] == "memory":
            ch.send("needs", trial=trial, need_mb=need, data_mb=0, free_mb=free(), total_mb=TOTAL)
        elif m.get("trial") == trial:
            return {"stop": "stopped", "pause": "paused"}.get(m["type"])


def run(ch, m):
    trial, params = m["trial"], m["params"]
    need = params.get("need", 4000)
    note("asked", {"trial": trial, "admit": m.get("admit")})
    ended = ask(ch, trial, need) if m.get("admit") else None
    if ended:
        return end(ch, trial, ended)
    if need > TOTAL:
        return ch.send("error", trial=trial, cause="out-of-memory", retry=False,
                       reason=f"out of memory: the model needs {need} MB; of the GPU's {TOTAL} MB, {free()} MB are free")
    if not hold(CONTEXT + params.get("takes", need)):
        return ch.send("error", trial=trial, cause="out-of-memory",
                       reason=f"the GPU has no room: {params.get('takes', need)} MB are needed, {free()} MB are free")
    if m.get("admit"):
        ch.send("memory", trial=trial, free_mb=free(), total_mb=TOTAL)
    for step in range(1, (m["budget"] or 5) + 1):
        time.sleep(STEP)
        ch.send("report", trial=trial, step=step, metrics={"value": float(step)})
        while step == 1 and params.get("hold") and not os.path.exists(params["hold"]):
            order = ch.next(wait=False)
            if order and order["type"] in ("stop", "pause") or order and order["type"] == "exit":
                hold(CONTEXT)
                return end(ch, trial, "stopped" if order["type"] == "stop" else "paused")
            time.sleep(0.01)
    hold(CONTEXT)
    return end(ch, trial, "completed")


def main():
    ch = Channel()
    hold(CONTEXT)
    ch.send("ready", admits=True)
    while True:
        m = ch.next()
        if m["type"] == "exit":
            sys.exit(0)
        if m["type"] == "start":
            run(ch, m)
            ch.send("ready", admits=True)


main()
