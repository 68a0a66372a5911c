#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A search of forty PyTorch trials whose programs, workers and driver are killed in turn: the same trials with the same values, bit for
bit, as when nobody is killed, and no epoch is trained again but those after the last committed checkpoint."""
import json
import os
import random
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness
from harness import wait_until

PYTHON = "/usr/bin/python3"  # Debian's, which has Debian's PyTorch
TRAIN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "torch_trial.py:train")
TRIALS, EPOCHS, SLOTS = 40, 5, 2
SPEC = {
    "name": "chaos", "objective": {"metric": "loss", "direction": "min"}, "seed": 11,
    "searchspace": {"lr": {"type": "DOUBLE", "range": [1e-4, 1e-1], "scale": "log"}, "units": {"type": "INTEGER", "range": [4, 64]}},
    "optimizer": {"algorithm": "random"}, "resource": {"unit": "epoch", "min": EPOCHS, "max": EPOCHS},
    "limits": {"trials": TRIALS, "retries": 50, "losses": 50, "failures": 0}, "checkpoint": {"every": 1, "keep": 2},
    "trial": {"executor": [PYTHON, "-m", "magpie_hpo.executor", TRAIN]},
}


def lines(path):
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as f:
        return [json.loads(row) for row in f]


class Chaos(harness.Case):
    def setUp(self):
        found = subprocess.run([PYTHON, "-c", "import torch, numpy"], capture_output=True, text=True)
        if found.returncode != 0:
            self.skipTest(f"{PYTHON}: {found.stderr.strip().splitlines()[-1]}")
        super().setUp()

    def begin(self, name, pause):
        """A search, its driver and its worker, with files of their own."""
        self.env = {"PYTHONPATH": harness.CLIENT, "CHAOS_EPOCHS": self.path(name + ".epochs"), "CHAOS_STARTS": self.path(name + ".starts"),
                    "CHAOS_PAUSE": pause, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.d = self.driver("--heartbeat", "300ms", "--lease", "2s", data=self.path(name))
        self.new_worker()
        return self.d.submit(SPEC)

    def new_worker(self):
        self.w = self.worker(self.d, "--slots", str(SLOTS), env=self.env)

    def epochs(self):
        return lines(self.env["CHAOS_EPOCHS"])

    def starts(self):
        return lines(self.env["CHAOS_STARTS"])

    def outcome(self, x):
        """What was found: every trial with its last value, and the best."""
        self.d.wait_state(x, timeout=harness.DEADLINE * 8)
        best = self.d.get(f"/api/v1/experiments/{x}/best")
        trials = [(t["trial"], t["state"], t["params"], t["step"], t["value"]) for t in self.d.trials(x)]
        return trials, (best["trial"], best["params"], best["value"])

    # ---- the killers ----
    def kill_program(self, rng):
        """One of the programs that train."""
        living = sorted({s["pid"] for s in self.starts() if TRAIN in harness.command_line(s["pid"])})
        if not living:
            return False
        os.kill(rng.choice(living), signal.SIGKILL)
        return True

    def kill_worker(self, rng):
        self.w.kill()
        self.new_worker()
        return True

    def kill_driver(self, rng):
        self.d.kill()
        self.d = self.d.restart()
        return True

    def committed(self, x):
        """The newest checkpoint that the driver has committed, by trial that runs."""
        return {t["trial"]: (t["attempt"], t["checkpoint"]["step"]) for t in self.d.trials(x)
                if t["checkpoint"] is not None and t["state"] == "running"}

    def test_forty_torch_trials_end_the_same_whatever_is_killed(self):
        x = self.begin("calm", "0")
        want = self.outcome(x)
        self.assertEqual(len(self.epochs()), TRIALS * EPOCHS)
        self.assertEqual([t[1] for t in want[0]], ["completed"] * TRIALS)
        self.w.stop()
        self.d.stop()

        rng, seen, kills = random.Random(5), [], []
        x = self.begin("wild", "0.05")
        turn = [self.kill_program, self.kill_worker, self.kill_driver] * 3
        while turn and self.d.experiment(x)["state"] == "running":
            far = len(self.epochs()) + rng.randint(3, 9)
            wait_until(lambda: len(self.epochs()) >= far or self.d.experiment(x)["state"] != "running", what="epochs to be trained")
            before = self.committed(x)
            if turn[0](rng):
                kills.append(turn.pop(0).__name__)
                seen.append(before)
        got = self.outcome(x)
        self.assertEqual(len(kills), 9, "the search ended before all were killed")
        self.assertEqual(got[1], want[1], "the best")
        self.assertEqual(got[0], want[0])
        self.check_work(seen)

    def check_work(self, seen):
        """An attempt begins right behind the checkpoint that it is given, which is never older than what had been committed."""
        starts = {}
        for s in self.starts():
            starts.setdefault(s["trial"], {})[s["attempt"]] = s["resume_step"]
        trained = {}
        for e in self.epochs():
            trained.setdefault((e["trial"], e["attempt"]), []).append(e["epoch"])
        for (trial, attempt), epochs in trained.items():
            first = starts[trial][attempt] + 1
            self.assertEqual(epochs, list(range(first, first + len(epochs))), f"trial {trial}, attempt {attempt}")
        for before in seen:
            for trial, (attempt, step) in before.items():
                for later, resumed in starts[trial].items():
                    if later > attempt:
                        self.assertGreaterEqual(resumed, step, f"trial {trial}: attempt {later} began before a committed checkpoint")
        for trial in starts:
            whole = {e for (t, _), epochs in trained.items() if t == trial for e in epochs}
            self.assertEqual(whole, set(range(1, EPOCHS + 1)), f"trial {trial}")
        self.assertTrue(any(len(a) > 1 for a in starts.values()), "nothing was interrupted")


if __name__ == "__main__":
    harness.main()
