#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A data folder of every released version opens in this one: tests/data/store-v*/ keep one each.

    sample_test.py --make store-v1     writes the sample of the present version anew

A sample is the database as SQL text (record.sql) and what a driver says of it (facts.json).
"""
import glob
import json
import os
import sqlite3
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness

DATA = os.path.join(harness.ROOT, "tests", "data")
SPACE = {
    "lr": {"type": "DOUBLE", "range": [1e-4, 1e-1], "scale": "log"},
    "units": {"type": "INTEGER", "range": [16, 128], "step": 16},
    "kernel": {"type": "DISCRETE", "values": [3, 5, 7]},
    "kind": {"type": "CATEGORICAL", "values": ["a", "b"]},
    "momentum": {"type": "DOUBLE", "range": [0.0, 0.9], "when": {"kind": ["a"]}},
}
BASE = {"objective": {"metric": "acc", "direction": "max"}, "searchspace": SPACE, "seed": 7}
SEARCHES = {
    "random": {"optimizer": {"algorithm": "random"}, "limits": {"trials": 12}, "tags": ["t"], "notes": "n"},
    "asha": {"optimizer": {"algorithm": "asha", "reduction_factor": 2}, "limits": {"trials": 8},
             "resource": {"unit": "epoch", "min": 1, "max": 4}},
    "de": {"optimizer": {"algorithm": "de"}, "limits": {"trials": 12}},
}


def facts(d):
    out = {}
    for x in d.get("/api/v1/experiments?limit=1000")["experiments"]:
        keys = ("trial", "attempt", "state", "params", "budget", "step", "value", "failures", "losses", "late", "reason",
                "worker", "checkpoint", "created", "started", "ended", "where")
        out[str(x["id"])] = {
            "name": x["name"], "state": x["state"], "tags": x["tags"], "notes": x["notes"], "limits": x["limits"],
            "trials": [{k: t[k] for k in keys} for t in d.trials(x["id"])],
            "metrics": d.get(f"/api/v1/experiments/{x['id']}/trials/1/metrics")["metrics"],
        }
    return out


def drive(d, i):
    """Every kind of event that a client can cause."""
    x = f"/api/v1/experiments/{i}"
    for n in range(12):
        for t in d.post(x + "/ask", {"count": 2, "client": f"c{n % 3}", "request": f"r{n}", "where": {"host": "h"}})["trials"]:
            trial = f"{x}/trials/{t['trial']}"
            me = {"attempt": t["attempt"]}
            step = t["budget"] or 1
            if t["trial"] == 4:
                d.post(trial + "/tell", dict(me, state="failed", reason="no \u00fcse"))
                continue
            d.post(trial + "/report", dict(me, metrics=[{"step": step, "value": t["trial"] / 7, "values": {"loss": None}}],
                                           checkpoint={"step": step, "uri": f"u:{step}"}))
            if t["trial"] == 3 and t["attempt"] == 1:
                d.post(trial + "/tell", dict(me, state="lost"))
            else:
                d.post(trial + "/tell", dict(me, state="completed", value=t["trial"] / 5))
                d.post(trial + "/report", {"attempt": 1, "metrics": [{"step": 99, "value": 0}]})
        if n == 2:
            d.post(x + ":pause", {"reason": "lunch"})
            d.post(x + ":resume")
            d.post(x + ":note", {"tags": ["a"], "notes": "b"})
            d.post(x + "/trials", {"params": {"lr": 0.01, "units": 32, "kernel": 5, "kind": "b"}})
            d.post(x + "/trials/4:retry")
            d.post(x + "/trials/1:note", {"notes": "first"})
            d.post(x + ":extend", {"trials": 13, "target": 1e9})
    d.post(x + "/ask", {"client": "left", "lease": "0"})


def without_new_keys(new, old):
    """`new` without the keys that came after `old` was written and say nothing: their value is null."""
    if isinstance(new, dict) and isinstance(old, dict):
        return {k: without_new_keys(v, old.get(k)) for k, v in new.items() if k in old or v is not None}
    if isinstance(new, list) and isinstance(old, list) and len(new) == len(old):
        return [without_new_keys(a, b) for a, b in zip(new, old)]
    return new


class Samples(harness.Case):
    def make(self, name):
        d = self.driver()
        for search, spec in SEARCHES.items():
            drive(d, d.submit(dict(BASE, name=search, **spec)))
        i = d.submit(dict(BASE, name="cancelled", **SEARCHES["random"]))
        d.post(f"/api/v1/experiments/{i}/ask", {"count": 3, "lease": "0", "client": "c"})
        d.post(f"/api/v1/experiments/{i}/trials/2:cancel")
        d.post(f"/api/v1/experiments/{i}:cancel", {"reason": "enough"})
        gone = d.submit(dict(BASE, name="deleted", **SEARCHES["random"]))
        d.post(f"/api/v1/experiments/{gone}:cancel")
        d.raw("DELETE", f"/api/v1/experiments/{gone}")
        said = facts(d)
        d.stop()
        folder = os.path.join(DATA, name)
        os.makedirs(folder, exist_ok=True)
        db = sqlite3.connect(os.path.join(d.data, "magpie.db"))
        head = [f"PRAGMA {p}={db.execute('PRAGMA ' + p).fetchone()[0]};" for p in ("application_id", "user_version")]
        with open(os.path.join(folder, "record.sql"), "w") as f:
            f.write("\n".join(head + list(db.iterdump())) + "\n")
        with open(os.path.join(folder, "facts.json"), "w") as f:
            json.dump(said, f, indent=1, sort_keys=True)
            f.write("\n")

    def check_verify(self, d, i, data):
        """The samples were made by version 1 of every algorithm: a later one decides otherwise, and their records stay
        facts all the same."""
        versions = {a["name"]: a["version"] for a in json.loads(self.magpie("version", "--json").stdout())["algorithms"]}
        algorithm = d.experiment(i)["spec"]["optimizer"]["algorithm"]
        p = self.magpie("verify", str(i), "--data", data, status=None)
        self.assertEqual(p.wait() == 0, versions[algorithm] == 1, f"{algorithm}: {p.stdout()}{p.stderr()}")

    def test_data_folders_of_all_versions_open(self):
        samples = sorted(glob.glob(os.path.join(DATA, "store-v*")))
        self.assertTrue(samples)
        for sample in samples:
            with self.subTest(os.path.basename(sample)):
                data = self.path(os.path.basename(sample))
                os.makedirs(data)
                db = sqlite3.connect(os.path.join(data, "magpie.db"))
                with open(os.path.join(sample, "record.sql")) as f:
                    db.executescript(f.read())
                db.close()
                d = self.driver(data=data)
                with open(os.path.join(sample, "facts.json")) as f:
                    old = json.load(f)
                self.assertEqual(without_new_keys(facts(d), old), old)
                for x in d.get("/api/v1/experiments")["experiments"]:
                    d.post(f"/api/v1/experiments/{x['id']}:note", {"notes": "still alive"})
                    self.check_verify(d, x["id"], data)
                last = max(x["id"] for x in d.get("/api/v1/experiments")["experiments"])
                self.assertEqual(d.submit(dict(BASE, name="new", **SEARCHES["random"])), last + 2, "the deleted one's id stays used")
                d.stop()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        Samples.runTest = lambda self: self.make(sys.argv[2])
        case = Samples()
        result = case.run()
        sys.exit(0 if result is None or result.wasSuccessful() else print(result.failures, result.errors) or 1)
    harness.main()
