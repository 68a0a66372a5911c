#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Who gets what: fair sharing, needs and offers, reservations, pauses, tokens."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "program.py")
SLEEPER = os.path.join(harness.BUILD, "bench", "sleeper")


def sleeping(ms, trials, **more):
    return {"name": "sleeping", "objective": {"metric": "value", "direction": "min"}, "seed": 1,
            "searchspace": {"x": ["DOUBLE", [0.0, 1.0]]}, "optimizer": {"algorithm": "random"},
            "limits": {"trials": trials}, "trial": {"executor": [SLEEPER, str(ms)]}, **more}


class Pool(harness.Case):
    def start(self, *flags):
        return self.driver("--heartbeat", "200ms", "--lease", "2s", *flags)

    def workers(self, d, n=1):
        return harness.wait_until(
            lambda: (lambda w: w if len(w) == n else None)(d.get("/api/v1/workers")["workers"]), what=f"{n} workers")

    def running(self, d):
        """{experiment: running trials} over all workers."""
        out = {}
        for w in d.get("/api/v1/workers")["workers"]:
            for t in w["running"]:
                out[t["experiment"]] = out.get(t["experiment"], 0) + 1
        return out

    def test_experiments_share_the_workers_evenly(self):
        d = self.start()
        first = d.submit(sleeping(300, 1000))
        second = d.submit(sleeping(300, 1000))
        self.worker(d, "--slots", "3")
        self.worker(d, "--slots", "3")
        harness.wait_until(lambda: self.running(d) == {first: 3, second: 3}, what="three each")
        d.post(f"/api/v1/experiments/{first}:cancel")
        harness.wait_until(lambda: self.running(d) == {second: 6}, what="all for the other")

    def test_a_trial_of_several_slots_is_not_starved_by_trials_of_one(self):
        d = self.start()
        small = d.submit(sleeping(200, 100000))
        self.worker(d, "--slots", "3")
        harness.wait_until(lambda: self.running(d) == {small: 3}, what="every slot taken")
        large = d.submit(sleeping(200, 2, requires={"cores": os.cpu_count()}))  # all of the slots
        d.wait_state(large)
        harness.wait_until(lambda: self.running(d) == {small: 3}, what="the slots given back")

    def test_what_no_worker_offers_is_said_until_one_does(self):
        d = self.start()
        x = d.submit(sleeping(1, 3, requires={"labels": ["ssd"]}))
        g = d.submit(sleeping(1, 3, requires={"gpus": 1}))

        def why(i):
            return json.dumps(d.experiment(i)["why"])

        harness.wait_until(lambda: "no worker" in why(x), what="a reason")
        self.worker(d, "--slots", "2", "--gpus", "none")
        harness.wait_until(lambda: "no worker offers a GPU" in why(g), what="the GPU's reason")
        harness.wait_until(lambda: "ssd" in why(x), what="the label's reason")
        self.worker(d, "--slots", "1", "--gpus", "none", "--labels", "rack-7,ssd", "--name", "fast")
        d.wait_state(x)
        self.assertEqual({t["worker"].rsplit("-", 1)[0] for t in d.trials(x)}, {"fast"})
        self.worker(d, "--slots", "1", "--gpus", "0")
        d.wait_state(g)

    def test_a_trial_that_needs_more_takes_more_slots(self):
        d = self.start()
        self.worker(d, "--slots", "4", "--gpus", "0,1,2,3")
        x = d.submit(sleeping(500, 100, requires={"gpus": 2}))
        harness.wait_until(lambda: self.running(d).get(x) == 2, what="two trials of two GPUs")
        w = d.get("/api/v1/workers")["workers"][0]
        self.assertEqual((w["busy"], w["free"]), (4, 0))
        d.post(f"/api/v1/experiments/{x}:cancel")

    def test_a_program_sees_the_gpus_and_threads_of_its_slots(self):
        d = self.start()
        self.worker(d, "--slots", "2", "--gpus", "4,6")
        seen = self.path("seen")
        code = (f"import os; open('{seen}','a').write(os.environ['CUDA_VISIBLE_DEVICES']+'\\n');"
                "print('::magpie {\"result\": {\"value\": 1}}')")
        for gpus, want in ((1, {"4", "6"}), (2, {"4,6"})):
            s = sleeping(1, 6, requires={"gpus": gpus})
            s["trial"] = {"command": [sys.executable, "-c", code]}
            d.wait_state(d.submit(s))
            with open(seen) as f:
                self.assertLessEqual(set(f.read().split()), want)
            os.unlink(seen)

    def gpu_worker(self, d, *flags):
        """A worker of two GPUs of 80,000 MB each."""
        folder = self.path("smi")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "nvidia-smi"), "w") as f:
            f.write("#!/bin/sh\necho 80000\necho 80000\n")
        os.chmod(os.path.join(folder, "nvidia-smi"), 0o755)
        return self.worker(d, "--gpus", "0,1", *flags, env={"PATH": folder + ":" + os.environ["PATH"]})

    def gpus_of_trials(self, d, n, memory):
        """CUDA_VISIBLE_DEVICES of n trials that run at the same time."""
        seen = self.path("seen-" + memory)
        os.makedirs(seen)
        code = (f"import os,time; open('{seen}/'+os.environ['MAGPIE_TRIAL'],'w').write(os.environ['CUDA_VISIBLE_DEVICES'])\n"
                f"while len(os.listdir('{seen}')) < {n}: time.sleep(.02)\n"
                "print('::magpie {\"result\": {\"value\": 1}}')")
        s = sleeping(1, n, requires={"gpu_memory": memory})
        s["trial"] = {"command": [sys.executable, "-c", code]}
        d.wait_state(d.submit(s))
        out = []
        for name in os.listdir(seen):
            with open(os.path.join(seen, name)) as f:
                out.append(f.read())
        return sorted(out)

    def test_trials_share_a_gpu_as_its_memory_allows(self):
        d = self.start()
        self.gpu_worker(d, "--slots-per-gpu", "4")
        self.assertEqual(self.workers(d)[0]["slots"], 8)
        self.assertEqual(self.gpus_of_trials(d, 8, "19GB"), ["0"] * 4 + ["1"] * 4)
        self.assertEqual(self.gpus_of_trials(d, 4, "38GB"), ["0", "0", "1", "1"])
        self.assertEqual(self.gpus_of_trials(d, 2, "60GB"), ["0", "1"])
        x = d.submit(sleeping(1, 1, requires={"gpu_memory": "81GB"}))
        harness.wait_until(lambda: "GPU with" in json.dumps(d.experiment(x)["why"]), what="the reason")

    def test_slots_per_gpu_needs_gpus_and_no_slots(self):
        d = self.start()
        for flags, why in ((("--gpus", "none"), "has no GPU"), (("--gpus", "0", "--slots", "2"), "--slots says already")):
            w = self.worker(d, "--slots-per-gpu", "2", *flags)
            self.assertEqual(w.wait(), 2)
            self.assertIn(why, w.stderr())

    def test_the_next_trial_is_reserved_before_the_slot_is_free(self):
        d = self.start()
        self.worker(d, "--slots", "2")
        x = d.submit(sleeping(250, 12))
        held = harness.wait_until(lambda: [w for w in d.get("/api/v1/workers")["workers"] if w["reserved"]],
                                  what="a reservation")[0]
        self.assertLessEqual(len(held["reserved"]), 2)
        d.wait_state(x)
        self.assertEqual({t["attempt"] for t in d.trials(x)}, {1})

    def test_a_reservation_lost_with_its_worker_goes_to_the_next_and_counts_no_loss(self):
        d = self.start()
        w = self.worker(d, "--slots", "2")
        x = d.submit(sleeping(400, 8))
        held = harness.wait_until(lambda: (lambda l: l if l else None)(
            d.get("/api/v1/workers")["workers"][0]["reserved"] if d.get("/api/v1/workers")["workers"] else []),
            what="a reservation")
        w.kill()
        reserved = {t["trial"] for t in held}
        self.worker(d, "--slots", "2")
        d.wait_state(x)
        trials = {t["trial"]: t for t in d.trials(x)}
        self.assertEqual(len(trials), 8)
        # A reservation seen may have begun just before the kill: then it is a loss like any other.
        unbegun = [n for n in reserved if trials[n]["losses"] == 0]
        self.assertEqual(sum(t["losses"] for t in trials.values()) <= 2, True, trials)
        self.assertTrue(unbegun or len(reserved) <= 2)

    def test_a_pause_with_stop_ends_trials_at_a_checkpoint_and_resumes_there(self):
        notes = self.path("notes")
        os.mkdir(notes)
        d = self.start()
        self.worker(d, "--slots", "1", env={"PROGRAM_NOTES": notes, "PROGRAM_STEP_MS": "30"})
        x = d.submit({"name": "pausing", "objective": {"metric": "value", "direction": "max"}, "seed": 1,
                      "searchspace": {"mode": {"type": "CATEGORICAL", "values": ["steps"]}},
                      "optimizer": {"algorithm": "grid"}, "resource": {"min": 40, "max": 40},
                      "trial": {"executor": [sys.executable, PROGRAM, "executor"]}})
        harness.wait_until(lambda: any((t["step"] or 0) >= 5 for t in d.trials(x)))
        d.post(f"/api/v1/experiments/{x}:pause", {"stop": True})
        harness.wait_until(lambda: d.get("/api/v1/workers")["workers"][0]["busy"] == 0, what="an empty worker")
        stopped_at = d.trials(x)[0]["step"]
        self.assertLess(stopped_at, 40)
        d.post(f"/api/v1/experiments/{x}:resume")
        d.wait_state(x)
        with open(os.path.join(notes, "trial-1")) as f:
            attempts = [json.loads(line) for line in f]
        self.assertEqual(len(attempts), 2)
        self.assertGreaterEqual(attempts[1]["resume"], 5)
        self.assertGreaterEqual(attempts[1]["resume"], stopped_at - 1)
        self.assertEqual(d.trials(x)[0]["value"], 40.0)

    def test_a_driver_that_asks_for_its_token_gets_it(self):
        d = self.start("--require-token")
        w = self.worker(d, "--slots", "1", "--data", self.path("elsewhere"))
        self.assertEqual(w.wait(), 2)
        self.assertIn("MAGPIE_TOKEN", w.stderr())
        w = self.worker(d, "--slots", "1", "--data", self.path("elsewhere"), env={"MAGPIE_TOKEN": "0" * 64})
        self.assertEqual(w.wait(), 2)
        self.worker(d, "--slots", "1", env={"MAGPIE_TOKEN": d.token()})
        self.workers(d)

    def test_workers_are_listed_in_pages(self):
        d = self.start()
        for _ in range(3):
            self.worker(d, "--slots", "1")
        all_ids = [w["worker"] for w in self.workers(d, 3)]
        self.assertEqual(all_ids, sorted(all_ids))
        page = d.get("/api/v1/workers?limit=2")
        rest = d.get(f"/api/v1/workers?limit=2&cursor={page['next']}")
        self.assertEqual([w["worker"] for w in page["workers"] + rest["workers"]], all_ids)
        self.assertIsNone(rest["next"])


if __name__ == "__main__":
    harness.main()
