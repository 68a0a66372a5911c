#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Slots that share a GPU: which trials begin there, by what they need and what is measured. The GPU is a file
(gpu.py); all else is real."""
import json
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402

TRAINER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "gpu.py")


def spec(*points, **more):
    """A grid of one parameter, "need"; or trials of the given points in order."""
    s = {"name": "gpu", "objective": {"metric": "value", "direction": "max"}, "seed": 1,
         "searchspace": {"need": {"type": "DISCRETE", "values": list(points)}}, "optimizer": {"algorithm": "grid"},
         "resource": {"min": 3, "max": 3}, "limits": {"failures": 0}, "trial": {"program": "builtin"}}
    s.update(more)
    return s


class Gpu(harness.Case):
    def setUp(self):
        super().setUp()
        self.notes = self.path("notes")
        os.mkdir(self.notes)
        self.memory = self.path("gpu-memory")

    def service(self):
        return self.driver("--heartbeat", "200ms", "--lease", "3s")

    def add(self, d, *flags, **env):
        flags = flags or ("--slots-per-gpu", "4")
        return self.worker(d, "--gpus", "0", "--grace", "1s", *flags,
                           env={"MAGPIE_TRAINER": TRAINER, "PROGRAM_NOTES": self.notes, "GPU_MEMORY": self.memory,
                                "GPU_TOTAL": "10000", "PROGRAM_STEP_MS": "30", **env})

    def lines(self, name):
        try:
            with open(os.path.join(self.notes, name)) as f:
                return [json.loads(line) for line in f]
        except FileNotFoundError:
            return []

    def ended(self, d, x, **kw):
        d.wait_state(x, **kw)
        self.magpie("verify", str(x), "--data", d.data)
        return {t["params"]["need"]: t for t in d.trials(x)}

    def most(self):
        return max(n["trials"] for n in self.lines("held"))

    def waiting(self, d, x):
        return [t for t in d.trials(x) if t["state"] == "running" and t["why"] and t["why"]["code"] == "gpu-memory"]

    def held(self, **more):
        return spec(4001, 4002, 4003, 4004, 4005, 4006, searchspace={
            "need": {"type": "DISCRETE", "values": [4001, 4002, 4003, 4004, 4005, 4006]},
            "hold": {"type": "CATEGORICAL", "values": [self.path("go")]}}, **more)

    def go(self):
        open(self.path("go"), "w").close()

    def test_never_more_begin_than_the_memory_has_room_for_and_the_others_say_why(self):
        d = self.service()
        self.add(d)
        x = d.submit(self.held())
        waiting = harness.wait_until(lambda: len(self.lines("go")) == 2 and len(self.waiting(d, x)) == 2 and self.waiting(d, x),
                                     what="two that run and two that wait")
        texts = sorted(t["why"]["text"] for t in waiting)
        self.assertRegex(texts[0], r"^waits behind trial \d+ for memory of GPU 0$")
        self.assertRegex(texts[1], r"^waits for memory of GPU 0: it needs \d+ MB, as others there took, of 10000 MB \d+ MB are free; "
                                   r"other trials run there$")
        self.go()
        trials = self.ended(d, x)
        self.assertEqual({(t["state"], t["attempt"]) for t in trials.values()}, {("completed", 1)})
        self.assertEqual(self.most(), 2)

    def test_auto_takes_as_many_as_fit(self):
        d = self.service()
        self.add(d, "--slots-per-gpu", "auto")
        workers = harness.wait_until(lambda: d.get("/api/v1/workers")["workers"], what="the worker")
        self.assertEqual(workers[0]["slots"], 8)
        trials = self.ended(d, d.submit(spec(*range(2001, 2013))))
        self.assertEqual({t["state"] for t in trials.values()}, {"completed"})
        self.assertEqual(self.most(), 4)  # 2001 to 2012 MB each and 256 that stay free

    def test_what_never_fits_fails_with_its_sizes_and_the_others_go_on(self):
        d = self.service()
        self.add(d)
        trials = self.ended(d, d.submit(spec(3000, 20000, 3001, 9990)))
        large = trials.pop(20000)
        self.assertEqual((large["state"], large["cause"], large["attempt"]), ("failed", "out-of-memory", 1), large)
        self.assertRegex(large["reason"], r"needs 20000 MB; of the GPU's 10000 MB, \d+ MB are free")
        # the one of 9990 fits when it is alone, although nothing is left to spare
        self.assertEqual({t["state"] for t in trials.values()}, {"completed"})

    def test_killed_programs_leave_their_room_to_others(self):
        d = self.service()
        self.add(d)
        x = d.submit(self.held(limits={"failures": 0, "retries": 3}))
        harness.wait_until(lambda: len(self.lines("go")) == 2 and len(self.waiting(d, x)) == 2, what="two that wait")
        for n in self.lines("go")[:2]:
            os.kill(n["pid"], signal.SIGKILL)
        harness.wait_until(lambda: len(self.lines("go")) >= 4, what="the next two")
        self.go()
        trials = self.ended(d, x)
        self.assertEqual({t["state"] for t in trials.values()}, {"completed"})
        self.assertEqual(self.most(), 2)

    def test_more_than_was_estimated_is_learnt_and_an_attempt_that_ran_out_beside_others_does_not_count(self):
        d = self.service()
        self.add(d)
        s = spec(searchspace={"need": {"type": "DISCRETE", "values": list(range(3001, 3009))},
                              "takes": {"type": "DISCRETE", "values": [6000]}})
        trials = self.ended(d, d.submit(s))
        self.assertEqual({(t["state"], t["failures"], t["losses"]) for t in trials.values()}, {("completed", 0, 0)})
        self.assertEqual(self.most(), 1)

    def test_two_workers_race_for_the_same_memory_and_all_complete(self):
        d = self.service()
        self.add(d, "--slots-per-gpu", "2", "--name", "one")
        self.add(d, "--slots-per-gpu", "2", "--name", "two")
        trials = self.ended(d, d.submit(spec(*range(4001, 4011))), timeout=120)
        self.assertEqual({(t["state"], t["failures"]) for t in trials.values()}, {("completed", 0)})
        self.assertEqual(self.most(), 2)

    def test_idle_programs_make_room_for_a_large_trial(self):
        d = self.service()
        self.add(d, "--slots-per-gpu", "2", GPU_CONTEXT="800")
        trials = self.ended(d, d.submit(spec(1000, 1001, limits={"failures": 0, "trials": 2})))
        self.assertEqual({t["state"] for t in trials.values()}, {"completed"})
        trials = self.ended(d, d.submit(spec(9000)))
        self.assertEqual(trials[9000]["state"], "completed", trials)

    def test_one_that_waits_can_be_cancelled_and_the_next_takes_its_turn(self):
        d = self.service()
        self.add(d)
        x = d.submit(self.held())
        waiting = harness.wait_until(lambda: len(self.lines("go")) == 2 and len(self.waiting(d, x)) == 2 and self.waiting(d, x),
                                     what="two that wait")
        d.post(f"/api/v1/experiments/{x}/trials/{waiting[0]['trial']}:cancel", {})
        self.go()
        trials = self.ended(d, x)
        states = sorted(t["state"] for t in trials.values())
        self.assertEqual(states, ["cancelled"] + ["completed"] * 5)

    def test_a_worker_drained_while_one_waits_gives_it_back(self):
        d = self.service()
        w = self.add(d)
        x = d.submit(self.held())
        harness.wait_until(lambda: len(self.lines("go")) == 2 and len(self.waiting(d, x)) == 2, what="two that wait")
        w.signal(signal.SIGUSR1)
        w.wait()
        self.go()
        self.add(d)
        trials = self.ended(d, x)
        self.assertEqual({(t["state"], t["failures"], t["losses"]) for t in trials.values()}, {("completed", 0, 0)})

    def test_with_one_slot_a_gpu_nobody_asks(self):
        d = self.service()
        self.add(d, "--slots-per-gpu", "1")
        self.ended(d, d.submit(spec(3000, 3001)))
        self.assertEqual({n["admit"] for n in self.lines("asked")}, {None})

    def test_a_wrong_number_of_slots_is_named(self):
        for bad in ("0", "65", "many", "4x", ""):
            w = self.magpie("worker", "--slots-per-gpu", bad, status=2)
            self.assertIn("expected 1 to 64, or auto", w.stderr())


if __name__ == "__main__":
    harness.main()
