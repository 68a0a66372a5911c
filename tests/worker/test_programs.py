#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What trial programs may do to a worker, as commands and as executors: each costs its own trial and
nothing else, and its end says why."""
import gzip
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "program.py")
PYTHON = sys.executable


def spec(modes, trial, **more):
    s = {"name": "programs", "objective": {"metric": "value", "direction": "max"}, "seed": 1,
         "searchspace": {"mode": {"type": "CATEGORICAL", "values": modes}}, "optimizer": {"algorithm": "grid"},
         "limits": {"retries": 0, "failures": 0}, "trial": trial}
    s["limits"].update(more.pop("limits", {}))
    s.update(more)
    return s


COMMAND = {"command": [PYTHON, PROGRAM, "${mode}"]}
EXECUTOR = {"executor": [PYTHON, PROGRAM, "executor"]}


class Programs(harness.Case):
    def setUp(self):
        super().setUp()
        self.notes = self.path("notes")
        os.mkdir(self.notes)

    def start(self, *flags, **env):
        d = self.driver("--heartbeat", "200ms", "--lease", "3s")
        env.setdefault("PROGRAM_NOTES", self.notes)
        w = self.worker(d, *flags, env=env)
        return d, w

    def ran(self, trial):
        """What each attempt of the trial was given."""
        with open(os.path.join(self.notes, f"trial-{trial}")) as f:
            return [json.loads(line) for line in f]

    def outcomes(self, d, x, timeout=60):
        d.wait_state(x, "completed", timeout)
        return {t["params"]["mode"]: t for t in d.trials(x)}

    def check(self, trials, want):
        for mode, (state, reason) in want.items():
            t = trials[mode]
            self.assertEqual(t["state"], state, t)
            if reason:
                self.assertIn(reason, t["reason"] or "", t)

    def test_each_end_of_a_command_is_told_with_its_reason(self):
        d, w = self.start("--slots", "2", "--grace", "300ms")
        want = {"quick": ("completed", None), "result_only": ("completed", None),
                "crash": ("failed", "signal 11 (Segmentation fault); last line: about to crash"),
                "exit3": ("failed", "exit status 3; last line: sorry, no"),
                "no_metric": ("failed", 'never reported "value"'), "nan": ("failed", None),
                "bad_line": ("failed", "could not be used: line 1"),
                "hang": ("failed", "limits.trial_time"), "flood": ("failed", "MiB of output")}
        x = d.submit(spec(list(want), COMMAND, limits={"trial_time": "4s", "output": "2MB"}))
        trials = self.outcomes(d, x)
        self.check(trials, want)
        self.assertEqual(trials["quick"]["value"], 0.5)
        self.assertEqual(trials["result_only"]["value"], 0.25)
        self.assertTrue(w.alive())

    def test_each_end_in_an_executor_is_told_with_its_reason(self):
        d, w = self.start("--slots", "2", "--grace", "300ms")
        want = {"quick": ("completed", None), "result_only": ("completed", None),
                "crash": ("failed", "signal 11"), "exit3": ("failed", "exit status 3"),
                "no_metric": ("failed", 'never reported "value"'), "nan": ("failed", None),
                "error": ("failed", "the shapes 3 and 4 do not fit"), "hang": ("failed", "limits.trial_time"),
                "flood": ("failed", "MiB of output"), "gone": ("failed", 'never reported "value"')}
        x = d.submit(spec(list(want), EXECUTOR, limits={"trial_time": "4s", "output": "2MB"}))
        trials = self.outcomes(d, x)
        self.check(trials, want)
        self.assertEqual(trials["result_only"]["value"], 0.25)
        self.assertTrue(w.alive())

    def test_an_executor_goes_from_trial_to_trial_and_is_replaced_when_it_dies(self):
        d, _ = self.start("--slots", "1")
        modes = ["quick", "result_only", "crash", "steps", "exit3", "left"]
        x = d.submit(spec(modes, EXECUTOR))
        self.outcomes(d, x)
        pids = [self.ran(n)[0]["pid"] for n in range(1, 7)]
        self.assertEqual(pids[0], pids[1])
        self.assertEqual(pids[1], pids[2])
        self.assertNotEqual(pids[2], pids[3], "the crashed one is gone")
        self.assertEqual(pids[3], pids[4])
        self.assertNotEqual(pids[4], pids[5])

    def test_what_a_program_leaves_behind_is_killed(self):
        for trial in (COMMAND, EXECUTOR):
            d, w = self.start("--slots", "1")
            x = d.submit(spec(["left", "exit3"], trial))
            self.outcomes(d, x)
            with open(os.path.join(self.notes, "left")) as f:
                pid = int(f.read())
            harness.wait_until(lambda: not os.path.exists(f"/proc/{pid}"), what="the daemon's end")
            os.unlink(os.path.join(self.notes, "left"))
            w.stop()
            d.stop()

    def test_parameters_files_and_variables_reach_a_command(self):
        d, _ = self.start("--slots", "1")
        s = {"name": "given", "objective": {"metric": "value", "direction": "max"}, "seed": 3,
             "searchspace": {"a": ["INTEGER", [3, 4]], "b": {"type": "CATEGORICAL", "values": ["p", "q"]},
                             "c": {"type": "DISCRETE", "values": [0.5], "when": {"b": ["q"]}}},
             "optimizer": {"algorithm": "grid"}, "resource": {"min": 1, "max": 4}, "limits": {"trials": 2},
             "trial": {"command": [PYTHON, PROGRAM, "steps", "--a=${a}", ["--c", "${c}"], "--b", "${b}"]}}
        x = d.submit(s)
        d.wait_state(x)
        first, second = self.ran(1)[0], self.ran(2)[0]
        self.assertEqual(first["params"], {"a": 3, "b": "p"})
        self.assertEqual(first["argv"], ["steps", "--a=3", "--b", "p"])
        self.assertEqual(second["argv"], ["steps", "--a=3", "--c", "0.5", "--b", "q"])
        self.assertEqual(first["budget"], "4")
        self.assertIsNone(first["resume"])
        self.assertEqual([t["value"] for t in d.trials(x)], [4.0, 4.0])

    def test_regular_expressions_make_metrics_of_any_output(self):
        d, _ = self.start("--slots", "1")
        code = "for i in range(1, 4): print(f'epoch {i}: loss={1/i:.3f} acc = {i/10}')"
        s = spec(["x"], {"command": [PYTHON, "-c", code]}, metrics={"value": "acc = ([0-9.]+)", "loss": "loss=([0-9.]+)"})
        x = d.submit(s)
        d.wait_state(x)
        t = d.trials(x)[0]
        self.assertEqual((t["state"], t["value"], t["step"]), ("completed", 0.3, 3))

    def test_a_program_that_cannot_start_is_a_configuration_error(self):
        d, _ = self.start("--slots", "1", MAGPIE_TRAINER="/nowhere/magpie-trainer")
        for trial, want in (({"command": ["/nowhere/python4"]}, "cannot start \"/nowhere/python4\": No such file"),
                            ({"executor": ["no-such-program"]}, "cannot start \"no-such-program\""),):
            x = d.submit(spec(["a"], trial))
            d.wait_state(x)
            t = d.trials(x)[0]
            self.assertEqual(t["state"], "failed", t)
            self.assertIn(want, t["reason"])

    def test_a_line_says_why_a_trial_failed_however_its_program_ends(self):
        d, _ = self.start("--slots", "2", "--grace", "300ms")
        script = """case "$1" in
configuration) echo '::magpie {"failed": "no such layer", "cause": "configuration"}'; exit 3;;
well) echo '::magpie {"step": 1, "metrics": {"value": 1}, "failed": "diverged"}'; exit 0;;
again) echo '::magpie {"failed": "the server is busy", "retry": true}'; exit 1;;
hangs) echo '::magpie {"failed": "stuck"}'; exec sleep 600;;
cause) echo '::magpie {"failed": "odd", "cause": "fate"}';;
esac"""
        x = d.submit(spec(["configuration", "well", "again", "hangs", "cause"], {"command": ["sh", "-c", script, "sh", "${mode}"]},
                          limits={"retries": 1, "trial_time": "2s"}))
        got = {m: (t["state"], t["reason"], t["cause"], t["attempt"]) for m, t in self.outcomes(d, x).items()}
        self.assertEqual(got, {"configuration": ("failed", "no such layer", "configuration", 1),
                               "well": ("failed", "diverged", "program", 1),
                               "again": ("failed", "the server is busy", "program", 2),
                               "hangs": ("failed", "stuck", "program", 1),
                               "cause": ("failed", "odd", "program", 1)})

    def test_output_and_record_lie_in_storage(self):
        d, _ = self.start("--slots", "1")
        x = d.submit(spec(["exit3"], COMMAND))
        d.wait_state(x)
        storage = os.path.join(d.data, "storage")
        root = os.path.join(storage, os.listdir(storage)[0], "experiments", str(x), "trials", "1")
        harness.wait_until(lambda: os.path.exists(os.path.join(root, "trial.json")), what="trial.json")
        with gzip.open(os.path.join(root, "attempts", "1", "log", "0" * 16 + ".gz"), "rt") as f:
            self.assertEqual(f.read(), "sorry, no\n")
        with open(os.path.join(root, "trial.json")) as f:
            record = json.load(f)
        self.assertEqual((record["status"], record["params"]), ("failed", {"mode": "exit3"}))


if __name__ == "__main__":
    harness.main()
