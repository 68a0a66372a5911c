#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A trainer that shares its GPU asks the worker before it places a trial there. The GPU is the CUDA backend's device in
host memory.

test_admission.py PATH-OF-TRAINER
"""
import json
import os
import subprocess
import unittest

import test_protocol
from test_protocol import Base


class Admission(Base):
    def setUp(self):
        super().setUp()
        os.environ["CUDA_HOST_MB"] = "2000"

    def tearDown(self):
        super().tearDown()
        del os.environ["CUDA_HOST_MB"]

    def ready(self):
        e = self.executor()
        self.assertIs(e.read()["admits"], True)
        return e

    def needs(self, e, trial=1):
        m = e.read()
        self.assertEqual((m["type"], m["trial"]), ("needs", trial), m)
        return m

    def test_it_tells_its_needs_begins_when_told_and_tells_once_what_is_free_then(self):
        e = self.ready()
        e.send(self.start(admit=True, budget=3))
        m = self.needs(e)
        self.assertGreater(m["need_mb"], 0)
        self.assertGreater(m["data_mb"], 0)
        self.assertEqual((m["free_mb"], m["total_mb"]), (2000, 2000))
        e.send({"type": "memory"})
        self.assertEqual(self.needs(e), m)
        e.send({"type": "go", "trial": 1})
        got = e.until("ready")
        kinds = [g["type"] for g in got]
        self.assertEqual(kinds.count("memory"), 1)
        self.assertLess(kinds.index("memory"), kinds.index("report"))
        self.assertLess(got[kinds.index("memory")]["free_mb"], 2000)
        self.assertEqual(got[-2]["status"], "completed")
        # the data are there for the next trial of the same process
        e.send(self.start(admit=True, trial=2, folder="b"))
        self.assertEqual(self.needs(e, 2)["data_mb"], 0)

    def test_the_estimate_is_near_what_is_taken(self):
        e = self.ready()
        wide = [{"type": "dense", "units": 1000, "repeat": 2, "activation": "relu"}, {"type": "dense", "units": 3}]
        e.send(self.start(admit=True, budget=1, spec=self.spec(layers=wide, batch_size=4)))
        m = self.needs(e)
        e.send({"type": "go", "trial": 1})
        taken = m["free_mb"] - e.until("memory")[-1]["free_mb"]
        with open(os.path.join(self.dir, "check.json"), "w") as f:
            json.dump(self.spec(layers=wide, batch_size=4, lr=0.1), f)
        p = subprocess.run([test_protocol.TRAINER, "--check", f.name, "--json"], capture_output=True, text=True)
        unused = 0  # the libraries' workspace, which is not there in host memory
        for mb in (64, 128, 256, 512):
            unused = mb if json.loads(p.stdout)["memory"]["workspace"] >> 20 >= mb else unused
        self.assertAlmostEqual(taken, m["need_mb"] + m["data_mb"] - unused, delta=2 + 0.1 * taken)

    def test_it_may_be_stopped_while_it_waits_and_takes_the_next(self):
        e = self.ready()
        for trial, order, status in ((1, "stop", "stopped"), (2, "pause", "paused")):
            e.send(self.start(admit=True, trial=trial, folder=str(trial)))
            self.needs(e, trial)
            e.send({"type": order, "trial": 99})
            e.send({"type": order, "trial": trial})
            got = e.until("ready")
            self.assertEqual((got[0]["type"], got[0]["trial"], got[0]["status"]), ("result", trial, status))
        e.send(self.start(trial=3, budget=1, folder="3"))
        self.assertEqual(e.until("ready")[-2]["status"], "completed")

    def test_it_ends_when_its_worker_does(self):
        e = self.ready()
        e.send(self.start(admit=True))
        self.needs(e)
        self.assertEqual(e.close(), 0)

    def test_what_is_larger_than_the_gpu_fails_for_good_with_both_sizes_and_the_next_one_runs(self):
        e = self.ready()
        wide = [{"type": "dense", "units": 8000, "repeat": 3}, {"type": "dense", "units": 3}]
        e.send(self.start(admit=True, spec=self.spec(layers=wide)))
        self.assertGreater(self.needs(e)["need_mb"], 2000)
        e.send({"type": "go", "trial": 1})
        m = e.until("ready")[0]
        self.assertEqual((m["type"], m["cause"], m["retry"]), ("error", "out-of-memory", False), m)
        self.assertNotIn("need_mb", m)  # which is the host's
        self.assertRegex(m["reason"], r"the model needs \d\.\d GB: weights 0\.5, .*; of the GPU's 2\.0 GB, .* are free")
        e.send(self.start(admit=True, trial=2, budget=1, folder="b"))
        self.needs(e, 2)
        e.send({"type": "go", "trial": 2})
        self.assertEqual(e.until("ready")[-2]["status"], "completed")

    def test_what_just_fits_runs_when_it_is_let_in(self):
        e = self.ready()
        e.send(self.start(admit=True))
        need = self.needs(e)["need_mb"]
        self.assertEqual(e.close(), 0)
        os.environ["CUDA_HOST_MB"] = str(need + 1)  # nothing to spare; the data set stays in the host's memory
        e = self.ready()
        e.send(self.start(admit=True, budget=1))
        self.assertEqual(self.needs(e)["free_mb"], need + 1)
        e.send({"type": "go", "trial": 1})
        self.assertEqual(e.until("ready")[-2]["status"], "completed")
        os.environ["CUDA_HOST_MB"] = str(need - 1)
        e = self.ready()
        e.send(self.start(admit=True, budget=1))
        self.needs(e)
        e.send({"type": "go", "trial": 1})
        self.assertEqual(e.until("ready")[0]["cause"], "out-of-memory")

    def test_a_program_whose_gpu_is_lost_fails_the_trial_and_ends(self):
        lost = os.path.join(self.dir, "lost")
        os.environ["CUDA_HOST_LOST"] = lost
        self.addCleanup(os.environ.pop, "CUDA_HOST_LOST")
        for message in (self.start(budget=3), dict(self.group(1, 2), admit=False)):
            e = self.ready()
            with open(lost, "w"):
                pass
            e.send(message)
            got = []
            while (m := e.read()) is not None:
                got.append(m)
            errors = [m for m in got if m["type"] == "error"]
            self.assertEqual(len(errors), len(message.get("trials", [1])), got)
            for m in errors:
                self.assertEqual((m["cause"], "unspecified launch failure" in m["reason"]), ("program", True), m)
            self.assertEqual(e.close(), 1)
        e = self.ready()  # a fresh one has a device again
        e.send(self.start(budget=1))
        self.assertEqual(e.until("ready")[-2]["status"], "completed")

    def group(self, *trials):
        starts = [self.start(trial=t, folder="g%d" % t, budget=2) for t in trials]
        for s in starts:
            del s["type"]
        return {"type": "start", "admit": True, "trials": starts}

    def test_a_group_asks_once_for_all_and_one_of_it_may_leave_while_it_waits(self):
        e = self.ready()
        e.send(self.start(admit=True, trial=9))
        alone = self.needs(e, 9)
        e.send({"type": "stop", "trial": 9})
        e.until("ready")
        e.send(self.group(1, 2, 3))
        self.assertGreaterEqual(self.needs(e)["need_mb"], alone["need_mb"])
        e.send({"type": "stop", "trial": 2})
        m = e.read()
        self.assertEqual((m["type"], m["trial"], m["status"]), ("result", 2, "stopped"))
        e.send({"type": "go", "trial": 1})
        got = e.until("ready")
        self.assertEqual(sorted(m["trial"] for m in got if m["type"] == "result"), [1, 3])
        self.assertEqual(sum(m["type"] == "memory" for m in got), 1)


if __name__ == "__main__":
    unittest.main()
