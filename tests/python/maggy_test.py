# SPDX-License-Identifier: Apache-2.0
"""Maggy's and hops' forms of a search, with what was wrong in theirs: bad trials, min with ASHA, names of metrics, repeated points,
negative values, values with slashes. Scripts run as users run them; what they started is gone with them."""
import contextlib
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import harness

sys.path.insert(0, harness.CLIENT)
import magpie_hpo as magpie
from magpie_hpo import Searchspace, experiment, optimizer, ship
from magpie_hpo._trial import Trial
from magpie_hpo.channel import Terminal
from magpie_hpo.config import HyperparameterOptConfig
from magpie_hpo.reporter import BroadcastMetricTypeError, BroadcastStepTypeError, BroadcastStepValueError, Reporter
from magpie_hpo.searchspace import encode


class Spaces(unittest.TestCase):
    def test_a_searchspace_is_maggys(self):
        s = Searchspace(lr=("double", [1e-4, 1e-1]), units=("INTEGER", [1, 3]))
        s.add("kind", ("CATEGORICAL", ["a", "b"]))
        self.assertEqual(s.names(), {"lr": "DOUBLE", "units": "INTEGER", "kind": "CATEGORICAL"})
        self.assertEqual((s.lr, s.get("units"), s.get("no", 7), s.keys(), len(s)), ([1e-4, 1e-1], [1, 3], 7, ["lr", "units", "kind"], 3))
        self.assertEqual(Searchspace(**s.to_dict()).to_dict(), s.to_dict())
        self.assertEqual(json.loads(s.json())["units"], ["INTEGER", [1, 3]])
        self.assertEqual([p["name"] for p in s], ["lr", "units", "kind"])
        for name, value in (("names", ("DOUBLE", [0, 1])), ("lr", ("DOUBLE", [0, 1])), ("x", ("DOUBLE", [1, 1])), ("x", ("INTEGER", [0, 1.5])),
                            ("x", ("FLOAT", [0, 1])), ("x", ("DISCRETE", [])), ("x", [0, 1]), ("x", "DOUBLE"), ("x", ("DOUBLE", [0, 1, 2]))):
            with self.assertRaises(ValueError, msg=f"{name} {value}"):
                s.add(name, value)

    def test_values_of_any_kind_have_a_type_and_come_back(self):
        space, decode = encode({"a": ("DISCRETE", [1, 2.5]), "b": ("CATEGORICAL", [True, None, 3, "x"]), "c": ("DISCRETE", ["p", "q"])})
        self.assertEqual(space["a"], {"type": "DISCRETE", "values": [1, 2.5]})
        self.assertEqual(space["b"], {"type": "CATEGORICAL", "values": ["True", "None", "3", "x"]})
        self.assertEqual(space["c"]["type"], "CATEGORICAL")
        back = [ship.decoded({"b": t}, decode)["b"] for t in space["b"]["values"]]
        self.assertEqual(back, [True, None, 3, "x"])


class Reporters(unittest.TestCase):
    def test_steps_and_metrics_are_checked_as_maggy_does(self):
        with contextlib.redirect_stdout(io.StringIO()):  # by hand it prints what it is told
            r = Reporter(Trial(Terminal({}), {}))
            r.broadcast(0.5)
            self.assertEqual(r.step, 0)
            r.broadcast(0.25, 3)
            r.broadcast(0.5, 3)
            for error, args in ((BroadcastStepValueError, (1, 2)), (BroadcastStepTypeError, (1, 4.5)), (BroadcastMetricTypeError, ("a",)),
                                (BroadcastMetricTypeError, (None,))):
                with self.assertRaises(error):
                    r.broadcast(*args)
        self.assertEqual((r.step, r.metric), (3, 0.5))


OFFSET = 10


class Base:
    def value(self, x):
        return x + OFFSET


class Derived(Base):
    twice = property(lambda self: 2)

    def value(self, x):
        return super().value(x) * self.twice


def recursive(n):
    return 0 if n == 0 else Derived().value(0) + recursive(n - 1)


def by_value(function):
    """As a process that has none of our modules gets it."""
    old = {n: sys.modules.pop(n) for n in ("__main__", __name__) if n in sys.modules}
    sys.modules["__main__"] = type(sys)("__main__")
    try:
        return pickle.loads(old_bytes(function, old))
    finally:
        sys.modules.update(old)


def old_bytes(function, modules):
    now = {n: sys.modules.get(n) for n in modules}
    sys.modules.update(modules)
    try:
        return ship.by_value(function)
    finally:
        for n, m in now.items():
            if m is None:
                sys.modules.pop(n)
            else:
                sys.modules[n] = m


class Shipped(unittest.TestCase):
    def test_functions_take_with_them_what_they_use(self):
        seen = [1]

        def closure(x, *, y=3):
            return x + y + len(seen) + recursive(2) + len(os.sep)

        self.assertEqual(closure(1), 1 + 3 + 1 + 40 + 1)
        if __name__ == "__main__":  # its own module is what a script or a notebook is
            self.assertEqual(by_value(closure)(1), 46)
            self.assertEqual(by_value(lambda x: Derived().value(x))(1), 22)

    def test_what_can_be_imported_goes_by_name(self):
        self.assertEqual(ship.reference(json.dumps), "json:dumps")
        self.assertIsNone(ship.reference(lambda: 1))

    def test_what_cannot_be_sent_is_named_with_the_cure(self):
        stream = open(os.devnull)
        self.addCleanup(stream.close)

        def train(x):
            return stream.read()

        with self.assertRaisesRegex(magpie.MagpieError, 'train cannot be sent.*it uses "stream" .*make it inside the function'):
            ship.by_value(train)


class Plans(unittest.TestCase):
    def plan(self, **more):
        c = {"num_trials": 3, "optimizer": "randomsearch", "searchspace": Searchspace(x=("DOUBLE", [0, 1])), **more}
        return experiment._plan(len, HyperparameterOptConfig(**c))

    def test_early_stopping_is_maggys_but_not_on_top_of_budgets(self):
        self.assertEqual(self.plan(es_min=4, es_interval=2).early_stopping, {"rule": "median", "min_trials": 5, "interval": 2})
        self.assertIsNone(self.plan(es_policy="none").early_stopping)
        self.assertIsNone(self.plan(optimizer="asha").early_stopping)
        with self.assertRaisesRegex(magpie.MagpieError, "es_policy"):
            self.plan(es_policy="mean")

    def test_optimizers_by_name_object_and_dict(self):
        asha = ({"algorithm": "asha", "reduction_factor": 2}, {"min": 1, "max": 4})
        for given, want in (("asha", asha), (optimizer.Asha, asha), (optimizer.Asha(3, 1, 9), ({"algorithm": "asha", "reduction_factor": 3}, {"min": 1, "max": 9})),
                            ("TPE", ({"algorithm": "tpe"}, None)), ("cmaes", ({"algorithm": "cmaes"}, None)), ({"algorithm": "gp"}, ({"algorithm": "gp"}, None)),
                            (optimizer.GP(pruner="hyperband", pruner_kwargs={"min_budget": 1, "max_budget": 9, "eta": 3, "n_iterations": 2}),
                             ({"algorithm": "hyperband", "sampler": "gp", "reduction_factor": 3, "iterations": 2}, {"min": 1, "max": 9}))):
            self.assertEqual(optimizer.spec_of(given), want)
        with self.assertRaisesRegex(magpie.MagpieError, "n_iterations"):
            optimizer.spec_of(optimizer.RandomSearch(pruner="hyperband", pruner_kwargs={"min_budget": 1, "max_budget": 9, "eta": 3}))

    def test_wrong_arguments_are_told_before_anything_starts(self):
        space = Searchspace(x=("DOUBLE", [0, 1]))
        for error, call in ((TypeError, lambda: experiment.launch(3, space)), (ValueError, lambda: experiment.launch(len, space, direction="up")),
                            (ValueError, lambda: experiment.lagom(len, HyperparameterOptConfig(0, "asha", space))),
                            (magpie.MagpieError, lambda: experiment.launch(len, Searchspace())),
                            (magpie.MagpieError, lambda: experiment.launch(len, space, optimizer="none")),
                            (ValueError, lambda: experiment.differential_evolution(len, {"x": [0, 1]}, population=3)),
                            (ValueError, lambda: experiment.random_search(len, {"x": [1, 0]})), (ValueError, lambda: experiment.launch(len, {"a": [1], "b": [1, 2]})),
                            (TypeError, lambda: experiment.grid_search(len, {"a": [1, 2]}, nonsense=1)), (TypeError, lambda: experiment.lagom(len, 3))):
            with self.assertRaises(error):
                call()


HEAD = """
import json, os, sys, time
from magpie_hpo import Searchspace, experiment
from magpie_hpo.config import HyperparameterOptConfig
OWN = {"workers": 2, "seed": 3}
"""

MAGGY = HEAD + """
def bad(x, reporter):
    if x == 2:
        raise ValueError("this one is bad")
    reporter.log("x is %d" % x)
    return {"other": 100, "accuracy": x, "file": "a/b"}

def budgeted(x, hparams, reporter):
    for epoch in range(hparams["budget"]):
        reporter.broadcast(x + 1 / (epoch + 1))
    return x + 1 / hparams["budget"]

def same(reporter):
    return 1

def slow(x, reporter):
    for step in range(30 if x > 8 else 8):
        reporter.broadcast(-x, step)
        time.sleep(0.02)
    return -x

out = {}
out["bad"] = experiment.launch(bad, Searchspace(x=("DISCRETE", [1, 2, 3])), optimizer="gridsearch", optimization_key="accuracy", num_trials=2, **OWN)
out["asha"] = experiment.lagom(budgeted, HyperparameterOptConfig(num_trials=12, optimizer="asha", searchspace=Searchspace(x=("DOUBLE", [0, 1])),
                                                                 direction="min", **OWN))
out["none"] = experiment.lagom(same, name="none", num_trials=4, **OWN)
out["tiny"] = experiment.launch(bad, Searchspace(x=("INTEGER", [3, 5])), num_trials=6, optimization_key="accuracy", **OWN)
out["stopped"] = experiment.launch(slow, Searchspace(x=("DISCRETE", [1, 2, 3, 4, 9, 10])), optimizer="gridsearch", es_min=1, **OWN)
out["once"] = experiment.lagom(lambda: {"a": 1})
json.dump(out, open("out.json", "w"))
"""

HOPS = HEAD + """
def negative(x, y):
    return -(x - 1) ** 2 - abs(y) - 1

def path(name, flag):
    assert isinstance(flag, bool)
    return {"metric": len(name) + flag, "size": 3}

def train(lr, units):
    return {"anything": lr * units}

out = {}
out["grid"] = experiment.grid_search(path, {"name": ["a/b", "c/d/e"], "flag": [True, False]}, **OWN)
out["random"] = experiment.random_search(negative, {"x": [0, 4], "y": [-1.0, 1.0]}, samples=5, **OWN)
out["de"] = experiment.differential_evolution(negative, {"x": [0, 4], "y": [-1.0, 1.0]}, direction="max", generations=3, population=5, **OWN)
out["rows"] = experiment.launch(train, {"lr": [0.5, 0.5], "units": [2, 4]}, name="rows")
json.dump(out, open("out.json", "w"))
"""


class Scripts(harness.Case):
    def env(self):
        return {"PYTHONPATH": harness.CLIENT, "MAGPIE_BIN": harness.MAGPIE}

    def script(self, text, name="script.py", timeout=150):
        p = self.start([sys.executable, self.write(name, text)], env=self.env(), cwd=self.tmp)
        self.assertEqual(p.wait(timeout), 0, p.stdout() + p.stderr())
        with open(self.path("out.json")) as f:
            return json.load(f)

    def test_maggys_form_without_maggys_faults(self):
        out = self.script(MAGGY)
        bad = out["bad"]  # one bad trial is one bad trial; the metric is the one that was named; a grid is run whole
        self.assertEqual((bad["best_val"], bad["best_config"], bad["worst_val"], bad["num_trials"], bad["failed"]), (3, {"x": 3}, 1, 2, 1))
        self.assertEqual((sorted(bad["metric_list"]), bad["avg"], bad["early_stopped"]), ([1, 3], 2, 0))
        asha = out["asha"]  # "min" promotes the smallest, and all trials are made, not only until the first at the top
        self.assertEqual(asha["num_trials"], 12)
        self.assertLess(asha["best_val"], min(1, asha["best_config"]["x"] + 0.5))
        self.assertAlmostEqual(asha["best_val"], asha["best_config"]["x"] + 0.25)
        self.assertGreater(asha["worst_config"]["x"], asha["best_config"]["x"])
        none = out["none"]  # equal trials are trials of their own
        self.assertEqual((none["num_trials"], none["metric_list"], none["best_config"]), (4, [1, 1, 1, 1], {}))
        self.assertEqual(sorted(out["tiny"]["metric_list"]), [3, 4, 5])  # no point twice, none lost
        self.assertGreaterEqual(out["stopped"]["early_stopped"], 1)
        self.assertEqual(out["stopped"]["best_val"], -1)
        self.assertEqual(out["once"], {"metric": 1})
        harness.wait_gone(what="what the script started")

    def test_hops_form_without_hops_faults(self):
        out = self.script(HOPS)
        folder, params, returned = out["grid"]
        self.assertEqual((params, returned), ({"name": "c/d/e", "flag": True}, {"metric": 6, "size": 3}))
        self.assertTrue(os.path.isdir(folder))
        for form in ("random", "de"):  # all values are negative, and the greatest of them is found
            _, params, returned = out[form]
            self.assertIsInstance(params["x"], int)
            self.assertLessEqual(returned["metric"], -1)
            self.assertAlmostEqual(returned["metric"], -(params["x"] - 1) ** 2 - abs(params["y"]) - 1)
        self.assertEqual(out["rows"][1], {"metric": 2})

    def test_the_ported_maggy_script_of_the_examples_runs(self):
        if not os.path.isdir("/usr/share/datasets/fashion-mnist"):
            self.skipTest("the package dataset-fashion-mnist is not installed")
        p = self.start([sys.executable, os.path.join(harness.ROOT, "examples", "maggy_fashion.py")], env=self.env(), cwd=self.tmp)
        self.assertEqual(p.wait(150), 0, p.stderr())
        self.assertRegex(p.stdout(), r"best: \{.*'lr': .*\} accuracy 0\.[5-9]")

    def test_a_notebooks_function_is_sent_by_value(self):
        text = HEAD + """
class Model:
    def __init__(self, x): self.x = x
    def score(self): return self.x + EXTRA
EXTRA = 100
def make(bias):
    def train(x): return Model(x).score() + bias
    return train
r = experiment.launch(make(0.5), Searchspace(x=("DISCRETE", [1, 2])), optimizer="gridsearch", **OWN)
json.dump(r, open("out.json", "w"))
"""
        p = subprocess.run([sys.executable, "-"], input=text, text=True, capture_output=True, cwd=self.tmp, timeout=150, env={**os.environ, **self.env()})
        self.assertEqual(p.returncode, 0, p.stderr)
        with open(self.path("out.json")) as f:
            self.assertEqual(json.load(f)["best_val"], 102.5)

    def test_when_every_trial_fails_the_reason_is_raised(self):
        text = HEAD + "def train(x): raise ValueError('no data here')\nexperiment.launch(train, Searchspace(x=('DOUBLE', [0, 1])), num_trials=2, **OWN)\n"
        p = self.start([sys.executable, self.write("fails.py", text)], env=self.env(), cwd=self.tmp)
        self.assertEqual(p.wait(90), 1)
        self.assertRegex(p.stderr().splitlines()[-1], r"MagpieError: .*ValueError: no data here")

    def test_a_module_that_launches_when_it_is_imported_is_told(self):
        self.write("own.py", HEAD + "def train(x): return x\nexperiment.launch(train, Searchspace(x=('DOUBLE', [0, 1])), num_trials=2, **OWN)\n")
        p = self.start([sys.executable, self.write("main.py", "import own")], env=self.env(), cwd=self.tmp)
        self.assertEqual(p.wait(90), 1)
        self.assertIn('put the call under if __name__ == "__main__":', p.stderr().splitlines()[-1])

    def ended(self, number):
        text = HEAD + """
def train(x):
    open("began", "w").close()
    time.sleep(1000)
experiment.launch(train, Searchspace(x=("DOUBLE", [0, 1])), num_trials=2, **OWN)
"""
        p = self.start([sys.executable, self.write("long.py", text)], env=self.env(), cwd=self.tmp)
        harness.wait_until(lambda: os.path.exists(self.path("began")), what="a trial")
        p.signal(number)
        status = p.wait(60)
        harness.wait_gone(60, "what the script started")
        return status, p.stderr()

    def test_a_killed_script_leaves_nothing_running(self):
        self.assertEqual(self.ended(signal.SIGKILL)[0], -signal.SIGKILL)

    def test_an_interrupted_script_ends_its_search(self):
        status, err = self.ended(signal.SIGINT)
        self.assertNotEqual(status, 0)
        self.assertIn("KeyboardInterrupt", err)


if __name__ == "__main__":
    harness.main()
