#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each library's own training loop as a trial: what it reports, that a paused trial goes on from its checkpoint exactly as one that
never paused, that a stop ends it. Real libraries, drivers and workers."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness
import libraries

LEARN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "learn.py")
RATES = {"keras": (0.001, 0.01, 0.1), "lightning": (0.001, 0.01, 0.1), "xgboost": (0.01, 0.1, 0.3), "lightgbm": (0.01, 0.1, 0.3),
         "sklearn": (1e-4, 1e-2, 1), "ensemble": (0.01, 0.1, 0.3)}
DIRECTION = {"sklearn": "max", "ensemble": "max"}


class Loops(libraries.Case):
    def search(self, library, **more):
        spec = {"objective": {"metric": "value", "direction": DIRECTION.get(library, "min")},
                "searchspace": {"lr": {"type": "DISCRETE", "values": list(RATES[library])}},
                "trial": {"command": [sys.executable, LEARN, library, "100000"]}, "limits": {"retries": 0, "failures": 1}, **more}
        return self.d.submit(spec)

    def values(self, x, trial):
        rows = self.d.get(f"/api/v1/experiments/{x}/trials/{trial}/metrics")["metrics"]
        return {r["step"]: r["values"]["value"] for r in rows}

    def notes(self):
        with open(self.env["LEARN_NOTES"], encoding="utf-8") as f:
            return [json.loads(line) for line in f]

    def whole(self, library):
        """ASHA over three rates, three steps: each trial one step, the best goes on; then the same point without a pause."""
        self.env = {"LEARN_NOTES": self.path("notes")}
        self.d = self.driver()
        self.worker(self.d, "--slots", "2", env=self.env)
        x = self.search(library, optimizer={"algorithm": "asha"}, resource={"min": 1, "max": 3},
                        points=[{"lr": r} for r in RATES[library]], limits={"trials": 3, "retries": 0})
        self.d.wait_state(x, timeout=120)
        best = self.d.get(f"/api/v1/experiments/{x}/best")
        self.assertEqual((best["step"], best["attempt"]), (3, 2))
        runs = [(n["from"], n["to"]) for n in self.notes() if n["trial"] == best["trial"]]
        self.assertEqual(runs, [(0, 1), (1, 3)], "no step was trained twice")
        straight = self.search(library, optimizer={"algorithm": "random"}, resource={"min": 3, "max": 3}, points=[best["params"]],
                               limits={"trials": 1, "retries": 0})
        self.d.wait_state(straight, timeout=120)
        paused, calm = self.values(x, best["trial"]), self.values(straight, 1)
        self.assertEqual(sorted(calm), [1, 2, 3])
        for step in calm:
            self.assertAlmostEqual(paused[step], calm[step], places=5, msg=f"step {step}")
        self.assertNotEqual(calm[1], calm[3])

    def stopped(self, library):
        """A rule stops the trial at its first value; the loop then ends by itself, long before its hundred thousand steps."""
        bound = {"lower": 1e9} if DIRECTION.get(library) == "max" else {"upper": 1e-9}
        x = self.search(library, optimizer={"algorithm": "random"}, limits={"trials": 1, "retries": 0},
                        early_stopping={"rule": "threshold", **bound})
        before = len(self.notes())
        self.d.wait_state(x, timeout=120)
        self.assertEqual(self.d.trials(x)[0]["state"], "stopped")
        harness.wait_until(lambda: len(self.notes()) > before, 60, "the loop to return")
        self.assertLess(self.notes()[-1]["to"], 100000)


def claim(library):
    def test(self):
        self.whole(library)
        self.stopped(library)

    return test


for name in RATES:
    setattr(Loops, f"test_{name}_reports_resumes_and_stops", claim(name))


class Imports(libraries.Case):
    def test_the_package_imports_none_of_the_libraries(self):
        code = ("import sys, magpie_hpo, magpie_hpo.integrations, magpie_hpo.search_cv\n"
                "print([m for m in ('keras', 'torch', 'pytorch_lightning', 'xgboost', 'lightgbm', 'sklearn', 'numpy') if m in sys.modules])")
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        self.assertEqual(out.stdout.strip(), "[]")


if __name__ == "__main__":
    harness.main()
