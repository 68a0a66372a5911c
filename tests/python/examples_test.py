#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The examples that need libraries, as they stand but for a smaller budget."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness
import libraries


class Examples(libraries.Case):
    def run_search(self, name, env=None, **smaller):
        """`magpie run` of examples/NAME.json with some keys smaller; the driver that then serves its record, and the trials."""
        with open(os.path.join(harness.ROOT, "examples", name + ".json"), encoding="utf-8") as f:
            spec = json.load(f)
        self.magpie("run", self.write(name + ".json", {**spec, **smaller}), "--workers", "2", "--data", self.path("data"), "--http",
                    "127.0.0.1:0", env=env, cwd=harness.ROOT, timeout=harness.DEADLINE * 8)
        d = self.driver()
        x = d.experiment(1)
        self.assertEqual(x["state"], "completed", x["why"])
        trials = d.trials(1)
        self.assertEqual({t["state"] for t in trials} - {"completed", "paused"}, set())
        return d, trials

    def check_promoted(self, d, trials, last):
        """Some trials went on from a checkpoint, each step once."""
        promoted = [t for t in trials if t["attempt"] > 1]
        self.assertGreater(len(promoted), 0)
        for t in promoted:
            rows = d.get(f"/api/v1/experiments/1/trials/{t['trial']}/metrics")["metrics"]
            self.assertEqual([r["step"] for r in rows], list(range(1, t["step"] + 1)))
        self.assertEqual(d.get("/api/v1/experiments/1/best")["step"], last)

    def test_pytorch_on_fashion_mnist_learns_and_resumes(self):
        d, trials = self.run_search("pytorch_fashion", {"FASHION_ROWS": "1500"}, limits={"trials": 5},
                                    resource={"unit": "epoch", "min": 1, "max": 3})
        self.check_promoted(d, trials, 3)
        self.assertGreater(d.get("/api/v1/experiments/1/best")["value"], 0.5)

    def test_pytorch_on_fashion_mnist_runs_by_hand(self):
        out = subprocess.run([sys.executable, "examples/pytorch_fashion.py"], cwd=harness.ROOT, env={**os.environ, "FASHION_ROWS": "800"},
                             capture_output=True, text=True)
        self.assertEqual(out.returncode, 0, out.stderr)
        self.assertRegex(out.stdout, r"^(step \d+  val_accuracy 0\.\d+\n){10}$")

    def test_xgboost_on_breast_cancer_learns_and_resumes(self):
        d, trials = self.run_search("xgboost_cancer", limits={"trials": 9})
        self.check_promoted(d, trials, 9)
        self.assertLess(d.get("/api/v1/experiments/1/best")["value"], 0.2)

    def test_scikit_learn_on_digits_finds_a_good_machine(self):
        p = self.start([sys.executable, "examples/sklearn_digits.py", "12"], "digits", cwd=harness.ROOT)
        self.assertEqual(p.wait(harness.DEADLINE * 8), 0, p.stderr())
        accuracy = float(p.stdout().split("mean accuracy over 5 folds ")[1].split(",")[0])
        self.assertGreater(accuracy, 0.95)


if __name__ == "__main__":
    harness.main()
