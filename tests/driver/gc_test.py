#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Garbage in storage: what is taken, what never is, and deaths in the middle."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402

PROGRAM = os.path.join(harness.ROOT, "tests", "worker", "program.py")


class Gc(harness.Case):
    def spec(self, budget, trials=1, **more):
        s = {"name": "gc", "objective": {"metric": "value", "direction": "max"}, "seed": 1,
             "searchspace": {"x": ["DOUBLE", [0, 1]]}, "optimizer": {"algorithm": "random"},
             "resource": {"min": budget, "max": budget}, "limits": {"trials": trials, "losses": 1000},
             "trial": {"command": [sys.executable, PROGRAM, "steps"]}}
        s.update(more)
        return s

    def begin(self, *flags, env=None):
        return self.driver("--heartbeat", "100ms", "--lease", "1s", "--gc", "0s", *flags, env=env)

    def root(self, d):
        storage = os.path.join(d.data, "storage")
        return os.path.join(storage, next(n for n in os.listdir(storage)))

    def checkpoints(self, d, x, trial=1):
        path = os.path.join(self.root(d), "experiments", str(x), "trials", str(trial), "checkpoints")
        return sorted(os.listdir(path), key=lambda n: int(n.split("-")[0])) if os.path.isdir(path) else []

    def litter(self, d, x):
        """What killed workers leave: one never committed, one half written; and a folder nobody knows."""
        base = os.path.join(self.root(d), "experiments", str(x), "trials", "1", "checkpoints")
        for name, files in (("50-0", {"state": "50", "manifest.json": '{"files": []}'}), ("2-0", {"state": "2"})):
            os.makedirs(os.path.join(base, name))
            for f, text in files.items():
                with open(os.path.join(base, name, f), "w") as out:
                    out.write(text)
        os.makedirs(os.path.join(self.root(d), "experiments", "77", "trials", "1"))

    def gc(self, d, *flags):
        p = self.magpie("gc", "--json", "--url", d.http, "--data", d.data, *flags)
        return json.loads(p.stdout())

    def test_leftovers_go_and_what_is_kept_stays(self):
        d = self.begin()
        self.worker(d, "--slots", "1")
        x = d.submit(self.spec(5))
        d.wait_state(x)
        kept = ["4-1", "5-1"]
        harness.wait_until(lambda: self.checkpoints(d, x) == kept, what="the worker's own removal")
        self.litter(d, x)
        before = self.checkpoints(d, x)
        dry = self.gc(d, "--dry-run")
        self.assertEqual((dry["checkpoints"], dry["experiments"], dry["dry_run"]), (2, 0, True))
        self.assertEqual(self.checkpoints(d, x), before, "a dry run removes nothing")
        done = self.gc(d)
        self.assertEqual((done["checkpoints"], done["bytes"]), (2, dry["bytes"]))
        self.assertEqual(done["bytes"], len("50") + len('{"files": []}') + len("2"))
        self.assertEqual(sorted(done["removed"]), sorted(dry["removed"]))
        self.assertEqual(self.checkpoints(d, x), kept)
        self.assertTrue(os.path.isdir(os.path.join(self.root(d), "experiments", "77")), "an id that was never given is not ours")
        self.assertEqual(self.gc(d)["checkpoints"], 0)
        text = self.magpie("gc", "--url", d.http, "--data", d.data).stdout()
        self.assertIn("removed 0 checkpoints and 0 deleted experiments, 0 bytes", text)

    def test_a_deleted_experiments_folder_goes_and_others_stay(self):
        d = self.begin()
        self.worker(d, "--slots", "1")
        ids = [d.submit(self.spec(3)) for _ in range(2)]
        for x in ids:
            d.wait_state(x)
            path = os.path.join(self.root(d), "experiments", str(x), "trials", "1", "trial.json")
            harness.wait_until(lambda: os.path.exists(path), what="the record")
        d.call("DELETE", f"/api/v1/experiments/{ids[0]}", status=204)
        gone = os.path.join(self.root(d), "experiments", str(ids[0]))
        harness.wait_until(lambda: not os.path.exists(gone), what="the folder's end")
        self.assertEqual(self.checkpoints(d, ids[1]), ["2-1", "3-1"])

    def test_a_folder_of_an_experiment_deleted_before_a_death_goes_at_the_next_run(self):
        d = self.begin(env={"MAGPIE_FAULTS": "driver.gc=kill"})
        w = self.worker(d, "--slots", "1")
        ids = [d.submit(self.spec(3)) for _ in range(2)]
        for x in ids:
            d.wait_state(x)
        w.stop()
        d.call("DELETE", f"/api/v1/experiments/{ids[0]}", status=204)
        d.wait()  # killed before the removal
        d = d.restart(env={})
        self.assertTrue(os.path.isdir(os.path.join(self.root(d), "experiments", str(ids[0]))))
        self.assertEqual(self.gc(d)["experiments"], 1)
        self.assertEqual(self.checkpoints(d, ids[1]), ["2-1", "3-1"])

    def test_the_number_of_a_deleted_experiment_is_not_given_again(self):
        d = self.begin()
        self.worker(d, "--slots", "1")
        x = d.submit(self.spec(3))
        d.wait_state(x)
        d.call("DELETE", f"/api/v1/experiments/{x}", status=204)
        d.stop()
        d = d.restart()
        y = d.submit(self.spec(3))
        self.assertGreater(y, x)
        d.wait_state(y)
        self.gc(d)
        self.assertFalse(os.path.exists(os.path.join(self.root(d), "experiments", str(x))))
        self.assertEqual(self.checkpoints(d, y), ["2-1", "3-1"])

    def test_the_best_steps_checkpoint_stays(self):
        d = self.begin()
        self.worker(d, "--slots", "1")
        x = d.submit(self.spec(6, objective={"metric": "value", "direction": "min"},
                               checkpoint={"every": 1, "keep": 1, "best": True}))
        d.wait_state(x)
        harness.wait_until(lambda: self.checkpoints(d, x) == ["1-1", "6-1"], what="the worker's own removal")
        self.litter(d, x)
        self.assertEqual(self.gc(d)["checkpoints"], 2)
        self.assertEqual(self.checkpoints(d, x), ["1-1", "6-1"])

    def test_a_death_in_the_middle_harms_nothing(self):
        d = self.begin(env={"MAGPIE_FAULTS": "driver.gc-removed=kill"})
        w = self.worker(d, "--slots", "1", env={"PROGRAM_STEP_MS": "30"})
        x = d.submit(self.spec(60))
        harness.wait_until(lambda: len(self.checkpoints(d, x)) >= 2, what="checkpoints")
        self.litter(d, x)
        status, _, _ = (0, 0, 0)
        try:
            d.raw("POST", "/api/v1/storage:gc", {})
        except OSError:
            status = -9
        except Exception:  # the connection ends in the middle of an answer
            status = -9
        self.assertEqual((status, d.wait()), (-9, -9))
        d = d.restart(env={})
        self.gc(d)
        self.assertNotIn("50-0", self.checkpoints(d, x))
        self.assertNotIn("2-0", self.checkpoints(d, x))
        d.wait_state(x)
        t = d.trials(x)[0]
        self.assertEqual((t["state"], t["value"], t["attempt"], t["losses"]), ("completed", 60.0, 1, 0))
        self.assertTrue(w.alive())

    def test_a_collection_beside_a_search_with_killed_workers_takes_nothing_that_is_needed(self):
        d = self.driver("--heartbeat", "100ms", "--lease", "1s", "--gc", "100ms")
        notes = self.path("notes")
        os.mkdir(notes)
        env = {"PROGRAM_STEP_MS": "20", "PROGRAM_NOTES": notes}
        workers = [self.worker(d, "--slots", "2", env=env) for _ in range(2)]
        x = d.submit(self.spec(80, trials=4))
        for n in range(3):
            harness.wait_until(lambda: max([t["step"] or 0 for t in d.trials(x)] or [0]) > 15 * (n + 1) and
                               all(t["checkpoint"] for t in d.trials(x) if t["state"] == "running"),
                               what="steps, and a checkpoint of each trial that runs")
            workers[n % 2].kill()
            workers[n % 2] = self.worker(d, "--slots", "2", env=env)
        d.wait_state(x, timeout=3 * harness.DEADLINE)
        for t in d.trials(x):
            self.assertEqual((t["state"], t["value"]), ("completed", 80.0))
            with open(os.path.join(notes, f"trial-{t['trial']}")) as f:
                starts = [json.loads(line) for line in f]
            for a in starts[1:]:
                self.assertIsNotNone(a["resume"], f"trial {t['trial']} lost its checkpoints: {starts}")
        self.assertEqual(self.gc_state(d), [])

    def gc_state(self, d):
        """What a collection of our own would still take, once theirs are through."""
        def clean():
            code, _, body = d.raw("POST", "/api/v1/storage:gc", {"dry_run": True})
            return code == 200 and json.loads(body)["removed"] == [] and [True]
        harness.wait_until(clean, what="nothing left to collect")
        return []

    def littered(self, faults):
        d = self.begin(env={"MAGPIE_FAULTS": faults})
        w = self.worker(d, "--slots", "1")
        x = d.submit(self.spec(3))
        d.wait_state(x)
        harness.wait_until(lambda: self.checkpoints(d, x) == ["2-1", "3-1"], what="the worker's own removal")
        w.stop()
        self.litter(d, x)
        with self.assertRaises(OSError):  # whoever asked goes away in the middle
            d.raw("POST", "/api/v1/storage:gc", {}, timeout=0.3)
        return d, x

    def test_one_collection_at_a_time_and_it_ends_without_who_asked(self):
        d, x = self.littered("driver.gc=sleep2000")
        code, _, text = d.raw("POST", "/api/v1/storage:gc", {})
        self.assertEqual((code, json.loads(text)["detail"]), (409, "garbage is being collected already; try again"))
        harness.wait_until(lambda: self.checkpoints(d, x) == ["2-1", "3-1"], what="its end")
        self.assertEqual(self.gc_state(d), [])

    def test_a_driver_that_is_told_to_stop_ends_in_the_middle_of_a_collection(self):
        d, x = self.littered("driver.gc=sleep1500")
        self.assertEqual(d.stop(), 0)
        d = d.restart(env={})
        self.gc(d)
        self.assertEqual(self.checkpoints(d, x), ["2-1", "3-1"])

    def test_wrong_bodies_are_refused(self):
        d = self.begin()
        for body, pointer in (({"dry": True}, "/dry"), ({"dry_run": 1}, "/dry_run")):
            code, _, text = d.raw("POST", "/api/v1/storage:gc", body)
            self.assertEqual((code, json.loads(text)["issues"][0]["pointer"]), (422, pointer))


if __name__ == "__main__":
    harness.main()
