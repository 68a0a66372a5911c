# SPDX-License-Identifier: Apache-2.0
"""Cross-validation end to end: what programs are told, folds over killed workers and drivers, points that end early."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import harness

COMMAND = """import json, os, sys, time
x = float(sys.argv[1])
told = {k: v for k, v in os.environ.items() if k.startswith(("MAGPIE_FOLD", "MAGPIE_TRAIN"))}
with open(os.path.join(os.environ["NOTES"], os.environ["MAGPIE_TRIAL"] + "-" + os.environ["MAGPIE_ATTEMPT"]), "w") as f:
    json.dump(told, f)
fold = int(told["MAGPIE_FOLD"])
if fold > 0:
    print("::magpie " + json.dumps({"step": 1, "metrics": {"acc": x + fold / 100}}), flush=True)
"""
EXECUTOR = """import json, os
fd = int(os.environ["MAGPIE_FD"])
os.set_blocking(fd, True)
def say(kind, **m):
    os.write(fd, (json.dumps({"type": kind, **m}) + "\\n").encode())
say("ready")
for line in os.fdopen(os.dup(fd), "r"):
    m = json.loads(line)
    if m["type"] == "start":
        with open(os.path.join(os.environ["NOTES"], str(m["trial"])), "w") as f:
            json.dump({k: m[k] for k in ("fold", "folds", "split")}, f)
        if m["fold"] > 0:
            say("report", trial=m["trial"], step=1, metrics={"acc": m["params"]["x"]})
        say("result", trial=m["trial"], status="completed")
        say("ready")
"""


class Validation(harness.Case):
    def setUp(self):
        super().setUp()
        self.notes = self.path("notes")
        os.mkdir(self.notes)
        self.env = {"NOTES": self.notes}

    def spec(self, program, validation, **more):
        trial = {"executor": [sys.executable, "-c", program]} if program == EXECUTOR else \
            {"command": [sys.executable, "-c", program, "${x}"]}
        s = {"objective": {"metric": "acc", "direction": "max"}, "searchspace": {"x": ["DOUBLE", [0, 1]]}, "seed": 5,
             "optimizer": {"algorithm": "random"}, "validation": validation, "limits": {"trials": 3}, "trial": trial}
        s.update(more)
        return s

    def told(self, name):
        with open(os.path.join(self.notes, name)) as f:
            return json.load(f)

    def test_a_command_is_told_its_fold_and_the_refit_needs_no_value(self):
        d = self.driver()
        self.worker(d, "--slots", "2", env=self.env)
        x = d.submit(self.spec(COMMAND, {"folds": 3, "seed": 11, "stratified": True}))
        got = d.wait_state(x)
        self.assertEqual(got["counts"]["completed"], 10)
        self.assertEqual((got["folds"], got["points"], got["points_ended"]), (3, 3, 3))
        trials = {t["trial"]: t for t in d.trials(x)}
        for i in range(1, 10):
            self.assertEqual(self.told(f"{i}-1"), {"MAGPIE_FOLD": str((i - 1) % 3 + 1), "MAGPIE_FOLDS": "3",
                                                   "MAGPIE_FOLD_SEED": "11", "MAGPIE_FOLD_STRATIFIED": "1"})
            point = trials[trials[i]["point"]]
            self.assertEqual(trials[i]["params"], point["params"])
            self.assertAlmostEqual(trials[i]["mean"], point["params"]["x"] + 0.02)
            self.assertAlmostEqual(trials[i]["deviation"], 0.01)
        self.assertEqual(self.told("10-1")["MAGPIE_FOLD"], "0")
        best = d.get(f"/api/v1/experiments/{x}/best")
        self.assertEqual(best["value"], max(t["mean"] for t in trials.values() if not t.get("refit")))
        self.assertEqual(best["fold_values"], [trials[best["trial"] + i]["value"] for i in range(3)])
        self.assertEqual((best["refit"]["trial"], trials[10]["point"], trials[10]["value"]), (10, best["trial"], None))
        by_mean = [t["trial"] for t in d.get(f"/api/v1/experiments/{x}/trials?sort=-mean&filter=fold=1")["trials"]]
        self.assertEqual(by_mean, sorted((1, 4, 7), key=lambda i: -trials[i]["mean"]))
        text = self.magpie("best", str(x), "--url", d.http).stdout()
        self.assertRegex(text, rf"point {best['trial']}: [0-9.]+ ± 0\.01 over 3 folds \(completed\)\n  refitted as trial 10")
        rows = self.magpie("export", str(x), "--url", d.http, "--format", "csv").stdout().splitlines()
        self.assertIn(",point,fold,mean,deviation,", rows[0])

    def test_an_executor_is_told_in_start(self):
        d = self.driver()
        self.worker(d, env=self.env)
        x = d.submit(self.spec(EXECUTOR, {"train_ratio": 0.75}))
        self.assertEqual(d.wait_state(x)["counts"]["completed"], 4)
        split = {"seed": 5, "stratified": False, "train_ratio": 0.75}
        self.assertEqual(self.told("1"), {"fold": 1, "folds": 1, "split": split})
        self.assertEqual(self.told("4"), {"fold": 0, "folds": 1, "split": split})

    def test_whoever_asks_over_http_is_told_too(self):
        d = self.driver()
        s = self.spec(COMMAND, {"folds": 2, "fold_column": "part"})
        del s["trial"]
        x = d.submit(s)
        ask = d.post(f"/api/v1/experiments/{x}/ask", {"count": 3, "client": "c"})["trials"]
        self.assertEqual([t["fold"] for t in ask], [1, 2, 1])
        self.assertEqual(ask[0]["folds"], 2)
        self.assertEqual(ask[0]["split"], {"seed": 5, "stratified": False, "fold_column": "part"})
        told = d.post(f"/api/v1/experiments/{x}/trials/2/tell", {"attempt": 1, "state": "failed", "reason": "torn"})
        self.assertEqual(told["state"], "failed")
        first = d.get(f"/api/v1/experiments/{x}/trials/1")
        self.assertEqual((first["state"], first["point_state"]), ("stopped", "failed"))
        self.assertEqual(first["reason"], "fold 2 of 2 of its point (trial 2) failed: torn")

    def test_a_running_fold_is_stopped_when_its_point_fails(self):
        program = """import os, sys, time
open(os.path.join(os.environ["NOTES"], os.environ["MAGPIE_FOLD"]), "w").close()
while os.environ["MAGPIE_FOLD"] == "1" and os.environ["MAGPIE_TRIAL"] == "1" or not os.path.exists(os.environ["NOTES"] + "/1"):
    time.sleep(0.02)
sys.exit(3)
"""
        d = self.driver("--heartbeat", "100ms")
        self.worker(d, "--slots", "2", "--grace", "300ms", env=self.env)
        x = d.submit(self.spec(program, {"folds": 2}, limits={"trials": 1, "retries": 0}))
        got = d.wait_state(x)
        self.assertEqual((got["counts"]["failed"], got["counts"]["stopped"], got["best"]), (1, 1, None))
        harness.wait_until(lambda: d.get("/api/v1/workers")["workers"][0]["busy"] == 0, what="the silent fold's program to go")

    def builtin(self, dataset, validation, **more):
        s = {"objective": {"metric": "val_loss", "direction": "min"}, "seed": 5, "validation": validation,
             "searchspace": {"lr": {"type": "DOUBLE", "range": [0.01, 0.3], "scale": "log"}},
             "optimizer": {"algorithm": "random"}, "limits": {"trials": 2},
             "trial": {"program": "builtin", "dataset": dataset, "model": {"layers": [{"type": "dense", "units": 3}]},
                       "training": {"lr": "${lr}", "epochs": 3, "batch_size": 16}}}
        s.update(more)
        return s

    def test_the_builtin_trainer_splits_by_folds_by_a_column_and_by_a_ratio(self):
        if not json.loads(self.magpie("version", "--json").stdout()).get("trainer"):
            self.skipTest("this build has no built-in trainer")
        rows = ["a,b,part,y"] + [f"{i % 7},{i % 3},{i % 3},{'uvw'[i % 3]}" for i in range(120)]
        data = f"csv:{self.write('data.csv', chr(10).join(rows) + chr(10))}?label=y&test=0"
        d = self.driver()
        self.worker(d, "--slots", "2")
        for validation, n in (({"folds": 3, "stratified": True}, 7), ({"folds": 3, "fold_column": "part"}, 7),
                              ({"train_ratio": 0.6, "refit": False}, 2)):
            with self.subTest(validation=validation):
                x = d.submit(self.builtin(data, validation))
                self.assertEqual(d.wait_state(x)["counts"]["completed"], n)
                trials = d.trials(x)
                if "folds" in validation:
                    self.assertEqual(len({t["value"] for t in trials[:3]}), 3, "each fold has another part")
                    refit = d.get(f"/api/v1/experiments/{x}/best")["refit"]
                    self.assertEqual((refit["state"], refit["checkpoint"]["step"]), ("completed", 3))
                    self.assertIsNone(trials[-1]["value"])
                self.assertNotIn(None, [t["value"] for t in trials if not t.get("refit")])

    def test_what_the_builtin_trainer_cannot_split_is_said_before_the_first_trial(self):
        if not json.loads(self.magpie("version", "--json").stdout()).get("trainer"):
            self.skipTest("this build has no built-in trainer")
        data = f"csv:{self.write('data.csv', 'a,part,y' + chr(10) + '1,0,u' + chr(10) + '2,3,v' + chr(10))}?label=y&test=0"
        spec = self.builtin(data, {"folds": 2, "fold_column": "part"})
        for change, want in (({}, "/trial/dataset: "), ({"validation": {"folds": 2, "fold_column": "pat"}}, 'did you mean "part"?'),
                             ({"validation": {"folds": 2}, "trial": dict(spec["trial"], training={"validation": 0.1, "lr": 0.1})},
                              "says what is held out: leave this out")):
            with self.subTest(want=want):
                p = self.magpie("validate", self.write("x.json", dict(spec, **change)), status=2)
                self.assertIn(want, p.stderr() + p.stdout())

    def test_killed_workers_and_drivers_lose_no_fold(self):
        d = self.driver("--heartbeat", "200ms", "--lease", "2s")
        slow = COMMAND.replace("if fold > 0:", "time.sleep(0.15)\nif fold > 0:")
        w = self.worker(d, "--slots", "2", env=self.env)
        x = d.submit(self.spec(slow, {"folds": 3}, limits={"trials": 5}))
        for n in (3, 8):
            harness.wait_until(lambda n=n: d.experiment(x)["counts"]["completed"] >= n, what=f"{n} folds")
            w.kill()
            w = self.worker(d, "--slots", "2", env=self.env)
            d.kill()
            d = d.restart()
        got = d.wait_state(x)
        self.assertEqual((got["counts"]["completed"], got["points_ended"]), (16, 5))
        self.assertEqual(sorted(t["fold"] for t in d.trials(x)), [0] + [1] * 5 + [2] * 5 + [3] * 5)
        text = self.magpie("verify", str(x), "--data", d.data).stdout()
        self.assertIn("every decision derived again and the same", text)


class Ablation(harness.Case):
    def study(self, **more):
        s = {"objective": {"metric": "acc", "direction": "max"}, "seed": 5,
             "ablation": {"features": ["a", "b"], "layers": ["c1"], "groups": [["c1", "c2"], {"prefix": "c"}], "repeats": 2}}
        s.update(more)
        return s

    def test_each_component_is_left_out_once_a_repeat_and_the_table_names_the_effect(self):
        d = self.driver()
        x = d.submit(self.study())
        worth = {None: 0.9, "a": 0.5, "b": 0.92, "c1": 0.8, "c1,c2": 0.6, "c*": 0.3}
        seen = {}
        while True:
            ask = d.post(f"/api/v1/experiments/{x}/ask", {"client": "c"})
            if ask["state"] == "done":
                break
            t = ask["trials"][0]
            gone = t["params"].get("ablated_feature", t["params"].get("ablated_layer"))
            seen.setdefault(gone, []).append(t["trial"])
            self.assertEqual(t["params"]["ablated"] == "none", gone is None)
            step = 0.01 if t["params"]["ablation_repeat"] == 2 else -0.01
            d.post(f"/api/v1/experiments/{x}/trials/{t['trial']}/tell",
                   {"attempt": 1, "state": "completed", "value": worth[gone] + step})
        self.assertEqual({k: len(v) for k, v in seen.items()}, {k: 2 for k in worth})
        table = d.get(f"/api/v1/experiments/{x}/ablation")
        self.assertAlmostEqual(table["base"]["value"], 0.9)
        self.assertEqual(table["base"]["trials"], seen[None])
        self.assertEqual([(c["kind"], c["name"]) for c in table["components"]],
                         [("layer", "c*"), ("feature", "a"), ("layer", "c1,c2"), ("layer", "c1"), ("feature", "b")])
        for c in table["components"]:
            self.assertAlmostEqual(c["value"], worth[c["name"]])
            self.assertAlmostEqual(c["delta"], worth[c["name"]] - 0.9)
            self.assertAlmostEqual(c["deviation"], 0.01 * 2 ** 0.5)
        text = self.magpie("show", str(x), "--url", d.http).stdout()
        self.assertRegex(text, r"\(everything\) +base +0\.9 .*\nc\* +layer +0\.3 +0\.0141421 +-0\.6 +2/2")
        self.assertIn("(everything)", self.magpie("best", str(x), "--url", d.http).stdout())
        self.assertIn("every decision", self.magpie("verify", str(x), "--data", d.data).stdout())

    def test_a_table_is_there_while_trials_run_and_only_of_studies(self):
        d = self.driver()
        x = d.submit(self.study(ablation={"features": ["a"]}, validation={"folds": 2, "refit": False}, searchspace={"lr": ["DISCRETE", [0.1]]}))
        first = d.post(f"/api/v1/experiments/{x}/ask", {"client": "c", "count": 2})["trials"]
        self.assertEqual([t["params"] for t in first], [{"ablated": "none", "lr": 0.1}] * 2)
        for t, v in zip(first, (0.4, 0.6)):
            d.post(f"/api/v1/experiments/{x}/trials/{t['trial']}/tell", {"attempt": 1, "state": "completed", "value": v})
        table = d.get(f"/api/v1/experiments/{x}/ablation")
        self.assertAlmostEqual(table["base"]["value"], 0.5)
        self.assertAlmostEqual(table["base"]["deviation"], 0.02 ** 0.5)
        self.assertEqual((table["components"][0]["value"], table["components"][0]["delta"], table["components"][0]["runs"]), (None, None, 0))
        y = d.submit({"objective": {"metric": "m", "direction": "min"}, "searchspace": {"x": ["DOUBLE", [0, 1]]}})
        self.assertEqual(d.raw("GET", f"/api/v1/experiments/{y}/ablation")[0], 404)

    def test_the_builtin_trainer_leaves_columns_and_layers_out(self):
        if not json.loads(self.magpie("version", "--json").stdout()).get("trainer"):
            self.skipTest("this build has no built-in trainer")
        rows = ["a,b,y"] + [f"{i % 2},{(i * 7) % 5},{'uv'[i % 2]}" for i in range(120)]
        layers = [{"name": "hidden", "type": "dense", "units": 8, "activation": "tanh"}, {"name": "out", "type": "dense", "units": 2}]
        trial = {"program": "builtin", "dataset": f"csv:{self.write('d.csv', chr(10).join(rows) + chr(10))}?label=y&test=0",
                 "model": {"layers": layers}, "training": {"lr": 0.3, "epochs": 8, "batch_size": 8, "validation": 0.3}}
        study = self.study(objective={"metric": "val_accuracy", "direction": "max"}, ablation={"features": ["a", "b"], "layers": ["hidden"]}, trial=trial)
        d = self.driver()
        self.worker(d)
        x = d.submit(study)
        self.assertEqual(d.wait_state(x)["counts"]["completed"], 4)
        table = d.get(f"/api/v1/experiments/{x}/ablation")
        self.assertEqual(table["base"]["value"], 1)
        worst = table["components"][0]
        self.assertEqual((worst["name"], worst["value"] < 0.8), ("a", True), "only a tells u from v")
        image = [{"name": "grow", "type": "conv", "filters": 2, "kernel": 1, "padding": 2}, {"type": "maxpool", "size": 4}, {"type": "dense", "units": 2}]
        for ablation, model, want in (
                ({"features": ["aa"]}, layers, 'without "aa": /trial/dataset: '),
                ({"features": ["y"]}, layers, "it is the label"),
                ({"layers": ["hiden"]}, layers, 'did you mean "hidden"?'),
                ({"layers": ["out"]}, layers, "it gives the result and stays"),
                ({"groups": [{"prefix": "conv"}]}, layers, 'begins with "conv"'),
                ({"layers": ["grow"]}, image, '/ablation/layers/0: without "grow": /trial/model/layers/1: ')):
            with self.subTest(want=want):
                bad = dict(study, ablation=ablation, trial=dict(trial, model={"input": [2, 1, 1], "layers": model}))
                p = self.magpie("validate", self.write("x.json", bad), status=2)
                self.assertIn(want, p.stderr() + p.stdout())


if __name__ == "__main__":
    harness.main()
