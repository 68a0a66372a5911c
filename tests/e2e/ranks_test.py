# SPDX-License-Identifier: Apache-2.0
"""Trials over several processes, from the experiment file to the result: slots, kill -9, the example of a parameter server."""
import json
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import harness

EXAMPLES = os.path.join(harness.ROOT, "examples")
SLOW = {"MAGPIE_FAULTS": "trainer.batch=sleep5*"}
FASHION = "/usr/share/datasets/fashion-mnist"


def ranks_below(pid):
    """The ranks among all processes below this one."""
    out, todo = [], [pid]
    while todo:
        at = todo.pop()
        try:
            for task in os.listdir(f"/proc/{at}/task"):
                with open(f"/proc/{at}/task/{task}/children") as f:
                    todo += [int(x) for x in f.read().split()]
            with open(f"/proc/{at}/cmdline") as f:
                out += [at] if f.read().endswith("\0--rank\0") else []
        except OSError:
            pass
    return sorted(out)


class Ranks(harness.Case):
    def spec(self, ranks, trials=1, epochs=6, **more):
        return {"name": "ranks", "objective": {"metric": "val_loss", "direction": "min"}, "seed": 3,
                "searchspace": {"lr": ["DOUBLE", [0.005, 0.02]]}, "optimizer": {"algorithm": "random"},
                "resource": {"unit": "epoch", "max": epochs}, "limits": {"trials": trials},
                "distribution": {"ranks": ranks, "timeout": "60s", **more},
                "trial": {"program": "builtin", "dataset": f"csv:{EXAMPLES}/flowers.csv?label=kind",
                          "model": {"layers": [{"type": "dense", "units": 16, "activation": "relu"}, {"type": "dense", "units": 3}]},
                          "training": {"lr": "${lr}", "batch_size": 8, "optimizer": "adam"}}}

    def test_a_killed_rank_costs_no_attempt_and_changes_no_value(self):
        d = self.driver()
        self.worker(d, "--slots", "3")
        calm = d.submit(self.spec(3))
        d.wait_state(calm)
        w = self.worker(d, "--slots", "3", env=SLOW)
        d.post(f"/api/v1/workers/{[x for x in d.get('/api/v1/workers')['workers'] if x['pid'] != w.pid][0]['worker']}:drain")
        x = d.submit(self.spec(3))
        for _ in range(2):
            ranks = harness.wait_until(lambda: (lambda r: r if len(r) == 3 and self.steps(d, x) > 0 else None)(ranks_below(w.pid)),
                                       what="three ranks and a step")
            os.kill(ranks[-1], signal.SIGKILL)
            harness.wait_until(lambda: not set(ranks) & set(ranks_below(w.pid)), what="the ranks' end")
            before = self.steps(d, x)
            harness.wait_until(lambda: self.steps(d, x) > before or d.experiment(x)["state"] == "completed", what="another step")
        d.wait_state(x)
        trial, = d.trials(x)
        self.assertEqual((trial["state"], trial["attempt"]), ("completed", 1))
        self.assertAlmostEqual(trial["value"], d.trials(calm)[0]["value"], 5)
        points = d.get(f"/api/v1/experiments/{x}/trials/{trial['trial']}/metrics")["metrics"]
        self.assertEqual([p["step"] for p in points], [1, 2, 3, 4, 5, 6])

    def test_a_killed_worker_takes_its_ranks_along_and_another_goes_on(self):
        d = self.driver("--heartbeat", "200ms", "--lease", "2s")
        w = self.worker(d, "--slots", "2", env=SLOW)
        x = d.submit(self.spec(2))
        ranks = harness.wait_until(lambda: (lambda r: r if len(r) == 2 and self.steps(d, x) > 0 else None)(ranks_below(w.pid)), what="a step")
        w.kill()
        harness.wait_until(lambda: not any(os.path.exists(f"/proc/{p}/exe") for p in ranks), what="the ranks' end")
        self.worker(d, "--slots", "2")
        d.wait_state(x)
        trial, = d.trials(x)
        self.assertEqual((trial["state"], trial["attempt"]), ("completed", 2))

    def steps(self, d, x):
        return max((t.get("step") or 0 for t in d.trials(x)), default=0)

    def test_a_trial_takes_a_slot_for_each_rank_or_waits_and_says_for_what(self):
        d = self.driver()
        self.worker(d, "--slots", "1")
        x = d.submit(self.spec(2, trials=3, epochs=2))
        harness.wait_until(lambda: "no worker offers 2 slots, one for each rank" in json.dumps(d.experiment(x)["why"]), what="the reason")
        w = self.worker(d, "--slots", "3", env=SLOW)
        seen = []

        def completed():
            seen.append(len(ranks_below(w.pid)))
            return d.experiment(x)["state"] == "completed"

        harness.wait_until(completed, what="three trials")
        self.assertEqual(max(seen), 2, "of three slots one trial takes two, and no second one fits")
        self.assertTrue(all(t["state"] == "completed" for t in d.trials(x)))

    def test_sparkflows_example_by_a_parameter_server(self):
        if not os.path.isdir(FASHION):
            self.skipTest("no Fashion-MNIST here (package dataset-fashion-mnist)")
        with open(self.path("mnist_train.csv"), "w") as f:
            subprocess.run([sys.executable, os.path.join(EXAMPLES, "idx_to_csv.py"), f"{FASHION}/train-images-idx3-ubyte.gz",
                            f"{FASHION}/train-labels-idx1-ubyte.gz", "1500"], stdout=f, check=True)
        with open(os.path.join(EXAMPLES, "sparkflow-mnist.json")) as f:
            spec = json.load(f)
        spec["resource"]["max"], spec["limits"]["trials"] = 4, 2
        path = self.write("small.json", json.dumps(spec))
        self.magpie("validate", path, cwd=self.tmp)
        p = self.magpie("run", path, "--workers", "1", "--http", "127.0.0.1:0", "--data", self.path("data"), "--json",
                        cwd=self.tmp, timeout=4 * harness.DEADLINE)
        self.assertRegex(p.stdout(), "completed")
        best = json.loads(p.stdout().splitlines()[-1])
        self.assertGreater(best["best"]["value"], 0.6, p.stdout())


if __name__ == "__main__":
    harness.main()
