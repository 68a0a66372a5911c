#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`magpie import` and `magpie export --to`: studies of the real Optuna, runs of the real MLflow."""
import json
import math
import os
import sqlite3
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness

MAKE = r"""
import sys, optuna
optuna.logging.set_verbosity(optuna.logging.ERROR)
url = "sqlite:///" + sys.argv[1]
study = optuna.create_study(study_name="demo", storage=url, direction="maximize", sampler=optuna.samplers.RandomSampler(seed=1))
def objective(t):
    lr = t.suggest_float("lr", 1e-4, 1e-1, log=True)
    q = t.suggest_float("q", 0, 1, step=0.25)
    n = t.suggest_int("n", 1, 64, log=True)
    m = t.suggest_int("m", 2, 10, step=2)
    k = t.suggest_categorical("k", ["a", "b", None, 3, 2.5, True])
    s = t.suggest_categorical("s", [1, 2, 4])
    if k in ("a", "b"):
        t.suggest_float("mom", 0, 0.9)
    t.report(lr, 1)
    if t.number == 3:
        raise optuna.TrialPruned()
    return [float("nan"), float("inf")][t.number - 4] if t.number in (4, 5) else lr + n
study.optimize(objective, n_trials=24)
study.enqueue_trial({"lr": 0.01})
two = optuna.create_study(study_name="two", storage=url, directions=["minimize", "maximize"])
two.set_metric_names(["loss", "gain"])
two.optimize(lambda t: (t.suggest_float("x", 0, 1), t.suggest_int("y", 0, 3)), n_trials=3)
print(sum(t.state.name == "COMPLETE" and abs(t.value) < 1e300 for t in study.trials))
"""
LOAD = r"""
import json, sys, optuna
study = optuna.load_study(study_name=sys.argv[2], storage="sqlite:///" + sys.argv[1])
trials = [{"number": t.number, "state": t.state.name, "params": t.params, "values": t.values, "steps": t.intermediate_values,
           "attrs": t.user_attrs, "started": str(t.datetime_start), "kinds": {k: type(d).__name__ for k, d in t.distributions.items()}}
          for t in study.trials]
best = study.best_trial.number if len(study.directions) == 1 else sorted(t.number for t in study.best_trials)
sampler = optuna.samplers.TPESampler(seed=1, n_startup_trials=1) if len(study.directions) == 1 else optuna.samplers.NSGAIISampler(seed=1)
study.sampler = sampler
asked = study.ask({k: d for t in study.trials for k, d in t.distributions.items()}).params  # it can go on from there
print(json.dumps({"trials": trials, "best": best, "names": study.metric_names, "directions": [d.name for d in study.directions], "asked": asked}))
"""
IMPORTANCE = r"""
import json, sys, warnings, optuna
from optuna.distributions import CategoricalDistribution as C, FloatDistribution as F, IntDistribution as I
warnings.simplefilter("ignore")
optuna.logging.set_verbosity(optuna.logging.ERROR)
dist = {"lr": F(1e-4, 1e-1, log=True), "drop": F(0, 0.4, step=0.1), "units": I(16, 128, step=16), "depth": I(1, 9, log=True),
        "kernel": I(0, 2), "kind": C(["a", "b/c"]), "momentum": F(0, 0.9)}
study = optuna.create_study(direction=sys.argv[1])
for params, value in json.load(sys.stdin):
    params["kernel"] = [3, 5, 7.5].index(params["kernel"])
    study.add_trial(optuna.trial.create_trial(params=params, distributions={k: dist[k] for k in params}, value=value))
evaluator = optuna.importance.PedAnovaImportanceEvaluator
print(json.dumps({q: evaluator(target_quantile=float(q)).evaluate(study) for q in ("0.1", "0.3")}))
"""
MLFLOW = r"""
import json, os, sys
os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
from mlflow.tracking import MlflowClient
c = MlflowClient(tracking_uri="file://" + sys.argv[1])
out = []
for x in c.search_experiments():
    for r in c.search_runs([x.experiment_id]):
        out.append({"experiment": x.name, "name": r.info.run_name, "status": r.info.status, "params": r.data.params,
                    "metrics": r.data.metrics, "tags": r.data.tags, "start": r.info.start_time, "end": r.info.end_time,
                    "steps": [m.step for m in c.get_metric_history(r.info.run_id, "acc")]})
print(json.dumps(out))
"""
SPACE = {"lr": {"type": "DOUBLE", "range": [1e-4, 1e-1], "scale": "log"},
         "drop": {"type": "DOUBLE", "range": [0, 0.45], "step": 0.1},
         "units": {"type": "INTEGER", "range": [16, 130], "step": 16},
         "depth": {"type": "INTEGER", "range": [1, 9], "scale": "log"},
         "kernel": {"type": "DISCRETE", "values": [3, 5, 7.5]},
         "kind": {"type": "CATEGORICAL", "values": ["a", "b/c"]},
         "momentum": {"type": "DOUBLE", "range": [0.0, 0.9], "when": {"kind": ["a"]}}}


class Bridges(harness.Case):
    def run_it(self, *argv, status=0):
        p = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=120)
        self.assertEqual(p.returncode, status, p.stdout[-500:] + p.stderr[-2000:])
        return p

    def cli(self, *argv, status=0):
        return self.run_it(harness.MAGPIE, *argv, status=status)

    def ask(self, d, x):
        return d.post(x + "/ask", {"count": 1, "client": "c", "lease": "0"})["trials"][0]

    def search(self, d):
        """One trial of each fate: completed ones, a failed, a stopped, a running one."""
        i = d.submit({"name": "mine", "objective": {"metric": "acc", "direction": "max"}, "searchspace": SPACE, "seed": 3,
                      "optimizer": {"algorithm": "random"}, "limits": {"trials": 9}})
        x = f"/api/v1/experiments/{i}"
        for n in range(8):
            t = self.ask(d, x)
            me, trial = {"attempt": 1}, f"{x}/trials/{t['trial']}"
            d.post(trial + "/report", dict(me, metrics=[{"step": s, "value": n + s / 10, "values": {"loss": 1 / s}} for s in (1, 2)]))
            if n == 5:
                d.post(trial + "/tell", dict(me, state="failed", reason="no luck"))
            elif n == 6:
                d.post(trial + ":cancel")
            else:
                d.post(trial + "/tell", dict(me, state="completed", value=n + 0.5))
        self.ask(d, x)
        return i

    def test_importance_is_optunas_to_the_last_digits(self):
        python = harness.python_env("bridges")
        d = self.driver()
        x = d.submit({"name": "importance", "objective": {"metric": "v", "direction": "max"}, "seed": 5, "searchspace": SPACE,
                      "optimizer": {"algorithm": "random"}, "limits": {"trials": 120}})
        at = f"/api/v1/experiments/{x}"
        given = d.post(at + "/ask", {"count": 120, "client": "c"})["trials"]
        known = []
        for t in given[:-1]:
            p = t["params"]
            value = -abs(math.log10(p["lr"]) + 2) - 0.05 * p["depth"] + 0.3 * p.get("momentum", 0)
            value = round(value, 2)  # so that there are ties
            known.append([p, value])
            d.post(f"{at}/trials/{t['trial']}/tell", {"attempt": 1, "state": "completed", "value": value})
        self.write("known.json", json.dumps(known))
        known_file = open(self.path("known.json"))
        self.addCleanup(known_file.close)
        p = self.start([python, "-c", IMPORTANCE, "maximize"], stdin=known_file)
        self.assertEqual(p.wait(120), 0, p.stderr())
        for q, want in json.loads(p.stdout()).items():
            got = d.get(f"{at}/importance?quantile={q}")
            mine = {i["name"]: i["divergence"] for i in got["parameters"]}
            self.assertEqual(set(mine), set(want))
            for name, v in want.items():
                self.assertAlmostEqual(mine[name], v, delta=1e-9 + 1e-9 * v, msg=name)
            self.assertEqual([i["name"] for i in got["parameters"]], sorted(want, key=lambda n: -want[n]))
            self.assertAlmostEqual(sum(i["importance"] for i in got["parameters"]), 1)
            self.assertEqual((got["trials"], got["metric"], got["direction"]), (119, "v", "max"))
        self.assertEqual(got["parameters"][0]["name"], "lr")
        text = self.cli("importance", str(x), "--url", d.http).stdout
        self.assertRegex(text, r"(?m)^lr +0\.\d{3} +#+$")
        self.assertIn("of 119 trials by v (max)", text)

    # ---- Optuna ----
    def test_a_study_becomes_an_experiment_that_its_trials_warm_start(self):
        python = harness.python_env("bridges")
        db = self.path("a.db")
        finished = int(self.run_it(python, "-c", MAKE, db).stdout)
        file = self.path("x.json")
        p = self.cli("import", db, "--study", "demo", "--trials", "7", "--output", file)
        self.assertIn(f"{finished} finished trials are known", p.stderr)
        with open(file) as f:
            x = json.load(f)
        self.assertEqual(x["searchspace"], {
            "lr": {"type": "DOUBLE", "range": [0.0001, 0.1], "scale": "log"}, "q": {"type": "DOUBLE", "range": [0, 1], "step": 0.25},
            "n": {"type": "INTEGER", "range": [1, 64], "scale": "log"}, "m": {"type": "INTEGER", "range": [2, 10], "step": 2},
            "k": {"type": "CATEGORICAL", "values": ["a", "b", "null", "3", "2.5", "true"]},
            "s": {"type": "DISCRETE", "values": [1, 2, 4]},
            "mom": {"type": "DOUBLE", "range": [0, 0.9], "when": {"k": x["searchspace"]["mom"]["when"]["k"]}}})
        self.assertEqual(sorted(x["searchspace"]["mom"]["when"]["k"]), ["a", "b"])
        self.assertEqual((x["name"], x["objective"], x["limits"]), ("demo", {"metric": "value", "direction": "max"}, {"trials": 7}))
        self.assertEqual(len(x["warm_start"]["observations"]), finished)
        d = self.driver()
        p = self.cli("import", db, "--study", "demo", "--submit", "--json", "--url", d.http)
        i = json.loads(p.stdout)["id"]
        self.assertEqual(d.experiment(i)["warm_start"]["used"], finished)
        self.assertTrue(self.ask(d, f"/api/v1/experiments/{i}")["params"]["lr"])
        p = self.cli("import", db, "--study", "two", "--limit", "2")
        x = json.loads(p.stdout)
        self.assertEqual(x["objectives"], [{"metric": "loss", "direction": "min"}, {"metric": "gain", "direction": "max"}])
        self.assertEqual([sorted(o["values"]) for o in x["warm_start"]["observations"]], [["gain", "loss"]] * 2)
        self.assertIn("1 over the limit", p.stderr)

    def test_what_is_no_study_is_one_message(self):
        python = harness.python_env("bridges")
        db = self.path("a.db")
        self.run_it(python, "-c", MAKE, db)
        other = self.path("other.db")
        sqlite3.connect(other).execute("CREATE TABLE t (x)").connection.close()
        old = self.path("old.db")
        sqlite3.connect(old).executescript("CREATE TABLE studies (a); CREATE TABLE trials (a);")
        with open(self.path("text"), "w") as f:
            f.write("no database, but long enough to be one" * 20)
        with open(self.path("there.json"), "w") as f:
            f.write("mine")
        for argv, want in ((("import", db), '"demo", "two"'), (("import", db, "--study", "x"), 'it holds "demo"'),
                           (("import", other), "no study of Optuna"), (("import", old), "optuna storage upgrade"),
                           (("import", self.path("text")), "not a SQLite database"), (("import", self.path("none")), "cannot open"),
                           (("import", db, "--study", "two", "-o", self.path("there.json")), "is there already")):
            p = self.cli(*argv, status=2)
            self.assertIn(want, p.stderr)
            self.assertLessEqual(len(p.stderr.splitlines()), 2, p.stderr)
        with open(self.path("there.json")) as f:
            self.assertEqual(f.read(), "mine")

    def test_an_experiment_becomes_a_study_that_optuna_goes_on_with(self):
        python = harness.python_env("bridges")
        d = self.driver()
        i = self.search(d)
        db = self.path("out.db")
        self.cli("export", i, "--to", "optuna", "--output", db, "--url", d.http)
        said = json.loads(self.run_it(python, "-c", LOAD, db, "mine").stdout)
        ours = d.trials(i)
        self.assertEqual([t["state"] for t in said["trials"][:9]], ["COMPLETE"] * 5 + ["FAIL", "FAIL", "COMPLETE", "RUNNING"])
        self.assertEqual((said["names"], said["directions"], said["best"]), (["acc"], ["MAXIMIZE"], 7))
        for mine, theirs in zip(ours, said["trials"]):
            self.assertEqual(set(mine["params"]), set(theirs["params"]))
            for k, v in mine["params"].items():
                self.assertEqual(theirs["params"][k], v)
            self.assertEqual(theirs["attrs"]["magpie:trial"], mine["trial"])
            if mine["state"] == "completed":
                self.assertEqual(theirs["values"], [mine["value"]])
                self.assertEqual(theirs["attrs"]["loss"], 0.5)
                self.assertEqual(theirs["steps"], {"1": mine["trial"] - 1 + 0.1, "2": mine["trial"] - 1 + 0.2})
        self.assertEqual(said["trials"][5]["attrs"]["magpie:reason"], "no luck")
        self.assertEqual(said["trials"][0]["kinds"]["units"], "IntDistribution")
        self.assertTrue(said["asked"])
        p = self.cli("export", i, "--to", "optuna", "--output", db, "--url", d.http, status=2)
        self.assertIn("is there already", p.stderr)
        p = self.cli("export", i, "--to", "optuna", "--url", d.http, status=2)
        self.assertIn("--output FILE.db", p.stderr)
        self.assertEqual([n for n in os.listdir(self.tmp) if ".new-" in n], [])

    def test_there_and_back_gives_the_same_space_and_results(self):
        d = self.driver()
        i = self.search(d)
        db = self.path("out.db")
        self.cli("export", i, "--to", "optuna", "--output", db, "--url", d.http)
        x = json.loads(self.cli("import", db).stdout)
        self.assertEqual(x["objective"], {"metric": "acc", "direction": "max"})
        for name in ("lr", "kernel", "kind", "momentum", "depth"):
            want = dict(SPACE[name])
            self.assertEqual(x["searchspace"][name], want, name)
        self.assertEqual(x["searchspace"]["units"]["range"], [16, 128])
        self.assertAlmostEqual(x["searchspace"]["drop"]["range"][1], 0.4)
        done = [t for t in d.trials(i) if t["state"] == "completed"]
        back = x["warm_start"]["observations"]
        self.assertEqual([o["values"]["acc"] for o in back], [t["value"] for t in done])
        for o, t in zip(back, done):
            self.assertEqual(set(o["params"]), set(t["params"]))
            for k, v in t["params"].items():
                self.assertTrue(o["params"][k] == v or math.isclose(o["params"][k], v, rel_tol=1e-12), (k, o["params"][k], v))

    def test_several_objectives_keep_their_front_in_optuna(self):
        python = harness.python_env("bridges")
        d = self.driver()
        i = d.submit({"name": "front", "searchspace": {"x": ["DOUBLE", [0, 1]]}, "optimizer": {"algorithm": "random"},
                      "objectives": [{"metric": "a", "direction": "max"}, {"metric": "b", "direction": "min"}], "limits": {"trials": 3}})
        x = f"/api/v1/experiments/{i}"
        for a, b in ((1, 5), (2, 6), (1, 7)):
            t = self.ask(d, x)
            d.post(f"{x}/trials/{t['trial']}/tell", {"attempt": 1, "state": "completed", "value": a, "values": {"b": b}})
        self.cli("export", "front", "--to", "optuna", "-o", self.path("f.db"), "--url", d.http)
        said = json.loads(self.run_it(python, "-c", LOAD, self.path("f.db"), "front").stdout)
        self.assertEqual(said["best"], [0, 1])
        self.assertEqual([t["values"] for t in said["trials"][:3]], [[1, 5], [2, 6], [1, 7]])

    # ---- MLflow ----
    def test_mlflow_reads_the_runs_with_parameters_curves_and_tags(self):
        python = harness.python_env("bridges")
        d = self.driver()
        i = self.search(d)
        store = self.path("mlruns")
        self.cli("export", i, "--to", "mlflow", "--output", store, "--url", d.http)
        runs = {r["name"]: r for r in json.loads(self.run_it(python, "-c", MLFLOW, store).stdout)}
        ours = d.trials(i)
        self.assertEqual(len(runs), 9)
        for t in ours:
            r = runs[f"trial-{t['trial']}"]
            self.assertEqual(r["experiment"], f"mine (magpie {i})")
            self.assertEqual({k: v if k == "kind" else float(v) for k, v in r["params"].items()}, t["params"])
            self.assertEqual(r["tags"]["magpie.state"], t["state"])
            if t["state"] == "completed":
                self.assertEqual((r["status"], r["steps"]), ("FINISHED", [1, 2]))
                self.assertAlmostEqual(r["metrics"]["loss"], 0.5)
                self.assertTrue(r["end"] >= r["start"] > 1.6e12)
        self.assertEqual(runs["trial-6"]["status"], "FAILED")
        self.assertEqual(runs["trial-9"]["status"], "RUNNING")
        p = self.cli("export", i, "--to", "mlflow", "--output", store, "--url", d.http, status=2)
        self.assertIn("is there already", p.stderr)
        j = self.search(d)  # another experiment of the same name goes beside it
        self.cli("export", j, "--to", "mlflow", "--output", store, "--url", d.http)
        self.assertEqual(len(json.loads(self.run_it(python, "-c", MLFLOW, store).stdout)), 18)


if __name__ == "__main__":
    harness.main()
