#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trials of the built-in trainer that run as one: which go together, and that each has its own end,
whatever becomes of the others, of their program, of the worker and of the driver."""
import json
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402

TRAINER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lanes.py")
LR = {"lr": {"type": "DOUBLE", "range": [0.001, 0.1]}}


def modes(*names):
    """A grid of these modes, which is no part of the recipe: any of them may go together."""
    return {"searchspace": {"mode": {"type": "CATEGORICAL", "values": list(names)}},
            "optimizer": {"algorithm": "grid"}, "limits": {"failures": 0}}


def spec(fuse=8, **more):
    s = {"name": "groups", "objective": {"metric": "value", "direction": "max"}, "seed": 1, "searchspace": LR,
         "optimizer": {"algorithm": "random"}, "resource": {"min": 5, "max": 5}, "limits": {"trials": 16},
         "trial": {"program": "builtin", "fuse": fuse, "training": {"lr": "${lr}"}}}
    s.update(more)
    if "lr" not in s["searchspace"]:
        del s["trial"]["training"]
    return s


class Groups(harness.Case):
    def setUp(self):
        super().setUp()
        self.notes = self.path("notes")
        os.mkdir(self.notes)

    def both(self, *flags, driver=(), **env):
        d = self.driver("--heartbeat", "200ms", "--lease", "3s", *driver)
        return d, self.add(d, *flags, **env)

    def add(self, d, *flags, **env):
        flags = flags or ("--slots", "1")
        return self.worker(d, *flags, "--gpus", "none", "--grace", "500ms",
                           env={"MAGPIE_TRAINER": TRAINER, "PROGRAM_NOTES": self.notes, **env})

    def groups(self):
        path = os.path.join(self.notes, "groups")
        if not os.path.exists(path):
            return []
        with open(path) as f:
            return [json.loads(line) for line in f]

    def sets(self):
        return [g["trials"] for g in self.groups()]

    def begun(self):
        return harness.wait_until(self.groups, what="a group")[0]

    def step(self, d, x, n):
        harness.wait_until(lambda: (lambda ts: ts and all((t["step"] or 0) >= n for t in ts))(
            [t for t in d.trials(x) if t["state"] == "running"]), what=f"step {n} of all")

    def saved(self, d, x):
        harness.wait_until(lambda: all(t["checkpoint"] for t in d.trials(x)), what="a checkpoint of each")

    def ended(self, d, x):
        d.wait_state(x)
        self.magpie("verify", str(x), "--data", d.data)
        return {t["trial"]: t for t in d.trials(x)}

    def test_trials_that_differ_in_numbers_alone_run_as_one(self):
        d, _ = self.both()
        trials = self.ended(d, d.submit(spec()))
        self.assertEqual(self.sets(), [list(range(1, 9)), list(range(9, 17))])
        self.assertEqual({g["pid"] for g in self.groups()}, {self.groups()[0]["pid"]})
        self.assertEqual({(t["state"], t["attempt"], t["value"]) for t in trials.values()}, {("completed", 1, 5.0)})

    def test_without_being_asked_for_each_runs_alone(self):
        d, _ = self.both()
        self.ended(d, d.submit(spec(False, limits={"trials": 3})))
        self.assertEqual(self.sets(), [[1], [2], [3]])

    def test_auto_is_each_alone_where_there_is_no_gpu(self):
        d, _ = self.both()
        self.ended(d, d.submit(spec("auto", limits={"trials": 2})))
        self.assertEqual(self.sets(), [[1], [2]])

    def test_auto_is_many_where_there_is_one(self):
        d = self.driver("--heartbeat", "200ms", "--lease", "3s")
        self.worker(d, "--gpus", "0", env={"MAGPIE_TRAINER": TRAINER, "PROGRAM_NOTES": self.notes, "LANES": "64"})
        self.ended(d, d.submit(spec("auto", limits={"trials": 40})))
        self.assertEqual(self.sets(), [list(range(1, 33)), list(range(33, 41))])

    def test_another_architecture_ends_a_group(self):
        d, _ = self.both()
        s = spec(searchspace={**LR, "units": {"type": "DISCRETE", "values": [8, 16]}}, limits={"trials": 24})
        s["trial"]["model"] = {"layers": [{"type": "dense", "units": "${units}"}]}
        self.ended(d, d.submit(s))
        self.assertEqual(sorted(sum(self.sets(), [])), list(range(1, 25)))
        for g in self.groups():
            self.assertEqual(len({p["units"] for p in g["params"]}), 1, g)
        self.assertTrue(any(len(g) > 1 for g in self.sets()))

    def test_limits_hold_within_groups(self):
        d, _ = self.both()
        self.ended(d, d.submit(spec(limits={"trials": 11, "parallel": 3})))
        self.assertEqual(self.sets(), [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11]])

    def test_slots_are_filled_before_groups_are(self):
        d, _ = self.both("--slots", "4", PROGRAM_STEP_MS="50")
        x = d.submit(spec(limits={"trials": 8}))
        harness.wait_until(lambda: len(self.groups()) == 4, what="four programs")
        self.assertEqual(sorted(len(g) for g in self.sets()), [2, 2, 2, 2])
        self.ended(d, x)

    def test_a_group_takes_the_slots_of_one(self):
        d, _ = self.both("--slots", "2", PROGRAM_STEP_MS="50")
        x = d.submit(spec(limits={"trials": 8, "parallel": 8}))
        harness.wait_until(lambda: len(self.groups()) == 2, what="two programs")
        w = d.get("/api/v1/workers")["workers"][0]
        self.assertEqual((w["busy"], len(w["running"]), len({t["group"] for t in w["running"]})), (2, 8, 2))
        self.ended(d, x)

    def test_promotions_of_one_rung_go_on_together_from_their_checkpoints(self):
        d, _ = self.both()
        x = d.submit(spec(8, optimizer={"algorithm": "asha", "reduction_factor": 2},
                          resource={"min": 2, "max": 4}, limits={"trials": 8}))
        trials = self.ended(d, x)
        for g in self.groups():
            self.assertEqual(len(set(g["resume"])), 1, g)
        self.assertTrue([g for g in self.groups() if g["resume"][0] == 2 and len(g["trials"]) > 1], self.groups())
        self.assertTrue(any(t["step"] == 4 for t in trials.values()))

    def test_each_lane_has_its_own_end(self):
        d, _ = self.both()
        x = d.submit(spec(**modes("steps", "nan", "error", "deaf-not", "late")))
        trials = self.ended(d, x)
        by = {t["params"]["mode"]: t for t in trials.values()}
        self.assertEqual(self.sets(), [[1, 2, 3, 4, 5]])
        self.assertEqual({m: t["state"] for m, t in by.items()},
                         {"steps": "completed", "nan": "failed", "error": "failed", "deaf-not": "completed",
                          "late": "completed"})
        self.assertIn("step 2", by["nan"]["reason"])
        self.assertIn("the shapes 3 and 4", by["error"]["reason"])

    def test_one_is_stopped_and_the_others_go_on(self):
        d, _ = self.both(PROGRAM_STEP_MS="30")
        x = d.submit(spec(**modes("endless", "steps", "more"), resource={"min": 40, "max": 40}))
        self.begun()
        self.step(d, x, 3)
        endless = [t["trial"] for t in d.trials(x) if t["params"]["mode"] == "endless"][0]
        d.post(f"/api/v1/experiments/{x}/trials/{endless}:cancel")
        trials = self.ended(d, x)
        self.assertEqual(sorted(t["state"] for t in trials.values()), ["cancelled", "completed", "completed"])
        self.assertEqual(len(self.groups()), 1)

    def test_one_that_does_not_hear_costs_the_others_nothing_but_time(self):
        d, _ = self.both(PROGRAM_STEP_MS="30")
        x = d.submit(spec(**modes("deaf", "steps", "more"), resource={"min": 100, "max": 100}))
        self.begun()
        self.step(d, x, 3)
        deaf = [t["trial"] for t in d.trials(x) if t["params"]["mode"] == "deaf"][0]
        d.post(f"/api/v1/experiments/{x}/trials/{deaf}:cancel")
        trials = self.ended(d, x)
        others = [t for t in trials.values() if t["trial"] != deaf]
        self.assertEqual({(t["state"], t["failures"], t["losses"]) for t in others}, {("completed", 0, 0)})
        self.assertEqual({t["attempt"] for t in others}, {2})
        self.assertTrue(all(n for n in self.groups()[1]["resume"]), self.groups())

    def test_a_crash_counts_for_each_and_then_each_runs_alone(self):
        d, _ = self.both()
        x = d.submit(spec(**{**modes("crash", "steps", "more"), "limits": {"retries": 1, "failures": 0}}))
        by = {t["params"]["mode"]: t for t in self.ended(d, x).values()}
        self.assertEqual({m: (t["state"], t["attempt"], t["failures"]) for m, t in by.items()},
                         {"crash": ("failed", 2, 2), "steps": ("completed", 2, 1), "more": ("completed", 2, 1)})
        self.assertEqual([len(g) for g in self.sets()], [3, 1, 1, 1])

    def test_a_line_that_breaks_the_protocol_ends_the_group(self):
        d, _ = self.both()
        x = d.submit(spec(**{**modes("garbage", "steps"), "limits": {"retries": 0, "failures": 0}}))
        for t in self.ended(d, x).values():
            self.assertEqual(t["state"], "failed")
            self.assertIn("broke the protocol", t["reason"])

    def test_the_time_of_a_trial_holds_for_each(self):
        d, w = self.both(PROGRAM_STEP_MS="20")
        x = d.submit(spec(**{**modes("endless", "steps"),
                             "limits": {"retries": 0, "failures": 0, "trial_time": "1s"}}))
        by = {t["params"]["mode"]: t for t in self.ended(d, x).values()}
        self.assertEqual(by["steps"]["state"], "completed")
        self.assertEqual(by["endless"]["state"], "failed")
        self.assertIn("trial_time", by["endless"]["reason"])
        self.assertTrue(w.alive())

    def test_what_has_no_room_goes_back_uncounted_and_the_next_groups_are_smaller(self):
        d, _ = self.both(LANES_ROOM="3")
        trials = self.ended(d, d.submit(spec()))
        self.assertEqual({(t["state"], t["losses"], t["failures"]) for t in trials.values()}, {("completed", 0, 0)})
        self.assertEqual(max(len(g) for g in self.sets()[3:]), 3)

    def test_a_trainer_that_knows_no_groups_runs_one_after_another(self):
        d, _ = self.both(LANES="0")
        trials = self.ended(d, d.submit(spec(limits={"trials": 6})))
        self.assertEqual({len(g) for g in self.sets()}, {1})
        self.assertEqual({(t["state"], t["losses"]) for t in trials.values()}, {("completed", 0)})

    def test_trials_of_a_killed_worker_go_on_elsewhere_and_each_counts_a_loss(self):
        d, w = self.both(PROGRAM_STEP_MS="30")
        x = d.submit(spec(limits={"trials": 4}, resource={"min": 40, "max": 40}))
        self.begun()
        self.saved(d, x)
        w.kill()
        self.add(d)
        trials = self.ended(d, x)
        self.assertEqual({(t["state"], t["attempt"], t["losses"]) for t in trials.values()}, {("completed", 2, 1)})
        self.assertTrue(all(sum((g["resume"] for g in self.groups()[1:]), [])), self.groups())

    def test_trials_of_a_killed_trainer_are_tried_again_from_their_checkpoints(self):
        d, _ = self.both(PROGRAM_STEP_MS="30")
        x = d.submit(spec(limits={"trials": 4}, resource={"min": 40, "max": 40}))
        pid = self.begun()["pid"]
        self.saved(d, x)
        os.kill(pid, signal.SIGKILL)
        trials = self.ended(d, x)
        self.assertEqual({(t["state"], t["attempt"], t["failures"]) for t in trials.values()}, {("completed", 2, 1)})
        self.assertTrue(all(sum((g["resume"] for g in self.groups()[1:]), [])), self.groups())

    def test_a_group_goes_on_while_the_driver_is_killed_and_started_again(self):
        d, _ = self.both(PROGRAM_STEP_MS="30")
        x = d.submit(spec(limits={"trials": 8}, resource={"min": 60, "max": 60}))
        self.begun()
        self.step(d, x, 3)
        d.kill()
        d.restart()
        w = harness.wait_until(lambda: (lambda l: l and len(l[0]["running"]) == 8 and l[0])(
            d.get("/api/v1/workers")["workers"]), what="the group again")
        self.assertEqual(w["busy"], 1)
        trials = self.ended(d, x)
        self.assertEqual({(t["state"], t["attempt"]) for t in trials.values()}, {("completed", 1)})
        self.assertEqual(len(self.groups()), 1)

    def test_a_drained_worker_gives_each_back_at_its_checkpoint(self):
        d, w = self.both(PROGRAM_STEP_MS="30")
        x = d.submit(spec(limits={"trials": 4}, resource={"min": 60, "max": 60}))
        self.begun()
        self.step(d, x, 3)
        w.signal(signal.SIGUSR1)
        self.assertEqual(w.wait(), 0)
        self.assertEqual({(t["losses"], t["failures"]) for t in d.trials(x)}, {(0, 0)})
        self.add(d)
        trials = self.ended(d, x)
        self.assertEqual({(t["state"], t["attempt"], t["losses"]) for t in trials.values()}, {("completed", 2, 0)})
        self.assertEqual([len(g) for g in self.sets()], [4, 4])

    def test_the_next_group_is_reserved_before_the_slot_is_free(self):
        d, _ = self.both(PROGRAM_STEP_MS="40")
        x = d.submit(spec(4, limits={"trials": 24}))
        held = harness.wait_until(lambda: [w for w in d.get("/api/v1/workers")["workers"] if w["reserved"]],
                                  what="a reservation")[0]["reserved"]
        self.assertLessEqual(len({t["group"] for t in held}), 1)
        self.ended(d, x)
        self.assertEqual([len(g) for g in self.sets()], [4] * 6)

    def test_the_log_of_each_holds_what_their_program_wrote(self):
        d, _ = self.both()
        x = d.submit(spec(limits={"trials": 2}))
        self.ended(d, x)
        for n, other in ((1, 2), (2, 1)):
            log = harness.wait_until(
                lambda: d.raw("GET", f"/api/v1/experiments/{x}/trials/{n}/log")[2].decode(), what="a log")
            self.assertIn("a group of 2", log)
            self.assertIn(f"trial {other}", log)

    def test_suggestions_that_take_long_still_make_groups(self):
        d = self.driver("--heartbeat", "200ms", "--lease", "3s", env={"MAGPIE_FAULTS": "driver.slow=fail*"})
        self.add(d)
        trials = self.ended(d, d.submit(spec(limits={"trials": 16})))
        self.assertEqual(len(trials), 16)
        self.assertTrue(any(len(g) > 2 for g in self.sets()), self.sets())

    def crowd(self, d, x, workers, deaf):
        p = self.start([os.path.join(harness.BUILD, "tests", "worker", "crowd"), d.nng, str(workers), str(deaf)], "crowd")
        self.assertEqual(p.wait(timeout=8 * harness.DEADLINE), 0, p.stderr())
        trials = self.ended(d, x)
        return json.loads(p.stdout()), trials

    def test_a_thousand_workers_that_ask_at_once_get_whole_groups_within_the_limits(self):
        d = self.driver("--lease", "60s")
        x = d.submit(spec(4, limits={"trials": 400, "parallel": 90}))
        seen, trials = self.crowd(d, x, 1000, 0)
        self.assertEqual(len(trials), 400)
        self.assertEqual((seen["grants"], seen["mixed"]), (400, 0), seen)
        self.assertLessEqual(seen["most_open"], 90)
        self.assertLessEqual(seen["largest"], 4)

    def test_workers_that_die_with_their_groups_lose_no_trial(self):
        d = self.driver("--heartbeat", "200ms", "--lease", "2s")
        x = d.submit(spec(4, limits={"trials": 60, "parallel": 12}))
        seen, trials = self.crowd(d, x, 40, 7)
        self.assertGreater(seen["dead"], 0)
        self.assertEqual({t["state"] for t in trials.values()}, {"completed"})
        self.assertEqual(len(trials), 60)
        self.assertEqual(seen["mixed"], 0)

    def test_fuse_is_checked(self):
        d = self.driver()
        for fuse in (0, 65, "always", 2.5, []):
            status, _, body = d.raw("POST", "/api/v1/experiments", json.dumps(spec(fuse)),
                                    {"Content-Type": "application/json"})[:3]
            self.assertEqual(status, 422, body)
            self.assertIn("/trial/fuse", body.decode())


if __name__ == "__main__":
    harness.main()
