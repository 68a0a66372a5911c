#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fused trials of the real trainer: a search in groups finds what it finds one trial at a time."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402

DATA = os.path.join(harness.ROOT, "examples", "flowers.csv")


def spec(fuse, epochs=3, **more):
    s = {"name": f"fused-{fuse}", "objective": {"metric": "val_loss", "direction": "min"}, "seed": 11,
         "searchspace": {"lr": {"type": "DOUBLE", "range": [0.001, 0.1], "scale": "log"},
                         "momentum": {"type": "DOUBLE", "range": [0.0, 0.9]},
                         "drop": {"type": "DOUBLE", "range": [0.0, 0.5]}},
         "optimizer": {"algorithm": "random"}, "resource": {"min": 1, "max": epochs}, "limits": {"trials": 16},
         "trial": {"program": "builtin", "dataset": f"csv:{DATA}?label=kind", "fuse": fuse,
                   "model": {"layers": [{"type": "dense", "units": 12, "activation": "tanh"},
                                        {"type": "dropout", "rate": "${drop}"}, {"type": "dense", "units": 3}]},
                   "training": {"lr": "${lr}", "momentum": "${momentum}", "batch_size": 16, "validation": 0.25,
                                "order": "experiment", "backend": "ref"}}}
    s.update(more)
    return s


class Fused(harness.Case):
    def both(self):
        d = self.driver("--heartbeat", "200ms", "--lease", "5s")
        self.worker(d, "--slots", "1", "--gpus", "none")
        return d

    def values(self, d, x):
        d.wait_state(x)
        return {t["trial"]: (t["params"], t["state"], t["step"], t["value"]) for t in d.trials(x)}

    def group_of(self, d, x, trial):
        """How many others its log says that it was trained with."""
        log = harness.wait_until(lambda: d.raw("GET", f"/api/v1/experiments/{x}/trials/{trial}/log")[2].decode(),
                                 what="a log")
        line = [text for text in log.splitlines() if "trained in one program" in text][0]
        return line.split("whose")[0].count(",")

    def test_sixteen_trials_in_groups_of_eight_give_the_values_of_one_at_a_time(self):
        d = self.both()
        fused = d.submit(spec(8))
        alone = d.submit(spec(False))
        a, b = self.values(d, fused), self.values(d, alone)
        self.assertEqual(len(a), 16)
        self.assertEqual(a, b)
        self.assertEqual([self.group_of(d, fused, n) for n in (1, 16)], [7, 7])

    def test_rungs_stop_some_and_the_others_go_on(self):
        d = self.both()
        x = d.submit(spec(8, epochs=9, optimizer={"algorithm": "asha", "reduction_factor": 3}))
        trials = self.values(d, x)
        self.assertEqual(len(trials), 16)
        self.assertTrue(any(t[2] == 9 for t in trials.values()))
        self.assertTrue(any(t[2] == 1 for t in trials.values()))
        self.magpie("verify", str(x), "--data", d.data)

    def test_a_trainer_killed_in_a_group_costs_no_value(self):
        d = self.both()
        s = spec(8, epochs=150)
        s["limits"] = {"trials": 3}
        x = d.submit(s)
        harness.wait_until(lambda: (lambda ts: len(ts) == 3 and all(t["checkpoint"] for t in ts))(d.trials(x)),
                           what="a checkpoint of each")
        pids = [p for p in harness.descendants() if any("magpie-trainer" in a for a in harness.command_line(p)[:1])]
        self.assertEqual(len(pids), 1)
        os.kill(pids[0], signal.SIGKILL)
        got = self.values(d, x)
        self.assertEqual({t["attempt"] for t in d.trials(x)}, {2})
        s["trial"]["fuse"] = False
        self.assertEqual(got, self.values(d, d.submit(s)))


if __name__ == "__main__":
    harness.main()
