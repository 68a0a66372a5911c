#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Warm starts against a real driver: what is read from earlier experiments, counted, recorded, and told again after a restart
without them."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness

SPEC = {
    "name": "first",
    "objective": {"metric": "loss", "direction": "min"},
    "searchspace": {"x": ["DOUBLE", [0, 1]], "k": ["CATEGORICAL", ["a", "b"]]},
    "optimizer": {"algorithm": "random"},
    "limits": {"trials": 40},
    "seed": 1,
}
REASONS = ("missing-parameter", "out-of-range", "constraint", "no-value", "limit")


class WarmStart(harness.Case):
    def run_through(self, d, i, value):
        """Every trial of the experiment, with value(params); None fails it."""
        x = f"/api/v1/experiments/{i}"
        while True:
            trials = d.post(x + "/ask", {"count": 100})["trials"]
            if not trials:
                return
            for t in trials:
                v = value(t["params"])
                told = {"attempt": 1, "state": "failed", "reason": "no luck"} if v is None else \
                    {"attempt": 1, "state": "completed", "value": v}
                d.post(f"{x}/trials/{t['trial']}/tell", told)

    def first(self, d, spec=None):
        i = d.submit(dict(SPEC, **(spec or {})))
        self.run_through(d, i, lambda p: (p["x"] - 0.3) ** 2)
        return i

    def counts(self, d, spec):
        i = d.submit(dict(SPEC, name="second", **spec))
        w = d.get(f"/api/v1/experiments/{i}")["warm_start"]
        self.assertEqual(w["dropped"], sum(w["reasons"].values()))
        return w["used"], {k: v for k, v in w["reasons"].items() if v > 0}

    def test_finished_trials_are_taken_where_they_fit(self):
        d = self.driver()
        a = self.first(d)
        params = [t["params"] for t in d.trials(a)]
        warm = {"warm_start": {"experiments": [a]}}
        self.assertEqual(self.counts(d, warm), (40, {}))
        narrow = {"x": ["DOUBLE", [0, 0.5]], "k": ["CATEGORICAL", ["b", "c", "a"]]}
        out = sum(p["x"] > 0.5 for p in params)
        self.assertEqual(self.counts(d, dict(warm, searchspace=narrow)), (40 - out, {"out-of-range": out}))
        fewer = {"x": ["DOUBLE", [0, 1]], "k": ["CATEGORICAL", ["b", "z"]]}
        out = sum(p["k"] == "a" for p in params)
        self.assertEqual(self.counts(d, dict(warm, searchspace=fewer)), (40 - out, {"out-of-range": out}))
        more = dict(SPEC["searchspace"], y=["DOUBLE", [0, 1]], fixed=["INTEGER", [3, 3]])
        self.assertEqual(self.counts(d, dict(warm, searchspace=more)), (0, {"missing-parameter": 40}))
        known = {"warm_start": {"experiments": [a], "defaults": {"y": 0.25}}}
        self.assertEqual(self.counts(d, dict(known, searchspace=more)), (40, {}))
        out = sum(p["k"] == "a" and p["x"] > 0.5 for p in params)
        self.assertEqual(self.counts(d, dict(warm, constraints=["k == 'a' implies x <= 0.5"])),
                         (40 - out, {"constraint": out}))
        few = {"warm_start": {"experiments": [a], "limit": 8}}
        self.assertEqual(self.counts(d, few), (8, {"limit": 32}))
        given = {"warm_start": {"experiments": [a], "observations": [{"params": {"x": 0.5, "k": "a"}, "value": 1}]}}
        self.assertEqual(self.counts(d, given), (41, {}))
        cold = d.submit(dict(SPEC, name="cold"))
        self.assertIsNone(d.get(f"/api/v1/experiments/{cold}")["warm_start"])

    def test_failed_and_unfinished_trials_tell_nothing_unless_they_have_a_value(self):
        d = self.driver()
        a = d.submit(dict(SPEC, limits={"trials": 10, "failures": 0}))
        self.run_through(d, a, lambda p: None if p["x"] < 0.5 else p["x"])
        good = sum(t["state"] == "completed" for t in d.trials(a))
        self.assertTrue(0 < good < 10)
        self.assertEqual(self.counts(d, {"warm_start": {"experiments": [a], "trials": "all"}}), (good, {}))
        b = d.submit(dict(SPEC, name="open", resource={"min": 1, "max": 9}, limits={"trials": 3}))
        x = f"/api/v1/experiments/{b}"
        d.post(x + "/ask", {"count": 3})
        d.post(x + "/trials/2/report", {"attempt": 1, "metrics": [{"step": 4, "value": 0.5}]})
        self.assertEqual(self.counts(d, {"warm_start": {"experiments": [b]}}), (0, {}))
        self.assertEqual(self.counts(d, {"warm_start": {"experiments": [b], "trials": "all"}}), (1, {}))

    def scenario(self, folder, disturbed):
        """The first four trials of a search that knows 40 results."""
        d = self.driver(data=self.path(folder))
        a = self.first(d)
        b = d.submit(dict(SPEC, name="second", optimizer={"algorithm": "tpe"}, warm_start={"experiments": [a]},
                          limits={"trials": 60}))
        x = f"/api/v1/experiments/{b}"
        asked = d.post(x + "/ask", {"count": 3})["trials"]
        if disturbed:
            shown = d.get(x)
            self.assertNotIn("recorded", shown["spec"]["warm_start"])
            self.assertEqual(shown["warm_start"]["used"], 40)
            d.call("DELETE", f"/api/v1/experiments/{a}")
            digest = d.get("/debug/digest")
            d.kill()
            d = d.restart()
            self.assertEqual(d.get("/debug/digest"), digest)
            self.assertEqual(d.get(x)["warm_start"], shown["warm_start"])
            self.magpie("verify", str(b), "--data", d.data)
        return [t["params"] for t in asked + d.post(x + "/ask", {"count": 1})["trials"]]

    def test_the_facts_outlive_the_experiment_that_they_came_from(self):
        quiet = self.scenario("quiet", False)
        self.assertEqual(len(quiet), 4)
        self.assertEqual(self.scenario("disturbed", True), quiet)

    def test_better_stays_better_when_the_objective_has_another_name_and_direction(self):
        d = self.driver()
        a = self.first(d)
        spec = dict(SPEC, name="second", objective={"metric": "score", "direction": "max"}, optimizer={"algorithm": "tpe"},
                    limits={"trials": 60}, warm_start={"experiments": [a]})
        b = d.submit(spec)
        x = f"/api/v1/experiments/{b}"
        near = [abs(t["params"]["x"] - 0.3) for t in d.post(x + "/ask", {"count": 10})["trials"]]
        self.assertLess(sorted(near)[5], 0.2, near)

    def test_an_experiment_that_is_not_there_is_an_error_with_its_place(self):
        d = self.driver()
        text = json.dumps(dict(SPEC, warm_start={"experiments": [9]}))
        code, _, body = d.raw("POST", "/api/v1/experiments", json.loads(text))
        body = body.decode()
        self.assertEqual(code, 422, body)
        self.assertIn("there is no experiment 9 on this driver", body)
        self.assertIn("/warm_start/experiments/0", body)


if __name__ == "__main__":
    harness.main()
