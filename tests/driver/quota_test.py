#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Limits of shared storage: what counts, what goes at the limit, what waits, and deaths in between."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402

PROGRAM = os.path.join(harness.ROOT, "tests", "worker", "program.py")
PAD = 100000
ONE = PAD + 1  # bytes of a checkpoint of a step below ten


class Quota(harness.Case):
    def spec(self, budget=3, trials=1, limits=None, **more):
        s = {"name": "quota", "objective": {"metric": "value", "direction": "max"}, "seed": 1,
             "searchspace": {"x": ["DOUBLE", [0, 1]]}, "optimizer": {"algorithm": "random"},
             "resource": {"min": budget, "max": budget},
             "limits": dict({"trials": trials, "parallel": 1, "losses": 1000}, **(limits or {})),
             "trial": {"command": [sys.executable, PROGRAM, "steps"]}}
        s.update(more)
        return s

    def begin(self, *flags, env=None, **more):
        return self.driver("--heartbeat", "100ms", "--lease", "1s", "--gc", "0s", *flags, env=env, **more)

    def runner(self, d, **env):
        return self.worker(d, "--slots", "1", env=dict({"PROGRAM_PAD": str(PAD)}, **env))

    def checkpoints(self, d, x, trial):
        root = os.path.join(d.data, "storage")
        path = os.path.join(root, os.listdir(root)[0], "experiments", str(x), "trials", str(trial), "checkpoints")
        return sorted(os.listdir(path), key=lambda n: int(n.split("-")[0])) if os.path.isdir(path) else []

    def held(self, d, x):
        """The experiment's row of what storage holds."""
        return next((e for e in d.get("/api/v1/storage")["experiments"] if e["id"] == x), None)

    def why(self, d, x):
        return (d.experiment(x)["why"] or {}).get("code")

    def stands(self, d, x):
        """Full, nothing runs, and each trial that ran holds its newest checkpoint alone."""
        before = self.held(d, x)
        e = d.experiment(x)
        return before == self.held(d, x) and (e["why"] or {}).get("code") == "storage-full" and \
            e["counts"]["running"] == 0 and before["checkpoints"] == e["counts"]["completed"]

    def test_what_is_held_is_told_without_any_limit(self):
        d = self.begin()
        self.runner(d)
        x = d.submit(self.spec(trials=2))
        d.wait_state(x)
        row = self.held(d, x)
        self.assertEqual((row["checkpoints"], row["checkpoint_bytes"]), (4, 4 * ONE))
        self.assertGreater(row["log_bytes"], 0)
        self.assertEqual(row["used"], row["checkpoint_bytes"] + row["log_bytes"])
        self.assertEqual((row["limit"], row["why"]), (None, None))
        all_ = d.get("/api/v1/storage")
        self.assertEqual((all_["used"], all_["quota"], all_["full"], all_["holders"]), (row["used"], None, False, 1))
        self.assertEqual(d.experiment(x)["stored"], row["used"])
        at = ("--url", d.http, "--data", d.data)
        text = self.magpie("storage", *at).stdout()
        self.assertRegex(text, r"(?m)^ *1 +quota +completed +39\d KB +4 +\d+ B +- *$")
        self.assertRegex(text, r"(?m)^39\d KB used, no quota$")
        self.assertEqual(json.loads(self.magpie("storage", "--json", *at).stdout())["used"], row["used"])
        self.assertRegex(self.magpie("show", "1", *at).stdout(), r"(?m)^storage +39\d KB$")
        self.assertRegex(d.raw("GET", "/metrics")[2].decode(), rf"(?m)^magpie_storage_bytes {row['used']}$")
        d.call("DELETE", f"/api/v1/experiments/{x}", status=204)
        self.assertEqual(d.get("/api/v1/storage")["used"], 0)

    def test_at_the_quota_old_checkpoints_go_running_trials_end_and_others_wait_until_there_is_room(self):
        d = self.begin("--storage-quota", str(3 * ONE))
        self.runner(d)
        x = d.submit(self.spec(budget=4, trials=6))
        harness.wait_until(lambda: self.stands(d, x), what="the search to stand")
        done = [t["trial"] for t in d.trials(x) if t["state"] == "completed"]
        self.assertIn(len(done), (3, 4), "what ran came to its end")
        for t in done:
            self.assertEqual(self.checkpoints(d, x, t), ["4-1"], "each trial's newest stays, and nothing else")
        self.assertEqual(self.held(d, x)["checkpoint_bytes"], len(done) * ONE)
        e = d.experiment(x)
        self.assertEqual((e["state"], e["counts"]["running"]), ("running", 0))
        self.assertIn("storage holds", e["why"]["text"])
        self.assertIn("--storage-quota", e["why"]["text"])
        at = ("--url", d.http, "--data", d.data)
        self.assertIn("full, workers get no new trials", self.magpie("storage", *at).stdout())
        # The same after a restart with the same quota; with a greater one the search goes on.
        digest = d.get("/debug/digest")
        d.kill()
        d = d.restart()
        self.assertEqual(d.get("/debug/digest"), digest)
        self.assertEqual(self.why(d, x), "storage-full")
        d.stop()
        d = d.restart(flags=[f for f in d.flags if f not in ("--storage-quota", str(3 * ONE))])
        d.wait_state(x)
        self.magpie("verify", str(x), "--data", d.data)

    def test_an_experiments_own_limit_holds_it_alone_and_can_be_raised(self):
        d = self.begin()
        self.runner(d)
        x = d.submit(self.spec(trials=4, limits={"storage": "90KB"}))
        harness.wait_until(lambda: self.stands(d, x), what="the search to stand")
        self.assertIn("magpie extend --storage", d.experiment(x)["why"]["text"])
        self.assertEqual(self.held(d, x)["limit"], 90 << 10)
        other = d.submit(self.spec(trials=1))
        d.wait_state(other)
        self.assertEqual(self.why(d, x), "storage-full")
        harness.wait_until(lambda: len(self.checkpoints(d, other, 1)) == 2, what="the worker's own removal")
        self.magpie("extend", str(x), "--storage", "1MB", "--url", d.http, "--data", d.data)
        d.wait_state(x)
        self.assertEqual(d.experiment(x)["limits"]["storage"], 1 << 20)

    def test_room_that_another_experiment_makes_lets_the_search_go_on(self):
        d = self.begin("--storage-quota", "250KB")
        self.runner(d)
        old = d.submit(self.spec(trials=1))
        d.wait_state(old)
        x = d.submit(self.spec(trials=6))
        harness.wait_until(lambda: self.stands(d, x), what="the search to stand")
        waits = d.experiment(x)["counts"]["completed"]
        self.assertLess(waits, 6)
        d.call("DELETE", f"/api/v1/experiments/{old}", status=204)
        harness.wait_until(lambda: d.experiment(x)["counts"]["completed"] > waits, what="another trial")

    def test_a_running_trial_keeps_what_it_needs_at_the_quota_and_goes_on_after_a_death(self):
        d = self.begin("--storage-quota", "90KB")
        w = self.runner(d, PROGRAM_STEP_MS="60")
        x = d.submit(self.spec(budget=30, checkpoint={"every": 1, "keep": 5}))
        harness.wait_until(lambda: d.trials(x) and (d.trials(x)[0]["step"] or 0) >= 8, what="steps")
        harness.wait_until(lambda: len(self.checkpoints(d, x, 1)) <= 3, what="older ones to go")
        w.kill()
        harness.wait_until(lambda: d.trials(x)[0]["state"] == "waiting", what="the loss")
        self.assertEqual(d.trials(x)[0]["why"]["code"], "storage-full")
        newest = d.trials(x)[0]["checkpoint"]["step"]
        self.assertIn(f"{newest}-1", self.checkpoints(d, x, 1))
        d.stop()
        d = d.restart(flags=[f for f in d.flags if f not in ("--storage-quota", "90KB")])
        self.runner(d)
        d.wait_state(x)
        t = d.trials(x)[0]
        self.assertEqual((t["value"], t["losses"]), (30.0, 1))
        root = os.path.join(d.data, "storage")
        record = os.path.join(root, os.listdir(root)[0], "experiments", str(x), "trials", "1", "trial.json")
        harness.wait_until(lambda: os.path.exists(record), what="the trial's record")
        with open(record) as f:
            self.assertEqual(json.load(f)["resumed_from"], newest, "nothing was done again")

    def test_a_driver_killed_around_a_removal_counts_right_afterwards(self):
        for point in ("driver.gc", "driver.gc-removed"):
            with self.subTest(point=point):
                d = self.begin("--storage-quota", "90KB", env={"MAGPIE_FAULTS": f"{point}=kill"},
                               data=self.path(point))
                w = self.runner(d)
                x = d.submit(self.spec(trials=5))
                d.wait()  # killed at the first removal for want of room
                d = d.restart(env={})
                harness.wait_until(lambda: self.stands(d, x), what="the account to be true")
                there = sum(len(self.checkpoints(d, x, t["trial"])) for t in d.trials(x))
                self.assertEqual(self.held(d, x)["checkpoints"], there)
                w.stop()

    def test_wrong_sizes_are_named(self):
        for size, text in (("lots", "expected a size such as 500MB or 10GB, not \"lots\""), ("-1", "expected a size"),
                           ("5gb", "expected a size")):
            p = self.magpie("driver", f"--storage-quota={size}", "--data", self.path("none"), status=2)
            self.assertIn(text, p.stderr())
        d = self.begin()
        for bad in ("10 gigs", 5, -1, True, [], "1e400GB"):
            code, _, body = d.raw("POST", "/api/v1/experiments", self.spec(limits={"storage": bad}))
            self.assertEqual(code, 422, bad)
            self.assertEqual(json.loads(body)["issues"][0]["pointer"], "/limits/storage")
        x = d.submit(self.spec())
        code, _, body = d.raw("POST", f"/api/v1/experiments/{x}:extend", {"storage": "a lot"})
        self.assertEqual(code, 422)
        self.assertIn("/storage", json.loads(body)["detail"])


if __name__ == "__main__":
    harness.main()
