# SPDX-License-Identifier: Apache-2.0
"""Maggy's ablation study: what is left out, what is refused before anything runs, the table of effects."""
import json
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import harness

sys.path.insert(0, harness.CLIENT)
from magpie_hpo import AblationConfig, AblationStudy, MagpieError, experiment
from magpie_hpo.ablation import without
from magpie_hpo.errors import ConfigurationError

STUDY = '''import json
import sys

from magpie_hpo import AblationConfig, AblationStudy, experiment

WORTH = {"age": 0.3, "fare": 0.05}

def read(ablated_feature=None):
    return [c for c in ("age", "fare", "ticket") if c != ablated_feature]

class Sequential:
    def __init__(self, names): self.names = names
    def get_config(self): return {"layers": [{"class_name": "Dense", "config": {"name": n}} for n in self.names]}
    @classmethod
    def from_config(cls, config): return cls([e["config"]["name"] for e in config["layers"]])

def make_model():
    return Sequential(["first", "Dense_2", "dense_3", "out"])

def train(dataset_function, model_function, reporter):
    columns, model = dataset_function(), model_function()
    value = 0.4 + sum(WORTH.get(c, 0) for c in columns) + 0.01 * len(model.names)
    reporter.broadcast(value, 0)
    return value

study = AblationStudy("titanic", 1, "survived", dataset_generator=read)
study.features.include("age", ["fare"])
study.model.layers.include("Dense_2", "dense_3")
study.model.layers.include_groups(["Dense_2", "dense_3"])
study.model.layers.include_groups(prefix="dense")
study.model.set_base_model_generator(make_model)
study.model.add_custom_model_generator(lambda: Sequential(["a"] * 10), "deep")
if __name__ == "__main__":
    old = {"experiment_type": "ablation", "ablation_study": study, "ablator": "LOCO", "direction": "max", "name": "old", "repeats": 2}
    where = {"data": sys.argv[1], "magpie": sys.argv[2], "workers": 2}
    r = experiment.lagom(train, **old, **where) if sys.argv[3] == "old" else experiment.lagom(train, AblationConfig(study, **where))
    print(json.dumps(r))
'''


class Sequential:
    def __init__(self, names, inputs=0):
        self.names, self.inputs = names, inputs

    def get_config(self):
        kinds = ["InputLayer"] * self.inputs + ["Dense"] * len(self.names)
        return {"layers": [{"class_name": k, "config": {"name": n}} for k, n in zip(kinds, self.names)]}

    @classmethod
    def from_config(cls, config):
        return cls([entry["config"]["name"] for entry in config["layers"]])


class Study(unittest.TestCase):
    def test_includes_excludes_and_groups_are_maggys(self):
        s = AblationStudy("data", 1, "y", dataset_generator=lambda ablated_feature=None: None)
        s.features.include("a", ["b", "c"])
        s.features.include("a")
        s.features.exclude("c")
        s.model.layers.include("l1", "l2")
        s.model.layers.include_groups(["l1", "l2"], ["l2", "l1"], ["l2", "l3"])
        s.model.layers.include_groups(prefix="conv")
        s.model.layers.exclude_groups(["l3", "l2"])
        s.model.add_custom_model_generator(lambda: None, "deep")
        self.assertEqual(s.spec(3), {"features": ["a", "b"], "layers": ["l1", "l2", "deep"], "groups": [["l1", "l2"], {"prefix": "conv"}],
                                     "repeats": 3})
        self.assertEqual((s.features.list_all(), s.to_dict()["label_name"]), (["a", "b"], "y"))
        for wrong in (lambda: s.model.layers.include_groups(["one"]), lambda: s.model.layers.include_groups("ab"), lambda: s.features.include(3),
                      lambda: s.model.layers.include("a,b"), lambda: s.model.layers.include_groups(["a", "b"], prefix="c")):
            with self.assertRaises(ValueError):
                wrong()

    def test_layers_leave_a_sequential_model_but_the_first_and_the_last(self):
        names = ["in", "first", "Conv_1", "conv_2", "mid", "out"]
        self.assertEqual(without(Sequential(names, 1), ["conv*"]).names, ["in", "first", "mid", "out"])
        self.assertEqual(without(Sequential(names, 1), ["mid", "Conv_1"]).names, ["in", "first", "conv_2", "out"])
        for gone, why in ((["first"], "the first and the last layer stay"), (["out"], "stay"), (["mdi"], "it has in, first")):
            with self.assertRaisesRegex(ConfigurationError, why):
                without(Sequential(names, 1), gone)
        with self.assertRaisesRegex(ConfigurationError, "ablated_layers"):
            without(object(), ["a"])

    def test_what_cannot_work_is_said_before_anything_runs(self):
        features, layers = AblationStudy(dataset_generator=lambda: None), AblationStudy()
        features.features.include("a")
        layers.model.layers.include("l")
        for study, why in ((features, "def read\\(ablated_feature=None\\)"), (layers, "set_base_model_generator"), (AblationStudy(), "leaves nothing out")):
            with self.assertRaisesRegex(MagpieError, why):
                experiment.lagom(lambda: 1, AblationConfig(study))
        with self.assertRaisesRegex(MagpieError, "loco"):
            experiment.lagom(lambda: 1, AblationConfig(layers, ablator="lime"))
        with self.assertRaisesRegex(TypeError, "an AblationStudy"):
            experiment.lagom(lambda: 1, AblationConfig("study"))


class Runs(harness.Case):
    def run_study(self, form):
        p = self.start([sys.executable, self.write("study.py", STUDY), self.path("record"), harness.MAGPIE, form], env={"PYTHONPATH": harness.CLIENT})
        self.assertEqual(p.wait(120), 0, p.stderr())
        return json.loads(p.stdout())

    def test_each_component_is_left_out_and_the_table_names_its_effect(self):
        r = self.run_study("new")
        self.assertEqual(r["num_trials"], 8)
        self.assertAlmostEqual(r["ablation"]["base"]["value"], 0.79)
        found = {c["name"]: round(c["delta"], 6) for c in r["ablation"]["components"]}
        self.assertEqual(found, {"age": -0.3, "fare": -0.05, "Dense_2": -0.01, "dense_3": -0.01, "Dense_2,dense_3": -0.02, "dense*": -0.02, "deep": 0.06})
        self.assertEqual([c["name"] for c in r["ablation"]["components"]][:2], ["age", "fare"])

    def test_the_older_form_with_repeats(self):
        r = self.run_study("old")
        self.assertEqual((r["num_trials"], r["ablation"]["metric"], r["ablation"]["base"]["runs"]), (16, "metric", 2))


if __name__ == "__main__":
    harness.main()
