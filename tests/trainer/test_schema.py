#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The published JSON Schema of a built-in trial: it is what the parser's tables say, and for recipes good and bad it judges as the
trainer does, but for what only data, shapes or parameters can tell.

usage: test_schema.py SOURCE_ROOT RECIPE_KEYS MAGPIE_TRAINER
"""
import copy
import importlib.machinery
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import unittest

import jsonschema

ROOT, KEYS, TRAINER = sys.argv[1:4]
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(ROOT, "tools"))

DENSE = {"type": "dense", "units": 2}


def layers(*more):
    return {"model": {"layers": [*more, DENSE]}}


def training(**keys):
    return {"training": keys}


def dataset(**keys):
    return {"dataset": {"format": "csv", "path": "PATH", "label": "kind", **keys}}


# changes of a sound trial; a key that is None is left out
GOOD = [
    {}, {"training": {}}, {"fuse": "auto"}, {"training": {"lr": "${lr}", "batch_size": "${batch}", "nesterov": "${flag}"}},
    {"model": {"family": "mlp", "units": 8, "norm": "batch"}}, {"model": {"family": "${family}", "units": 8, "blocks": 1}},
    {"model": {"family": "logistic"}}, {"model": {"layers": [DENSE], "input": [2]}},
    layers({"type": "dense", "units": "${batch}", "activation": "${act}", "name": "first", "repeat": 2}),
    layers([{"type": "dense", "units": 3}, {"type": "dropout"}]), layers({"type": "${layer}"}),
    layers({"type": "residual", "layers": [{"type": "dense", "units": 2}, {"type": "batchnorm"}], "shortcut": "auto"}),
    layers({"type": "concat", "branches": [[{"type": "dense", "units": 3}], []]}),
    {"model": {"layers": [{"type": "conv", "filters": 2, "kernel": 1, "padding": 0}, {"type": "conv", "depthwise": True, "kernel": 1},
                          {"type": "globalpool", "kind": "max"}, DENSE], "input": [1, 1, 2]}},
    training(schedule="plateau"), training(schedule={"type": "cosine", "epochs": "${batch}", "warmup": 1}),
    training(schedule={"type": "${sched}", "epochs": 9}), training(schedule="${sched0}"), training(prefetch=2, order="experiment"),
    dataset(), dataset(columns={"a": "number"}, test=0, missing=["-"]), dataset(ignore="b", separator=",", standardize=True),
    {"preprocessing": []}, {"preprocessing": [{"type": "standardize", "columns": ["a"]}, [{"type": "minmax", "max": "${lr}"}]]},
    {"preprocessing": [{"type": "impute", "strategy": "constant", "value": 1}]},
]
# both refuse
BAD = [
    {"dataset": None}, {"model": None}, {"program": "other"}, {"modell": {}}, {"dataset": "shapes:x"}, {"dataset": 3},
    {"model": {"layers": []}}, {"model": {"layers": DENSE}}, {"model": []}, {"model": {"layers": [DENSE], "imput": [2]}},
    {"model": {"layers": [DENSE], "input": [0]}}, {"model": {"layers": [DENSE], "input": "2"}}, {"model": {"family": "mpl"}},
    {"model": {"family": "mlp", "blocks": 2}}, {"model": {"family": "mlp", "units": 0}}, {"model": {"family": "linear", "units": 8}},
    {"model": {"family": "resnet", "stages": 6}}, {"model": {"family": "${family}", "unit": 8}},
    layers({"type": "dens", "units": 2}), layers({"units": 2}), layers({"type": "dense"}), layers({"type": "dense", "unit": 2}),
    layers({"type": "dense", "units": 1.5}), layers({"type": "dense", "units": "8"}), layers({"type": "dense", "units": 65537}),
    layers({"type": "dense", "units": 2, "activation": "rellu"}), layers({"type": "dense", "units": 2, "bias": "no"}),
    layers({"type": "dropout", "rate": 1}), layers({"type": "dropout", "repeat": 2}), layers({"type": "maxpool", "size": 17}),
    layers({"type": "conv", "filters": 2}), layers({"type": "conv", "kernel": 3}),
    layers({"type": "conv", "filters": 2, "kernel": 1, "padding": "some"}), layers({"type": "conv", "filters": 2, "kernel": 1, "padding": -1}),
    layers({"type": "residual"}), layers({"type": "residual", "layers": []}), layers({"type": "residual", "layers": [{"type": "dense"}]}),
    layers({"type": "concat", "branches": [{"type": "dense", "units": 2}]}), layers({"type": "concat", "branches": []}),
    layers({"type": "dense", "units": 2, "name": ""}), layers("dense"), layers({"type": "layernorm", "epsilon": 0}),
    {"training": []}, training(learning_rate=1), training(lr="0.1"), training(lr=-1), training(optimizer="sdg"), training(momentum=1),
    training(batch_size=0), training(batch_size=16385), training(ema=1), training(validation=0.95), training(threads=0),
    training(order="random"), training(precision="float16"), training(loss="hinge"), training(nesterov="yes"), training(prefetch=9),
    training(schedule="cosine"), training(schedule={"type": "cosine"}), training(schedule={"type": "step", "evry": 3}),
    training(schedule={"every": 3}), training(schedule={"type": "plateau", "metric": "loss"}), training(schedule=3),
    training(augmentation=True), training(augmentation={"flips": True}), training(augmentation={"crop": -1}),
    dataset(label=None), dataset(path=None), dataset(format="cvs"), dataset(size=8), dataset(test=1), dataset(task="both"),
    dataset(fit="crop"), dataset(format="images", label=None, size=8, fit="tile"), dataset(columns={"a": "float"}), dataset(limit=0), dataset(separator="ab"), dataset(standardize="maybe"), dataset(ignore=3),
    {"preprocessing": {}}, {"preprocessing": [{"type": "scale"}]}, {"preprocessing": [{"type": "minmax", "low": 1}]},
    {"preprocessing": [{"type": "onehot", "unknown": "nil"}]}, {"preprocessing": [{"type": "minmax", "columns": []}]},
    {"preprocessing": ["standardize"]}, {"fuse": 65},
]
# the parser alone refuses: it knows the parameters, the data and the shapes
BEYOND = [
    training(lr="${unknown}"), training(lr="${act}"), training(batch_size="${lr}"), {"model": {"layers": [{"type": "dense", "units": 3}]}},
    layers({"type": "maxpool"}), training(loss="mse", schedule={"type": "plateau", "metric": "val_rmse"}),
    dataset(label="other"), {"dataset": "csv:PATH"}, {"preprocessing": [{"type": "minmax", "columns": ["other"]}]},
    training(validation=0, schedule="plateau"), {"preprocessing": [{"type": "minmax", "min": 2}]},
]
SPACE = {
    "lr": {"type": "DOUBLE", "range": [0.1, 1]}, "batch": {"type": "INTEGER", "range": [2, 8]}, "flag": {"type": "CATEGORICAL", "values": ["true", "false"]},
    "family": {"type": "CATEGORICAL", "values": ["mlp"]}, "act": {"type": "CATEGORICAL", "values": ["relu", "tanh"]},
    "layer": {"type": "CATEGORICAL", "values": ["layernorm", "dropout"]}, "sched": {"type": "CATEGORICAL", "values": ["cosine", "linear"]},
    "sched0": {"type": "CATEGORICAL", "values": ["constant", "plateau"]},
}


class RecipeSchema(unittest.TestCase):
    def setUp(self):
        with open(os.path.join(ROOT, "docs", "experiment.schema.json"), encoding="utf-8") as f:
            self.text = f.read()
        self.validator = jsonschema.Draft202012Validator(json.loads(self.text))
        self.dir = tempfile.TemporaryDirectory()
        self.addCleanup(self.dir.cleanup)
        self.csv = os.path.join(self.dir.name, "t.csv")
        with open(self.csv, "w", encoding="utf-8") as f:
            f.write("a,b,kind\n" + "".join(f"{i},{-i % 7},{'xy'[i % 2]}\n" for i in range(60)))

    def experiment(self, change):
        trial = {"program": "builtin", "dataset": f"csv:{self.csv}?label=kind", "model": {"layers": [DENSE]}}
        for key, value in change.items():
            trial[key] = copy.deepcopy(value)
        if isinstance(trial["dataset"], dict):
            trial["dataset"] = {k: v.replace("PATH", self.csv) if k == "path" and v else v for k, v in trial["dataset"].items() if v is not None}
        elif isinstance(trial["dataset"], str):
            trial["dataset"] = trial["dataset"].replace("PATH", self.csv)
        return {"objective": {"metric": "val_loss", "direction": "min"}, "searchspace": SPACE,
                "trial": {k: v for k, v in trial.items() if v is not None}}

    def parser_says(self, doc):
        path = os.path.join(self.dir.name, "e.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(doc, f)
        p = subprocess.run([TRAINER, "--check", path], capture_output=True, text=True, check=False, timeout=60)
        self.assertIn(p.returncode, (0, 1), p.stderr)
        return p.stdout + p.stderr if p.returncode else ""

    def judge(self, changes, parser_refuses, schema_refuses):
        for change in changes:
            with self.subTest(change):
                doc = self.experiment(change)
                said = self.parser_says(doc)
                self.assertEqual(bool(said), parser_refuses, said)
                errors = [e.message[:300] for e in self.validator.iter_errors(doc)]
                self.assertEqual(bool(errors), schema_refuses, errors)

    def test_it_is_made_of_the_parsers_tables(self):
        path = os.path.join(ROOT, "tools", "gen-recipe-schema")
        loader = importlib.machinery.SourceFileLoader("gen_recipe_schema", path)
        module = importlib.util.module_from_spec(importlib.util.spec_from_loader("gen_recipe_schema", loader))
        loader.exec_module(module)
        keys = json.loads(subprocess.run([KEYS], capture_output=True, text=True, check=True, timeout=60).stdout)
        self.assertIn("layer conv", keys)
        self.assertTrue(module.written(self.text, keys) == self.text, "run tools/gen-recipe-schema")

    def test_both_take_what_is_right(self):
        self.judge(GOOD, False, False)

    def test_both_refuse_what_is_wrong(self):
        self.judge(BAD, True, True)

    def test_the_parser_alone_knows_parameters_data_and_shapes(self):
        self.judge(BEYOND, True, False)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=0)
