#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Which checkpoints stay in storage: the newest, the best, and those that other trials go on from."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402

PYTHON = sys.executable

# Trains to its budget. A checkpoint holds the line of (trial, step) that led to it; each start leaves a note.
TRAINER = r"""
import json, os, sys, time
e = os.environ
trial, budget, resume = int(e["MAGPIE_TRIAL"]), int(e["MAGPIE_BUDGET"]), e.get("MAGPIE_RESUME_FROM")
line = json.load(open(resume + "/line")) if resume else []
with open(sys.argv[1], "a") as f:
    f.write(json.dumps({"trial": trial, "attempt": int(e["MAGPIE_ATTEMPT"]), "from": line[-1] if line else None,
                        "step": int(e["MAGPIE_RESUME_STEP"]) if resume else 0}) + "\n")
value = json.loads(sys.argv[2]) if len(sys.argv) > 2 else None
for step in range(len(line) + 1, budget + 1):
    time.sleep(0.02)
    line.append([trial, step])
    v = value[step - 1] if value else step + json.load(open(e["MAGPIE_PARAMS"]))["x"]
    print("::magpie " + json.dumps({"step": step, "metrics": {"value": v}}), flush=True)
    d = f"{e['MAGPIE_CHECKPOINT_DIR']}/{step}"
    os.makedirs(d)
    json.dump(line, open(d + "/line", "w"))
    print("::magpie " + json.dumps({"checkpoint": step}), flush=True)
"""


class Keep(harness.Case):
    def setUp(self):
        super().setUp()
        self.notes = self.path("notes")
        self.program = self.write("trainer.py", TRAINER)

    def spec(self, *args, **more):
        s = {"name": "keep", "objective": {"metric": "value", "direction": "max"}, "seed": 1,
             "searchspace": {"x": ["DOUBLE", [0, 1]]}, "optimizer": {"algorithm": "random"},
             "trial": {"command": [PYTHON, self.program, self.notes, *args]}}
        s.update(more)
        return s

    def stored(self, d, x, trial):
        storage = os.path.join(d.data, "storage")
        root = os.path.join(storage, os.listdir(storage)[0], "experiments", str(x), "trials", str(trial), "checkpoints")
        names = os.listdir(root) if os.path.isdir(root) else []
        return sorted(int(n.split("-")[0]) for n in names if os.path.exists(os.path.join(root, n, "manifest.json")))

    def ran(self):
        with open(self.notes) as f:
            return [json.loads(line) for line in f]

    def test_the_best_steps_checkpoint_stays_beside_the_newest(self):
        d = self.driver("--heartbeat", "100ms", "--lease", "1s")
        self.worker(d, "--slots", "1")
        values = [1, 5, 9, 9, 2, 3, 4, 3, 2, 1]
        for best, direction, want in ((True, "max", [3, 9, 10]), (True, "min", [1, 9, 10]), (False, "max", [9, 10])):
            x = d.submit(self.spec(json.dumps(values), resource={"min": 10, "max": 10}, limits={"trials": 1},
                                   objective={"metric": "value", "direction": direction},
                                   checkpoint={"keep": 2, "best": best}))
            d.wait_state(x)
            harness.wait_until(lambda: self.stored(d, x, 1) == want, what=f"{want}, not {self.stored(d, x, 1)}")

    def test_the_best_checkpoint_outlives_a_killed_worker(self):
        d = self.driver("--heartbeat", "100ms", "--lease", "1s")
        w = self.worker(d, "--slots", "1")
        values = [1, 9] + [2] * 198
        x = d.submit(self.spec(json.dumps(values), resource={"min": 60, "max": 60}, limits={"trials": 1},
                               checkpoint={"keep": 1, "best": True}))
        harness.wait_until(lambda: d.trials(x) and (d.trials(x)[0]["step"] or 0) > 20, what="step 20")
        w.kill()
        self.worker(d, "--slots", "1")
        d.wait_state(x)
        self.assertGreater(d.trials(x)[0]["attempt"], 1)
        harness.wait_until(lambda: [2, 60] == [s for s in self.stored(d, x, 1) if s in (2, 60)], what="the best")

    def test_copies_of_a_population_start_from_their_parents_checkpoints_whoever_dies(self):
        d = self.driver("--heartbeat", "100ms", "--lease", "1s")
        workers = [self.worker(d, "--slots", "2") for _ in range(2)]
        x = d.submit(self.spec(resource={"min": 1, "max": 24}, limits={"trials": 24, "losses": 1000},
                               optimizer={"algorithm": "pbt", "population": 4, "interval": 4, "quantile": 0.5},
                               checkpoint={"keep": 1}))
        for n in range(3):
            harness.wait_until(lambda: d.experiment(x)["state"] != "running" or len(d.trials(x)) > 5 + 3 * n,
                               what="more trials")
            workers[n % 2].kill()
            workers[n % 2] = self.worker(d, "--slots", "2")
        d.wait_state(x, timeout=4 * harness.DEADLINE)
        trials = {t["trial"]: t for t in d.trials(x)}
        copies = [t for t in trials.values() if t.get("parent")]
        self.assertGreater(len(copies), 0, "the search copies")
        for r in self.ran():
            t = trials[r["trial"]]
            if t.get("parent"):
                self.assertIsNotNone(r["from"], f"{r} started from nothing, though copied from {t['parent']}")
                self.assertIn(r["from"][0], self.ancestors(trials, r["trial"]), r)
                self.assertEqual(r["from"][1], r["step"], r)

    def ancestors(self, trials, trial):
        out = {trial}
        while trials[trial].get("parent"):
            trial = trials[trial]["parent"]
            out.add(trial)
        return out


if __name__ == "__main__":
    harness.main()
