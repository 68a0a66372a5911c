#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kill anything at any time: nothing acknowledged is lost, no decision is revised, nothing stays stuck.

The first half drives the driver over REST in a fixed order of events, kills it at named fault points and
compares with an undisturbed run of the same seed. The second half kills drivers, workers and trial
programs under a real search.
"""
import http.client
import json
import math
import os
import random
import signal
import sqlite3
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness
from harness import wait_until

SPACE = {
    "lr": {"type": "DOUBLE", "range": [1e-4, 1e-1], "scale": "log"},
    "units": {"type": "INTEGER", "range": [16, 128], "step": 16},
    "kind": {"type": "CATEGORICAL", "values": ["a", "b", "c"]},
    "momentum": {"type": "DOUBLE", "range": [0.0, 0.9], "when": {"kind": ["a"]}},
}
GRID = {"units": {"type": "INTEGER", "range": [1, 6]}, "kind": {"type": "CATEGORICAL", "values": ["a", "b", "c", "d"]}}

SEARCHES = {
    "random": {"searchspace": SPACE, "optimizer": {"algorithm": "random"}, "limits": {"trials": 40}},
    "grid": {"searchspace": GRID, "optimizer": {"algorithm": "grid"}},
    "de": {"searchspace": SPACE, "optimizer": {"algorithm": "de", "population": 8}, "limits": {"trials": 40}},
    "asha": {"searchspace": SPACE, "optimizer": {"algorithm": "asha", "reduction_factor": 3}, "limits": {"trials": 30},
             "resource": {"unit": "epoch", "min": 1, "max": 9}},
    "hyperband": {"searchspace": SPACE, "optimizer": {"algorithm": "hyperband", "reduction_factor": 3}, "limits": {"trials": 30},
                  "resource": {"unit": "epoch", "min": 1, "max": 9}},
}

# Where a driver dies: before a commit reaches the disk, after it and before any reply, after a reply.
DRIVER_POINTS = ["store.commit", "store.committed", "driver.reply"]


def objective(params, step):
    """A learning curve that depends on the point alone."""
    lr = -math.log10(params.get("lr", 0.01))
    x = 0.8 - 0.1 * abs(lr - 2.5) + params["units"] / 2000 + {"a": 0.03, "b": 0.0, "c": -0.02, "d": 0.01}[params["kind"]]
    return x * (1 - 0.5 ** (step or 4)) + 0.01 * params.get("momentum", 0.5)


class Survivor:
    """A client that asks again, word for word, until the driver answers; the driver is started again
    whenever it is found dead, with the next fault armed."""

    def __init__(self, case, faults):
        self.case, self.faults, self.deaths = case, iter(faults), 0
        self.d = case.driver(env=self.next_env())

    def next_env(self):
        fault = next(self.faults, None)
        return {"MAGPIE_FAULTS": fault} if fault else {}

    def call(self, method, path, body=None):
        while True:
            try:
                return self.d.call(method, path, body)
            except (OSError, http.client.HTTPException) as e:
                if isinstance(e, harness.HttpError):
                    raise
                self.d.wait()
                self.deaths += 1
                self.d = self.d.restart(env=self.next_env())


def drive(case, spec, faults):
    """Runs a search to its end in a fixed order of events: four virtual workers take turns."""
    s = Survivor(case, faults)
    body = dict(spec, name="fixed-order", seed=7, objective={"metric": "acc", "direction": "max"}, request="submit", client="c")
    wire = {k: v for k, v in body.items() if k not in ("request", "client")}
    x = s.call("POST", "/api/v1/experiments?client=c&request=submit", wire)["id"]
    base = f"/api/v1/experiments/{x}"
    slots, asked, idle = [None] * 4, 0, 0
    while True:
        progressed = False
        for i in range(4):
            if slots[i] is None:
                asked += 1
                a = s.call("POST", base + "/ask", {"count": 1, "client": "c", "request": f"ask-{asked}", "lease": "0"})
                if a["trials"]:
                    t = a["trials"][0]
                    slots[i] = (t, (t["resume_from"] or {"step": 0})["step"])
                elif a["state"] == "done" and not any(slots):
                    return s, x
                else:
                    continue
            progressed = True
            slots[i] = advance(s, base, *slots[i])
        idle = 0 if progressed else idle + 1
        case.assertLess(idle, 3, "the search is stuck")


def advance(s, base, t, step):
    """One report (or the tell) of a virtual worker; returns the slot's next content."""
    where = f"{base}/trials/{t['trial']}"
    step += 1
    if t["budget"] is not None:
        value = objective(t["params"], step)
        r = s.call("POST", where + "/report", {"attempt": t["attempt"], "metrics": [{"step": step, "value": value}],
                                               "checkpoint": {"step": step, "uri": f"mem:{step}"}})
        if r["action"] != "continue":
            return None
        if step < t["budget"]:
            return (t, step)
    value = objective(t["params"], t["budget"] and step)
    s.call("POST", where + "/tell", {"attempt": t["attempt"], "state": "completed", "value": value})
    return None


def facts(d, x):
    """What a search decided and learned, without times."""
    keys = ("trial", "attempt", "state", "params", "budget", "step", "value", "failures", "losses")
    return [{k: t[k] for k in keys} for t in d.trials(x)]


class FixedOrder(harness.Case):
    def compare(self, name, seed):
        spec = SEARCHES[name]
        calm, cx = drive(self, spec, [])
        want = facts(calm.d, cx)
        best = calm.d.get(f"/api/v1/experiments/{cx}/best")
        calm.d.stop()
        self.assertGreaterEqual(len(want), 20)
        rng = random.Random(seed)
        faults = [f"{rng.choice(DRIVER_POINTS)}:{rng.randint(2, 16)}=kill" for _ in range(12)]
        os.rename(self.path("data"), self.path("calm"))
        wild, wx = drive(self, spec, faults)
        self.assertGreaterEqual(wild.deaths, 3, "too few deaths to prove anything")
        self.assertEqual(facts(wild.d, wx), want)
        again = wild.d.get(f"/api/v1/experiments/{wx}/best")
        self.assertEqual((again["trial"], again["value"]), (best["trial"], best["value"]))
        wild.d.stop()
        verdict = json.loads(self.magpie("verify", str(wx), "--data", self.path("data"), "--json").stdout())
        self.assertTrue(verdict["verified"], verdict)

    def test_random_search_killed_equals_undisturbed(self):
        self.compare("random", 1)

    def test_grid_search_killed_equals_undisturbed(self):
        self.compare("grid", 2)

    def test_differential_evolution_killed_equals_undisturbed(self):
        self.compare("de", 3)

    def test_asha_killed_equals_undisturbed(self):
        self.compare("asha", 4)

    def test_hyperband_killed_equals_undisturbed(self):
        self.compare("hyperband", 5)


PROGRAM = r"""
import json, os, sys, time, math
p = json.load(open(os.environ["MAGPIE_PARAMS"]))
budget = int(os.environ["MAGPIE_BUDGET"])
cp = os.environ["MAGPIE_CHECKPOINT_DIR"]
log = open(os.environ["CRASH_LOG"], "a")
start = 0
if os.environ.get("MAGPIE_RESUME_FROM"):
    start = json.load(open(os.path.join(os.environ["MAGPIE_RESUME_FROM"], "state.json")))["step"]
log.write(json.dumps({"trial": int(os.environ["MAGPIE_TRIAL"]), "attempt": int(os.environ["MAGPIE_ATTEMPT"]),
                      "pid": os.getpid(), "start": start, "budget": budget}) + "\n"); log.flush()
for step in range(start + 1, budget + 1):
    time.sleep(float(os.environ.get("CRASH_STEP", "0.05")))
    print("::magpie", json.dumps({"step": step, "metrics": {"acc": (1 - 0.5 ** step) * p["x"]}}), flush=True)
    d = os.path.join(cp, str(step)); os.makedirs(d, exist_ok=True)
    with open(os.path.join(d, "state.json"), "w") as f: json.dump({"step": step}, f)
    print("::magpie", json.dumps({"checkpoint": step}), flush=True)
log.write(json.dumps({"trial": int(os.environ["MAGPIE_TRIAL"]), "attempt": int(os.environ["MAGPIE_ATTEMPT"]),
                      "end": budget}) + "\n"); log.flush()
"""

FAST = ["--heartbeat", "300ms", "--lease", "1500ms"]


class UnderLoad(harness.Case):
    """A real search by workers and a user's program; whatever is killed, it ends, and rightly."""

    def search(self, trials=12, budget=6, algorithm="random", step="0.05", **limits):
        program = self.write("program.py", PROGRAM)
        self.log = self.path("runs.jsonl")
        self.env = {"CRASH_LOG": self.log, "CRASH_STEP": step}
        return {
            "name": "killed", "seed": 3, "objective": {"metric": "acc", "direction": "max"},
            "searchspace": {"x": {"type": "DOUBLE", "range": [0.1, 1.0]}},
            "optimizer": {"algorithm": algorithm}, "resource": {"unit": "epoch", "min": 1, "max": budget},
            "limits": dict({"trials": trials}, **limits),
            "trial": {"command": [sys.executable, program]},
        }

    def runs(self):
        if not os.path.exists(self.log):
            return []
        with open(self.log) as f:
            return [json.loads(line) for line in f if line.endswith("\n")]

    def check_end(self, d, x, trials):
        """Completed, every trial once and whole, and the record derives to the same decisions."""
        d.wait_state(x, timeout=120)
        got = d.trials(x)
        self.assertEqual(len(got), trials)
        for t in got:
            self.assertIn(t["state"], ("completed", "paused"), t)
        ends = {}
        for r in self.runs():
            if "end" in r:
                ends.setdefault((r["trial"], r["end"]), []).append(r["attempt"])
        self.verify(x)
        return got, ends

    def verify(self, x):
        v = json.loads(self.magpie("verify", str(x), "--data", self.path("data"), "--json").stdout())
        self.assertTrue(v["verified"], v)

    def test_driver_killed_again_and_again_readopts_running_trials(self):
        spec = self.search(trials=16, budget=8, step="0.15")
        d = self.driver(*FAST)
        for _ in range(2):
            self.worker(d, "--slots", "2", env=self.env)
        x = d.submit(spec)
        rng = random.Random(11)
        for kill in range(4):
            done = d.experiment(x)["counts"]["completed"]
            wait_until(lambda: d.experiment(x)["counts"]["completed"] > done and d.experiment(x)["counts"]["running"] > 0, 60)
            acknowledged = {t["trial"]: t for t in d.trials(x) if t["state"] == "completed"}
            d.kill()
            d = d.restart()
            now = {t["trial"]: t for t in d.trials(x)}
            for n, t in acknowledged.items():
                self.assertEqual((now[n]["state"], now[n]["value"], now[n]["params"]), (t["state"], t["value"], t["params"]))
        got, ends = self.check_end(d, x, 16)
        self.assertTrue(all(t["attempt"] == 1 for t in got), "a driver's restart raises no attempt")
        self.assertTrue(all(len(a) == 1 for a in ends.values()), f"run twice to completion: {ends}")

    def test_driver_killed_at_every_fault_point_under_workers(self):
        spec = self.search(trials=14, budget=3, step="0.05")
        rng = random.Random(5)
        point = lambda: {"MAGPIE_FAULTS": f"{rng.choice(DRIVER_POINTS)}:{rng.randint(3, 10)}=kill"}
        d = self.driver(*FAST)
        x = d.submit(spec)
        d.stop()
        d = d.restart(env=point())
        for _ in range(2):
            self.worker(d, "--slots", "2", env=self.env)
        deaths = 0

        def ended():
            nonlocal d, deaths
            if not d.alive():
                deaths += 1
                d = d.restart(env=point() if deaths < 8 else {})
            try:
                return d.experiment(x)["state"] == "completed"
            except (OSError, http.client.HTTPException):
                return False

        wait_until(ended, 120)
        if not d.alive():
            d = d.restart(env={})
        self.assertGreaterEqual(deaths, 2)
        got, ends = self.check_end(d, x, 14)
        self.assertTrue(all(len(a) == 1 for a in ends.values()), f"run twice to completion: {ends}")

    def test_worker_killed_goes_on_from_last_checkpoint_in_time(self):
        spec = self.search(trials=2, budget=30, step="0.15")
        d = self.driver(*FAST)
        w = self.worker(d, "--slots", "2", env=self.env)
        x = d.submit(spec)
        wait_until(lambda: [t["step"] or 0 for t in d.trials(x)] and min((t["step"] or 0) for t in d.trials(x)) >= 4, 60)
        other = self.worker(d, "--slots", "2", env=self.env)
        wait_until(lambda: len(d.get("/api/v1/workers")["workers"]) == 2)
        started = len([r for r in self.runs() if "start" in r])
        w.kill()
        # lease 1.5 s, then at most 2 heartbeats of 0.3 s until it runs again; the rest is patience
        wait_until(lambda: len([r for r in self.runs() if "start" in r]) >= started + 2, 10)
        for r in [r for r in self.runs() if "start" in r][started:]:
            self.assertEqual(r["attempt"], 2)
            self.assertGreaterEqual(r["start"], 3, "not from the last checkpoint")
        got, ends = self.check_end(d, x, 2)
        # A worker that is not scheduled for a lease's time loses its trials too, and takes them back: a second loss,
        # but no attempt more.
        self.assertEqual([t["attempt"] for t in got], [2, 2])
        self.assertTrue(all(t["losses"] >= 1 for t in got), got)
        self.assertTrue(other.alive())

    def test_trial_program_killed_is_retried_from_checkpoint(self):
        spec = self.search(trials=2, budget=20, step="0.15")
        d = self.driver(*FAST)
        self.worker(d, "--slots", "2", env=self.env)
        x = d.submit(spec)
        wait_until(lambda: any((t["step"] or 0) >= 4 for t in d.trials(x)), 60)
        victim = [r for r in self.runs() if "start" in r][0]
        os.kill(victim["pid"], signal.SIGKILL)
        got, _ = self.check_end(d, x, 2)
        t = [t for t in got if t["trial"] == victim["trial"]][0]
        self.assertEqual((t["failures"], t["attempt"]), (1, 2))
        again = [r for r in self.runs() if "start" in r and r["trial"] == victim["trial"]][1]
        self.assertGreaterEqual(again["start"], 1)

    def test_nothing_of_a_killed_worker_stays_behind(self):
        spec = self.search(trials=4, budget=200, step="0.2")
        d = self.driver(*FAST)
        w = self.worker(d, "--slots", "4", env=self.env)
        x = d.submit(spec)
        wait_until(lambda: len([r for r in self.runs() if "start" in r]) == 4, 60)
        pids = [r["pid"] for r in self.runs() if "start" in r]
        w.kill()

        def gone(pid):
            try:
                with open(f"/proc/{pid}/stat") as f:
                    return f.read().rsplit(")", 1)[1].split()[0] == "Z"
            except FileNotFoundError:
                return True

        wait_until(lambda: all(gone(p) for p in pids), 15, "the killed worker's programs to be gone")


if __name__ == "__main__":
    harness.main()
