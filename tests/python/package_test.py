# SPDX-License-Identifier: Apache-2.0
"""The Python package by itself: types, version, trials that are run by hand, saved state."""
import os
import random
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import harness

sys.path.insert(0, harness.CLIENT)
import magpie_hpo as magpie
from magpie_hpo import channel, errors, state
from magpie_hpo import _trial as trial_module


def by_hand(code, **env):
    """Runs a script without magpie; (exit status, output, errors)."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MAGPIE_")}
    p = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                       env={**clean, "PYTHONPATH": harness.CLIENT, **env})
    return p.returncode, p.stdout, p.stderr


LOOP = """
import magpie_hpo as magpie
with magpie.trial(lr=0.5, units=8) as t:
    seen = {"epochs": 0}
    for epoch in t.epochs(3, seen=seen):
        seen["epochs"] += 1
        t.report(epoch, val_accuracy=t.params["lr"] * seen["epochs"], units=t.params.units)
print("after", seen)
"""


class ByHand(harness.Case):
    def test_a_script_runs_with_its_defaults_and_prints_its_metrics(self):
        status, out, err = by_hand(LOOP)
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(out.splitlines(), ["step 1  val_accuracy 0.5  units 8", "step 2  val_accuracy 1  units 8",
                                            "step 3  val_accuracy 1.5  units 8", "after {'epochs': 3}"])

    def test_checkpoints_are_kept_only_where_a_folder_is_named_and_are_gone_on_from(self):
        folder = self.path("kept")
        status, out, err = by_hand(LOOP, MAGPIE_CHECKPOINT_DIR=folder)
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(sorted(os.listdir(folder)), ["1", "2", "3"])
        status, out, err = by_hand(LOOP, MAGPIE_RESUME_FROM=folder + "/2", MAGPIE_RESUME_STEP="2")
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(out.splitlines(), ["step 3  val_accuracy 1.5  units 8", "after {'epochs': 3}"])

    def test_it_works_without_with_and_an_exception_stays_pythons(self):
        code = "import magpie_hpo as m\nt = m.trial(x=1)\nt.report(1, loss=2)\nt.report(loss=1)\nraise KeyError('mine')"
        status, out, err = by_hand(code)
        self.assertEqual(status, 1)
        self.assertEqual(out.splitlines(), ["step 1  loss 2", "step 2  loss 1"])
        self.assertTrue(err.rstrip().endswith("KeyError: 'mine'"), err)

    def test_what_the_module_loads_is_small(self):
        heavy = {"asyncio", "http.client", "torch", "numpy", "subprocess"}
        code = f"import sys, magpie_hpo; print(sorted({heavy!r} & set(sys.modules)))"
        self.assertEqual(by_hand(code)[1].strip(), "[]")


class Fake(channel.Channel):
    """Remembers what is said; obeys what the test orders."""

    def __init__(self, **start):
        self.start = channel.Start(**start)
        self.said, self.ordered = [], None

    def report(self, step, metrics):
        self.said.append(("report", step, dict(metrics)))

    def checkpoint(self, step, path):
        self.said.append(("checkpoint", step, path))

    def result(self, status, metrics):
        self.said.append(("result", status, dict(metrics)))

    def error(self, reason, cause):
        self.said.append(("error", cause, reason))

    def order(self):
        return self.ordered


class Inside(harness.Case):
    def test_parameters_are_a_mapping_with_attributes_and_defaults(self):
        t = trial_module.Trial(Fake(params={"lr": 0.1, "kind": "a"}), {"lr": 1, "units": 64})
        self.assertEqual(dict(t.params), {"lr": 0.1, "units": 64, "kind": "a"})
        self.assertEqual((t.params.lr, t.params["units"], t.params.get("momentum"), "kind" in t.params), (0.1, 64, None, True))
        with self.assertRaisesRegex(KeyError, "momentum: this trial has lr, units, kind"):
            t.params["momentum"]
        with self.assertRaises(AttributeError):
            t.params.lr = 3

    def test_folds_come_over_both_ways(self):
        env = {"MAGPIE_FOLD": "2", "MAGPIE_FOLDS": "5", "MAGPIE_FOLD_SEED": "9", "MAGPIE_FOLD_STRATIFIED": "1"}
        message = {"type": "start", "trial": 1, "fold": 2, "folds": 5, "split": {"seed": 9, "stratified": True}}
        for start in (channel.start_from_environment(env), channel.start_of(message)):
            said = Fake()
            said.start = start
            t = trial_module.Trial(said, {})
            self.assertEqual((t.fold, t.folds, t.split), (2, 5, {"seed": 9, "stratified": True}))
        self.assertEqual(trial_module.Trial(Fake(), {}).fold, None)

    def test_metric_values_are_what_float_takes_but_text(self):
        class Scalar:
            def __float__(self):
                return 0.25

        said = Fake()
        t = trial_module.Trial(said, {})
        t.report(1, a=Scalar(), b=True, c=None, d=10**30, e=float("nan"))
        self.assertEqual(said.said[0][2]["a"], 0.25)
        self.assertIs(type(said.said[0][2]["d"]), float)
        self.assertIsNone(said.said[0][2]["c"])
        for bad in ("0.5", [1, 2], object()):
            with self.assertRaisesRegex(TypeError, "metric acc"):
                t.report(2, acc=bad)
        with self.assertRaisesRegex(ValueError, "at most 64"):
            t.report(2, {f"m{i}": 0 for i in range(65)})
        t.report(2, {f"m{i}": 0 for i in range(64)})
        with self.assertRaisesRegex(ValueError, "128 bytes"):
            t.report(3, {"x" * 129: 0})
        t.report(3, {"x" * 128: 0})

    def test_steps_rise_and_count_by_themselves(self):
        said = Fake(resume_step=4)
        t = trial_module.Trial(said, {})
        t.report(loss=1)
        t.report(7, loss=1)
        t.report(7, other=1)
        self.assertEqual([s[1] for s in said.said], [5, 7, 7])
        with self.assertRaisesRegex(ValueError, "step 6 after step 7"):
            t.report(6, loss=1)
        with self.assertRaises(TypeError):
            t.report(7.5, loss=1)

    def test_should_stop_at_an_order_and_at_the_end_of_the_budget(self):
        said = Fake(budget=2)
        with trial_module.Trial(said, {}) as t:
            t.report(1, a=0)
            self.assertFalse(t.should_stop())
            t.report(2, a=0)
            self.assertTrue(t.should_stop())
        self.assertEqual(said.said[-1], ("result", "completed", {}))
        said = Fake()
        with trial_module.Trial(said, {}) as t:
            said.ordered = "stop"
            self.assertTrue(t.should_stop())
        self.assertEqual(said.said[-1], ("result", "stopped", {}))

    def test_a_script_that_never_asks_is_ended_at_its_second_report_after_the_order(self):
        said = Fake()
        with trial_module.Trial(said, {}) as t:
            for step in range(1, 100):
                if step == 3:
                    said.ordered = "stop"
                try:
                    t.report(step, a=0)
                except Exception:  # what a careless script does
                    self.fail("the end must not look like an error")
        self.assertEqual([s[1] for s in said.said], [1, 2, 3, "stopped"])

    def test_a_pause_is_taken_with_a_checkpoint_at_the_end_of_the_epoch(self):
        said = Fake(budget=10, every=5, checkpoint_dir=self.path("c"))
        with trial_module.Trial(said, {}) as t:
            for epoch in t.epochs(state={"a": 1}):
                t.report(epoch, a=0)
                if epoch == 7:
                    said.ordered = "pause"
        self.assertEqual([s[:2] for s in said.said if s[0] != "report"],
                         [("checkpoint", 5), ("checkpoint", 7), ("result", "paused")])

    def test_the_report_at_the_budget_leaves_behind_its_checkpoint(self):
        said = Fake(budget=2, checkpoint_dir=self.path("c"))
        with trial_module.Trial(said, {}) as t:
            for epoch in t.epochs(state={"a": 1}):
                t.report(epoch, a=epoch)
        self.assertEqual([s[:2] for s in said.said],
                         [("report", 1), ("checkpoint", 1), ("checkpoint", 2), ("report", 2), ("result", "completed")])
        said = Fake(budget=1, checkpoint_dir=self.path("d"))
        with trial_module.Trial(said, {}) as t:
            for epoch in t.epochs(state={"a": 1}):
                t.report(epoch, a=epoch)
                break  # whatever the script does, the report is not lost
        self.assertEqual([s[:2] for s in said.said], [("report", 1), ("result", "completed")])

    def test_half_a_checkpoint_is_none(self):
        said = Fake(checkpoint_dir=self.path("c"))
        t = trial_module.Trial(said, {})
        with self.assertRaises(ZeroDivisionError):
            with t.checkpoint_dir(1) as folder:
                (folder / "model").write_text("half")
                raise ZeroDivisionError
        self.assertEqual((said.said, os.listdir(self.path("c"))), ([], []))
        folder = t.checkpoint_dir(2)
        with open(folder / "model", "w") as f:
            f.write("whole")
        self.assertEqual(said.said, [])
        folder.complete()
        folder.complete()
        self.assertEqual(said.said, [("checkpoint", 2, os.fspath(folder))])
        with self.assertRaisesRegex(ValueError, "already"):
            t.checkpoint_dir(2)

    def test_causes_of_failures(self):
        Torch = type("OutOfMemoryError", (RuntimeError,), {"__module__": "torch.cuda"})
        for error, cause in ((magpie.ConfigurationError("shapes"), "configuration"), (MemoryError(), "out-of-memory"),
                             (Torch("x"), "out-of-memory"), (RuntimeError("CUDA out of memory. Tried"), "out-of-memory"),
                             (RuntimeError("other"), "program"), (ZeroDivisionError(), "program")):
            said = Fake()
            with self.assertRaises(type(error)):
                with trial_module.Trial(said, {}):
                    raise error
            self.assertEqual([s[:2] for s in said.said], [("error", cause)])
        self.assertEqual(errors.reason_of(ValueError("no\nway")), "ValueError: no\nway")
        said = Fake()
        with self.assertRaises(SystemExit):
            with trial_module.Trial(said, {}):
                sys.exit(3)
        self.assertEqual(said.said, [])


class Thing:
    def __init__(self):
        self.weights = [1.0]


class State(unittest.TestCase):
    def test_everything_comes_back_in_place_random_generators_too(self):
        class Model:
            def __init__(self):
                self.w = 0

            def state_dict(self):
                return {"w": self.w}

            def load_state_dict(self, s):
                self.w = s["w"]

        model, rng, d, items, thing = Model(), random.Random(5), {"a": 1}, [1, 2], Thing()
        model.w, before = 7, rng.getstate()
        random.seed(3)
        with tempfile.TemporaryDirectory() as folder:
            state.save(Path(folder), 4, {"model": model, "rng": rng, "d": d, "items": items, "thing": thing})
            expected = random.random()
            model.w, items[:], d["b"], thing.weights[0] = 0, [9], 2, 5.0
            rng.random()
            state.restore(Path(folder), {"model": model, "rng": rng, "d": d, "items": items, "thing": thing})
            self.assertEqual(random.random(), expected)
            with self.assertRaisesRegex(magpie.MagpieError, 'no "other", only d, items, model, rng, thing'):
                state.restore(Path(folder), {"other": {}})
        self.assertEqual((model.w, rng.getstate(), d, items, thing.weights), (7, before, {"a": 1}, [1, 2], [1.0]))

    def test_what_cannot_be_put_back_is_refused_at_once(self):
        t = trial_module.Trial(Fake(budget=3), {})
        with self.assertRaisesRegex(TypeError, "best=0.5 cannot be restored in place"):
            t.epochs(best=0.5)

    def test_a_folder_of_somebody_else_is_named(self):
        with tempfile.TemporaryDirectory() as folder:
            with self.assertRaisesRegex(magpie.MagpieError, "was not written by"):
                state.restore(Path(folder), {"a": {}})


class Package(unittest.TestCase):
    def test_its_version_is_the_projects(self):
        if "MAGPIE_VERSION" not in os.environ:
            self.skipTest("meson tells the version")
        self.assertEqual(magpie.__version__, os.environ["MAGPIE_VERSION"])

    def test_it_is_typed(self):
        with tempfile.TemporaryDirectory() as cache:
            p = subprocess.run(["/usr/bin/python3", "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", cache,
                                "-p", "magpie_hpo"], capture_output=True, text=True, cwd=harness.CLIENT)
        if "No module named mypy" in p.stderr:
            self.skipTest("mypy is not installed")
        self.assertEqual((p.returncode, p.stdout, p.stderr), (0, "", ""))


if __name__ == "__main__":
    harness.main()
