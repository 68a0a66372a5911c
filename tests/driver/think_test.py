#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Slow optimizers: while one suggestion is computed on the optimizer thread everything else goes on, events of that
experiment wait in order, and the record is the one that a driver which waits would have written."""
import json
import os
import signal
import sqlite3
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness
from harness import wait_until

X = "/api/v1/experiments/1"
Y = "/api/v1/experiments/2"
PROGRAM = os.path.join(harness.ROOT, "examples", "quadratic.py")


def spec(**more):
    return {"name": "slow", "objective": {"metric": "loss", "direction": "min"}, "seed": 5,
            "searchspace": {"x": {"type": "DOUBLE", "range": [-10, 10]}, "y": {"type": "DOUBLE", "range": [-10, 10]}},
            "optimizer": {"algorithm": "random"}, "limits": {"trials": 100}, **more}


def slow(ms, which=""):
    """The experiment (the first one made, or all with '*') whose every suggestion takes so long."""
    return {"MAGPIE_FAULTS": f"driver.slow=fail{which},driver.think=sleep{ms}*"}


class Case(harness.Case):
    def later(self, d, *call):
        """The call on a thread: its answer is in the list that comes back."""
        out = []

        def run():
            try:
                code, _, body = d.raw(*call)
                out.append((code, json.loads(body) if body else None))
            except OSError as e:
                out.append((0, str(e)))

        t = threading.Thread(target=run, daemon=True)
        t.start()
        self.addCleanup(t.join, 30)
        return out

    def thinks(self, d):
        """Waits until the driver computes a suggestion: the thread of that name sleeps in it."""
        def parked():
            pause = [t for t in os.listdir(f"/proc/{d.pid}/task") if self.thread(d, t) == ("optimizer", "poll")]
            return bool(pause)

        wait_until(parked, what="the optimizer thread to compute")

    def thread(self, d, t):
        try:
            with open(f"/proc/{d.pid}/task/{t}/comm") as f:
                name = f.read().strip()
            with open(f"/proc/{d.pid}/task/{t}/syscall") as f:
                number = f.read().split()[0]
        except OSError:
            return None
        return name, "poll" if number in ("7", "73", "271") else number  # poll, ppoll of x86-64 and arm64

    def metric(self, d, name):
        text = d.raw("GET", "/metrics")[2].decode()
        return float([line.split()[1] for line in text.splitlines() if line.startswith(f"magpie_{name} ")][0])

    def loop_never_waited(self, d):
        self.assertEqual(self.metric(d, "loop_waits_total"), 0)

    def events(self, d):
        db = sqlite3.connect(f"file:{d.data}/magpie.db?mode=ro", uri=True)
        try:
            return db.execute("select kind, trial from events where id >> 36 = 1 order by id").fetchall()
        finally:
            db.close()

    def verify(self, d, i=1):
        v = json.loads(self.magpie("verify", str(i), "--data", d.data, "--json").stdout())
        self.assertTrue(v["verified"], v)


class Clients(Case):
    def test_everything_else_goes_on(self):
        d = self.driver(env=slow(2000))
        d.submit(spec())
        d.submit(spec(name="quick"))
        first = self.later(d, "POST", X + "/ask", {"client": "c"})
        self.thinks(d)
        begun, slowest = time.monotonic(), 0
        for k in range(1, 21):
            for method, path, body in (("POST", Y + "/ask", {}), ("GET", "/healthz", None), ("GET", X, None),
                                       ("POST", f"{Y}/trials/{k}/tell", {"attempt": 1, "state": "completed", "value": k}),
                                       ("GET", X + "/trials", None), ("GET", "/api/v1/experiments", None)):
                at = time.monotonic()
                self.assertEqual(d.raw(method, path, body)[0], 200, path)
                slowest = max(slowest, time.monotonic() - at)
        if time.monotonic() - begun < 1.5:  # else this machine was too busy to tell
            self.assertEqual(first, [], "the suggestion was there before")
            self.assertLess(slowest, 0.5)
        wait_until(lambda: first)
        self.assertEqual((first[0][0], [t["trial"] for t in first[0][1]["trials"]]), (200, [1]))
        self.loop_never_waited(d)
        self.assertEqual(self.metric(d, "slow_suggestions_total"), 1)

    def test_events_of_the_experiment_wait_in_order(self):
        d = self.driver(env=slow(700))
        d.submit(spec())
        d.post(X + "/ask", {"client": "c"})
        asked = self.later(d, "POST", X + "/ask", {"client": "c"})
        self.thinks(d)
        parked = self.metric(d, "parked_total")
        calls = []
        for k in range(3):
            calls.append(self.later(d, "POST", X + "/trials/1/report",
                                    {"attempt": 1, "metrics": [{"step": k + 1, "value": 3.0 - k}]}))
            wait_until(lambda: self.metric(d, "parked_total") == parked + k + 1)
        calls.append(self.later(d, "POST", X + "/trials/1/tell", {"attempt": 1, "state": "completed", "value": 0.5}))
        wait_until(lambda: self.metric(d, "parked_total") == parked + 4)
        self.assertEqual((d.get(X + "/trials/1")["state"], d.get(X + "/trials/1")["step"]), ("running", None))
        wait_until(lambda: asked and all(calls))
        self.assertEqual([c[0] for c in calls[:3]], [(200, {"action": "continue"})] * 3)
        self.assertEqual(calls[3][0], (200, {"state": "completed"}))
        self.assertEqual(asked[0][1]["trials"][0]["trial"], 2)
        kinds = [k for k, _ in self.events(d)]
        ask, report, tell = kinds[0], kinds[2], kinds[5]
        self.assertEqual(kinds, [ask, ask, report, report, report, tell], "the ask first, then what waited behind it")
        points = d.get(X + "/trials/1/metrics?limit=10")["metrics"]
        self.assertEqual([p["step"] for p in points], [1, 2, 3])
        self.loop_never_waited(d)
        digest = d.get("/debug/digest")
        d.kill()
        d = d.restart()
        self.assertEqual(d.get("/debug/digest"), digest)
        d.stop()
        self.verify(d)

    def test_the_record_is_that_of_a_quick_one(self):
        def drive(d):
            d.submit(spec(optimizer={"algorithm": "asha", "reduction_factor": 3}, resource={"unit": "step", "min": 1, "max": 9},
                          limits={"trials": 12}))
            while True:
                r = d.post(X + "/ask", {"client": "c", "count": 2})
                if r["state"] == "done":
                    break
                for t in r["trials"]:
                    d.post(f"{X}/trials/{t['trial']}/report", {"attempt": t["attempt"], "metrics": [
                        {"step": t["budget"], "value": abs(t["params"]["x"]) / t["budget"]}]})
                    d.post(f"{X}/trials/{t['trial']}/tell", {"attempt": t["attempt"], "state": "completed"})
            return [(t["trial"], t["state"], t["params"], t["value"]) for t in d.trials(1)]

        quick = self.driver(data=self.path("quick"))
        as_quick = drive(quick)
        thinking = self.driver(data=self.path("slow"), env=slow(5))
        self.assertEqual(drive(thinking), as_quick)
        self.loop_never_waited(thinking)
        self.assertEqual(self.metric(thinking, "slow_suggestions_total"), 12, "only a new point has to be computed")
        thinking.stop()
        self.verify(thinking)

    def test_kill_9_while_it_computes_loses_nothing(self):
        d = self.driver(env=slow(5000))
        d.submit(spec())
        first = self.later(d, "POST", X + "/ask", {"client": "c", "request": "a"})
        self.thinks(d)
        d.kill()
        wait_until(lambda: first)
        self.assertEqual(first[0][0], 0, "nobody was told anything")
        d = d.restart(env=slow(300))
        self.assertEqual(d.trials(1), [])
        a = d.post(X + "/ask", {"client": "c", "request": "a"})
        second = self.later(d, "POST", X + "/ask", {"client": "c", "request": "b"})
        self.thinks(d)
        told = self.later(d, "POST", X + "/trials/1/tell", {"attempt": 1, "state": "completed", "value": 1})
        wait_until(lambda: self.metric(d, "parked_total") == 1)
        d.kill()
        d = d.restart(env={})
        self.assertEqual(d.post(X + "/ask", {"client": "c", "request": "a"}), a)
        self.assertEqual(d.get(X + "/trials/1")["state"], "running", "the tell was not acknowledged")
        self.assertEqual(d.post(X + "/trials/1/tell", {"attempt": 1, "state": "completed", "value": 1}), {"state": "completed"})
        self.assertEqual([t["trial"] for t in d.post(X + "/ask", {"client": "c", "request": "b"})["trials"]], [2])
        d.stop()
        self.verify(d)
        del second, told

    def test_several_trials_are_given_one_by_one_and_others_get_a_turn(self):
        d = self.driver(env=slow(250))
        d.submit(spec())
        d.post(X + "/ask", {"client": "other"})
        many = self.later(d, "POST", X + "/ask", {"client": "c", "request": "r", "count": 4})
        self.thinks(d)
        again = self.later(d, "POST", X + "/ask", {"client": "c", "request": "r", "count": 4})
        told = self.later(d, "POST", X + "/trials/1/tell", {"attempt": 1, "state": "completed", "value": 1})
        wait_until(lambda: told)
        self.assertEqual(told[0][0], 200)
        self.assertEqual(many, [], "the tell is answered before all four are there")
        wait_until(lambda: many and again)
        self.assertEqual([t["trial"] for t in many[0][1]["trials"]], [2, 3, 4, 5])
        self.assertEqual(again, many, "the same request, the same answer")
        kinds = [k for k, _ in self.events(d)]
        self.assertEqual(kinds.count(kinds[0]), 5, "an event for each")
        self.assertLess(kinds.index([k for k in kinds if k != kinds[0]][0]), 5)
        self.loop_never_waited(d)
        d.kill()
        d = d.restart()
        self.assertEqual(d.post(X + "/ask", {"client": "c", "request": "r", "count": 4}), many[0][1])
        self.assertEqual(d.raw("POST", X + "/ask", {"client": "c", "request": "r", "count": 3})[0], 409)
        self.assertEqual(len(d.trials(1)), 5)
        d.stop()
        self.verify(d)

    def test_fewer_than_asked_for_when_the_limit_is_reached(self):
        d = self.driver(env=slow(30))
        d.submit(spec(limits={"trials": 3}))
        r = d.post(X + "/ask", {"client": "c", "count": 8})
        self.assertEqual([t["trial"] for t in r["trials"]], [1, 2, 3])
        r = d.post(X + "/ask", {"client": "c", "count": 8})
        self.assertEqual((r["state"], r["trials"], r["why"]["code"]), ("waiting", [], "trials-limit"))
        held = self.later(d, "POST", X + "/ask", {"client": "c", "wait": "20s"})
        for k in (1, 2, 3):
            d.post(f"{X}/trials/{k}/tell", {"attempt": 1, "state": "completed", "value": k})
        wait_until(lambda: held)
        self.assertEqual(held[0][1]["state"], "done")
        self.assertEqual(d.get(X)["state"], "completed")
        self.loop_never_waited(d)

    def test_no_lease_runs_out_because_of_a_suggestion(self):
        d = self.driver(env=slow(2500))
        d.submit(spec())
        d.post(X + "/ask", {"client": "c", "lease": "1s"})
        held = self.later(d, "POST", X + "/ask", {"client": "c", "lease": "60s"})
        self.thinks(d)
        beat = self.later(d, "POST", X + "/trials/1/report", {"attempt": 1, "metrics": [{"step": 1, "value": 1}]})
        wait_until(lambda: held and beat)
        self.assertEqual(beat[0], (200, {"action": "continue"}))
        t = d.get(X + "/trials/1")
        self.assertEqual((t["state"], t["attempt"], t["losses"]), ("running", 1, 0))
        self.loop_never_waited(d)

    def test_what_people_do_waits_too(self):
        d = self.driver(env=slow(600))
        d.submit(spec())
        asked = self.later(d, "POST", X + "/ask", {"client": "c"})
        self.thinks(d)
        calls = [self.later(d, "POST", X + ":note", {"notes": "n"}), self.later(d, "POST", X + ":pause", {}),
                 self.later(d, "POST", X + "/trials", {"params": {"x": 1, "y": 2}})]
        wait_until(lambda: self.metric(d, "parked_total") == 3)
        gone = d.raw("DELETE", X)  # refused, but only when it is its turn
        wait_until(lambda: asked and all(calls))
        self.assertEqual(sorted(c[0][0] for c in calls), [200, 200, 201])
        self.assertEqual(gone[0], 409)
        self.assertEqual((asked[0][1]["trials"][0]["trial"], d.get(X)["state"]), (1, "paused"))
        d.post(X + ":resume")
        asked = self.later(d, "POST", X + "/ask", {"client": "c", "count": 2})
        self.thinks(d)
        cancelled = self.later(d, "POST", X + ":cancel", {})
        deleted = wait_until(lambda: cancelled) and d.raw("DELETE", X)
        self.assertEqual(deleted[0], 204)
        wait_until(lambda: asked)
        self.assertEqual(d.raw("GET", X)[0], 404)
        self.loop_never_waited(d)

    def test_a_commit_that_fails_meanwhile(self):
        d = self.driver(env={"MAGPIE_FAULTS": slow(400)["MAGPIE_FAULTS"] + ",store.commit:3=fail"})
        d.submit(spec())
        r = d.raw("POST", X + "/ask", {"client": "c", "request": "r", "count": 3})
        self.assertEqual(r[0], 503, r)
        wait_until(lambda: d.raw("GET", "/readyz")[0] == 200)
        trials = [t["trial"] for t in d.trials(1)]
        again = d.post(X + "/ask", {"client": "c", "request": "r", "count": 3})
        self.assertEqual([t["trial"] for t in again["trials"]][:len(trials)], trials)
        d.stop()
        self.verify(d)

    def test_sigterm_while_it_computes(self):
        d = self.driver(env=slow(600))
        d.submit(spec())
        d.post(X + "/ask", {"client": "c"})
        asked = self.later(d, "POST", X + "/ask", {"client": "c"})
        self.thinks(d)
        told = self.later(d, "POST", X + "/trials/1/tell", {"attempt": 1, "state": "completed", "value": 1})
        wait_until(lambda: self.metric(d, "parked_total") == 1)
        self.assertEqual(d.stop(), 0)
        wait_until(lambda: asked and told)
        self.assertEqual(told[0], (200, {"state": "completed"}))
        self.assertEqual((asked[0][0], asked[0][1]["trials"]), (200, []))
        d = d.restart()
        self.assertEqual(d.get(X + "/trials/1")["state"], "completed")

    def test_a_client_that_goes_leaves_its_report(self):
        import socket
        d = self.driver(env=slow(700))
        d.submit(spec())
        d.post(X + "/ask", {"client": "c"})
        asked = self.later(d, "POST", X + "/ask", {"client": "c"})
        self.thinks(d)
        host, port = d.http.split("//")[1].split(":")
        body = json.dumps({"attempt": 1, "metrics": [{"step": 1, "value": 4}]})
        s = socket.create_connection((host, int(port)))
        s.sendall((f"POST {X}/trials/1/report HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
                   f"Content-Length: {len(body)}\r\n\r\n{body}").encode())
        wait_until(lambda: self.metric(d, "parked_total") == 1)
        s.close()
        hung = self.later(d, "POST", X + "/ask", {"client": "gone"})
        wait_until(lambda: asked and hung)
        wait_until(lambda: d.get(X + "/trials/1")["step"] == 1)
        self.loop_never_waited(d)


class Models(Case):
    """The algorithms that are slow in earnest."""

    def drive(self, d, i, parallel=3):
        """Clients that ask and tell until the experiment is over."""
        def client(name):
            while True:
                try:
                    r = d.post(f"/api/v1/experiments/{i}/ask", {"client": name, "wait": "10s", "lease": "2s"})
                    for t in r["trials"]:
                        n, p = t["trial"], t["params"]
                        steps = [{"step": s, "value": p["x"] ** 2 + p["y"] ** 2 + 1 / s} for s in range(1, (t["budget"] or 1) + 1)]
                        told = {"attempt": t["attempt"], "state": "completed", "metrics": steps}
                        d.post(f"/api/v1/experiments/{i}/trials/{n}/tell", told)
                    if r["state"] == "done":
                        return
                except (OSError, harness.HttpError):
                    return  # the driver was killed

        threads = [threading.Thread(target=client, args=(f"c{k}",), daemon=True) for k in range(parallel)]
        for t in threads:
            t.start()
        return threads

    def search(self, **more):
        d = self.driver()
        i = d.submit(spec(limits={"trials": 30}, **more))
        threads = self.drive(d, i)
        wait_until(lambda: len(d.trials(i)) >= 8, what="eight trials")
        d.kill()
        for t in threads:
            t.join(30)
        d = d.restart()
        for t in self.drive(d, i):
            t.join(90)
        self.assertGreater(self.metric(d, "slow_suggestions_total"), 0)
        self.loop_never_waited(d)
        self.assertEqual(d.experiment(i)["state"], "completed")
        trials = d.trials(i)
        digest = d.get("/debug/digest")
        d.kill()
        d = d.restart()
        self.assertEqual(d.get("/debug/digest"), digest)
        d.stop()
        self.verify(d, i)
        return trials

    def test_gaussian_process(self):
        trials = self.search(optimizer={"algorithm": "gp"})
        self.assertEqual(len(trials), 30)
        best = min(t["value"] for t in trials if t["value"] is not None)
        self.assertLess(best, 3.0, "no better than chance: x^2 + y^2 + 1 over [-10, 10]")

    def test_asha_with_a_gaussian_process(self):
        trials = self.search(optimizer={"algorithm": "asha", "reduction_factor": 3, "sampler": "gp"},
                             resource={"unit": "step", "min": 1, "max": 9})
        self.assertEqual(len(trials), 30)


class Workers(Case):
    def test_workers_run_a_whole_search(self):
        d = self.driver("--heartbeat", "200ms", env=slow(60, "*"))
        s = spec(optimizer={"algorithm": "asha", "reduction_factor": 3}, resource={"unit": "step", "min": 1, "max": 9},
                 limits={"trials": 12})
        s["trial"] = {"command": [sys.executable, PROGRAM, "--x", "${x}", "--y", "${y}"]}
        for _ in range(2):
            self.worker(d, "--slots", "2")
        one, two = d.submit(s), d.submit(dict(s, name="second", seed=6))
        for i in (one, two):
            x = d.wait_state(i, timeout=90)
            self.assertEqual(sum(x["counts"].values()), 12)
            self.assertEqual([t["losses"] for t in d.trials(i)], [0] * 12)
        self.assertGreaterEqual(self.metric(d, "slow_suggestions_total"), 24)
        self.loop_never_waited(d)
        digest = d.get("/debug/digest")
        d.kill()
        d = d.restart()
        self.assertEqual(d.get("/debug/digest"), digest)
        d.stop()
        self.verify(d, one)
        self.verify(d, two)

    def test_heartbeats_keep_leases_through_a_long_suggestion(self):
        d = self.driver("--heartbeat", "200ms", "--lease", "2s", env=slow(3500))
        s = spec(limits={"trials": 2})
        s["trial"] = {"command": [sys.executable, PROGRAM, "--x", "${x}", "--y", "${y}", "--steps", "30", "--sleep", "0.1"]}
        self.worker(d, "--slots", "2")
        d.submit(s)
        x = d.wait_state(1, timeout=90)
        self.assertEqual(x["counts"]["completed"], 2)
        self.assertEqual([(t["attempt"], t["losses"], t["step"]) for t in d.trials(1)], [(1, 0, 30)] * 2)
        self.assertGreater(self.metric(d, "parked_total"), 0)
        self.loop_never_waited(d)

    def test_kill_9_of_driver_and_worker_in_the_middle(self):
        d = self.driver("--heartbeat", "200ms", "--lease", "1s", env=slow(150, "*"))
        s = spec(limits={"trials": 12})
        s["trial"] = {"command": [sys.executable, PROGRAM, "--x", "${x}", "--y", "${y}", "--steps", "3", "--sleep", "0.05"]}
        w = self.worker(d, "--slots", "2")
        self.worker(d, "--slots", "1")
        d.submit(s)
        for n in (2, 5, 8):
            wait_until(lambda: d.get(X)["counts"]["completed"] >= n, what=f"{n} trials")
            d.kill()
            d = d.restart()
            if n == 5:
                w.kill()
        self.assertEqual(d.wait_state(1, timeout=90)["counts"]["completed"], 12)
        d.stop()
        self.verify(d)


if __name__ == "__main__":
    harness.main()
