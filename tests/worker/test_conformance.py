#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One suite for programs in C, Python and shell, as commands and as executors, each written from PROTOCOL.md, section 3.

steps, slow: count up from the checkpoint to the budget (else 3), a report (value = step) and a checkpoint each step, 5 or
50 ms apart, and end when told. deaf: reports for ever and hears nothing. garbage, long (3 MB), unknown: such a line, then
one report. early: exit status 0 at once; temporary: 75; configuration: 78. error: says one (a command exits with 78).
quick: one report."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAMS = {"c": [os.path.join(harness.BUILD, "tests", "worker", "conform")],
            "py": [sys.executable, os.path.join(HERE, "conform.py")],
            "sh": ["bash", os.path.join(HERE, "conform.sh")]}
# How each mode ends: state, part of the reason, cause, by form.
ENDS = {
    "quick": ("completed", None, None),
    "steps": ("completed", None, None),
    "unknown": ("completed", None, None),
    "early": ("failed", 'never reported "value"', "no-metric"),
    "configuration": ("failed", "exit status 78", "configuration"),
    "temporary": ("failed", "exit status 75", "program"),
}
COMMAND_ENDS = {"garbage": ("completed", None, None), "long": ("completed", None, None),
                "error": ("failed", "exit status 78", "configuration")}
EXECUTOR_ENDS = {"garbage": ("failed", "it wrote: no JSON at all {", "program"),
                 "long": ("failed", "a line of more than 1 MiB", "program"),
                 "error": ("failed", "no such shape", "configuration")}


class Conformance(harness.Case):
    def start(self):
        d = self.driver("--heartbeat", "200ms", "--lease", "5s")
        self.worker(d, "--slots", "2", "--grace", "300ms")
        return d

    def spec(self, language, form, modes, **more):
        program = PROGRAMS[language]
        trial = {"command": program + ["${mode}"]} if form == "command" else {"executor": program + ["executor"]}
        return {"name": f"{language}-{form}", "objective": {"metric": "value", "direction": "max"}, "seed": 1,
                "searchspace": {"mode": {"type": "CATEGORICAL", "values": modes}}, "optimizer": {"algorithm": "grid"},
                "trial": trial, **more}

    def each(self):
        for language in PROGRAMS:
            for form in ("command", "executor"):
                with self.subTest(language=language, form=form):
                    yield language, form

    def running(self, d, x, step=1):
        def there():
            t = d.trials(x)
            return t and (t[0]["step"] or 0) >= step and t[0]["state"] == "running"

        harness.wait_until(there, what=f"step {step}")

    def test_each_end_is_judged_alike_in_every_language(self):
        d = self.start()
        for language, form in self.each():
            want = {**ENDS, **(COMMAND_ENDS if form == "command" else EXECUTOR_ENDS)}
            x = d.submit(self.spec(language, form, list(want), limits={"retries": 1, "failures": 0}))
            d.wait_state(x)
            for t in d.trials(x):
                state, reason, cause = want[t["params"]["mode"]]
                self.assertEqual((t["state"], t["cause"]), (state, cause), t)
                if reason:
                    self.assertIn(reason, t["reason"] or "", t)
                retried = t["params"]["mode"] == "temporary"
                self.assertEqual(t["attempt"], 2 if retried else 1, t)
                if t["params"]["mode"] == "steps":
                    self.assertEqual((t["value"], t["step"], t["checkpoint"]["step"]), (3, 3, 3), t)

    def test_paused_trials_go_on_from_their_checkpoints(self):
        d = self.start()
        for language, form in self.each():
            s = self.spec(language, form, ["steps"], optimizer={"algorithm": "asha", "reduction_factor": 2},
                          resource={"min": 2, "max": 8}, limits={"trials": 4})
            s["searchspace"]["x"] = ["DOUBLE", [0, 1]]
            x = d.submit(s)
            d.wait_state(x)
            best = max(d.trials(x), key=lambda t: t["step"])
            self.assertEqual((best["state"], best["value"], best["losses"]), ("completed", 8, 0))
            metrics = d.get(f"/api/v1/experiments/{x}/trials/{best['trial']}/metrics")["metrics"]
            self.assertEqual([m["step"] for m in metrics], list(range(1, 9)), "no step twice, none left out")
            self.assertGreater(best["attempt"], 1)

    def test_a_stop_ends_a_trial_that_hears_and_one_that_does_not(self):
        d = self.start()
        for language, form in self.each():
            for mode in ("slow", "deaf"):
                x = d.submit(self.spec(language, form, [mode], resource={"min": 10000, "max": 10000}))
                self.running(d, x)
                d.post(f"/api/v1/experiments/{x}:cancel")
                harness.wait_until(lambda: d.get("/api/v1/workers")["workers"][0]["busy"] == 0, what="a free slot")
                self.assertEqual(d.trials(x)[0]["state"], "cancelled")

    def test_a_pause_keeps_the_checkpoint_of_the_step(self):
        d = self.start()
        for language, form in self.each():
            x = d.submit(self.spec(language, form, ["slow"], resource={"min": 25, "max": 25}))
            self.running(d, x, 3)
            d.post(f"/api/v1/experiments/{x}:pause", {"stop": True})
            harness.wait_until(lambda: d.trials(x)[0]["state"] != "running", what="the trial to rest")
            d.post(f"/api/v1/experiments/{x}:resume")
            d.wait_state(x)
            t = d.trials(x)[0]
            self.assertEqual((t["state"], t["value"], t["losses"], t["failures"]), ("completed", 25, 0, 0), t)
            metrics = d.get(f"/api/v1/experiments/{x}/trials/1/metrics?limit=1000")["metrics"]
            self.assertEqual(sorted({m["step"] for m in metrics}), list(range(1, 26)))
            self.assertLess(len(metrics), 50, "it did not begin again")


if __name__ == "__main__":
    harness.main()
